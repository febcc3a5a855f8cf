"""The command line: ``llm4cdsr --help``."""

import os
from importlib.metadata import version
from typing import Annotated

import typer

from flows.cli.errors.exits import leaving, one_message
from flows.cli.lazy_group import Listed, lazy_group
from flows.cli.output import terminal
from tasks.system.dot_env import PREFIX, read_dot_env

DATA, RUN, USE = "Data", "Run", "Use what was trained"
LOOK, MACHINE = "Look after releases and answers", "This machine"

COMMANDS = {
    "demo-dump": Listed(
        "flows.cli.commands.data.demo_dump_command",
        "demo_dump",
        "EXAMPLE",
        "Write the dump of two made-up shops, as a shop would export it.",
        DATA,
    ),
    "check": Listed(
        "flows.cli.commands.data.check_command",
        "check",
        "EXAMPLES",
        "Say what the files of a dump hold and whether a model can be made from them.",
        DATA,
    ),
    "worth": Listed(
        "flows.cli.commands.runs.worth_command",
        "worth",
        "EXAMPLES",
        "Measure what item texts and profiles bring on a sample, before profiling everyone.",
        DATA,
    ),
    "datasets": Listed(
        "flows.cli.commands.data.datasets_command",
        "datasets",
        "EXAMPLES",
        "List the data sets that ship: raw files, where to get them, windows and cores.",
        DATA,
    ),
    "run": Listed(
        "flows.cli.commands.runs.run_commands",
        "run",
        "RUN_EXAMPLES",
        "Refresh, then retrain: from a dump to recommendations, paying only for what is new.",
        RUN,
    ),
    "refresh": Listed(
        "flows.cli.commands.runs.run_commands",
        "refresh_command",
        "REFRESH_EXAMPLES",
        "From a dump to item tables and user profiles; asks the LLM only for what is new.",
        RUN,
    ),
    "retrain": Listed(
        "flows.cli.commands.runs.run_commands",
        "retrain_command",
        "RETRAIN_EXAMPLES",
        "From the latest refresh to a model, its recommendations and a report.",
        RUN,
    ),
    "train": Listed(
        "flows.cli.commands.runs.train_command",
        "train",
        "EXAMPLES",
        "Fit the model of the latest refresh, also by several processes under torchrun.",
        RUN,
    ),
    "experiment": Listed(
        "flows.cli.commands.runs.experiment_command",
        "experiment",
        "EXAMPLES",
        "Measure models: every cell of a grid of datasets, presets, ablations and seeds.",
        RUN,
    ),
    "serve-recs": Listed(
        "flows.cli.commands.use.serve_recs_command",
        "serve_recs",
        "EXAMPLES",
        "Serve recommendations and a page to try them, until Ctrl-C.",
        USE,
    ),
    "export-recs": Listed(
        "flows.cli.commands.use.export_commands",
        "export_recs",
        "RECS_EXAMPLES",
        "Write the best items of every user: one file a domain, export.json with counts.",
        USE,
    ),
    "export-model": Listed(
        "flows.cli.commands.use.export_commands",
        "export_model_command",
        "MODEL_EXAMPLES",
        "Write the scoring path as one graph: histories of item indices in, scores of items out.",
        USE,
    ),
    "status": Listed(
        "flows.cli.commands.upkeep.status_command",
        "status",
        "EXAMPLE",
        "Show at a glance what is served, what ran last and whether the machine is up.",
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
        "Show what is served now: quality, artifacts, where the report lies.",
        LOOK,
    ),
    "releases": Listed(
        "flows.cli.commands.upkeep.release_command",
        "releases",
        "RELEASES_EXAMPLE",
        "List what was promoted, held and rolled back, newest first.",
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
        "Serve a release, also one that was held; takes effect at once.",
        LOOK,
    ),
    "rollback": Listed(
        "flows.cli.commands.upkeep.release_command",
        "rollback",
        "ROLLBACK_EXAMPLE",
        "Serve the release before the one in use; takes effect at once.",
        LOOK,
    ),
    "ledger": Listed(
        "flows.cli.commands.upkeep.ledger_command",
        "ledger_app",
        None,
        "The ledger of LLM answers: what was paid for once and is never asked again.",
        LOOK,
    ),
    "store": Listed(
        "flows.cli.commands.upkeep.store_command",
        "store_app",
        None,
        "The artifact store: what it holds, whether it is sound, and its upkeep.",
        LOOK,
    ),
    "forget": Listed(
        "flows.cli.commands.upkeep.forget_command",
        "forget_command",
        "EXAMPLES",
        "Remove people from datasets, profiles, lists, reports, the ledger and copies of dumps.",
        LOOK,
    ),
    "up": Listed(
        "flows.cli.commands.machine.machine_command",
        "up",
        "UP_EXAMPLES",
        "Start server, work pool, deployments and worker in the background; safe to repeat.",
        MACHINE,
    ),
    "down": Listed(
        "flows.cli.commands.machine.machine_command",
        "down",
        "DOWN_EXAMPLE",
        "Stop worker and server; a run in progress ends, and the next one goes on from there.",
        MACHINE,
    ),
    "test-webhook": Listed(
        "flows.cli.commands.machine.webhook_command",
        "test_webhook",
        "EXAMPLE",
        "Post a test message to LLM4CDSR_WEBHOOK_URL, and say whether it was taken.",
        MACHINE,
    ),
    "serve": Listed(
        "flows.cli.commands.machine.local_commands",
        "serve",
        "SERVE_EXAMPLES",
        "Start the local vLLM pair (or the dummy endpoint) and print the URLs, until Ctrl-C.",
        MACHINE,
    ),
    "setup-local": Listed(
        "flows.cli.commands.machine.local_commands",
        "setup_local",
        None,
        "Install the local vLLM pair and its models now, not on the first run (4 GB).",
        MACHINE,
    ),
}
"""Every command, in the order of the help; tests hold each line against the command's own."""

app = lazy_group(
    "llm4cdsr",
    "Next-item recommendations across domains, with items and users understood by an LLM.",
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
    """Has the options of the program itself."""


def run_app() -> None:
    """Runs the app; see `flows.cli.errors.exits` for how it ends."""
    with one_message():
        read_dot_env()
        _tell_unknown_variables()
        with leaving():
            app()


def _tell_unknown_variables() -> None:
    """A misspelt variable would otherwise let another provider answer, and send a bill."""
    if not any(name.startswith(PREFIX) for name in os.environ):
        return
    from flows.settings import unknown_variables

    for sentence in unknown_variables(os.environ):
        terminal.err.print(sentence, style="yellow")
