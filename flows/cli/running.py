"""Shared parts of commands that run flows: the Prefect API of a run, and the final output."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import typer

from artifacts.bundles import parts_of
from artifacts.files.private_files import share_as_usual
from artifacts.kinds.results import RECOMMENDATIONS, REPORT
from artifacts.store import Store
from flows.cli.commands.data.datasets_command import expectation_table
from flows.cli.dry_run import plan_refresh
from flows.cli.errors.exits import interruptible
from flows.cli.output import console, terminal
from flows.cli.output.list_sample import sample_of
from flows.cli.output.run_summary import write_summary
from flows.refresh import RefreshConfig
from flows.server.api import prefect_api
from flows.settings import Settings
from model.launch import is_torchrun
from tasks.dump.dump_config import DumpConfig
from tasks.dump.presets import ExpectedCounts
from tasks.frame.run_facts import RunFacts
from tasks.frame.stage import StageResult
from tasks.llm.settings.llm_config import LlmConfig

if TYPE_CHECKING:
    from flows.retrain import Release

RUN_KEEPS = (
    "Kept: all LLM answers, finished stages, and the last complete epoch of a training. Repeat "
    "the command to resume; no answer is paid for twice."
)


def refuse_torchrun() -> None:
    """Raises for a command that does not support several processes."""
    if is_torchrun():
        raise typer.BadParameter(
            "under torchrun every process would run the whole flow: let torchrun do "
            "`-m flows.cli.entry train`, then `llm4cdsr retrain` finds its model"
        )


def tell_plan(dump: DumpConfig, config: RefreshConfig, llm: LlmConfig, store: str) -> None:
    """Prints the cost estimate of a refresh."""
    terminal.show_logs(verbose=False)
    planned = plan_refresh(dump, config, llm, store)
    terminal.out.print(console.plan_table(planned))
    for line in console.facts_of_plan(planned):
        terminal.out.print(line)


@contextmanager
def recorded(settings: Settings, store: str | None, verbose: bool) -> Iterator[str]:
    """Provides a Prefect API during a run and ends an interrupted run; yields the store."""
    terminal.show_logs(verbose=verbose)
    root = store or settings.store
    log = Store(root).workspace("logs") / "prefect-server.log"
    with interruptible(RUN_KEEPS), prefect_api(log):
        yield root


def tell(
    root: str, stages: tuple[StageResult, ...], report: Path | None, summary: Path | None
) -> None:
    """Prints work, prompts and cost of each stage, metrics, and paths of results."""
    store = Store(root)
    by_name = RunFacts(stages).by_name
    terminal.out.print(console.stage_table(stages))
    for line in console.facts_of(stages):
        terminal.out.print(line)
    if "evaluate" in by_name and by_name["evaluate"].counts:
        terminal.out.print(*console.metric_tables(store, by_name["evaluate"].ref), sep="\n")
        for line in console.crossing_fact(store, by_name["evaluate"].ref):
            terminal.out.print(line)
    if "ablate" in by_name:
        for line in console.facts_of_ablation(store, by_name["ablate"].ref):
            terminal.out.print(line)
    if "recommend" in by_name:
        folder = store.path(by_name["recommend"].ref)
        terminal.out.print(f"Recommendations: {folder / RECOMMENDATIONS}", soft_wrap=True)
    if "report" in by_name:
        page = store.path(by_name["report"].ref) / REPORT
        if report is not None:
            target = report / REPORT if report.is_dir() else report
            target.parent.mkdir(parents=True, exist_ok=True)
            page = Path(shutil.copyfile(page, target))
            share_as_usual(page)
        terminal.out.print(f"Report: {page.resolve()}", soft_wrap=True)
    if summary is not None:
        terminal.out.print(f"Summary: {write_summary(summary, store, stages)}", soft_wrap=True)


def tell_expected(expected: ExpectedCounts, ingested: StageResult) -> None:
    """Prints the counts of ingest beside published ones of the same data set."""
    terminal.out.print(expectation_table(expected, ingested))


def tell_release(release: "Release", store: str | None) -> None:
    """Prints sample recommendations, the promotion verdict and follow-up commands.

    ``store`` is the command's option, None if the settings name the store.
    """
    opened = Store(store or Settings().store)
    data, lists = parts_of(opened, release.ref)["dataset"], release.recommendations.ref
    sample = sample_of(opened, data, lists)
    if sample is not None:
        terminal.out.print(sample)
    terminal.out.print(console.verdict_line(release.ref, release.verdict))
    held = "" if release.verdict.promoted else f" --release {release.ref.fingerprint}"
    place = f" --store {quote(store)}" if store else ""
    for command, gives in (
        (f"llm4cdsr serve-recs{held}{place}", "a page to try it, http://localhost:8080"),
        (f"llm4cdsr export-recs lists{held}{place}", "everyone's best items as files"),
    ):
        terminal.out.print(f"Next: {command}  ({gives})", soft_wrap=True)
