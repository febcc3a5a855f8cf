"""Shared parts of commands that run flows: cost estimate, and the Prefect API of a run."""

from collections.abc import Iterator
from contextlib import contextmanager

from artifacts.store import Store
from flows.cli.dry_run import plan_refresh
from flows.cli.errors.exits import interruptible
from flows.cli.output import console, terminal
from flows.refresh import RefreshConfig
from flows.server.api import prefect_api
from tasks.dump.dump_config import DumpConfig
from tasks.llm.settings.llm_config import LlmConfig

RUN_KEEPS = (
    "Kept: all LLM answers, finished stages, and the last complete epoch of a training. Repeat "
    "the command to resume; no answer is paid for twice."
)


def print_plan(dump: DumpConfig, config: RefreshConfig, llm: LlmConfig, store: str) -> None:
    """Prints the cost estimate of a refresh."""
    terminal.show_logs(verbose=False)
    planned = plan_refresh(dump, config, llm, store)
    terminal.out.print(console.plan_table(planned))
    for line in console.facts_of_plan(planned):
        terminal.out.print(line)


@contextmanager
def recorded(root: str, verbose: bool) -> Iterator[None]:
    """Provides a Prefect API during a run on a store, and ends an interrupted run."""
    terminal.show_logs(verbose=verbose)
    log = Store(root).workspace("logs") / "prefect-server.log"
    with interruptible(RUN_KEEPS), prefect_api(log):
        yield
