"""A store is its user's, or a group's to read: one rule for all files, whatever writes them."""

import grp
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from artifacts.bundles import REFRESHED
from artifacts.files import private_files
from artifacts.files.private_files import GROUP_VARIABLE, share_as_usual
from artifacts.kinds.arrays import write_arrays
from artifacts.ledger.answers import Answer, Role
from artifacts.ledger.ledger import Ledger
from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import Store
from artifacts.store_notes import write_note
from artifacts.user_error import InvalidSettingError

IS_ROOT = os.geteuid() == 0
GROUP = next((each for each in grp.getgrall() if each.gr_name == "daemon"), None)


@pytest.fixture(autouse=True)
def usual(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process with the usual umask that has not written yet."""
    before = os.umask(0o022)
    monkeypatch.setattr(private_files, "_seen", set())
    monkeypatch.setattr(private_files, "_given_umask", None)
    monkeypatch.delenv(GROUP_VARIABLE, raising=False)
    yield
    os.umask(before)


def filled(root: Path) -> tuple[Store, ArtifactRef]:
    """A store in which every kind of writer has written."""
    store = Store(root)
    made = identity(Kind.MODEL, {"seed": 1}, {})
    with store.create(made) as draft:
        (draft.path / "sub").mkdir()
        (draft.path / "sub" / "table.txt").write_text("x")
        write_arrays(draft.path / "weights.safetensors", {"w": np.zeros(3, np.float32)})
    store.point(REFRESHED, made.ref)
    write_note(store, "store-note", b"x")
    (store.workspace("logs") / "a.log").write_text("x")
    with Ledger(store.local, Role.CHAT).journal("m") as journal:
        journal.append(Answer("k", "text", None, "stop", 1, 1))
    return store, made.ref


def modes(root: Path) -> dict[str, int]:
    paths = [root, *root.rglob("*")]
    return {path.relative_to(root).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in paths}


def test_every_file_is_its_users_alone(tmp_path: Path) -> None:
    filled(tmp_path / "new" / "store")
    found = modes(tmp_path / "new" / "store")
    assert len(found) > 12
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o077} == {}
    assert modes(tmp_path / "new")["."] == 0o755  # What is above the store stays as usual.


def test_a_store_of_before_is_brought_under_the_rule_and_opens(tmp_path: Path) -> None:
    root = tmp_path / "store"
    _, ref = filled(root)
    for path in (root, *root.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    private_files._seen.clear()
    store, _ = filled(root)
    assert [name for name, mode in modes(root).items() if mode & 0o077] == []
    store.verify(ref)


def test_a_folder_that_holds_other_things_keeps_theirs(tmp_path: Path) -> None:
    script = tmp_path / "mine.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    tmp_path.chmod(0o755)
    filled(tmp_path)
    found = modes(tmp_path)
    assert (found["."], found["mine.sh"]) == (0o755, 0o755)
    ours = {name: mode for name, mode in found.items() if name not in (".", "mine.sh")}
    assert [name for name, mode in ours.items() if mode & 0o077] == []


def test_a_link_in_a_store_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir(mode=0o755)
    (other / "file").write_text("x")
    root = tmp_path / "store"
    filled(root)
    (root / "work" / "link").symlink_to(other)
    (root / "work").chmod(0o755)
    private_files._seen.clear()
    filled(root)
    assert modes(other) == {".": 0o755, "file": 0o644}


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user of the machine can enter."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(GROUP is None or not IS_ROOT, reason="only root may give files to a group")
def test_a_group_may_read_and_not_write_and_never_enter_work(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert GROUP is not None
    root = open_folder / "store"
    filled(root)
    monkeypatch.setenv(GROUP_VARIABLE, GROUP.gr_name)
    _, ref = filled(root)
    with Store(root).create(identity(Kind.MODEL, {"seed": 2}, {})) as draft:
        write_arrays(draft.path / "weights.safetensors", {"w": np.zeros(3, np.float32)})
    work = root / "work"
    assert stat.S_IMODE(work.stat().st_mode) == 0o700
    for path in (root, *root.rglob("*")):
        if path == work or work in path.parents:
            continue
        found = path.stat()
        wanted = 0o750 if path.is_dir() else 0o640
        assert (stat.S_IMODE(found.st_mode) & 0o777, found.st_gid) == (wanted, GROUP.gr_gid), path
    with another_user_of(GROUP.gr_gid):
        served = Store(root)
        served.verify(ref)
        assert served.pointed(REFRESHED) == ref
        with pytest.raises(PermissionError):
            (root / "model" / "x").write_text("x")
        with pytest.raises(PermissionError):
            list(work.iterdir())
    with another_user_of(65534), pytest.raises(PermissionError):
        list(root.iterdir())


@contextmanager
def another_user_of(group: int) -> Iterator[None]:
    """This process as another user, of one group."""
    own, user = os.getgroups(), os.geteuid()
    os.setgroups([])
    os.setegid(group)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        os.setegid(os.getgid())
        os.setgroups(own)


@pytest.mark.parametrize("name", ["no-such-group-here", "-1 x"])
def test_a_group_that_is_none_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(GROUP_VARIABLE, name)
    with pytest.raises(InvalidSettingError, match=f"{GROUP_VARIABLE}={name}"):
        Store(tmp_path / "store").workspace("logs")


def test_what_is_asked_for_elsewhere_has_the_rights_of_the_umask(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    copy = tmp_path / "report.html"
    copy.write_text("x")
    assert modes(tmp_path)["report.html"] == 0o600
    share_as_usual(copy)
    assert modes(tmp_path)["report.html"] == 0o644
