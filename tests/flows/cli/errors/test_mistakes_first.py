"""Mistakes in options and headers are found before anything heavy is loaded or started."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tasks.dump.dump_files import as_csv, changed, events_of, items_of

PROGRAM = """
import sys
for heavy in {heavy}:
    sys.modules[heavy] = None  # To import it now raises.
sys.argv = ["llm4cdsr", *sys.argv[1:]]
from flows.cli.entry import main
main()
"""
HEAVY = ("prefect", "torch", "openai", "sklearn")


def run(
    folder: Path, *arguments: str, heavy: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    store = ("--store", str(folder / "store"))
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(heavy=heavy), "run", *arguments, *store],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "COLUMNS": "1000", "PYTHONPATH": _ROOT},
        check=False,
    )


_ROOT = str(Path(__file__).parents[4])


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    rows = [{"customer": row.pop("user_id"), **row} for row in changed(events_of(users=2))]
    events, items = as_csv(tmp_path / "e.csv", rows), as_csv(tmp_path / "i.csv", items_of())
    return ("--interactions", events, "--items", items)


def test_a_wrong_column_ends_at_once_with_the_command_corrected(
    tmp_path: Path, files: tuple[str, ...]
) -> None:
    done = run(tmp_path, *files, "--provider", "dummy", heavy=HEAVY)
    assert done.returncode == 2
    first, command = done.stderr.splitlines()[:2]
    assert "e.csv has no column user_id" in first
    assert "customer looks like user_id" in first
    assert command == (
        f"llm4cdsr run {' '.join(files)} --provider dummy --store {tmp_path}/store "
        "--column=customer=user_id"
    )
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--preset", "bets"), "bets"),
        (("--set", "train.max_epoch=3"), "max_epoch"),
    ],
)
def test_a_wrong_option_is_found_before_a_server_starts(
    tmp_path: Path, files: tuple[str, ...], arguments: tuple[str, ...], said: str
) -> None:
    done = run(tmp_path, *files, "--column", "customer=user_id", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "store").exists()
