"""`llm4cdsr backup` and `llm4cdsr restore`: one command each, with the way on."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from artifacts.manifest import Kind
from artifacts.store import Store
from flows.cli.command_table import app
from flows.server.machine import FOLDER, Machine
from tasks.promoting.release_history import serving_release
from tasks.upkeep.backup import PREFECT
from tests.tasks.upkeep.kept_store import make, release


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200"})


def test_a_backup_in_a_folder_is_named_by_the_time_and_restored(
    store: Store, tmp_path: Path
) -> None:
    served = release(store, 0)
    (tmp_path / "backups").mkdir()
    done = invoke("backup", tmp_path / "backups", "--store", store.root)
    assert done.exit_code == 0, done.output
    (file,) = (tmp_path / "backups").iterdir()
    assert str(file) in done.output
    assert "10 artifacts and no Prefect database" in done.output

    checked = invoke("restore", file, "--check", "--store", tmp_path / "there")
    assert "is complete" in checked.output
    assert not (tmp_path / "there").exists()
    restored = invoke("restore", file, "--store", tmp_path / "there")
    assert restored.exit_code == 0, restored.output
    assert "Repeat `llm4cdsr forget`" in restored.output
    assert serving_release(Store(tmp_path / "there")) == served


def test_another_file_is_not_replaced(store: Store, tmp_path: Path) -> None:
    release(store, 0)
    (tmp_path / "thesis.odt").write_text("years of work")
    done = invoke("backup", tmp_path / "thesis.odt", "--store", store.root)
    assert "is not a file of `llm4cdsr backup`" in str(done.exception)
    assert (tmp_path / "thesis.odt").read_text() == "years of work"
    os.mkfifo(tmp_path / "pipe")
    assert invoke("backup", tmp_path / "pipe", "--store", store.root).exit_code == 2
    for _ in range(2):
        done = invoke("backup", tmp_path / "last.tar", "--store", store.root)
        assert done.exit_code == 0, done.output


def test_damage_is_an_exit_status(store: Store, tmp_path: Path) -> None:
    ref = make(store, Kind.MODEL, 1)
    (store.local / str(ref) / "data").write_bytes(b"x" * 100)
    done = invoke("backup", tmp_path / "last.tar", "--store", store.root)
    assert done.exit_code == 1
    assert ref.fingerprint in done.output


def test_a_store_that_up_works_on_is_not_restored(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(store, 0)
    assert invoke("backup", tmp_path / "last.tar", "--store", store.root).exit_code == 0
    monkeypatch.setattr(Machine, "running", lambda self: {"server": None})
    done = invoke("restore", tmp_path / "last.tar", "--replace", "--store", store.root)
    assert "run `llm4cdsr down`, then restore" in str(done.exception)


def test_prefects_files_are_where_up_puts_them(store: Store) -> None:
    store.workspace(FOLDER)
    variables = Machine(store)._environment("dumps")
    assert Path(variables["PREFECT_HOME"]) == (store.local / PREFECT).resolve()
