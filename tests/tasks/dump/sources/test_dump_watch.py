"""A dump is seen once it is complete, once a content; everything else waits with its reason."""

import contextlib
import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from artifacts.store import Store
from tasks.dump.dump_config import DumpConfig
from tasks.dump.sources import dump_watch
from tasks.dump.sources.dump_watch import (
    Look,
    NoDumpError,
    NoDumpFolderError,
    WatchMemory,
    WatchMemoryError,
    announced,
    dump_in,
    dump_to_read,
    look_into,
    read_memory,
    write_memory,
)
from tasks.dump.sources.remote_files import with_local_files

SETTLE = 30.0


def put_dump(folder: Path, content: str = "x") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "interactions.csv").write_text(f"interactions {content}")
    (folder / "items.csv.gz").write_text(f"items {content}")
    return folder


def look(folder: Path | str, memory: WatchMemory, now: float) -> Look:
    return look_into(str(folder), memory, now, SETTLE)


def test_a_dump_lands_when_two_looks_saw_the_same_files(tmp_path: Path) -> None:
    put_dump(tmp_path / "monday")
    first = look(tmp_path, WatchMemory(), 0)
    assert first.landed == []
    assert list(first.waiting) == [str(tmp_path / "monday")]

    too_soon = look(tmp_path, first.memory, SETTLE - 1)
    assert too_soon.landed == []

    later = look(tmp_path, too_soon.memory, SETTLE)
    assert [dump.name for dump in later.landed] == ["monday"]
    assert later.landed[0].interactions == str(tmp_path / "monday" / "interactions.csv")
    assert later.landed[0].items == str(tmp_path / "monday" / "items.csv.gz")


def test_a_file_that_grows_starts_the_waiting_anew(tmp_path: Path) -> None:
    dump = put_dump(tmp_path / "monday")
    first = look(tmp_path, WatchMemory(), 0)
    with (dump / "interactions.csv").open("a") as file:
        file.write("one more row")
    grown = look(tmp_path, first.memory, SETTLE)
    assert grown.landed == []
    assert look(tmp_path, grown.memory, 2 * SETTLE).landed != []


def test_a_clock_that_is_set_back_holds_no_dump_back(tmp_path: Path) -> None:
    put_dump(tmp_path / "monday")
    day = 86_400.0
    first = look(tmp_path, WatchMemory(), day)
    set_back = look(tmp_path, first.memory, 0)
    assert set_back.landed == []
    assert look(tmp_path, set_back.memory, SETTLE).landed != []


def test_a_success_marker_makes_it_complete_at_once(tmp_path: Path) -> None:
    (put_dump(tmp_path / "monday") / "_SUCCESS").touch()
    assert [dump.name for dump in look(tmp_path, WatchMemory(), 0).landed] == ["monday"]


def test_an_announced_content_is_announced_under_no_other_name(tmp_path: Path) -> None:
    (put_dump(tmp_path / "monday") / "_SUCCESS").touch()
    seen = look(tmp_path, WatchMemory(), 0)
    memory = announced(seen.memory, seen.landed[0])
    (put_dump(tmp_path / "tuesday") / "_SUCCESS").touch()
    again = look(tmp_path, memory, 1)
    assert again.landed == []
    assert again.known == [str(tmp_path / "monday"), str(tmp_path / "tuesday")]

    put_dump(tmp_path / "tuesday", content="other")
    assert [dump.name for dump in look(tmp_path, again.memory, 2).landed] == ["tuesday"]


def test_two_folders_of_one_content_land_once(tmp_path: Path) -> None:
    for name in ("monday", "tuesday"):
        (put_dump(tmp_path / name) / "_SUCCESS").touch()
    assert len(look(tmp_path, WatchMemory(), 0).landed) == 1


def test_what_is_not_announced_lands_again_in_the_next_look(tmp_path: Path) -> None:
    (put_dump(tmp_path / "monday") / "_SUCCESS").touch()
    first = look(tmp_path, WatchMemory(), 0)
    assert look(tmp_path, first.memory, 1).landed == first.landed


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (["interactions.csv"], "no items.* files"),
        (["items.csv"], "no interactions.* files"),
        (["interactions.csv", "interactions.parquet", "items.csv"], "2 interactions.* files"),
        (["interactions.csv.part", "items.csv"], "no interactions.* files"),
    ],
)
def test_half_a_dump_waits_and_says_what_is_missing(
    tmp_path: Path, files: list[str], reason: str
) -> None:
    (tmp_path / "monday").mkdir()
    for name in [*files, "_SUCCESS"]:
        (tmp_path / "monday" / name).write_text("x")
    seen = look(tmp_path, WatchMemory(), 0)
    assert seen.landed == []
    assert reason in seen.waiting[str(tmp_path / "monday")]


