"""The commands that run flows: `llm4cdsr run`, `refresh` and `retrain`.

Libraries are imported on use: `--help` needs neither Prefect nor Polars, a refresh no PyTorch.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flows.cli.options import shared_options as opt
from flows.cli.options import training_options as fit
from flows.cli.options.opened_store import store_root
from flows.cli.options.option_classes import DumpOptions, LlmOptions, with_fields
from flows.cli.options.training_options import TrainOptions

if TYPE_CHECKING:
    from flows.settings import Settings
    from tasks.dump.dump_config import DumpConfig
    from tasks.dump.public_datasets import PublicDataset
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
    """What a command is to read, whom it asks and where, built from its options and checked."""

    settings: "Settings"
    dataset: "PublicDataset | None"
    dump: "DumpConfig"
    llm: "LlmConfig"
    root: str


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
    from flows.cli.options.configurations import refresh_config, title_of
    from flows.cli.output import run_results

    chosen, root = wanted.dataset, wanted.root
    title = title_of(name or (chosen.title if chosen else None), read.interactions)
    asked = None
    if not ask.dry_run:
        asked = _digest(wanted, read, train, title, seed)
        if asked is not None and _tell_unchanged(wanted, asked, store, report, summary):
            return
    refreshing = refresh_config(read, seed)  # Imports Prefect.
    settings, width = chosen.training if chosen else None, refreshing.tables.hidden
    training = fit.training_config(train, seed, settings, width)
    from flows.cli import running

    if ask.dry_run:
        running.print_plan(wanted.dump, refreshing, wanted.llm, root)
        return
    with running.recorded(root, verbose):
        from flows.pipeline import pipeline
        from flows.unrecorded import call

        retraining = fit.retrain_config(train, training)
        done = call(pipeline, wanted.dump, title, refreshing, retraining, wanted.llm, root)
    run_results.print_results(root, done.stages, report, summary, chosen)
    run_results.print_release(done.release.ref, done.release.verdict, store)
    # Equal only if nothing was changed during the run: the note must not name other inputs.
    if asked is not None and asked == _digest(wanted, read, train, title, seed):
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
    from flows.cli import running
    from flows.cli.options.configurations import refresh_config
    from flows.cli.output import run_results

    refreshing, root = refresh_config(read, seed), wanted.root
    if ask.dry_run:
        running.print_plan(wanted.dump, refreshing, wanted.llm, root)
        return
    with running.recorded(root, verbose):
        from flows.refresh import refresh
        from flows.unrecorded import call

        stages = call(refresh, wanted.dump, refreshing, wanted.llm, root).stages
    run_results.print_results(root, stages, None, summary, wanted.dataset)


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

    root = store_root(store)
    made.require_store(root)
    made.refuse_torchrun()
    training = fit.training_config(train, seed)
    from flows.cli import running
    from flows.cli.output import run_results

    with running.recorded(root, verbose):
        from flows.retrain import retrain
        from flows.unrecorded import call

        title = made.title_of(name, None)
        release = call(retrain, fit.retrain_config(train, training), title, store=root)
    run_results.print_results(root, release.stages, report, summary)
    run_results.print_release(release.ref, release.verdict, store)


def _wanted(read: DumpOptions, ask: LlmOptions, seed: int, store: str | None) -> _Wanted:
    """Everything that can be wrong is looked at here, before Prefect or PyTorch is imported."""
    from flows.cli.options import configurations as made
    from flows.settings import Settings

    settings = Settings()
    root, chosen = store or settings.store, made.named_dataset(read)
    llm = made.llm_config(settings, ask, chosen)
    if not ask.dry_run:
        made.require_answering(llm)
    dump = made.dump_config(read, seed, chosen)
    made.require_headers(dump)
    if not ask.dry_run:
        made.require_store(root)
    made.refuse_torchrun()
    made.require_matching_crossings(read)
    return _Wanted(settings, chosen, dump, llm, root)


def _digest(
    wanted: _Wanted, read: DumpOptions, train: TrainOptions, title: str, seed: int
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
    preset = fit.preset_file(train.preset)
    return digest_of_run(wanted.dump, options, preset, Store(wanted.root))


def _tell_unchanged(
    wanted: _Wanted, asked: str, store: str | None, report: Path | None, summary: Path | None
) -> bool:
    """Prints the results of an equal, finished run; returns False if there is none."""
    from artifacts.store import Store
    from flows.cli.output import run_results, terminal
    from flows.cli.unchanged_run import finished_run, reused_stages

    opened = Store(wanted.root)
    done = finished_run(opened, asked)
    if done is None:
        return False
    terminal.out.print("Nothing has changed since the last run; its results:")
    stages = reused_stages(opened, done)
    run_results.print_results(wanted.root, stages, report, summary, wanted.dataset)
    run_results.print_release(done.release, done.verdict, store)
    return True
