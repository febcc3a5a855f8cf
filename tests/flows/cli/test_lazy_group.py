"""The listing of commands against the commands themselves."""

import inspect
import subprocess
import sys
from importlib import import_module

import pytest
import typer
from typer.testing import CliRunner

from flows.cli.command_table import COMMANDS, app
from flows.cli.lazy_group import imported

HEAVY = ("prefect", "torch", "polars", "sklearn", "faiss", "openai", "fastapi")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_listed_with_the_first_line_of_its_own_help(name: str) -> None:
    listed = COMMANDS[name]
    found = getattr(import_module(listed.module), listed.name)
    own = found.info.help if isinstance(found, typer.Typer) else inspect.getdoc(found)
    assert listed.help == str(own).splitlines()[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_the_examples_that_are_named(name: str) -> None:
    listed = COMMANDS[name]
    epilog = imported(listed).epilog
    assert (listed.examples is None) == (epilog is None)
    assert epilog is None or f"llm4cdsr {name}" in epilog


def test_the_help_of_a_command_is_its_own() -> None:
    shown = CliRunner().invoke(app, ["ledger", "stats", "-h"])
    assert shown.exit_code == 0
    assert "ledger stats --store artifacts/data" in shown.output


def test_a_command_that_is_mistyped_is_answered_with_its_name() -> None:
    shown = CliRunner().invoke(app, ["refesh"])
    assert shown.exit_code == 2
    assert "refresh" in shown.output


@pytest.mark.parametrize(
    ("module", "needed"),
    [
        ("flows.cli.command_table", set()),
        ("flows.cli.commands.show_command", {"polars"}),
        ("flows.cli.commands.release_command", {"polars"}),
        (
            "flows.cli.commands.run_commands",
            {"polars", "prefect"},
        ),  # Of which an unchanged refresh consists.
    ],
)
def test_a_module_imports_no_engine_that_it_may_not_need(module: str, needed: set[str]) -> None:
    code = f"import sys, {module}; print(*(m for m in sys.argv[1:] if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) <= needed
