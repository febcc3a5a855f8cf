"""Our presets beside what a practitioner would build: RecTools' eSASRec, SASRec with a softmax over
all items and cosine scores, each alone and blended with sequence rules.

Leave-one-out; everything is chosen by validation events, then fitted again on training and
validation events, and ranks the test events among all unseen items of their domain. A blend mixes
the probabilities of network and rules; its share is chosen on validation events. Leads of the first
preset have 95 % intervals of a paired bootstrap over users. `--speed` measures training events per
CPU second instead. eSASRec runs in an environment of its own, see `esasrec.py`.

    python benchmarks/peers.py --interactions F --items F --peers PEERS/bin/python --json OUT
"""

import json
import subprocess
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import torch
import typer
from embedded_dump import (
    EmbeddedBy,
    Interactions,
    Items,
    KeptStore,
    Threads,
    dump_of,
    embedded_items,
    ingested,
    kept_folder,
    tables_of,
    timed,
)
from event_order import gains_of, print_rows, rows_of
from figures import JsonFile, keep
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from flows.cli.options.shared_options import LlmProvider
from flows.cli.options.training_options import FitOptions, Replaced, training_config
from flows.cli.output import terminal
from model.baselines.simple import sequence_rules
from model.config import TriThreadConfig, load_preset
from model.data.sequences import TEST, VALIDATION, Prefixes, Sequences
from model.data.tables import ItemTables
from model.scoring.model_scorer import ModelScorer, Scorer
from model.training.trainer import EpochReport, fit
from tasks.frame.model_inputs import sequences_of

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
TEMPERATURE = 0.1
ESASREC = {"width": 128, "dropout": 0.2, "negatives": 256, "temperature": TEMPERATURE}
ESASREC |= {"learning_rate": 1e-3, "batch_size": 128, "patience": 20, "epochs": 150}
SASREC = {
    "model": {"heads": 4, "block": "pre_norm", "scoring": "cosine", "temperature": TEMPERATURE},
    "train": {"loss": "softmax", "negatives": 1024, "weight_decay": 0.0, "learning_rate": 2e-3}
    | {"averaging": 0.98, "batch_size": 64, "patience": 5, "refit": True},
}
"""`sasrec-mixed` with the loss, scores and optimiser of our presets."""
SASREC_NAME = "SASRec, softmax, cosine"
SPEED_EPOCHS = 3


@dataclass(frozen=True)
class Fitted:
    """One model fitted on training events, and again on validation events, too."""

    searched: Scorer
    refitted: Scorer


@dataclass(frozen=True)
class Products:
    """Cosines of stored states and item vectors, by the event that a prefix ends before."""

    events: np.ndarray  # (R,) ascending
    states: Tensor  # (R, H)
    items: Tensor  # (V + 1, H)

    def score(self, prefixes: Prefixes, domain: int) -> Tensor:
        low, high = prefixes.sequences.domain_starts[domain : domain + 2].tolist()
        rows = np.searchsorted(self.events, prefixes.stop)
        return self.states[rows] @ self.items[low + 1 : high + 1].T / TEMPERATURE


@dataclass(frozen=True)
class Blend:
    """Logarithm of mixed probabilities."""

    network: Scorer
    rules: Scorer
    share: float  # of the rules

    def score(self, prefixes: Prefixes, domain: int) -> Tensor:
        counts = self.rules.score(prefixes, domain)
        counts = counts / counts.sum(1, keepdim=True).clamp_min(1e-9)
        drawn = F.softmax(self.network.score(prefixes, domain), dim=1)
        return torch.log((1 - self.share) * drawn + self.share * counts)


