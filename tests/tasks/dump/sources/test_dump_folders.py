"""Dumps that are replaced or hidden, in parts, or named oddly, while they are watched."""

import os
from pathlib import Path

import fsspec
import pytest

from artifacts.store import Store
from tasks.dump.sources import dump_folders
from tasks.dump.sources.dump_watch import (
    Look,
    WatchMemory,
    announced,
    dump_in,
    look_into,
    overdue,
    read_memory,
    write_memory,
)


def put_dump(folder: Path, content: str = "x") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "interactions.csv").write_text(f"interactions {content}")
    (folder / "items.csv").write_text(f"items {content}")
    return folder


def look(folder: Path, memory: WatchMemory, now: float) -> Look:
    return look_into(str(folder), memory, now, settle_seconds=30)


@pytest.mark.parametrize("how", ["written over", "replaced", "behind another link"])
def test_another_content_of_the_same_size_and_time_is_new(tmp_path: Path, how: str) -> None:
    """Exports with a fixed date of their files, and links that point to the latest one."""

    def put(folder: str, content: str) -> Path:
        put_dump(tmp_path / folder, content)
        for file in (tmp_path / folder).iterdir():
            os.utime(file, (1, 1))
        return tmp_path / folder

    put("_first", "1")
    (tmp_path / "monday").symlink_to("_first")
    first = look_into(str(tmp_path), WatchMemory(), 0, 0)
    memory = announced(first.memory, first.landed[0])
    if how == "written over":
        put("_first", "2")
    elif how == "replaced":
        put("_second", "2")
        for file in (tmp_path / "_second").iterdir():
            file.replace(tmp_path / "_first" / file.name)
    else:
        put("_second", "2")
        (tmp_path / "monday").unlink()
        (tmp_path / "monday").symlink_to("_second")
    assert [dump.name for dump in look_into(str(tmp_path), memory, 1, 0).landed] == ["monday"]


def test_another_object_of_the_same_size_is_new() -> None:
    folder = "memory://dumps-of-one-size"
    filesystem = fsspec.filesystem("memory")

    def put(content: bytes) -> None:
        for name in ("interactions.csv", "items.csv"):
            filesystem.pipe_file(f"{folder}/monday/{name}", content)

    put(b"1")
    first = look_into(folder, WatchMemory(), 0, 0)
    put(b"2")
    memory = announced(first.memory, first.landed[0])
    assert len(look_into(folder, memory, 1, 0).landed) == 1
    filesystem.rm(folder, recursive=True)


@pytest.mark.parametrize("name", ["interactions.csv", ".interactions.csv.x7Gk", "items.csv.part"])
def test_a_hidden_copy_waits_and_becomes_overdue(tmp_path: Path, name: str) -> None:
    (tmp_path / ".monday").mkdir()
    (tmp_path / ".monday" / name).write_text("a part")
    (tmp_path / ".settings").mkdir()
    (tmp_path / ".settings" / "notes.csv").touch()
    first = look(tmp_path, WatchMemory(), 0)
    assert (first.landed, first.waiting) == ([], {})
    later = look(tmp_path, first.memory, 3600)
    (wait,) = overdue(later.memory, 3600, 3600).items()
    assert wait[0] == str(tmp_path / ".monday")
    assert "begins with a dot" in wait[1].reason
    (tmp_path / ".monday").rename(tmp_path / "monday")
    assert str(tmp_path / ".monday") not in look(tmp_path, later.memory, 3600).memory.waits


@pytest.mark.parametrize("name", [".interactions.csv.x7Gk", "Interactions.CSV", "~items.csv"])
def test_a_folder_with_parts_of_a_dump_alone_waits(tmp_path: Path, name: str) -> None:
    (tmp_path / "monday").mkdir()
    (tmp_path / "monday" / name).touch()
    assert list(look(tmp_path, WatchMemory(), 0).waiting) == [str(tmp_path / "monday")]


def test_a_folder_whose_name_is_no_utf8_waits_and_can_be_noted(tmp_path: Path) -> None:
    (put_dump(tmp_path / os.fsdecode(b"m\xfcller")) / "_SUCCESS").touch()
    (put_dump(tmp_path / "monday", "2") / "_SUCCESS").touch()
    store = Store(tmp_path / "store")
    first = look(tmp_path, WatchMemory(), 0)
    write_memory(store, str(tmp_path), first.memory)
    later = look(tmp_path, read_memory(store, str(tmp_path)), 3600)
    assert [dump.name for dump in later.landed] == ["monday"]
    assert [wait.since for wait in overdue(later.memory, 3600, 3600).values()] == [0]
    assert "not UTF-8" in later.waiting[f"{tmp_path}/m\\udcfcller"]


def test_a_dump_that_goes_while_the_newest_is_looked_for_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("monday", "tuesday"):
        put_dump(tmp_path / name)
    fault = dump_folders.file_fault

    def and_gone(path: Path, root: Path) -> str | None:
        found = fault(path, root)
        if path.parent.name == "tuesday":
            path.unlink()
        return found

    monkeypatch.setattr(dump_folders, "file_fault", and_gone)
    assert dump_in(str(tmp_path)).name == "monday"
