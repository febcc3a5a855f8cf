"""Files that change while they are read make no dataset."""

import os
import shutil
from pathlib import Path

import pytest

from artifacts.manifest import Kind
from artifacts.store import Store
from tasks.dump.dump_config import DumpConfig
from tasks.dump.made_dataset import made_from
from tasks.dump.sources.unchanged_files import DumpChangedError
from tasks.ingest import ingested


@pytest.mark.parametrize(
    "change",
    [
        "replaced",
        "replaced by one of its size and time",
        "appended to",
        "cut",
        "gone",
        "in a folder that is a file now",
        "behind another link",
    ],
)
def test_a_file_that_changes_while_it_is_read_makes_no_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Else another content would have the name of the first one's dataset."""
    store, file = Store(tmp_path / "store"), tmp_path / "monday" / "events.csv"
    (tmp_path / "first").mkdir()
    (tmp_path / "monday").symlink_to("first")
    lines = ["user_id,item_id,domain,timestamp"]
    lines += [f"u{n % 9},i{n % 11},{'ab'[n % 11 % 2]},{n}" for n in range(200)]
    whole = "\n".join(lines) + "\n"
    file.write_text(whole)
    dump = DumpConfig(interactions=str(file))

    def changing(*given: object, **named: object) -> object:
        if change.startswith("replaced"):
            (tmp_path / "new.csv").write_text(whole.replace("u1,", "x1,"))
            if change.endswith("time"):
                shutil.copystat(file, tmp_path / "new.csv")
            (tmp_path / "new.csv").replace(file)
        elif change == "gone":
            file.unlink()
        elif change == "in a folder that is a file now":
            (tmp_path / "monday").unlink()
            (tmp_path / "monday").touch()
        elif change == "behind another link":
            shutil.copytree(tmp_path / "first", tmp_path / "second")
            (tmp_path / "monday").unlink()
            (tmp_path / "monday").symlink_to("second")
        else:
            file.write_text(whole + "u1,i1,a,9999\n" if change == "appended to" else whole[:1000])
        return made_from(*given, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr("tasks.ingest.made_from", changing)
        with pytest.raises(DumpChangedError, match=r"events\.csv was replaced or written to while"):
            ingested(dump, store)
    assert store.artifacts(Kind.DATASET) == []
    (tmp_path / "monday").unlink()
    (tmp_path / "monday").symlink_to("first")
    file.write_text(whole)
    assert not ingested(dump, store).reused


@pytest.mark.parametrize("change", ["linked by a backup", "renumbered by its mount"])
def test_a_file_of_the_same_content_makes_its_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    store, file = Store(tmp_path / "store"), tmp_path / "events.csv"
    lines = [f"u{n % 9},i{n % 11},{'ab'[n % 11 % 2]},{n}" for n in range(200)]
    file.write_text("\n".join(["user_id,item_id,domain,timestamp", *lines]))
    stat = Path.stat

    def renumbered(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        found = stat(path, follow_symlinks=follow_symlinks)
        if path != file:
            return found
        times = {name: getattr(found, name) for name in dir(found) if name.endswith("_ns")}
        return os.stat_result((found[0], found[1] + 1, *found[2:]), times)

    def changing(*given: object, **named: object) -> object:
        if change == "linked by a backup":
            (tmp_path / "backup.csv").hardlink_to(file)
        else:
            patched.setattr(Path, "stat", renumbered)
            assert file.stat().st_ino != stat(file).st_ino
        return made_from(*given, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr("tasks.ingest.made_from", changing)
        assert not ingested(DumpConfig(interactions=str(file)), store).reused
