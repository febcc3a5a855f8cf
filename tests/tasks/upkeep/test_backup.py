"""A backup holds what a store needs, also beside runs; what is restored is what was backed up."""

import sqlite3
import subprocess
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from artifacts.ledger.answers import Answer, Role, journal_line, time_ordered_name
from artifacts.ledger.ledger import Ledger
from artifacts.manifest import Kind
from artifacts.store import Store
from tasks.promoting.promotion import promote, roll_back
from tasks.promoting.release_history import archive, history, serving_release
from tasks.upkeep import backup
from tasks.upkeep.backup import DATABASE, back_up, listed
from tasks.upkeep.backup_file import BackupDamagedError, BackupWriter, NoBackupError, read_backup
from tasks.upkeep.cleaning import clean
from tasks.upkeep.needed import Keep
from tasks.upkeep.restore import (
    PARTS,
    RestoreRefusedError,
    check_backup,
    restore,
)
from tests.tasks.upkeep.kept_store import everything, make, release, require_whole


def answer(key: str) -> Answer:
    return Answer(key, f"text of {key}", None, "stop", 3, 5)


def answered(store: Store, *keys: str) -> None:
    """Leaves all but the last answer in a part, and that in the journal of a process that died."""
    ledger = Ledger(store.local, Role.CHAT)
    with ledger.journal() as journal:
        journal.append(*map(answer, keys[:-1]))
    left = ledger.folder / f"journal-{time_ordered_name()}.jsonl"
    left.write_bytes(journal_line(answer(keys[-1])))


def missing(store: Store, *keys: str) -> list[str]:
    ledger = Ledger(store.local, Role.CHAT)
    ledger.recover()
    return ledger.missing(pl.Series(keys)).to_list()


def database(store: Store) -> sqlite3.Connection:
    """Returns the open database of a server that runs, with a row that is not in its main file."""
    (store.workspace("machine") / "prefect").mkdir()
    opened = sqlite3.connect(store.local / DATABASE)
    opened.execute("pragma journal_mode = wal")
    opened.execute("create table flow_run (name text)")
    opened.execute("insert into flow_run values ('refresh monday')")
    opened.commit()
    return opened


def test_a_restored_store_has_everything_and_serves_the_same(store: Store, tmp_path: Path) -> None:
    first, second = release(store, 0), release(store, 1)
    roll_back(store, reason="worse")
    answered(store, "one", "two")
    (store.workspace("train-abc") / "epoch.safetensors").write_bytes(b"left out")
    (store.workspace("machine") / "login").write_text("llm4cdsr:secret")
    with closing(database(store)) as running:
        running.execute("insert into flow_run values ('never committed')")
        made = back_up(store, tmp_path / "backup.tar")
    assert (made.artifacts, made.has_prefect, made.damaged) == (len(everything(store)), True, ())
    assert (tmp_path / "backup.tar").stat().st_mode & 0o777 == 0o600

    there = Store(tmp_path / "there")
    done = restore(there, tmp_path / "backup.tar")
    assert (done.aside, done.is_due, done.files) == (None, False, made.files)
    require_whole(there)
    assert everything(there) == everything(store)
    assert history(there) == history(store)
    assert serving_release(there) == first
    assert missing(there, "one", "two", "three") == ["three"]
    promote(there, second, "again")
    with closing(sqlite3.connect(there.local / DATABASE)) as opened:
        assert opened.execute("select name from flow_run").fetchall() == [("refresh monday",)]
    assert {path.name for path in (there.local / "work").iterdir()} == {"leases", "machine"}
    assert not (there.local / "work" / "machine" / "login").exists()
    modes = {path.stat().st_mode & 0o077 for path in there.local.rglob("*")}
    assert modes == {0}


def test_a_store_on_a_read_only_disk_is_backed_up_without_a_write_to_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(store, 0)
    answered(store, "one", "two")
    with closing(database(store)):
        before = {path: path.stat().st_mtime_ns for path in store.local.rglob("*")}
        monkeypatch.setattr(backup, "is_read_only", lambda _: True)
        made = back_up(store, tmp_path / "backup.tar")
        assert {path: path.stat().st_mtime_ns for path in store.local.rglob("*")} == before
    assert (made.artifacts, made.has_prefect) == (len(everything(store)), True)
    there = Store(tmp_path / "there")
    restore(there, tmp_path / "backup.tar")
    require_whole(there)
    assert missing(there, "one", "two", "three") == ["three"]
    with closing(sqlite3.connect(there.local / DATABASE)) as opened:
        assert opened.execute("select name from flow_run").fetchall() == [("refresh monday",)]


def test_tar_and_sha256sum_alone_can_read_it(store: Store, tmp_path: Path) -> None:
    release(store, 0)
    back_up(store, tmp_path / "backup.tar")
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    for command in (["tar", "-xf", "../backup.tar"], ["sha256sum", "--quiet", "-c", "SHA256SUMS"]):
        subprocess.run(command, cwd=unpacked, check=True)
    assert (unpacked / "pointers" / "serving.json").exists()


def seal(store: Store) -> None:
    Ledger(store.local, Role.CHAT).recover()