def test_the_watched_folder_may_be_the_dump_and_hidden_folders_are_left_alone(
    tmp_path: Path,
) -> None:
    (put_dump(tmp_path) / "_SUCCESS").touch()
    (put_dump(tmp_path / ".copying", content="other") / "_SUCCESS").touch()
    assert [dump.folder for dump in look(tmp_path, WatchMemory(), 0).landed] == [str(tmp_path)]


def test_memory_survives_the_run_that_wrote_it(tmp_path: Path) -> None:
    (put_dump(tmp_path / "dumps" / "monday") / "_SUCCESS").touch()
    store = Store(tmp_path / "store")
    seen = look(tmp_path / "dumps", WatchMemory(), 0)
    write_memory(store, "dumps", announced(seen.memory, seen.landed[0]))
    assert look(tmp_path / "dumps", read_memory(store, "dumps"), 1).landed == []
    assert read_memory(store, "elsewhere") == WatchMemory()


def test_a_folder_behind_a_url_is_watched_and_fetched(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for role in ("interactions", "items"):
        memory.pipe_file(f"/landing/monday/{role}.csv", role.encode())
    memory.pipe_file("/landing/monday/_SUCCESS", b"")
    seen = look("memory://landing", WatchMemory(), 0)
    assert [dump.name for dump in seen.landed] == ["monday"]
    assert seen.landed[0].interactions == "memory:///landing/monday/interactions.csv"

    named = dump_to_read(None, seen.landed[0].folder, "nowhere")
    read = with_local_files(named, Store(tmp_path / "store"))
    assert Path(str(read.interactions)).read_text() == "interactions"
    assert Path(str(read.items)).read_text() == "items"
    memory.rm("/landing", recursive=True)


def test_a_folder_replaces_the_files_of_a_configuration_and_nothing_else(tmp_path: Path) -> None:
    put_dump(tmp_path / "monday")
    asked = DumpConfig(interactions="a.csv", columns={"reviewerID": "user_id"}, user_core=3)
    read = dump_to_read(asked, str(tmp_path / "monday"), "nowhere")
    assert read.interactions == str(tmp_path / "monday" / "interactions.csv")
    assert (read.columns, read.user_core) == (asked.columns, 3)
    assert dump_to_read(asked, None, "nowhere") is asked


def test_without_a_folder_the_newest_dump_is_read(tmp_path: Path) -> None:
    for age, name in enumerate(("newest", "older", "oldest")):
        dump = put_dump(tmp_path / name)
        for file in dump.iterdir():
            os.utime(file, (1_000_000 - age, 1_000_000 - age))
    assert dump_in(str(tmp_path)).name == "newest"


def test_a_dump_that_is_still_copied_is_not_read_at_night(tmp_path: Path) -> None:
    whole = put_dump(tmp_path / "dumps" / "whole")
    for file in whole.iterdir():
        os.utime(file, (1_000_000, 1_000_000))
    copied = put_dump(tmp_path / "dumps" / "copied", content="half")

    def read() -> Path:
        read = dump_to_read(None, None, str(tmp_path / "dumps"))
        return Path(str(read.files[0].interactions))

    assert read().parent == whole
    (copied / "_SUCCESS").touch()
    assert read().parent == copied
    (copied / "_SUCCESS").unlink()
    shutil.rmtree(whole)
    with pytest.raises(NoDumpError, match="may still be copied: wait 30 s"):
        read()


def test_no_folder_and_no_dump_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NoDumpFolderError, match="create it"):
        look(tmp_path / "absent", WatchMemory(), 0)
    with pytest.raises(NoDumpError, match=r"interactions\.\*"):
        dump_in(str(tmp_path))


def a_pipe(dump: Path, outside: Path) -> None:
    (dump / "items.csv.gz").unlink()
    os.mkfifo(dump / "items.csv.gz")


def a_socket(dump: Path, outside: Path) -> None:
    (dump / "items.csv.gz").unlink()
    with socket.socket(socket.AF_UNIX) as opened, contextlib.chdir(dump):
        opened.bind("items.csv.gz")


def a_dangling_link(dump: Path, outside: Path) -> None:
    (dump / "items.csv.gz").unlink()
    (dump / "items.csv.gz").symlink_to(outside / "nothing")


def a_loop(dump: Path, outside: Path) -> None:
    (dump / "items.csv.gz").unlink()
    (dump / "items.csv.gz").symlink_to(dump / "items.csv.gz")


def a_link_to_a_device(dump: Path, outside: Path) -> None:
    (dump / "items.csv.gz").unlink()
    (dump / "items.csv.gz").symlink_to("/dev/zero")


def a_link_to_a_folder(dump: Path, outside: Path) -> None:
    (dump / "items.csv.gz").unlink()
    (dump / "items.csv.gz").symlink_to(outside)


