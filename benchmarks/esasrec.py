"""RecTools' eSASRec on the arrays that `peers.py` writes; runs in an environment of its own.

    python -m venv PEERS && PEERS/bin/pip install "rectools[torch]"

eSASRec (RecSys 2025) is SASRec with LiGR blocks and a sampled softmax, over all items of a small
catalogue; here with cosine scores. One training on training events, validated after every epoch,
then one for as many epochs on training and validation events.

`FOLDER/task.npz` and `FOLDER/task.json` come in; `FOLDER/found.npz` has states by event and item
vectors of both trainings, `FOLDER/found.json` epochs, events and the CPU seconds of training alone.

Dimensions: U users, E events, V items, R prefixes, H width.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd  # pyright: ignore[reportMissingImports]
import torch
from pytorch_lightning import Callback, Trainer, seed_everything  # pyright: ignore
from rectools import Columns  # pyright: ignore[reportMissingImports]
from rectools.dataset import Dataset  # pyright: ignore[reportMissingImports]
from rectools.models import SASRecModel  # pyright: ignore[reportMissingImports]
from rectools.models.nn.item_net import IdEmbeddingsItemNet  # pyright: ignore
from rectools.models.nn.transformers.ligr import LiGRLayers  # pyright: ignore

TRAIN, VALIDATION, TEST = 0, 1, 2
CUTOFF = 10
BATCH = 512
MOST_ITEMS = 5_000
"""Up to here the softmax is over all items: each position draws negatives of its own, whose vectors
cost more than a small catalogue's."""

Vectors = tuple[np.ndarray, np.ndarray]
"""Of prefixes (R, H) and of items (V + 1, H)."""


class Watch(Callback):
    """Counts epochs and CPU seconds of training; validates, and stops after `patience` epochs
    without a better value."""

    def __init__(self, measure: Callable[[], tuple[float, Vectors]] | None, patience: int) -> None:
        self.measure, self.patience = measure, patience
        self.cpu_seconds, self.epochs, self.best, self.best_epoch = 0.0, 0, -1.0, 0
        self.vectors: Vectors | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: torch.nn.Module) -> None:
        self.begun = time.process_time()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: torch.nn.Module) -> None:
        self.cpu_seconds += time.process_time() - self.begun
        self.epochs += 1
        if self.measure is None:
            return
        value, vectors = self.measure()
        if value > self.best:
            self.best, self.best_epoch, self.vectors = value, self.epochs, vectors
        trainer.should_stop = self.epochs - self.best_epoch >= self.patience