def main(
    interactions: Interactions,
    items: Items,
    peers: Annotated[
        Path | None, typer.Option(help="Python of an environment with rectools[torch].")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Of training: 0,1,2.")] = "0,1,2",
    presets: Annotated[str, typer.Option(help="Ours; leads are of the first.")] = "single",
    speed: Annotated[bool, typer.Option("--speed", help="Measure training speed only.")] = False,
    replaced: Replaced = None,
    refreshed: EmbeddedBy = None,
    provider: LlmProvider = None,
    store: KeptStore = None,
    threads: Threads = 1,
    json_file: JsonFile = None,
) -> None:
    """Fit, rank, print one table."""
    terminal.show_logs(verbose=False)
    torch.set_num_threads(threads)
    files = {"interactions": str(interactions.resolve()), "items": str(items.resolve())}
    names = [name.strip() for name in presets.split(",")]
    with kept_folder(store) as folder:
        embedded = embedded_items(files, refreshed, provider, folder)
        data = ingested(dump_of(files), folder)
    sequences = sequences_of(data)
    tables = tables_of(data, embedded, 128)
    found: dict[str, list[np.ndarray]] = {}
    speeds: dict[str, list[float]] = {}
    rows: list[dict[str, object]] = []
    for seed in [int(seed) for seed in seeds.replace(",", " ").split()]:
        configs = {
            name: training_config(
                FitOptions(preset=name, replaced=replaced, device="cpu"), seed
            ).resolved()
            for name in names
        }
        configs["SASRec, softmax, cosine"] = load_preset(
            "sasrec-mixed", {**SASREC, "train": SASREC["train"] | {"seed": seed}}
        )
        if speed:
            for name, config in configs.items():
                speeds.setdefault(name, []).append(events_a_second(sequences, tables, config))
            if peers is not None:
                told = esasrec(sequences, peers, seed, threads, speed_only=True)[0]
                events = told["targets"] * told["epochs"] / told["cpu_seconds"]
                speeds.setdefault("eSASRec", []).append(events)
            rows = [{"model": name, "events a CPU second": each} for name, each in speeds.items()]
        else:
            for name, gains in one_seed(sequences, tables, configs, peers, seed, threads).items():
                found.setdefault(name, []).append(gains)
            rows = rows_of(found, names[0])
        # After each seed: a night may be cut short.
        keep({"seeds": seeds, "rows": rows}, json_file)
    if speed:
        for row in rows:
            Console().print(row)
        return
    print_rows(rows, f"{len(found[names[0]])} seeds")


def one_seed(
    sequences: Sequences,
    tables: ItemTables,
    configs: dict[str, TriThreadConfig],
    peers: Path | None,
    seed: int,
    threads: int,
) -> dict[str, np.ndarray]:
    """Returns NDCG and hit rate of each test event (2, R), by model."""
    test, seen = sequences.prefixes_of_split(TEST), sequences.with_validation_in_training()
    rules = Fitted(sequence_rules(sequences), sequence_rules(seen))
    fitted = {"sequence rules": rules}
    for name, config in configs.items():
        fitted[name] = timed(name, partial(ours, sequences, tables, config))
    if peers is not None:
        fitted["eSASRec"] = timed("eSASRec", partial(theirs, sequences, peers, seed, threads))
    found = {name: gains_of(each.refitted, test) for name, each in fitted.items()}
    for name in ("eSASRec", SASREC_NAME):
        if name in fitted:
            blend = blended(fitted[name], rules, sequences.prefixes_of_split(VALIDATION))
            found[f"{name} + sequence rules"] = gains_of(blend, test)
    return found


def ours(sequences: Sequences, tables: ItemTables, config: TriThreadConfig) -> Fitted:
    """Fits on training events, then for the best number of epochs on validation events too, as
    `refit` does. Presets with a memory are fitted by their own refit and have no first model."""
    if config.model.memory_events:
        refitted = ModelScorer(fit(sequences, tables, config).model)
        return Fitted(refitted, refitted)
    searched = fit(sequences, tables, with_training(config, refit=False))
    last = with_training(config, refit=False, max_epochs=searched.best.epoch)
    again = fit(sequences.with_validation_in_training(), tables, last)
    return Fitted(ModelScorer(searched.model), ModelScorer(again.model))


def with_training(config: TriThreadConfig, **changes: object) -> TriThreadConfig:
    return config.model_copy(update={"train": config.train.model_copy(update=changes)})


def theirs(sequences: Sequences, peers: Path, seed: int, threads: int) -> Fitted:
    told, arrays = esasrec(sequences, peers, seed, threads)
    Console().print({name: told[name] for name in ("best_epoch", "validation")})
    return Fitted(
        *(
            Products(
                arrays[f"{split}_events"],
                torch.from_numpy(arrays[f"{split}_states"]),
                torch.from_numpy(arrays[f"{split}_items"]).float(),
            )
            for split in ("validation", "test")
        )
    )


def blended(network: Fitted, rules: Fitted, validation: Prefixes) -> Blend:
    """Returns the blend of the refitted models, with the share that ranks validation events
    best."""

    def ndcg(share: float) -> float:
        return gains_of(Blend(network.searched, rules.searched, share), validation)[0].mean()

    return Blend(network.refitted, rules.refitted, max(SHARES, key=ndcg))


def esasrec(
    sequences: Sequences, peers: Path, seed: int, threads: int, *, speed_only: bool = False
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Runs `esasrec.py` in its environment; returns its figures and arrays."""
    longest = min(100, int(np.diff(sequences.offsets).max()))
    task: dict[str, object] = {**ESASREC, "seed": seed, "threads": threads, "longest": longest}
    task["speed_only"] = speed_only
    if speed_only:
        task["epochs"] = SPEED_EPOCHS
    with TemporaryDirectory() as name:
        folder = Path(name)
        arrays = ("offsets", "items", "split", "domain_starts")
        np.savez(folder / "task.npz", **{each: getattr(sequences, each) for each in arrays})
        (folder / "task.json").write_text(json.dumps(task), "utf-8")
        script = Path(__file__).with_name("esasrec.py")
        subprocess.run([peers, "-W", "ignore", script, folder], check=True, cwd=folder)
        told = json.loads((folder / "found.json").read_text("utf-8"))
        return told, {} if speed_only else dict(np.load(folder / "found.npz"))


def events_a_second(sequences: Sequences, tables: ItemTables, config: TriThreadConfig) -> float:
    """Returns training events per CPU second: epochs after the first, validated on one event."""
    ended: list[float] = []

    def note(report: EpochReport) -> None:
        ended.append(time.process_time())

    changes = {"max_epochs": SPEED_EPOCHS + 1, "refit": False, "validation_users": 1}
    plain = config.model.model_copy(
        update={"memory_events": 0, "memory_neighbours": 0, "bridge_factors": 0}
    )
    config = config.model_copy(
        update={"model": plain, "train": config.train.model_copy(update=changes)}
    )
    fit(sequences, tables, config, on_epoch=note)
    training = sequences.training()
    targets = int(np.maximum(np.diff(training.offsets) - 1, 0).sum())
    return targets * (len(ended) - 1) / (ended[-1] - ended[0])


if __name__ == "__main__":
    typer.run(main)
