"""The listing of commands against the commands themselves."""

import inspect
import os
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version

import pytest
import typer
from typer.testing import CliRunner

from flows.cli.command_table import COMMANDS, app
from flows.cli.lazy_group import imported

READS_TABLES = {
    "compare",
    "datasets",
    "demo-dump",
    "ledger",
    "promote",
    "releases",
    "rollback",
    "show",
    "status",
}
"""Polars alone is quick to load."""
WITHOUT_EXAMPLES = {"ledger", "setup-local", "show", "store"}
HEAVY = ("prefect", "torch", "polars", "sklearn", "faiss", "openai", "fastapi")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_listed_with_the_first_line_of_its_own_help(name: str) -> None:
    place, _, function = COMMANDS[name].place.partition(":")
    found = getattr(import_module(f"flows.cli.commands.{place}"), function)
    own = found.info.help if isinstance(found, typer.Typer) else inspect.getdoc(found)
    assert COMMANDS[name].help == str(own).splitlines()[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_examples_of_its_own(name: str) -> None:
    epilog = imported(COMMANDS[name]).epilog
    assert (name in WITHOUT_EXAMPLES) == (epilog is None)
    assert epilog is None or f"llm4cdsr {name}" in epilog


def test_the_help_of_a_command_is_its_own() -> None:
    shown = CliRunner().invoke(app, ["ledger", "stats", "-h"])
    assert shown.exit_code == 0
    assert "ledger stats --store artifacts/data" in shown.output


def test_a_command_that_is_mistyped_is_answered_with_its_name() -> None:
    shown = CliRunner().invoke(app, ["refesh"])
    assert shown.exit_code == 2
    assert "refresh" in shown.output


@pytest.fixture(scope="module")
def engines_of_help() -> dict[str, set[str]]:
    """Engines that the help of a command loads, each in a process that had loaded the table only.

    The list of all commands has the empty name; a command whose help fails is not there.
    """
    code = """
import os, sys
from flows.cli.command_table import app
heavy, *names = sys.argv[1:]
for name in names:
    if process := os.fork():
        os.waitpid(process, 0)
        continue
    try:
        app([name, "--help"] if name else ["--help"])
    except SystemExit as end:
        assert not end.code
    print(f"\\nloaded:{name}:", *(m for m in heavy.split() if m in sys.modules))
    break
"""
    asked = [sys.executable, "-c", code, " ".join(HEAVY), "", *COMMANDS]
    done = subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=True)
    told = (line.split(":") for line in done.stdout.splitlines() if line.startswith("loaded:"))
    return {name: set(engines.split()) for _, name, engines in told}


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_the_help_of_a_command_loads_no_engine(
    name: str | None, engines_of_help: dict[str, set[str]]
) -> None:
    loaded = engines_of_help[name or ""]
    assert loaded <= {"polars"} if name in READS_TABLES else not loaded


def test_shells_complete_commands_options_and_values() -> None:
    assert {"releases", "retrain"} <= _completed("llm4cdsr re")
    assert "--provider" in _completed("llm4cdsr run --pro")
    assert {"dummy", "local"} <= _completed("llm4cdsr run --provider ")
    assert {"best", "large"} <= _completed("llm4cdsr run --preset ")
    assert _completed("llm4cdsr export-recs out --format ") == {"csv", "parquet"}


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    shown = CliRunner().invoke(app, ["--version"])
    assert shown.exit_code == 0
    assert f"llm4cdsr {version('llm4cdsr')}" in capsys.readouterr().out + shown.output


def _completed(line: str) -> set[str]:
    """What a shell is told for a command line up to the cursor."""
    words = line.split(" ")
    asked = {
        "_LLM4CDSR_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    code = "from flows.cli.command_table import app; app(prog_name='llm4cdsr')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=False,
    )
    return set(done.stdout.split())