class PeerHistories:
    """The events, and their prefixes as sessions of a fitted model."""

    def __init__(self, arrays: dict[str, np.ndarray], longest: int) -> None:
        self.offsets, self.items, self.split = (arrays[k] for k in ("offsets", "items", "split"))
        self.domain_starts = arrays["domain_starts"]
        self.users = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        self.longest = longest

    def dataset(self, last: int) -> Dataset:
        """The events up to split `last`."""
        kept = np.flatnonzero(self.split <= last)
        first = pd.Timestamp("2000-01-01")
        frame = {
            Columns.User: self.users[kept],
            Columns.Item: self.items[kept],
            Columns.Weight: 1.0,
            Columns.Datetime: first + pd.to_timedelta(kept, unit="s"),  # Their order, made a time.
        }
        return Dataset.construct(pd.DataFrame(frame))

    def asked(self, split: int) -> np.ndarray:
        """The events of a split that have an earlier event, (R,)."""
        events = np.flatnonzero(self.split == split)
        return events[events > self.offsets[self.users[events]]]

    def vectors(self, model: SASRecModel, events: np.ndarray) -> Vectors:
        """Unit vectors of the prefixes of events (R, H) and of items (V + 1, H); zeros for items
        without a training event."""
        known = model.data_preparator.item_id_map.to_internal
        known = known[[isinstance(name, (int, np.integer)) for name in known.index]]
        place = np.zeros(int(self.domain_starts[-1]) + 1, np.int64)
        place[known.index.to_numpy(np.int64)] = known.to_numpy()
        network, states = model.torch_model, []
        was_training = network.training
        network.eval()
        with torch.no_grad():
            table = network.item_model.get_all_embeddings()
            for block in np.array_split(events, max(1, len(events) // BATCH)):
                sessions = np.zeros((len(block), self.longest), np.int64)
                for row, event in enumerate(block):
                    met = place[self.items[self.offsets[self.users[event]] : event]]
                    met = met[met > 0][-self.longest :]
                    sessions[row, self.longest - len(met) :] = met
                batch = {"x": torch.from_numpy(sessions)}
                states.append(network.encode_sessions(batch, table)[:, -1])
        network.train(was_training)
        unit = torch.nn.functional.normalize
        items = unit(table, dim=1).numpy()[place] * (place > 0)[:, None]
        return unit(torch.cat(states), dim=1).numpy(), items

    def ndcg(self, states: np.ndarray, items: np.ndarray, events: np.ndarray) -> float:
        """NDCG@10 among the unseen items of each target's domain."""
        gains = np.zeros(len(events))
        for row, event in enumerate(events):
            target = self.items[event]
            domain = np.searchsorted(self.domain_starts, target) - 1
            low, high = self.domain_starts[domain : domain + 2]
            scores = items[low + 1 : high + 1] @ states[row]
            own, met = scores[target - low - 1], self.items[self.offsets[self.users[event]] : event]
            met = met[(met > low) & (met <= high) & (met != target)]
            scores[met - low - 1] = -np.inf
            rank = (scores > own).sum() + ((scores == own).sum() - 1) / 2
            gains[row] = 1 / np.log2(rank + 2) if rank < CUTOFF else 0.0
        return float(gains.mean())


def trained(
    histories: PeerHistories, last: int, task: dict, epochs: int, asked: np.ndarray | None
) -> tuple[SASRecModel, Watch]:
    """Returns the model after its last epoch. `asked`: validation events, if it may stop early."""
    made: list[SASRecModel] = []

    def measure() -> tuple[float, Vectors]:
        assert asked is not None
        vectors = histories.vectors(made[0], asked)
        return histories.ndcg(*vectors, asked), vectors

    def trainer() -> Trainer:
        quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
        watch = Watch(None if asked is None else measure, task["patience"])
        return Trainer(
            max_epochs=epochs,
            min_epochs=1,
            accelerator="cpu",
            enable_checkpointing=False,
            callbacks=[watch],
            **quiet,
        )

    seed_everything(task["seed"])
    model = SASRecModel(
        n_blocks=2,
        n_heads=4,
        n_factors=task["width"],
        dropout_rate=task["dropout"],
        session_max_len=histories.longest,
        loss="softmax" if histories.domain_starts[-1] <= MOST_ITEMS else "sampled_softmax",
        n_negatives=task["negatives"],
        lr=task["learning_rate"],
        batch_size=task["batch_size"],
        item_net_block_types=(IdEmbeddingsItemNet,),
        transformer_layers_type=LiGRLayers,
        similarity_module_kwargs={"distance": "cosine"},
        lightning_module_kwargs={"logits_t": task["temperature"]},
        get_trainer_func=trainer,
    )
    made.append(model)
    model.fit(histories.dataset(last))
    (watch,) = [each for each in model.fit_trainer.callbacks if isinstance(each, Watch)]
    return model, watch


def main(folder: Path) -> None:
    task = json.loads((folder / "task.json").read_text("utf-8"))
    torch.set_num_threads(task["threads"])
    histories = PeerHistories(dict(np.load(folder / "task.npz")), task["longest"])
    validation, test = histories.asked(VALIDATION), histories.asked(TEST)
    targets = int(np.maximum(np.bincount(histories.users[histories.split == TRAIN]) - 1, 0).sum())
    if task["speed_only"]:
        _, watch = trained(histories, TRAIN, task, task["epochs"], None)
        found = {"epochs": watch.epochs, "cpu_seconds": watch.cpu_seconds, "targets": targets}
        (folder / "found.json").write_text(json.dumps(found), "utf-8")
        return
    _, watch = trained(histories, TRAIN, task, task["epochs"], validation)
    refitted, _ = trained(histories, VALIDATION, task, watch.best_epoch, None)
    assert watch.vectors is not None
    both = {"validation": (watch.vectors, validation)}
    both["test"] = histories.vectors(refitted, test), test
    arrays = {}
    for name, ((states, items), events) in both.items():
        arrays |= {f"{name}_states": states, f"{name}_items": items, f"{name}_events": events}
    np.savez(folder / "found.npz", **arrays)
    found = {
        "best_epoch": watch.best_epoch,
        "validation": watch.best,
        "cpu_seconds": watch.cpu_seconds,
        "epochs": watch.epochs,
        "targets": targets,
    }
    (folder / "found.json").write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
