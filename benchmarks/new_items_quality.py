"""How well items are recommended that training never saw: withheld, then added by their text.

A share of each domain's items is taken out of the data, with all their events; the projections and
the model are fitted on the rest; then the items are added as new ones, and every event on them is
ranked against all items of its domain that its user had not met. Needs a store with a refresh, as
`llm4cdsr refresh` leaves it, and no language model.

    python benchmarks/new_items_quality.py --store artifacts/data --epochs 10 --splits 3
"""

from dataclasses import replace
from itertools import pairwise
from typing import Annotated

import numpy as np
import polars as pl
import torch
import typer
from figures import JsonFile, keep
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from artifacts.bundles import latest_refresh, parts_of
from artifacts.kinds.dataset import Dataset, read_dataset
from artifacts.kinds.item_vectors import ItemEmbeddings, read_item_embeddings
from artifacts.store import Store
from model.baselines.simple import markov_chain
from model.config import TriThreadConfig, load_preset
from model.data.sequences import IntArray, Prefixes, Sequences
from model.data.tables import ItemTables
from model.scoring.model_scorer import ModelScorer, Scorer
from model.scoring.ranking import rank_all, ranking_metrics
from model.training.trainer import EpochReport, fit
from tasks.frame.model_inputs import sequences_of
from tasks.project import ProjectConfig, project_vectors
from tasks.serving.catalogue import Catalogue
from tasks.serving.state import ServingState, unit_rows
from tasks.serving.text_space import TextSpace

CUTOFF = 10

Figures = list[dict[str, float | str]]
"""A row a domain, and one of all."""


def main(
    store: Annotated[str, typer.Option(help="Artifact store with a refresh.")],
    share: Annotated[float, typer.Option(help="Of each domain's items, withheld.")] = 0.02,
    epochs: Annotated[int, typer.Option(min=1)] = 10,
    preset: Annotated[str, typer.Option(help="Model preset.")] = "best",
    threads: Annotated[int, typer.Option(min=1)] = 2,
    seed: Annotated[int, typer.Option(help="Draws the withheld items.")] = 0,
    splits: Annotated[int, typer.Option(min=1, help="Seeds in a row, each trained anew.")] = 3,
    json_file: JsonFile = None,
) -> None:
    """Withhold, train, add, rank; print HR@10 beside chance and a model of ids alone."""
    torch.set_num_threads(threads)
    opened = Store(store)
    parts = parts_of(opened, latest_refresh(opened))
    data = read_dataset(opened, parts["dataset"])
    embeddings = read_item_embeddings(opened, parts["embeddings"])
    config = load_preset(preset, {"train": {"max_epochs": epochs, "refit": False}})
    figures = {}
    for drawn in range(seed, seed + splits):
        withheld = _drawn(data.domain_starts, share, drawn)
        figures[drawn] = _measured(data, embeddings, withheld, config)
        _print(figures[drawn], f"{int(withheld.sum()):,} items withheld by seed {drawn}")
        keep(figures, json_file)
    _print(_means(list(figures.values())), f"mean of {splits} splits")


def _measured(
    data: Dataset,
    embeddings: ItemEmbeddings,
    withheld: NDArray[np.bool_],
    config: TriThreadConfig,
) -> Figures:
    state, space = _trained_without(data, embeddings, withheld, config)
    grown = state.with_items(
        data.items.filter(pl.Series(withheld[1:])),
        embeddings.vectors[withheld],
        embeddings.is_embedded[withheld],
        space,
    )
    prefixes = _events_on(data, withheld, grown.catalogue)
    return _figures(
        {"llm4cdsr": grown.scorer, "ids alone": markov_chain(grown.histories)}, prefixes
    )


def _means(splits: list[Figures]) -> Figures:
    """Means of the splits' rows, each split counting the same."""
    return [
        {
            name: value if isinstance(value, str) else float(np.mean([row[name] for row in rows]))
            for name, value in rows[0].items()
        }
        for rows in zip(*splits, strict=True)
    ]


