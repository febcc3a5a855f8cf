"""Final output of a run: stages, metrics, paths of results, samples, verdict."""

import shutil
from pathlib import Path
from shlex import quote

from artifacts.bundles import parts_of
from artifacts.files.private_files import share_as_usual
from artifacts.kinds.results import RECOMMENDATIONS, REPORT
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from flows.cli.commands.data.datasets_command import expectation_table
from flows.cli.options.opened_store import opened_store
from flows.cli.output import console, terminal
from flows.cli.output.list_sample import sample_of
from flows.cli.output.run_summary import write_summary
from tasks.dump.public_datasets import PublicDataset
from tasks.frame.stage import RunFacts, StageResult
from tasks.promoting.verdict import Verdict


def print_results(
    root: str,
    stages: tuple[StageResult, ...],
    report: Path | None,
    summary: Path | None,
    dataset: PublicDataset | None = None,
) -> None:
    """Prints work, prompts and cost of each stage, metrics, paths of results, and the counts of
    ingest beside the published ones of a public data set."""
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
        terminal.say(f"Recommendations: {folder / RECOMMENDATIONS}")
    if "report" in by_name:
        page = store.path(by_name["report"].ref) / REPORT
        if report is not None:
            target = report / REPORT if report.is_dir() else report
            target.parent.mkdir(parents=True, exist_ok=True)
            page = Path(shutil.copyfile(page, target))
            share_as_usual(page)
        terminal.say(f"Report: {page.resolve()}")
    if summary is not None:
        terminal.say(f"Summary: {write_summary(summary, store, stages)}")
    if dataset is not None:
        terminal.out.print(expectation_table(dataset.expected, by_name["ingest"]))


def print_release(release: ArtifactRef, verdict: Verdict, store: str | None) -> None:
    """Prints sample recommendations, the promotion verdict and follow-up commands.

    ``store`` is the command's option, None if the settings name the store.
    """
    opened = opened_store(store)
    parts = parts_of(opened, release)
    sample = sample_of(opened, parts["dataset"], parts["recommendations"])
    if sample is not None:
        terminal.out.print(sample)
    terminal.out.print(console.verdict_line(release, verdict))
    held = "" if verdict.promoted else f" --release {release.fingerprint}"
    place = f" --store {quote(store)}" if store else ""
    for command, gives in (
        (f"llm4cdsr serve-recs{held}{place}", "a page to try it, http://localhost:8080"),
        (f"llm4cdsr export-recs lists{held}{place}", "top items of all users as files"),
    ):
        terminal.say(f"Next: {command}  ({gives})")
