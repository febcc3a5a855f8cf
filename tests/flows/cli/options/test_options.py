"""What the command line refuses before anything is read or paid."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.command_table import app


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--column", "user_id=reviewer"], "reviewer is not a column name (user_id,"),
        (["--column", "reviewer"], "write NAME_IN_FILE=NAME"),
        (["--set", "model.hidden=64"], "tables are made for a model of width 128"),
    ],
)
def test_a_run_that_cannot_end_well_does_not_begin(
    tmp_path: Path, options: list[str], said: str
) -> None:
    files = [tmp_path / name for name in ("events.csv", "items.csv")]
    files[0].write_text("user_id,item_id,domain,timestamp\n")
    files[1].write_text("item_id,domain,title\n")
    store = ["--store", str(tmp_path / "store"), "--provider", "dummy"]
    dump = ["--interactions", str(files[0]), "--items", str(files[1])]
    ended = CliRunner().invoke(app, ["run", *dump, *store, *options], env={"COLUMNS": "300"})
    assert ended.exit_code == 2
    assert said in " ".join(ended.output.split())
    assert not (tmp_path / "store").exists()


def test_a_device_that_is_not_there_ends_a_run_before_it_asks_anything(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("user_id,item_id,domain,timestamp\n")
    (tmp_path / "i.csv").write_text("item_id,domain,title\n")
    store = ["--store", str(tmp_path / "store"), "--provider", "dummy"]
    dump = ["--interactions", str(tmp_path / "e.csv"), "--items", str(tmp_path / "i.csv")]
    ended = CliRunner().invoke(app, ["run", *dump, *store, "--device", "cuda:99"])
    assert "cuda:99" in str(ended.exception)
    assert not (tmp_path / "store").exists()
