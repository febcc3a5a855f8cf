"""The index proposes what a plain sort would put first."""

import numpy as np

from tasks.frame.ann_index import AnnIndex


def clustered(rng: np.random.Generator, rows: int, width: int) -> np.ndarray:
    centres = rng.normal(size=(40, width))
    vectors = centres[rng.integers(0, 40, rows)] + 0.5 * rng.normal(size=(rows, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_nearly_all_of_the_best_are_proposed() -> None:
    rng = np.random.default_rng(1)
    vectors, states = clustered(rng, 6_000, 16), clustered(rng, 50, 16)
    proposed = AnnIndex(vectors).columns(states, 100)
    best = np.argsort(-(states @ vectors.T), axis=1)[:, :20]
    found = [
        len(set(b) & set(p)) / 20 for b, p in zip(best.tolist(), proposed.tolist(), strict=True)
    ]
    assert np.mean(found) > 0.9


def test_a_wish_for_more_than_there_is_ends_in_minus_one() -> None:
    vectors = clustered(np.random.default_rng(2), 30, 8)
    proposed = AnnIndex(vectors).columns(vectors[:2], 50)
    assert proposed.shape == (2, 50)
    assert sorted(proposed[0][proposed[0] >= 0].tolist()) == list(range(30))
    assert (proposed[:, 30:] == -1).all()
