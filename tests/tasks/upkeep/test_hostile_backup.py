"""A restore refuses what `backup` never writes, and an error leaves the store as it was."""

import io
import json
import os
import subprocess
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest

from artifacts.manifest import Kind
from artifacts.store import Store
from tasks.upkeep import restore as restoring
from tasks.upkeep.backup import DATABASE, back_up
from tasks.upkeep.backup_file import (
    ABOUT,
    PARTIAL,
    SUMS,
    BackupDamagedError,
    NoBackupError,
    about_of,
)
from tasks.upkeep.restore import check_backup, restore
from tests.tasks.upkeep.kept_store import everything, make, release, require_whole

MADE: dict[str, object] = {
    "version": 1,
    "made": "2026-01-01T00:00:00Z",
    "program": "1",
    "store": "/data",
    "is_remote": False,
}


def member(name: str, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def written(
    path: Path, *members: tarfile.TarInfo, about: object = MADE, sums: bytes | None = None
) -> Path:
    """Returns a backup with these members, of one byte each, and with right checksums."""
    with tarfile.open(path, "w") as archive:
        lines = list[str]()
        for info in (tarfile.TarInfo(ABOUT), *members):
            content = json.dumps(about).encode() if info.name == ABOUT else b"x"
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
            lines.append(f"{sha256(content).hexdigest()}  {info.name}\n")
        last = "".join(lines).encode(errors="surrogateescape") if sums is None else sums
        archive.addfile(member(SUMS, size=len(last)), io.BytesIO(last))
    return path


@pytest.mark.parametrize(
    "members",
    [
        [member("model/a/b"), member("model/a/b")],
        [member("model/a/b"), member("model/./a/b")],
        [member("model/a"), member("model/a/b")],
        [member("model/a/b"), member("model/a")],
        [member("model/a", type=tarfile.SYMTYPE, linkname="/etc")],
        [member("model/a", type=tarfile.LNKTYPE, linkname="/etc/passwd")],
        [member("model/a", type=tarfile.FIFOTYPE)],
        [member("model/a", pax_headers={"mtime": "inf"})],
        [member("model/a", pax_headers={"mtime": "nan"})],
        [member("model/a", pax_headers={"path": "model/a\0b"})],
        [member("model/a\nb")],
        [member("model/a\u2028b")],
        [member("model/\x1b[31mred")],
        [member("model/\udcff")],
        [member("model")],
        [member("work/machine/login")],
        [member("work/leases/x.lease")],
        [member("work/restoring")],
        [member(f"{DATABASE}-wal")],
        [member(f"{DATABASE}/x")],
    ],
    ids=range(20),
)
def test_what_backup_never_writes_is_refused(
    members: list[tarfile.TarInfo], tmp_path: Path
) -> None:
    file = written(tmp_path / "backup.tar", *members)
    with pytest.raises(BackupDamagedError, match="which no backup has") as raised:
        check_backup(file)
    assert str(raised.value).isprintable()
    with pytest.raises(BackupDamagedError):
        restore(Store(tmp_path / "there"), file)
    assert not (tmp_path / "there" / "model").exists()


@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_a_sparse_file_is_not_unpacked(form: str, tmp_path: Path) -> None:
    (tmp_path / ABOUT).write_text(json.dumps(MADE))
    (tmp_path / "model").mkdir()
    with (tmp_path / "model" / "a").open("wb") as file:
        file.truncate(1 << 40)
    names = [ABOUT, "model/a"]
    subprocess.run(["tar", f"--format={form}", "-Scf", "b.tar", *names], cwd=tmp_path, check=True)
    assert (tmp_path / "b.tar").stat().st_size < 100_000
    with pytest.raises(BackupDamagedError, match="model/a"):
        check_backup(tmp_path / "b.tar")


@pytest.mark.parametrize("sums", [b"\xff\xfe", b"no checksum\n", b"00  \x1b[31mred\n", b""])
def test_damaged_checksums_are_damage(sums: bytes, tmp_path: Path) -> None:
    with pytest.raises(BackupDamagedError, match="has other content") as raised:
        check_backup(written(tmp_path / "backup.tar", member("model/a"), sums=sums))
    assert str(raised.value).isprintable()


def test_the_origin_is_read_with_care(tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    with pytest.raises(NoBackupError, match="llm4cdsr 17, which is newer"):
        about_of(written(file, about={**MADE, "version": 2, "program": "17", "new": []}))
    with pytest.raises(NoBackupError, match="is not a file of"):
        about_of(written(file, about={**MADE, "version": 0}))
    assert about_of(written(file, about={**MADE, "store": "\x1b]0;x\x07"})).store == "?]0;x?"
    with tarfile.open(file, "w") as archive:
        archive.addfile(member(ABOUT, type=tarfile.SYMTYPE, linkname="gone"))
    with pytest.raises(NoBackupError, match="is not a file of"):
        about_of(file)


@pytest.mark.parametrize("name", ["hashes.json", "log.jsonl"])
def test_an_unreadable_list_of_forgotten_users_changes_nothing(name: str, tmp_path: Path) -> None:
    key = member("operation/forgotten/secret.key")
    file = written(tmp_path / "backup.tar", key, member(f"operation/forgotten/{name}"))
    store = Store(tmp_path / "there")
    with pytest.raises(BackupDamagedError, match="list of forgotten users"):
        restore(store, file)
    assert not (store.local / "operation").exists()


def test_restores_of_one_second_are_set_aside_one_by_one(store: Store, tmp_path: Path) -> None:
    release(store, 0)
    back_up(store, tmp_path / "backup.tar")
    asides = {restore(store, tmp_path / "backup.tar", replace=True).aside for _ in range(3)}
    assert len(asides) == 3
    require_whole(store)


def test_an_error_between_two_moves_takes_them_back(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(store, 0)
    back_up(store, tmp_path / "backup.tar")
    release(store, 1)
    before, move = everything(store), restoring._move
    moves = list[Path]()

    def failing(source: Path, target: Path) -> None:
        moves.append(source)
        if len(moves) == 15:
            raise OSError(18, "Invalid cross-device link")
        move(source, target)

    monkeypatch.setattr(restoring, "_move", failing)
    with pytest.raises(OSError, match="cross-device"):
        restore(store, tmp_path / "backup.tar", replace=True)
    assert len(moves) > 15
    assert everything(store) == before
    require_whole(store)
    back_up(store, tmp_path / "again.tar")  # No mark of an interrupted restore.


def test_what_killed_backups_and_restores_left_is_deleted(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    old, running, unpacked = folder / f"{PARTIAL}a.tmp", folder / f"{PARTIAL}b", tmp_path / "there"
    for place in (folder, running, left := unpacked / "work" / "restore-0123"):
        place.mkdir(parents=True)
    old.write_bytes(b"half")
    os.utime(old, (0, 0))
    make(store, Kind.MODEL, 0)
    back_up(store, folder / "last.tar")
    assert sorted(folder.iterdir()) == [running, folder / "last.tar"]
    restore(Store(unpacked), folder / "last.tar")
    assert not left.exists()


def test_of_a_remote_store_copies_and_answers_of_this_machine_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM4CDSR_CACHE", str(tmp_path / "cache"))
    remote = Store(f"file://{tmp_path}/bucket")
    release(remote, 0)
    answers = remote.local / "ledger" / "chat" / "part-of-this-machine.parquet"
    answers.parent.mkdir(parents=True, exist_ok=True)
    answers.write_bytes(b"not shared yet")
    (remote.local / DATABASE).parent.mkdir(parents=True)
    (remote.local / DATABASE).write_bytes(b"")
    back_up(remote, tmp_path / "backup.tar")
    (remote.local / DATABASE).unlink()
    assert restore(remote, tmp_path / "backup.tar").aside is None
    assert answers.exists()
    about = {**MADE, "is_remote": True}
    with pytest.raises(BackupDamagedError, match="model/a"):
        check_backup(written(tmp_path / "backup.tar", member("model/a"), about=about))
