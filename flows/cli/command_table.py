"""The command line: ``llm4cdsr --help``."""

import os
from importlib.metadata import version
from typing import Annotated

import typer

from flows.cli.errors.exits import leaving, one_message
from flows.cli.lazy_group import Listed, lazy_group
from flows.cli.output import terminal
from tasks.system.dot_env import PREFIX, read_dot_env

DATA, RUN, USE = "Data", "Run", "Use the model"
LOOK, MACHINE = "Releases, ledger and store", "This machine"

COMMANDS = {
    "demo-dump": Listed(
        "flows.cli.commands.data.demo_dump_command",
        "demo_dump",
        "EXAMPLE",
        "Generate example data: interactions and items of two shops.",
        DATA,
    ),
    "check": Listed(
        "flows.cli.commands.data.check_command",
        "check",
        "EXAMPLES",
        "Validate input files: rows, domains, users, period, sufficiency for a model.",
        DATA,
    ),
    "worth": Listed(
        "flows.cli.commands.runs.worth_command",
        "worth",
        "EXAMPLES",
        "Measure the gain from item texts and profiles on a sample of users.",
        DATA,
    ),
    "datasets": Listed(
        "flows.cli.commands.data.datasets_command",
        "datasets",
        "EXAMPLES",
        "List the built-in data sets: raw files, sources, periods and cores.",
        DATA,
    ),
    "run": Listed(
        "flows.cli.commands.runs.run_commands",
        "run",
        "RUN_EXAMPLES",
        "Run refresh and retrain: from input files to recommendations and a report.",
        RUN,
    ),
    "refresh": Listed(
        "flows.cli.commands.runs.run_commands",
        "refresh_command",
        "REFRESH_EXAMPLES",
        "Build item tables and user profiles from input files; sends only new prompts.",
        RUN,
    ),
    "retrain": Listed(
        "flows.cli.commands.runs.run_commands",
        "retrain_command",
        "RETRAIN_EXAMPLES",
        "Train on the latest refresh: model, recommendations, report, promotion gate.",
        RUN,
    ),
    "train": Listed(
        "flows.cli.commands.runs.train_command",
        "train",
        "EXAMPLES",
        "Train a model on the latest refresh, in one process or under torchrun.",
        RUN,
    ),
    "tune": Listed(
        "flows.cli.commands.runs.tune_command",
        "tune",
        "EXAMPLES",
        "Search the preset's fields on the latest refresh and write a preset file.",
        RUN,
    ),
    "experiment": Listed(
        "flows.cli.commands.runs.experiment_command",
        "experiment",
        "EXAMPLES",
        "Measure a grid of data sets, presets, ablations and seeds.",
        RUN,
    ),
    "recommend": Listed(
        "flows.cli.commands.use.recommend_command",
        "recommend",
        "EXAMPLES",
        "Show the next items of one user in every domain.",
        USE,
    ),
    "serve-recs": Listed(
        "flows.cli.commands.use.serve_recs_command",
        "serve_recs",
        "EXAMPLES",
        "Serve recommendations over HTTP, with a web page, until Ctrl-C.",
        USE,
    ),
    "export-recs": Listed(
        "flows.cli.commands.use.export_commands",
        "export_recs",
        "RECS_EXAMPLES",
        "Write the top items of every user: one file per domain, export.json with counts.",
        USE,
    ),
    "export-model": Listed(
        "flows.cli.commands.use.export_commands",
        "export_model_command",
        "MODEL_EXAMPLES",
        "Export the model as a graph from histories of item indices to item scores.",
        USE,
    ),
    "status": Listed(
        "flows.cli.commands.upkeep.status_command",
        "status",
        "EXAMPLE",
        "Show the served release, the latest runs and the state of this machine.",
        LOOK,
    ),
    "doctor": Listed(
        "flows.cli.commands.upkeep.doctor_command",
        "doctor",
        "EXAMPLES",
        "Check environment, versions, endpoints, store, clock and Prefect server.",
        LOOK,
    ),
    "show": Listed(
        "flows.cli.commands.upkeep.show_command",
        "show",
        None,
        "Show the served release: quality, artifacts, path of the report.",
        LOOK,
    ),
    "releases": Listed(
        "flows.cli.commands.upkeep.release_command",
        "releases",
        "RELEASES_EXAMPLE",
        "List promoted, held and rolled-back releases, newest first.",
        LOOK,
    ),
    "compare": Listed(
        "flows.cli.commands.upkeep.compare_command",
        "compare",
        "EXAMPLES",
        "Compare two releases: data, settings and quality by domain.",
        LOOK,
    ),
    "promote": Listed(
        "flows.cli.commands.upkeep.release_command",
        "promote",
        "PROMOTE_EXAMPLE",
        "Serve a release, including a held one; takes effect immediately.",
        LOOK,
    ),
    "rollback": Listed(
        "flows.cli.commands.upkeep.release_command",
        "rollback",
        "ROLLBACK_EXAMPLE",
        "Serve the previously served release; takes effect immediately.",
        LOOK,
    ),
    "ledger": Listed(
        "flows.cli.commands.upkeep.ledger_command",
        "ledger_app",
        None,
        "Inspect and maintain the ledger of LLM answers.",
        LOOK,
    ),
    "store": Listed(
        "flows.cli.commands.upkeep.store_command",
        "store_app",
        None,
        "Inspect and maintain the artifact store.",
        LOOK,
    ),
    "backup": Listed(
        "flows.cli.commands.upkeep.backup_command",
        "backup",
        "BACKUP_EXAMPLES",
        "Write a store and the Prefect database of `up` to one file; safe beside runs.",
        LOOK,
    ),
    "restore": Listed(
        "flows.cli.commands.upkeep.backup_command",
        "restore",
        "RESTORE_EXAMPLES",
        "Restore a backup into a new store, or into one whose content is set aside.",
        LOOK,
    ),
    "forget": Listed(
        "flows.cli.commands.upkeep.forget_command",
        "forget_command",
        "EXAMPLES",
        "Remove users from data sets, profiles, lists, reports, the ledger and dump copies.",
        LOOK,
    ),
    "shown-users": Listed(
        "flows.cli.commands.upkeep.shown_users_command",
        "shown_users_command",
        "EXAMPLES",
        "Print the names of users with LLM4CDSR_SHOWN_USERS=hashed, one per line.",
        LOOK,
    ),
    "up": Listed(
        "flows.cli.commands.machine.machine_command",
        "up",
        "UP_EXAMPLES",
        "Start server, work pool, deployments and worker in the background; idempotent.",
        MACHINE,
    ),
    "down": Listed(
        "flows.cli.commands.machine.machine_command",
        "down",
        "DOWN_EXAMPLE",
        "Stop worker and server; a run in progress ends, and the next run resumes it.",
        MACHINE,
    ),
    "test-webhook": Listed(
        "flows.cli.commands.machine.webhook_command",
        "test_webhook",
        "EXAMPLE",
        "Post a test message to LLM4CDSR_WEBHOOK_URL and report the response.",
        MACHINE,
    ),
    "serve": Listed(
        "flows.cli.commands.machine.local_commands",
        "serve",
        "SERVE_EXAMPLES",
        "Run the local vLLM servers (or the dummy) until Ctrl-C; prints their URLs.",
        MACHINE,
    ),
    "setup-local": Listed(
        "flows.cli.commands.machine.local_commands",
        "setup_local",
        None,
        "Install the local vLLM servers and their models (4 GB).",
        MACHINE,
    ),
}
"""Every command, in the order of the help; a test compares each line with the command's docstring.
"""

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
        _tell_unknown_variables()
        with leaving():
            app(prog_name="llm4cdsr")


def _tell_unknown_variables() -> None:
    """Prints a warning for each unknown variable: a misspelt one could select a paid provider.

    Raises `artifacts.shown_users.UnknownShownAsError`.
    """
    if not any(name.startswith(PREFIX) for name in os.environ):
        return
    from artifacts.shown_users import shown_as
    from flows.settings import unknown_variables

    shown_as()  # A misspelt value ends the command, because it could show ids.
    for sentence in unknown_variables(os.environ):
        terminal.err.print(sentence, style="yellow")
