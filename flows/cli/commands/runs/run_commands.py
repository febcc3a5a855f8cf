"""The commands that run flows: `llm4cdsr run`, `refresh` and `retrain`.

Libraries are imported on use: `--help` needs neither Prefect nor Polars, a refresh no PyTorch.
"""

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
    """Arguments of a refresh, built from a command's options."""

    settings: "Settings"
    dataset: "DatasetPreset | None"
    dump: "DumpConfig"
    refreshing: "RefreshConfig"
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
    from flows.cli import running
    from flows.cli.options.configurations import title_of

    chosen = wanted.dataset
    training = _training(
        train, seed, chosen.training if chosen else None, wanted.refreshing.tables.hidden
    )
    if ask.dry_run:
        running.tell_plan(
            wanted.dump, wanted.refreshing, wanted.llm, store or wanted.settings.store
        )
        return
    title = title_of(name or (chosen.title if chosen else None), read.interactions)
    with running.recorded(wanted.settings, store, verbose) as root:
        from flows.pipeline import pipeline
        from flows.unrecorded import call

        retraining = _retraining(training, train)
        done = call(pipeline, wanted.dump, title, wanted.refreshing, retraining, wanted.llm, root)
    running.tell(root, done.stages, report, summary)
    if chosen is not None:
        running.tell_expected(chosen.expected, done.refreshed.dataset)
    running.tell_release(done.release, store)


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
    from flows.cli import running

    if ask.dry_run:
        running.tell_plan(
            wanted.dump, wanted.refreshing, wanted.llm, store or wanted.settings.store
        )
        return
    with running.recorded(wanted.settings, store, verbose) as root:
        from flows.refresh import refresh
        from flows.unrecorded import call

        stages = call(refresh, wanted.dump, wanted.refreshing, wanted.llm, root).stages
    running.tell(root, stages, None, summary)
    if wanted.dataset is not None:
        running.tell_expected(wanted.dataset.expected, stages[0])


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
    from flows.cli import running

    running.refuse_torchrun()
    training = _training(train, seed)
    with running.recorded(settings, store, verbose) as root:
        from flows.retrain import retrain
        from flows.unrecorded import call

        title = made.title_of(name, None)
        release = call(retrain, _retraining(training, train), title, store=root)
    running.tell(root, release.stages, report, summary)
    running.tell_release(release, store)


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
    )
    made.require_headers(dump)
    if not ask.dry_run:
        made.require_store(store or settings.store)
    from flows.cli import running  # Loads Prefect, so imported after the options are checked.

    running.refuse_torchrun()
    refreshing = made.refresh_config(
        read.clusters,
        read.profile_users,
        seed,
        read.profile_style,
        _crossing_items(read),
    )
    return _Wanted(settings, chosen, dump, refreshing, llm)


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
