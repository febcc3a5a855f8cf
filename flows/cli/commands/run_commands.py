"""The commands that run flows: `llm4cdsr run`, `refresh` and `retrain`.

A refresh needs no PyTorch, which takes seconds to import; who trains imports it.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from artifacts.kinds.results import REPORT
from artifacts.private_files import share_as_usual
from artifacts.store import Store
from flows.cli import console, terminal
from flows.cli import options as opt
from flows.cli import training_options as fit
from flows.cli.commands.datasets_command import expectation_table
from flows.cli.dry_run import plan_refresh
from flows.cli.exits import interruptible
from flows.cli.run_summary import write_summary
from flows.refresh import RefreshConfig, refresh
from flows.server.api import prefect_api
from flows.settings import Settings
from flows.unrecorded import call
from model.launch import is_torchrun
from tasks.dump.dump_config import DumpConfig, Mode
from tasks.frame.stage import StageResult
from tasks.llm.settings.llm_config import LlmConfig

RUN_EXAMPLES = (
    "Examples:\n\n"
    "llm4cdsr run --interactions events.parquet --items items.parquet\n\n"
    "llm4cdsr run --interactions e.csv --items i.csv --column reviewerID=user_id "
    "--max-users 3000 --profile-users 300 --summary run.json\n\n"
    "llm4cdsr run --dataset cloth-sport --raw downloads\n\n"
    "llm4cdsr run --interactions today.parquet --items items.parquet --mode append\n\n"
    "llm4cdsr run --interactions e.csv --items i.csv --dry-run\n\n"
    "llm4cdsr run --interactions e.csv --items i.csv --max-usd 5"
)
REFRESH_EXAMPLES = (
    "Example:\n\nllm4cdsr refresh --interactions events.parquet --items items.parquet"
)
RETRAIN_EXAMPLES = (
    "Examples:\n\nllm4cdsr retrain\n\nllm4cdsr retrain --preset paper --seed 1\n\n"
    "llm4cdsr retrain --set train.accumulate=4 --set model.blocks=1"
)


def run(
    interactions: opt.Interactions = None,
    items: opt.Items = None,
    name: opt.Name = None,
    column: opt.Column = None,
    domain: opt.Domain = None,
    max_users: opt.MaxUsers = None,
    user_core: opt.UserCore = None,
    item_core: opt.ItemCore = None,
    dataset: opt.Dataset = None,
    raw: opt.Raw = None,
    since: opt.Since = None,
    until: opt.Until = None,
    split: opt.Split = None,
    validation_from: opt.FirstDay = None,
    test_from: opt.FirstDay = None,
    mode: opt.HowToMerge = Mode.FULL,
    profile_users: opt.ProfileUsers = None,
    clusters: opt.Clusters = 10,
    preset: fit.Preset = None,
    epochs: fit.Epochs = None,
    replaced: fit.Replaced = None,
    device: fit.Device = "auto",
    compiled: fit.Compiled = False,
    test_events: fit.TestEvents = None,
    ablation_users: fit.AblationUsers = 2_000,
    per_domain: fit.PerDomain = 10,
    seed: opt.Seed = 0,
    provider: opt.WhoAnswers = None,
    language: opt.PromptLanguage = None,
    batch: opt.Batches = None,
    max_usd: opt.MaxUsd = None,
    max_tokens: opt.MaxTokens = None,
    max_requests: opt.MaxRequests = None,
    dry_run: opt.DryRun = False,
    store: opt.StoreRoot = None,
    report: opt.ReportFile = None,
    summary: opt.SummaryFile = None,
    verbose: opt.Verbose = False,
) -> None:
    """Refresh, then retrain: from a dump to recommendations, paying only for what is new.

    Runs are recorded with the Prefect API of PREFECT_API_URL, or with a server of our own that
    lives as long as the run.
    """
    _refuse_torchrun()
    settings = Settings()
    chosen = opt.named_dataset(dataset, raw, interactions)
    dump = opt.dump_config(
        interactions,
        items,
        column,
        domain,
        max_users,
        user_core,
        item_core,
        seed,
        (since, until),
        opt.split_of(split, validation_from, test_from),
        mode,
        chosen,
        raw,
    )
    refreshing = opt.refresh_config(clusters, profile_users, seed)
    training = fit.training_config(
        preset,
        epochs,
        replaced,
        seed,
        device,
        chosen.training if chosen else None,
        compiled,
        refreshing.tables.hidden,
    )
    spoken = language or (chosen.language if chosen else None)
    llm = opt.llm_config(settings, provider, spoken, max_usd, max_tokens, max_requests, batch)
    if dry_run:
        _tell_plan(dump, refreshing, llm, store or settings.store)
        return
    title = opt.title_of(name or (chosen.title if chosen else None), interactions)
    with _running(settings, store, verbose) as root:
        from flows.pipeline import pipeline

        retraining = fit.retrain_config(training, per_domain, test_events, ablation_users)
        done = call(pipeline, dump, title, refreshing, retraining, llm, root)
    _tell(Store(root), done.stages, report, summary)
    if chosen is not None:
        terminal.out.print(expectation_table(chosen.expected, done.refreshed.dataset))
    terminal.out.print(console.verdict_line(done.release.ref, done.release.verdict))


def refresh_command(
    interactions: opt.Interactions = None,
    items: opt.Items = None,
    column: opt.Column = None,
    domain: opt.Domain = None,
    max_users: opt.MaxUsers = None,
    user_core: opt.UserCore = None,
    item_core: opt.ItemCore = None,
    dataset: opt.Dataset = None,
    raw: opt.Raw = None,
    since: opt.Since = None,
    until: opt.Until = None,
    split: opt.Split = None,
    validation_from: opt.FirstDay = None,
    test_from: opt.FirstDay = None,
    mode: opt.HowToMerge = Mode.FULL,
    profile_users: opt.ProfileUsers = None,
    clusters: opt.Clusters = 10,
    seed: opt.Seed = 0,
    provider: opt.WhoAnswers = None,
    language: opt.PromptLanguage = None,
    batch: opt.Batches = None,
    max_usd: opt.MaxUsd = None,
    max_tokens: opt.MaxTokens = None,
    max_requests: opt.MaxRequests = None,
    dry_run: opt.DryRun = False,
    store: opt.StoreRoot = None,
    summary: opt.SummaryFile = None,
    verbose: opt.Verbose = False,
) -> None:
    """From a dump to item tables and user profiles; asks the LLM only for what is new."""
    _refuse_torchrun()
    settings = Settings()
    chosen = opt.named_dataset(dataset, raw, interactions)
    dump = opt.dump_config(
        interactions,
        items,
        column,
        domain,
        max_users,
        user_core,
        item_core,
        seed,
        (since, until),
        opt.split_of(split, validation_from, test_from),
        mode,
        chosen,
        raw,
    )
    refreshing = opt.refresh_config(clusters, profile_users, seed)
    spoken = language or (chosen.language if chosen else None)
    llm = opt.llm_config(settings, provider, spoken, max_usd, max_tokens, max_requests, batch)
    if dry_run:
        _tell_plan(dump, refreshing, llm, store or settings.store)
        return
    with _running(settings, store, verbose) as root:
        stages = call(refresh, dump, refreshing, llm, root).stages
    _tell(Store(root), stages, None, summary)
    if chosen is not None:
        terminal.out.print(expectation_table(chosen.expected, stages[0]))


def retrain_command(
    name: opt.Name = None,
    preset: fit.Preset = None,
    epochs: fit.Epochs = None,
    replaced: fit.Replaced = None,
    device: fit.Device = "auto",
    compiled: fit.Compiled = False,
    test_events: fit.TestEvents = None,
    ablation_users: fit.AblationUsers = 2_000,
    per_domain: fit.PerDomain = 10,
    seed: opt.Seed = 0,
    store: opt.StoreRoot = None,
    report: opt.ReportFile = None,
    summary: opt.SummaryFile = None,
    verbose: opt.Verbose = False,
) -> None:
    """From the latest refresh to a model, its recommendations and a report."""
    _refuse_torchrun()
    settings = Settings()
    training = fit.training_config(preset, epochs, replaced, seed, device, compiled=compiled)
    with _running(settings, store, verbose) as root:
        from flows.retrain import retrain

        retraining = fit.retrain_config(training, per_domain, test_events, ablation_users)
        release = call(retrain, retraining, opt.title_of(name, None), store=root)
    _tell(Store(root), release.stages, report, summary)
    terminal.out.print(console.verdict_line(release.ref, release.verdict))


def _refuse_torchrun() -> None:
    """Raises for a command that several processes must not run at once."""
    if is_torchrun():
        raise typer.BadParameter(
            "under torchrun every process would run the whole flow: let torchrun do "
            "`-m flows.cli.entry train`, then `llm4cdsr retrain` finds its model"
        )


def _tell_plan(dump: DumpConfig, config: RefreshConfig, llm: LlmConfig, store: str) -> None:
    terminal.show_logs(verbose=False)
    planned = plan_refresh(dump, config, llm, store)
    terminal.out.print(console.plan_table(planned))
    for line in console.facts_of_plan(planned):
        terminal.out.print(line)


@contextmanager
def _running(settings: Settings, store: str | None, verbose: bool) -> Iterator[str]:
    """A Prefect API for the run's time, and an interrupt that ends it well; gives the store."""
    terminal.show_logs(verbose=verbose)
    root = store or settings.store
    log = Store(root).workspace("logs") / "prefect-server.log"
    with interruptible(), prefect_api(log):
        yield root


def _tell(
    store: Store, stages: tuple[StageResult, ...], report: Path | None, summary: Path | None
) -> None:
    by_name = {stage.stage: stage for stage in stages}
    terminal.out.print(console.stage_table(stages))
    for line in console.facts_of(stages):
        terminal.out.print(line)
    if "evaluate" in by_name and by_name["evaluate"].counts:
        terminal.out.print(*console.metric_tables(store, by_name["evaluate"].ref), sep="\n")
    if "ablate" in by_name:
        for line in console.facts_of_ablation(store, by_name["ablate"].ref):
            terminal.out.print(line)
    if "recommend" in by_name:
        folder = store.path(by_name["recommend"].ref)
        terminal.out.print(f"Recommendations: {folder / 'recommendations.parquet'}", soft_wrap=True)
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
