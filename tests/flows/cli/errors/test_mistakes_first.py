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
    folder: Path, *arguments: str, heavy: tuple[str, ...] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    store = ("--store", str(folder / "store"))
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(heavy=heavy), "run", *store, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "COLUMNS": "1000", "PYTHONPATH": _ROOT}
        | variables,
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
    done = run(tmp_path, *files, "--provider", "dummy", heavy=HEAVY, COLUMNS="60")
    assert done.returncode == 2
    *lines, command = done.stderr.splitlines()
    said = " ".join(line.strip() for line in lines)
    assert "e.csv has no column user_id" in said
    assert "customer looks like user_id" in said
    assert command == (
        f"llm4cdsr run --store {tmp_path}/store {' '.join(files)} --provider dummy "
        "--column customer=user_id"
    )
    assert not (tmp_path / "store").exists()


NOWHERE = "http://127.0.0.1:9/v1"


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (("--preset", "bets"), {}, "Not valid: Invalid value: no preset 'bets'; there are auto"),
        (("--set", "train.max_epoch=3"), {}, "Not valid: Invalid value: --set train.max_epoch=3"),
        (("--provider", "nobody"), {}, "Not valid: Invalid value for '--provider'"),
        (("--epohcs", "3"), {}, "Not valid: No such option: --epohcs"),
        (("--provider", "openai"), {}, "Failed: the model gpt-4o-mini needs a key"),
        ((), {"LLM4CDSR_CHAT_BASE_URL": NOWHERE}, f"Failed: {NOWHERE} is configured without a "),
        ((), {"LLM4CDSR_EMBED_BASE_URL": NOWHERE}, f"Failed: {NOWHERE} is configured without a "),
        ((), {"LLM4CDSR_CHAT_BASE_URL": "x:/y"}, "Not valid: LLM4CDSR_CHAT_BASE_URL"),
        ((), {"LLM4CDSR_CHAT_PARAMETERS": "{x"}, "Not valid: LLM4CDSR_CHAT_PARAMETERS"),
        (
            ("--provider", "openai", "--max-usd", "1"),
            {"OPENAI_API_KEY": "k", "LLM4CDSR_CHAT_MODEL": "unheard-of"},
            "Failed: the price of unheard-of is not known",
        ),
        (("--provider", "dummy", "--store", "e.csv/x"), {}, "Not valid: Invalid value: --store"),
        (("--provider", "dummy", "--store", "nosuch://x"), {}, "Failed: nosuch:// is not a"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_the_first_line_before_anything_heavy_is_loaded(
    tmp_path: Path,
    files: tuple[str, ...],
    arguments: tuple[str, ...],
    variables: dict[str, str],
    said: str,
) -> None:
    done = run(
        tmp_path, *files, "--column", "customer=user_id", *arguments, heavy=HEAVY, **variables
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(said)
    assert not (tmp_path / "store").exists()