def _drawn(starts: IntArray, share: float, seed: int) -> NDArray[np.bool_]:
    """Mask (items + 1,) of the withheld items."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(int(starts[-1]) + 1, bool)
    for low, high in pairwise(starts):
        size = int(high - low)
        mask[low + 1 + rng.choice(size, max(1, round(share * size)), replace=False)] = True
    return mask


def _trained_without(
    data: Dataset,
    embeddings: ItemEmbeddings,
    withheld: NDArray[np.bool_],
    config: TriThreadConfig,
) -> tuple[ServingState, TextSpace]:
    kept = ~withheld
    items = data.items.filter(pl.Series(kept[1:]))
    sizes = [items.filter(domain=domain).height for domain in data.domains]
    starts = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    vectors, is_embedded = embeddings.vectors[kept], embeddings.is_embedded[kept]
    histories = _without(sequences_of(data), kept, starts)
    projecting = ProjectConfig(hidden=config.model.hidden)
    made = project_vectors(vectors, is_embedded, data.domains, starts, projecting)
    tables = ItemTables(made.global_table, made.local_table)
    model = fit(histories, tables, config, on_epoch=_show).model
    space = TextSpace(
        made.projections,
        {
            domain: vectors[low + 1 : high + 1][is_embedded[low + 1 : high + 1]].mean(axis=0)
            for domain, low, high in zip(data.domains, starts[:-1], starts[1:], strict=True)
        },
    )
    bought = np.bincount(histories.items, minlength=len(vectors))
    catalogue = Catalogue(items, data.domains, starts, bought)
    scorer = ModelScorer(model)
    state = ServingState(catalogue, scorer, unit_rows(vectors), is_embedded, histories, {})
    return state, space


def _without(sequences: Sequences, kept: NDArray[np.bool_], starts: IntArray) -> Sequences:
    """The histories without the events of withheld items, items renumbered."""
    now = np.cumsum(kept) - 1
    stays = kept[sequences.items]
    counted = np.concatenate(([0], np.cumsum(stays)))
    return replace(
        sequences,
        offsets=counted[sequences.offsets],
        items=now[sequences.items[stays]],
        split=sequences.split[stays],
        domain_starts=starts,
    )


def _events_on(data: Dataset, withheld: NDArray[np.bool_], catalogue: Catalogue) -> Prefixes:
    """Every event on a withheld item after the first of its user, in the grown catalogue."""
    old = sequences_of(data)
    keys = data.items.select("domain", "item_id").iter_rows()
    now = np.array([0, *(catalogue.index((domain, item)) for domain, item in keys)])
    sequences = replace(old, items=now[old.items], domain_starts=catalogue.domain_starts)
    users = sequences.event_users
    events = np.flatnonzero(withheld[old.items])
    events = events[events > sequences.offsets[users[events]]]
    return Prefixes(sequences, users[events], events, sequences.items[events])


def _figures(scorers: dict[str, Scorer], prefixes: Prefixes) -> Figures:
    rows: Figures = []
    names = prefixes.sequences.domain_names
    ranked = {name: rank_all(scorer, prefixes) for name, scorer in scorers.items()}
    for number, domain in [(None, "all"), *enumerate(names)]:
        row: dict[str, float | str] = {"domain": domain}
        for name, ranks in ranked.items():
            part = ranks if number is None else ranks.select(ranks.domains == number)
            row["events"] = len(part.users)
            row["chance"] = float(np.mean(CUTOFF / (part.candidates + 1)))
            row[name] = ranking_metrics(part, (CUTOFF,)).hit_rate[CUTOFF]
        row["times chance"] = float(row["llm4cdsr"]) / float(row["chance"])
        rows.append(row)
    return rows


def _show(report: EpochReport) -> None:
    Console(stderr=True).print(f"epoch {report.epoch}: loss {report.loss:.3f}")


def _print(rows: Figures, title: str) -> None:
    table = Table(*rows[0], title=f"HR@{CUTOFF}, {title}")
    for row in rows:
        table.add_row(*(f"{v:.4f}" if isinstance(v, float) else str(v) for v in row.values()))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