def a_link_outside(dump: Path, outside: Path) -> None:
    (outside / "secret").write_text("root:x:0:0")
    (dump / "items.csv.gz").unlink()
    (dump / "items.csv.gz").symlink_to(outside / "secret")


def a_folder_that_leads_outside(dump: Path, outside: Path) -> None:
    shutil.move(dump, outside / "monday")
    dump.symlink_to(outside / "monday")


def a_folder_that_leads_to_itself(dump: Path, outside: Path) -> None:
    shutil.rmtree(dump)
    dump.symlink_to(dump)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (a_pipe, "items.csv.gz is a pipe, not a file"),
        (a_socket, "items.csv.gz is a socket, not a file"),
        (a_dangling_link, r"items.csv.gz cannot be opened \(No such file"),
        (a_loop, r"items.csv.gz cannot be opened \(Too many levels"),
        (a_link_to_a_device, "items.csv.gz is a device behind a link"),
        (a_link_to_a_folder, "items.csv.gz is a folder behind a link"),
        (a_link_outside, "items.csv.gz leads out of the dumps folder.*LLM4CDSR_DUMP_LINKS"),
        (a_folder_that_leads_outside, "monday leads out of the dumps folder"),
        (a_folder_that_leads_to_itself, r"monday cannot be opened \(Too many levels"),
    ],
)
def test_what_is_no_regular_file_is_refused_with_its_reason_and_the_others_go_on(
    tmp_path: Path, make: Callable[[Path, Path], None], reason: str
) -> None:
    dumps, outside = tmp_path / "dumps", tmp_path / "outside"
    outside.mkdir()
    for name in ("monday", "tuesday"):
        (put_dump(dumps / name, content=name) / "_SUCCESS").touch()
    make(dumps / "monday", outside)
    seen = look(dumps, WatchMemory(), 0)
    assert [dump.name for dump in seen.landed] == ["tuesday"]
    assert re.search(reason, seen.waiting[str(dumps / "monday")])
    assert dump_in(str(dumps)).name == "tuesday"
    shutil.rmtree(dumps / "tuesday")
    with pytest.raises(NoDumpError, match=reason):
        dump_in(str(dumps))


def test_a_link_within_the_dumps_folder_is_followed_from_everywhere_in_it(tmp_path: Path) -> None:
    dumps = tmp_path / "dumps"
    (put_dump(dumps / "monday") / "_SUCCESS").touch()
    shared = dumps / "_shared"
    shared.mkdir()
    shutil.move(dumps / "monday" / "items.csv.gz", shared / "items.csv.gz")
    (dumps / "monday" / "items.csv.gz").symlink_to("../_shared/items.csv.gz")
    (dumps / "latest").symlink_to("monday")
    seen = look(dumps, WatchMemory(), 0)
    assert [dump.checksum for dump in seen.landed] != []
    read = dump_to_read(None, str(dumps / "monday"), str(dumps))
    assert Path(str(read.files[0].items)).read_text() == "items x"


def test_links_may_lead_anywhere_where_the_machine_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside").mkdir()
    (put_dump(tmp_path / "dumps" / "monday") / "_SUCCESS").touch()
    a_link_outside(tmp_path / "dumps" / "monday", tmp_path / "outside")
    assert look(tmp_path / "dumps", WatchMemory(), 0).landed == []
    monkeypatch.setenv("LLM4CDSR_DUMP_LINKS", "anywhere")
    assert len(look(tmp_path / "dumps", WatchMemory(), 0).landed) == 1


def test_a_folder_whose_files_cannot_be_read_waits_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("monday", "tuesday"):
        (put_dump(tmp_path / name, content=name) / "_SUCCESS").touch()
    real = dump_watch._checksum

    def sick(filesystem: fsspec.AbstractFileSystem, files: dict[str, str]) -> str:
        if "monday" in files["items.csv.gz"]:
            raise PermissionError(13, "Permission denied", files["items.csv.gz"])
        return real(filesystem, files)

    monkeypatch.setattr(dump_watch, "_checksum", sick)
    seen = look(tmp_path, WatchMemory(), 0)
    assert [dump.name for dump in seen.landed] == ["tuesday"]
    assert seen.waiting[str(tmp_path / "monday")].endswith("cannot be read (Permission denied)")


@pytest.mark.parametrize("content", [b"", b"{", b'{"announced": 3}', b"\xff"])
def test_a_garbage_memory_names_its_file_and_the_way_out(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path / "store")
    write_memory(store, "dumps", WatchMemory())
    (note,) = (store.local / "operation").iterdir()
    note.write_bytes(content)
    with pytest.raises(WatchMemoryError, match=f"{note.name} cannot be read .*Delete it"):
        read_memory(store, "dumps")
