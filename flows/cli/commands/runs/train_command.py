"""`llm4cdsr train`: trains a model in one process or, under `torchrun`, in several.

Without Prefect, because only one of several processes could own a flow run. The artifact is the one
that the `retrain` flow would make, so that flow reuses it.
"""

from typing import TYPE_CHECKING

from flows.cli.errors.exits import interruptible
from flows.cli.options import shared_options as opt
from flows.cli.options.opened_store import opened_store
from flows.cli.options.option_classes import with_fields
from flows.cli.options.training_options import FitOptions, training_config
from flows.cli.output import terminal

if TYPE_CHECKING:
    from artifacts.store import Store
    from model.training.processes import ProcessGroup
    from tasks.frame.stage import StageResult
    from tasks.frame.training_config import TrainingConfig

EXAMPLES = (
    "Examples:\n\n"
    "llm4cdsr train --preset paper --epochs 5\n\n"
    "OMP_NUM_THREADS=4 torchrun --nproc-per-node 4 -m flows.cli.entry train\n\n"
    "then, with the same preset, time budget, epochs, seed and --set: llm4cdsr retrain"
)

TRAINING_KEEPS = "The last complete epoch is kept; repeat the command to resume."


@with_fields
def train(fit: FitOptions, seed: opt.Seed = 0, store: opt.StoreRoot = None) -> None:
    """Train a model on the latest refresh, in one process or under torchrun.

    Each batch is divided among the processes; the result equals that of a single process.
    """
    from model.training.processes import open_process_group

    config = training_config(fit, seed)
    opened = opened_store(store)
    with interruptible(TRAINING_KEEPS), open_process_group(config.device) as process_group:
        if process_group.is_leader:
            terminal.show_logs(verbose=False)
        made = _trained(config, opened, process_group)
        if process_group.is_leader:
            terminal.say(f"Model: {opened.path(made.ref)}")
            terminal.out.print(
                "Next: `llm4cdsr retrain` with the same preset, time budget, epochs, seed and "
                "--set."
            )


def _trained(
    config: "TrainingConfig", opened: "Store", process_group: "ProcessGroup"
) -> "StageResult":
    from artifacts.bundles import latest_refresh, parts_of
    from artifacts.machines.store_in_use import store_in_use
    from tasks.choose_preset import as_chosen, choose_together
    from tasks.frame.training_sources import TrainingSources
    from tasks.train import train_together

    with store_in_use(opened):
        sources, spent = TrainingSources.of(parts_of(opened, latest_refresh(opened))), 0.0
        if config.is_automatic:
            choice = choose_together(sources, config, opened.root, process_group)
            config, spent = as_chosen(opened, choice, config), choice.seconds
        return train_together(sources, config, opened.root, process_group, spent)
