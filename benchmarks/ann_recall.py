"""Recall and speed of the index for very large domains, against scoring every item.

The items are made up: clusters in a space of few dimensions, seen through random directions and
noise, as text embeddings lie. Asked are points near the clusters.

    taskset -c 0,1 python benchmarks/ann_recall.py --items 1000000
"""

import time
from typing import Annotated

import numpy as np
import torch
import typer
from figures import JsonFile, keep, peak_gib
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tasks.frame.ann_index import AnnIndex

LATENT, CLUSTERS = 48, 2_000
BLOCK = 100_000
CANDIDATES = 200
"""As `model.scoring.top_k`."""


def main(
    items: Annotated[int, typer.Option(min=1000)] = 1_000_000,
    width: Annotated[int, typer.Option(help="Of the fused vectors, 2 h.")] = 256,
    queries: Annotated[int, typer.Option(min=1)] = 512,
    k: Annotated[int, typer.Option(min=1)] = 20,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    json_file: JsonFile = None,
) -> None:
    """Build the index, ask both ways, and print recall@k and the ratio of speeds."""
    import faiss

    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    vectors, states = _world(items, width, queries)
    started = time.perf_counter()
    index = AnnIndex(vectors)
    built = time.perf_counter() - started

    started = time.perf_counter()
    exact = _exact(vectors, states, k)
    exact_seconds = time.perf_counter() - started
    started = time.perf_counter()
    found = _proposed(index, vectors, states, k)
    index_seconds = time.perf_counter() - started
    hits = [len(set(a) & set(b)) / k for a, b in zip(exact.tolist(), found.tolist(), strict=True)]
    figures = {
        "items": items,
        "queries": queries,
        "build_seconds": built,
        "exact_ms_per_query": 1000 * exact_seconds / queries,
        "index_ms_per_query": 1000 * index_seconds / queries,
        "times_as_fast": exact_seconds / index_seconds,
        f"recall_at_{k}": float(np.mean(hits)),
        "peak_gib": peak_gib(),
    }
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:,.3f}" if value % 1 else f"{value:,.0f}")
    Console().print(table)
    keep(figures, json_file)


def _world(items: int, width: int, queries: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLUSTERS, LATENT), np.float32)
    directions = rng.standard_normal((LATENT, width), np.float32) / np.float32(np.sqrt(LATENT))
    vectors = np.empty((items, width), np.float32)
    for begin in range(0, items, BLOCK):
        vectors[begin : begin + BLOCK] = _points(
            rng, centres, directions, len(vectors[begin : begin + BLOCK])
        )
    return vectors, _points(rng, centres, directions, queries)


def _points(
    rng: np.random.Generator,
    centres: NDArray[np.float32],
    directions: NDArray[np.float32],
    count: int,
) -> NDArray[np.float32]:
    near = centres[rng.integers(0, CLUSTERS, count)]
    latent = near + np.float32(0.7) * rng.standard_normal((count, LATENT), np.float32)
    seen = latent @ directions
    seen += 0.2 * rng.standard_normal(seen.shape, np.float32)
    return seen / np.linalg.norm(seen, axis=1, keepdims=True)


def _exact(vectors: NDArray[np.float32], states: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """As `model.scoring.top_k.recommend`: blocks of products, then the top of each row."""
    every, size = torch.from_numpy(vectors), max(1, 4_000_000 // len(vectors))
    parts = [
        torch.topk(torch.from_numpy(states[begin : begin + size]) @ every.T, k).indices
        for begin in range(0, len(states), size)
    ]
    return torch.cat(parts).numpy()


def _proposed(
    index: AnnIndex, vectors: NDArray[np.float32], states: NDArray[np.float32], k: int
) -> NDArray[np.int64]:
    """As `model.scoring.top_k`: proposals, then exact scores of those."""
    parts = []
    for begin in range(0, len(states), 128):
        block = states[begin : begin + 128]
        proposed = index.columns(block, CANDIDATES)
        scores = np.einsum("rch,rh->rc", vectors[np.maximum(proposed, 0)], block)
        scores[proposed < 0] = -np.inf
        best = np.argsort(-scores, axis=1)[:, :k]
        parts.append(np.take_along_axis(proposed, best, axis=1))
    return np.concatenate(parts)


if __name__ == "__main__":
    typer.run(main)
