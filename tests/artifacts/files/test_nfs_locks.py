"""Locks are granted on NFSv4: LOCK_SH wants a file that may be read, LOCK_EX one to be written."""

import ast
import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from artifacts.files.ownership import if_abandoned, locked, opened_locked
from artifacts.ledger.answers import Answer, Role
from artifacts.ledger.check import verify
from artifacts.ledger.claims import Claims, wait_for_others
from artifacts.ledger.compaction import compact
from artifacts.ledger.ledger import Ledger
from artifacts.ledger.repair import repair
from artifacts.manifest import Kind, identity
from artifacts.store import Store
from flows.server.credential import kept_credential
from tasks.llm.shards.shard_run import _spooled

ROOMS = ("artifacts", "flows", "model", "prompts", "tasks")
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def granted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rule of NFSv4, as Linux applies it; returns the modes that were granted."""
    real, modes = fcntl.flock, []

    def flock(file: Any, mode: int) -> None:
        handle = file if isinstance(file, int) else file.fileno()
        access = fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE
        if mode & fcntl.LOCK_SH and access == os.O_WRONLY:
            raise OSError(errno.EBADF, "LOCK_SH wants a file opened for reading")
        if mode & fcntl.LOCK_EX and access == os.O_RDONLY:
            raise OSError(errno.EBADF, "LOCK_EX wants a file opened for writing")
        real(handle, mode)
        modes.append(mode)

    monkeypatch.setattr(fcntl, "flock", flock)
    return modes


def an_answer(key: str) -> Answer:
    return Answer(key * 64, "Likes tea.", None, "stop", 3, 4)


def answered(ledger: Ledger, *keys: str) -> None:
    for key in keys:
        with ledger.journal("model") as journal:
            journal.append(an_answer(key))


def asks_and_reads(ledger: Ledger, folder: Path) -> None:
    prompts = pl.DataFrame({"key": ["a" * 64, "b" * 64], "prompt": ['"x"', '"y"']})
    with Claims(ledger, "model", {}) as first, Claims(ledger, "model", {}) as second:
        assert first.take(prompts).height == 2
        assert second.take(prompts).is_empty()
        assert second.claimed_elsewhere.height == 2
        answered(ledger, "a", "b")
    wait_for_others(ledger, prompts["key"], lambda: None)
    assert ledger.missing(prompts["key"]).is_empty()
    assert ledger.answers(prompts["key"]).height == 2


def recovers_and_compacts(ledger: Ledger, folder: Path) -> None:
    answered(ledger, "a", "b", "a")
    left = ledger.journal("model")
    left.append(an_answer("c"))
    verdict = verify(ledger)
    assert (verdict.trouble, verdict.answers) == ([], 3), "a living writer's journal is left alone"
    left._file.close()  # As the system does when its process dies.
    assert any("of a killed run" in trace for trace in verify(ledger).traces)
    assert ledger.recover() == 1
    assert compact(ledger).duplicates_dropped == 1
    part = ledger.parts()[0]
    part.write_bytes(part.read_bytes()[:-9])
    assert repair(ledger)
    assert verify(ledger).trouble == []


def spools(ledger: Ledger, folder: Path) -> None:
    prompts = pl.DataFrame({"key": ["a"], "prompt": ["x"]})
    prompts.write_parquet(folder / "of-a-dead-process.parquet")
    with _spooled(prompts, folder, 1) as spool, _spooled(prompts, folder, 1) as other:
        assert spool.exists()
        assert other != spool
        assert not (folder / "of-a-dead-process.parquet").exists()


def makes_an_artifact(ledger: Ledger, folder: Path) -> None:
    with Store(folder).create(identity(Kind.MODEL, {}, {})) as draft:
        (draft.path / "weights").write_bytes(b"w")


def keeps_a_credential(ledger: Ledger, folder: Path) -> None:
    assert kept_credential(folder / "login") == kept_credential(folder / "login")


@pytest.mark.parametrize(
    "work",
    [
        asks_and_reads,
        recovers_and_compacts,
        spools,
        makes_an_artifact,
        keeps_a_credential,
    ],
)
def test_all_that_locks_a_file_is_granted_the_lock(
    tmp_path: Path, granted: list[int], work: Callable[[Ledger, Path], None]
) -> None:
    (tmp_path / "files").mkdir()
    work(Ledger(tmp_path, Role.CHAT), tmp_path / "files")
    assert granted, "nothing was locked"


def test_shared_and_exclusive_locks_hold_as_on_a_local_disk(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path, fcntl.LOCK_SH), locked(path, fcntl.LOCK_SH), if_abandoned(path) as is_free:
        assert not is_free
    with opened_locked(path), if_abandoned(path) as is_free:
        assert not is_free
    with if_abandoned(path) as is_free:
        assert is_free
    with if_abandoned(tmp_path / "gone") as is_free:
        assert not is_free


def test_every_lock_is_taken_by_code_that_these_tests_run() -> None:
    """A new `fcntl.flock` elsewhere belongs into `artifacts.files.ownership`."""
    found = set()
    for path in sorted(path for room in ROOMS for path in (REPOSITORY / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("flock", "lockf"):
                found.add(path.relative_to(REPOSITORY).as_posix())
    assert found == {
        "artifacts/files/ownership.py",
        "artifacts/ledger/journal.py",
        "flows/server/credential.py",
    }
