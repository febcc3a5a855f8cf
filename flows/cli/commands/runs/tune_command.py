"""`llm4cdsr tune`: searches the fields of a preset on the latest refresh.

Without Prefect: the workers of the search are processes that share an Optuna journal.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.errors.exits import interruptible
from flows.cli.options import shared_options as opt
from flows.cli.options import training_options as fit
from flows.cli.options.opened_store import opened_store
from flows.cli.options.option_classes import Only, with_fields
from flows.cli.options.training_options import FitOptions
from flows.cli.output import terminal
from tasks.frame.number_texts import signed

if TYPE_CHECKING:
    from artifacts.store import Store
    from tasks.frame.training_config import TrainingConfig
    from tasks.tuning.tuned_preset import TuningOutcome

EXAMPLES = (
    "Examples:\n\n"
    "llm4cdsr tune --time-budget 2h\n\n"
    "llm4cdsr tune --preset single --workers 4 --output mine.toml\n\n"
    "then: llm4cdsr retrain --preset mine.toml"
)

TUNING_KEEPS = "Finished trials are kept; repeat the command to continue the search."

Output = Annotated[
    Path, typer.Option(help="Path of the preset file, for --preset of run, retrain and train.")
]
Workers = Annotated[
    int, typer.Option(min=1, help="Processes that run trials; they share the machine's cores.")
]
Trials = Annotated[
    int | None, typer.Option(min=1, help="End the search after this many trials of the study.")
]
TuningBudget = Annotated[
    str,
    typer.Option(
        metavar="30m|2h|8h",
        help="Duration of the search; a repeated command continues it for the same duration.",
        autocompletion=lambda: ("30m", "2h", "8h"),
    ),
]


@with_fields
def tune(
    fitting: Annotated[FitOptions, Only("preset", "replaced", "device")],
    time_budget: TuningBudget = "1h",
    workers: Workers = 1,
    trials: Trials = None,
    output: Output = Path("tuned.toml"),
    seed: opt.Seed = 0,
    store: opt.StoreRoot = None,
) -> None:
    """Search the preset's fields on the latest refresh and write a preset file.

    The base is the preset of a run (`--preset`, by default auto). It is the first trial and is
    written unless another one is significantly better on validation events. Needs the extra `tune`.
    """
    from tasks.tuning.study_folder import require_optuna

    require_optuna()
    fit.require_known(fitting.preset, fitting.replaced)
    if output.suffix != ".toml":
        raise typer.BadParameter(f"--output {output}: the name must end in .toml")
    if not output.absolute().parent.is_dir():
        raise typer.BadParameter(f"--output {output}: there is no folder {output.parent}")
    seconds = fit.budget_seconds(time_budget)
    config = fit.training_config(fitting, seed)
    with interruptible(TUNING_KEEPS):
        terminal.show_logs(verbose=False)
        outcome = _searched(opened_store(store), config, seconds, workers, trials, output)
    _show(outcome)
    again = "" if store is None else f" --store {store}"
    terminal.say(f"Next: llm4cdsr retrain --preset {output}{again}")


def _searched(
    store: "Store",
    config: "TrainingConfig",
    seconds: float,
    workers: int,
    trials: int | None,
    output: Path,
) -> "TuningOutcome":
    import time

    from artifacts.bundles import latest_refresh, parts_of
    from artifacts.machines.store_in_use import store_in_use
    from model.training.processes import alone
    from tasks.choose_preset import as_chosen, choose_together
    from tasks.frame.training_sources import TrainingSources
    from tasks.tuning.tuned_preset import write_preset
    from tasks.tuning.tuning_run import search

    begun = time.monotonic()
    with store_in_use(store):
        parts = parts_of(store, latest_refresh(store))
        if config.is_automatic:
            sources = TrainingSources.of(parts)
            made = choose_together(sources, config, store.root, alone(config.device))
            config = as_chosen(store, made, config)
        base = config.model_copy(update={"minutes": None}).resolved()
        left = seconds - (time.monotonic() - begun)
        outcome = search(
            store, parts, base, config.seed, config.device, left, workers, trials, _told
        )
        origin = (
            f"Written by llm4cdsr tune; base: preset {config.preset}, data "
            f"{parts['dataset'].fingerprint}, {outcome.trials} complete trials.\n"
            f"{_verdict_of(outcome)}"
        )
        write_preset(output, base, outcome, origin)
    return outcome


def _told(number: int, state: str, value: float | None) -> None:
    figure = "" if value is None or state != "complete" else f", validation NDCG@10 {value:.4f}"
    terminal.out.print(f"trial {number}: {state}{figure}", highlight=False)


def _verdict_of(outcome: "TuningOutcome") -> str:
    """Returns a sentence about the preset that was written."""
    if outcome.winner is None or outcome.winner.lead is None:
        return (
            f"No trial of {outcome.trials} is significantly better than the base on "
            f"{outcome.users:,} validation users: the file contains the base."
        )
    lead = outcome.winner.lead
    return (
        f"Trial {outcome.winner.trial.number} is significantly better than the base: NDCG@10 "
        f"{signed(lead.difference, 4)} ({signed(lead.low, 4)} to {signed(lead.high, 4)}) on "
        f"{outcome.users:,} validation users, corrected for {outcome.trials} trials."
    )


def _show(outcome: "TuningOutcome") -> None:
    from rich.text import Text

    table = terminal.table(
        "Best trials, one ensemble member",
        *(">trial", ">NDCG@10", ">lead over base (95 % interval)", ">epochs", "changed fields"),
    )
    for each in outcome.best:
        lead = each.lead
        said = "base" if lead is None else signed(lead.difference, 4)
        said += "" if lead is None else f" ({signed(lead.low, 4)} to {signed(lead.high, 4)})"
        changed = ", ".join(
            f"{name.partition('.')[2]}={_short(value)}" for name, value in each.changes.items()
        )
        table.add_row(
            str(each.trial.number),
            f"{each.trial.gains.mean():.4f}",
            said,
            str(each.trial.epochs),
            Text(changed or "–"),
        )
    terminal.out.print(table)
    terminal.out.print(_verdict_of(outcome), highlight=False)
    if outcome.base_was_cut:
        terminal.out.print(
            "The time budget cut the training of the base short: a larger one compares more fairly."
        )


def _short(value: bool | int | float) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value).lower()
