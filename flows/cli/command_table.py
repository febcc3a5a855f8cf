"""The command line: ``llm4cdsr --help``."""

import os
from importlib.metadata import version
from typing import Annotated

import typer

from flows.cli.errors.exits import leaving, one_message
from flows.cli.lazy_group import Listed, lazy_group
from flows.cli.output import terminal
from tasks.system.dot_env import PREFIX, read_dot_env

_BY_PANEL = {
    "Data": {
        "demo-dump": (
            "data.demo_dump_command:demo_dump",
            "Generate example data: interactions and items of two shops.",
        ),
        "check": (
            "data.check_command:check",
            "Validate input files: rows, domains, users, period, sufficiency for a model.",
        ),
        "worth": (
            "runs.worth_command:worth",
            "Measure the gain from item texts and profiles on a sample of users.",
        ),
        "datasets": (
            "data.datasets_command:datasets",
            "List the built-in data sets: raw files, sources, periods and cores.",
        ),
    },
    "Run": {
        "run": (
            "runs.run_commands:run",
            "Run refresh and retrain: from input files to recommendations and a report.",
        ),
        "refresh": (
            "runs.run_commands:refresh_command",
            "Build item tables and user profiles from input files; sends only new prompts.",
        ),
        "retrain": (
            "runs.run_commands:retrain_command",
            "Train on the latest refresh: model, recommendations, report, promotion gate.",
        ),
        "train": (
            "runs.train_command:train",
            "Train a model on the latest refresh, in one process or under torchrun.",
        ),
        "tune": (
            "runs.tune_command:tune",
            "Search the preset's fields on the latest refresh and write a preset file.",
        ),
        "experiment": (
            "runs.experiment_command:experiment",
            "Measure a grid of data sets, presets, ablations and seeds.",
        ),
    },
    "Use the model": {
        "recommend": (
            "use.recommend_command:recommend",
            "Show the next items of one user in every domain.",
        ),
        "serve-recs": (
            "use.serve_recs_command:serve_recs",
            "Serve recommendations over HTTP, with a web page, until Ctrl-C.",
        ),
        "export-recs": (
            "use.export_commands:export_recs",
            "Write the top items of every user: one file per domain, export.json with counts.",
        ),
        "export-model": (
            "use.export_commands:export_model_command",
            "Export the model as a graph from histories of item indices to item scores.",
        ),
    },
    "Releases, ledger and store": {
        "status": (
            "upkeep.status_command:status",
            "Show the served release, the latest runs and the state of this machine.",
        ),
        "doctor": (
            "upkeep.doctor_command:doctor",
            "Check environment, versions, endpoints, store, clock and Prefect server.",
        ),
        "show": (
            "upkeep.release_command:show",
            "Show the served release: quality, artifacts, path of the report.",
        ),
        "releases": (
            "upkeep.release_command:releases",
            "List promoted, held and rolled-back releases, newest first.",
        ),
        "compare": (
            "upkeep.compare_command:compare",
            "Compare two releases: data, settings and quality by domain.",
        ),
        "promote": (
            "upkeep.release_command:promote",
            "Serve a release, including a held one; takes effect immediately.",
        ),
        "rollback": (
            "upkeep.release_command:rollback",
            "Serve the previously served release; takes effect immediately.",
        ),
        "ledger": (
            "upkeep.ledger_command:ledger_app",
            "Inspect and maintain the ledger of LLM answers.",
        ),
        "store": (
            "upkeep.store_command:store_app",
            "Inspect and maintain the artifact store.",
        ),
        "backup": (
            "upkeep.backup_command:backup",
            "Write a store and the Prefect database of `up` to one file; safe beside runs.",
        ),
        "restore": (
            "upkeep.backup_command:restore",
            "Restore a backup into a new store, or into one whose content is set aside.",
        ),
        "forget": (
            "upkeep.user_commands:forget_command",
            "Remove users from data sets, profiles, lists, reports, the ledger and dump copies.",
        ),
        "shown-users": (
            "upkeep.user_commands:shown_users_command",
            "Print the hashed names of users (LLM4CDSR_SHOWN_USERS=hashed), one per line.",
        ),
    },
    "This machine": {
        "up": (
            "machine.machine_command:up",
            "Start server, work pool, deployments and worker in the background; idempotent.",
        ),
        "down": (
            "machine.machine_command:down",
            "Stop worker and server; a run in progress ends, and the next run resumes it.",
        ),
        "test-webhook": (
            "machine.webhook_command:test_webhook",
            "Post a test message to LLM4CDSR_WEBHOOK_URL and report the response.",
        ),
        "serve": (
            "machine.local_commands:serve",
            "Run the local vLLM servers (or the dummy) until Ctrl-C; prints their URLs.",
        ),
        "setup-local": (
            "machine.local_commands:setup_local",
            "Install the local vLLM servers and their models (4 GB).",
        ),
    },
}
"""Place and help of every command by section and name, in the order of the help."""

COMMANDS = {
    name: Listed(place, help_line, panel)
    for panel, commands in _BY_PANEL.items()
    for name, (place, help_line) in commands.items()
}
"""Every command; a test compares its help with the command's docstring."""

app = lazy_group(
    "llm4cdsr",
    "Cross-domain sequential recommendation with LLM item embeddings and user profiles.",
    COMMANDS,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        terminal.out.print(f"llm4cdsr {version('llm4cdsr')}", highlight=False)
        raise typer.Exit


@app.callback()
def top(
    show_version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version."),
    ] = False,
) -> None:
    """Options of the program."""


def run_app() -> None:
    """Runs the app; `flows.cli.errors.exits` defines exit statuses."""
    with one_message():
        read_dot_env()
        _warn_unknown_variables()
        with leaving():
            app(prog_name="llm4cdsr")


def _warn_unknown_variables() -> None:
    """Prints a warning for each unknown variable: a misspelt one could select a paid provider.

    Raises `InvalidSettingError`.
    """
    if not any(name.startswith(PREFIX) for name in os.environ):
        return
    from artifacts.shown_users import shown_as
    from flows.settings import unknown_variables

    shown_as()  # A misspelt value ends the command, because it could show ids.
    for sentence in unknown_variables(os.environ):
        terminal.err.print(sentence, style="yellow")