def gather(store: Store) -> None:
    archive(store, keep=0)


def throw_away(store: Store) -> None:
    clean(store, Keep(releases=1))


def serve_another(store: Store) -> None:
    release(store, 9)


@pytest.mark.parametrize(
    ("before", "change"),
    [
        ("ledger/chat/journal-", seal),
        ("operation/decisions/00000002", gather),
        ("model/", throw_away),
        ("model/", serve_another),
        ("pointers/", serve_another),
    ],
)
def test_what_a_run_changes_meanwhile_breaks_nothing(
    before: str,
    change: Callable[[Store], None],
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served = [release(store, number) for number in range(3)]
    lost = make(store, Kind.MODEL, 99)
    answered(store, "sealed", "in a journal")
    add, waiting = BackupWriter.add, [change]

    def added(self: BackupWriter, path: Path, name: str) -> bool:
        if name.startswith(before) and waiting:
            waiting.pop()(store)
        return add(self, path, name)

    monkeypatch.setattr(BackupWriter, "add", added)
    assert back_up(store, tmp_path / "backup.tar").damaged == ()
    assert waiting == []
    there = Store(tmp_path / "there")
    restore(there, tmp_path / "backup.tar")
    require_whole(there)
    assert [entry.release for entry in history(there)][:3] == served
    assert serving_release(there) in everything(there)
    assert missing(there, "sealed", "in a journal") == []
    assert (lost in everything(store)) == (change is not throw_away)


def test_a_damaged_artifact_is_left_out_and_named(store: Store, tmp_path: Path) -> None:
    refs = [make(store, Kind.MODEL, number) for number in range(3)]
    (store.local / str(refs[1]) / "data").write_bytes(b"x" * 100)
    made = back_up(store, tmp_path / "backup.tar")
    (fault,) = made.damaged
    assert refs[1].fingerprint in fault
    restore(Store(tmp_path / "there"), tmp_path / "backup.tar")
    assert everything(Store(tmp_path / "there")) == [refs[0], refs[2]]


def test_a_backup_that_fails_leaves_the_earlier_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(store, 0)
    target = tmp_path / "backups" / "last.tar"
    target.parent.mkdir()
    back_up(store, target)
    before = target.read_bytes()

    def full(self: BackupWriter, path: Path, name: str) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(BackupWriter, "add", full)
    with pytest.raises(OSError, match="No space"):
        back_up(store, target)
    assert target.read_bytes() == before
    assert list(target.parent.iterdir()) == [target]


def test_a_flipped_byte_or_a_cut_is_found_before_anything_changes(
    store: Store, tmp_path: Path
) -> None:
    make(store, Kind.MODEL, 0)
    back_up(store, tmp_path / "backup.tar")
    whole = (tmp_path / "backup.tar").read_bytes()
    sound = unpacked(tmp_path / "backup.tar", tmp_path / "sound")
    found = 0
    changed = [
        whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 149)
    ]
    cut = whole[: whole.index(b"SHA256SUMS")]
    for number, content in enumerate([*changed, cut, whole[:700], b""]):
        damaged = tmp_path / f"{number}.tar"
        damaged.write_bytes(content)
        try:
            assert unpacked(damaged, tmp_path / str(number)) == sound  # A byte between two files.
        except BackupDamagedError:
            found += 1
    assert found > 20
    (tmp_path / "cut.tar").write_bytes(cut)
    there = Store(tmp_path / "there")
    with pytest.raises(BackupDamagedError):
        restore(there, tmp_path / "cut.tar")
    assert listed(there.local) == []
    (tmp_path / "no.tar").write_bytes(b"")
    with pytest.raises(NoBackupError, match="is not a file of"):
        restore(there, tmp_path / "no.tar")


def unpacked(path: Path, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    read_backup(path, folder, PARTS)
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in listed(folder)}


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "other/file", "model/../../x"])
def test_a_file_outside_of_the_store_is_refused(name: str, store: Store, tmp_path: Path) -> None:
    back_up(store, tmp_path / "backup.tar")
    with tarfile.open(tmp_path / "backup.tar", "a") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(BackupDamagedError, match="which no backup has"):
        check_backup(tmp_path / "backup.tar")


def test_a_remote_store_is_backed_up_as_its_database_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM4CDSR_CACHE", str(tmp_path / "cache"))
    remote = Store(f"file://{tmp_path}/bucket")
    release(remote, 0)
    database(remote).close()
    made = back_up(remote, tmp_path / "backup.tar")
    assert (made.artifacts, made.files, made.has_prefect) == (0, 1, True)
    with pytest.raises(RestoreRefusedError, match="is a folder"):
        restore(Store(tmp_path / "store"), tmp_path / "backup.tar")
    monkeypatch.setenv("LLM4CDSR_CACHE", str(tmp_path / "another machine"))
    there = Store(remote.root)
    restore(there, tmp_path / "backup.tar")
    with closing(sqlite3.connect(there.local / DATABASE)) as opened:
        assert opened.execute("select name from flow_run").fetchall() == [("refresh monday",)]
