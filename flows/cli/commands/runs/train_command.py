"""`llm4cdsr train`: only the model, by one process or, under `torchrun`, by several.

No Prefect: of several processes only one could own a flow run. What they leave in the store is what
the `retrain` flow would have made, so that flow finds it and goes on from there.
"""

from typing import TYPE_CHECKING

from flows.cli.errors.exits import interruptible
from flows.cli.options import shared_options as opt
from flows.cli.options import training_options as fit
from flows.cli.output import terminal

if TYPE_CHECKING:
    from model.training.processes import Team
    from tasks.frame.stage import StageResult
    from tasks.train import TrainingConfig

EXAMPLES = (
    "Examples:\n\n"
    "llm4cdsr train --preset paper --epochs 5\n\n"
    "OMP_NUM_THREADS=4 torchrun --nproc-per-node 4 -m flows.cli.entry train\n\n"
    "then, with the same preset, epochs, seed and --set: llm4cdsr retrain"
)

TRAINING_KEEPS = "The last whole epoch is kept; the same command goes on from there."


def train(
    preset: fit.Preset = "best",
    epochs: fit.Epochs = None,
    replaced: fit.Replaced = None,
    seed: opt.Seed = 0,
    device: fit.Device = "auto",
    compiled: fit.Compiled = False,
    store: opt.StoreRoot = None,
) -> None:
    """Fit the model of the latest refresh, also by several processes under torchrun.

    A batch is divided among the processes: the model is the one that a single process would fit.
    """
    from artifacts.store import Store
    from flows.settings import Settings
    from model.training.processes import team

    config = fit.training_config(preset, epochs, replaced, seed, device, compiled=compiled)
    root = store or Settings().store
    with interruptible(TRAINING_KEEPS), team(config.device) as everyone:
        if everyone.leads:
            terminal.show_logs(verbose=False)
        made = _trained(config, root, everyone)
        if everyone.leads:
            terminal.out.print(f"Model: {Store(root).path(made.ref)}", soft_wrap=True)
            terminal.out.print(
                "Go on with `llm4cdsr retrain` and the same preset, epochs, seed and --set."
            )


def _trained(config: "TrainingConfig", root: str, everyone: "Team") -> "StageResult":
    from artifacts.bundles import latest_refresh, parts_of
    from artifacts.leases import in_use
    from artifacts.store import Store
    from tasks.train import TrainingSources, train_together

    opened = Store(root)
    with in_use(opened.local):
        parts = parts_of(opened, latest_refresh(opened))
        sources = TrainingSources(parts["dataset"], parts["tables"], parts["profiles"])
        return train_together(sources, config, root, everyone)
