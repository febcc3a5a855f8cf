"""The commands that run flows: `llm4cdsr run`, `refresh` and `retrain`.

Libraries are imported on use: `--help` needs neither Prefect nor Polars, a refresh no PyTorch.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from flows.cli.options import shared_options as opt
from flows.cli.options import training_options as fit
from flows.cli.options.option_classes import DumpOptions, LlmOptions, TrainOptions, with_fields

if TYPE_CHECKING:
    from flows.refresh import RefreshConfig
    from flows.retrain import RetrainConfig
    from flows.settings import Settings
    from tasks.dump.dump_config import DumpConfig
    from tasks.dump.presets import DatasetPreset, TrainingSettings
    from tasks.frame.training_config import TrainingConfig
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


class _Wanted(NamedTuple):
    """What a command is to read and whom it asks, built from its options and checked."""

    settings: "Settings"
    dataset: "DatasetPreset | None"
    dump: "DumpConfig"
    llm: "LlmConfig"


@with_fields
def run(
    read: DumpOptions,
    train: TrainOptions,
    ask: LlmOptions,
    name: opt.Name = None,
    seed: opt.Seed = 0,
    store: opt.StoreRoot = None,
    report: opt.ReportFile = None,
    summary: opt.SummaryFile = None,
    verbose: opt.Verbose = False,
) -> None:
    """Run refresh and retrain: from input files to recommendations and a report.

    Runs are recorded by the Prefect API of PREFECT_API_URL, or by a temporary server.
    """
    fit.require_known(train.preset, train.replaced)
    wanted = _wanted(read, ask, seed, store)
    from flows.cli.options.configurations import title_of
    from flows.cli.output import run_results

    chosen = wanted.dataset
    title = title_of(name or (chosen.title if chosen else None), read.interactions)
    asked = None
    if not ask.dry_run:
        asked = _digest(wanted, read, train, title, seed, store)
        if asked is not None and _tell_unchanged(wanted, asked, store, report, summary):
            return
    refreshing = _refreshing(read, seed)
    training = _training(train, seed, chosen.training if chosen else None, refreshing.tables.hidden)
    from flows.cli import running

    if ask.dry_run:
        running.tell_plan(wanted.dump, refreshing, wanted.llm, store or wanted.settings.store)
        return
    with running.recorded(wanted.settings, store, verbose) as root:
        from flows.pipeline import pipeline
        from flows.unrecorded import call

        retraining = _retraining(training, train)
        done = call(pipeline, wanted.dump, title, refreshing, retraining, wanted.llm, root)
    run_results.tell(root, done.stages, report, summary)
    if chosen is not None:
        run_results.tell_expected(chosen.expected, done.refreshed.dataset)
    run_results.tell_release(done.release.ref, done.release.verdict, store)
    # Equal only if nothing was changed during the run: the note must not name other inputs.
    if asked is not None and asked == _digest(wanted, read, train, title, seed, store):
        from artifacts.store import Store
        from flows.cli.unchanged_run import note_finished_run

        release = done.release
        note_finished_run(
            Store(root), asked, done.stages, done.refreshed.ref, release.ref, release.verdict
        )


@with_fields
def refresh_command(
    read: DumpOptions,
    ask: LlmOptions,
    seed: opt.Seed = 0,
    store: opt.StoreRoot = None,
    summary: opt.SummaryFile = None,
    verbose: opt.Verbose = False,
) -> None:
    """Build item tables and user profiles from input files; sends only new prompts."""
    wanted = _wanted(read, ask, seed, store)
    refreshing = _refreshing(read, seed)
    from flows.cli import running
    from flows.cli.output import run_results

    if ask.dry_run:
        running.tell_plan(wanted.dump, refreshing, wanted.llm, store or wanted.settings.store)
        return
    with running.recorded(wanted.settings, store, verbose) as root:
        from flows.refresh import refresh
        from flows.unrecorded import call

        stages = call(refresh, wanted.dump, refreshing, wanted.llm, root).stages
    run_results.tell(root, stages, None, summary)
    if wanted.dataset is not None:
        run_results.tell_expected(wanted.dataset.expected, stages[0])


@with_fields
def retrain_command(
    train: TrainOptions,
    name: opt.Name = None,
    seed: opt.Seed = 0,
    store: opt.StoreRoot = None,
    report: opt.ReportFile = None,
    summary: opt.SummaryFile = None,
    verbose: opt.Verbose = False,
) -> None:
    """Train on the latest refresh: model, recommendations, report, promotion gate."""
    fit.require_known(train.preset, train.replaced)
    from flows.cli.options import configurations as made
    from flows.settings import Settings

    settings = Settings()
    made.require_store(store or settings.store)
    made.refuse_torchrun()
    training = _training(train, seed)
    from flows.cli import running
    from flows.cli.output import run_results

    with running.recorded(settings, store, verbose) as root:
        from flows.retrain import retrain
        from flows.unrecorded import call

        title = made.title_of(name, None)
        release = call(retrain, _retraining(training, train), title, store=root)
    run_results.tell(root, release.stages, report, summary)
    run_results.tell_release(release.ref, release.verdict, store)


def _training(
    train: TrainOptions,
    seed: int,
    of_dataset: "TrainingSettings | None" = None,
    width: int | None = None,
) -> "TrainingConfig":
    """Returns the training configuration; `width` is that of item tables not made yet."""
    return fit.training_config(
        train.preset,
        train.epochs,
        train.replaced,
        seed,
        train.device,
        of_dataset,
        train.compiled,
        width,
        train.time_budget,
    )


def _wanted(read: DumpOptions, ask: LlmOptions, seed: int, store: str | None) -> _Wanted:
    """Everything that can be wrong is looked at here, before Prefect or PyTorch is imported."""
    from flows.cli.options import configurations as made
    from flows.settings import Settings

    settings = Settings()
    chosen = made.named_dataset(read.dataset, read.raw, read.interactions)
    llm = made.llm_config(
        settings,
        ask.provider,
        ask.language or (chosen.language if chosen else None),
        ask.max_usd,
        ask.max_tokens,
        ask.max_requests,
        ask.batch,
    )
    if not ask.dry_run:
        made.require_answering(llm)
    dump = made.dump_config(
        read.interactions,
        read.items,
        read.column,
        read.domain,
        read.max_users,
        read.user_core,
        read.item_core,
        seed,
        read.window,
        made.split_of(read.split, read.validation_from, read.test_from),
        read.mode,
        chosen,
        read.raw,
        read.where,
    )
    made.require_headers(dump)
    if not ask.dry_run:
        made.require_store(store or settings.store)
    made.refuse_torchrun()
    _crossing_items(read)
    return _Wanted(settings, chosen, dump, llm)


def _refreshing(read: DumpOptions, seed: int) -> "RefreshConfig":
    from flows.cli.options.configurations import refresh_config  # Loads Prefect on call.

    return refresh_config(
        read.clusters, read.profile_users, seed, read.profile_style, _crossing_items(read)
    )


def _digest(
    wanted: _Wanted,
    read: DumpOptions,
    train: TrainOptions,
    title: str,
    seed: int,
    store: str | None,
) -> str | None:
    """Returns the digest of `flows.cli.unchanged_run`."""
    from pydantic import TypeAdapter

    from artifacts.store import Store
    from flows.cli.unchanged_run import digest_of_run

    options = {
        "read": TypeAdapter(DumpOptions).dump_python(read, mode="json"),
        "train": TypeAdapter(TrainOptions).dump_python(train, mode="json"),
        "llm": wanted.llm.model_dump(mode="json"),
        "settings": wanted.settings.model_dump(mode="json"),
        "dataset": None if wanted.dataset is None else wanted.dataset.model_dump(mode="json"),
        "title": title,
        "seed": seed,
    }
    return digest_of_run(
        wanted.dump,
        options,
        fit.preset_file(train.preset),
        Store(store or wanted.settings.store),
    )


def _tell_unchanged(
    wanted: _Wanted, asked: str, store: str | None, report: Path | None, summary: Path | None
) -> bool:
    """Prints the results of an equal, finished run; returns False if there is none."""
    from artifacts.store import Store
    from flows.cli.output import run_results, terminal
    from flows.cli.unchanged_run import finished_run, reused_stages

    root = store or wanted.settings.store
    opened = Store(root)
    done = finished_run(opened, asked)
    if done is None:
        return False
    terminal.out.print("Nothing has changed since the last run; its results:")
    stages = reused_stages(opened, done)
    run_results.tell(root, stages, report, summary)
    if wanted.dataset is not None:
        run_results.tell_expected(wanted.dataset.expected, stages[0])
    run_results.tell_release(done.release, done.verdict, store)
    return True


def _crossing_items(read: DumpOptions) -> int | None:
    if read.crossing_items and not read.crossing_questions:
        raise typer.BadParameter("--crossing-items belongs to --crossing-questions")
    return read.crossing_items if read.crossing_questions else None


def _retraining(training: "TrainingConfig", train: TrainOptions) -> "RetrainConfig":
    return fit.retrain_config(
        training,
        train.per_domain,
        train.test_events,
        train.ablation_users,
        serve_anyway=train.serve_anyway,
    )
