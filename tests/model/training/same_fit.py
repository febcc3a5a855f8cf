"""Whether several processes fitted what one does."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoint import read_tensors
from model.network.tri_thread import TriThread
from model.scoring.model_scorer import ModelScorer
from model.training.trainer import FitResult, fit
from tests.model.conftest import Shop

ROOT = Path(__file__).parents[3]
MODEL: dict[str, object] = {"dropout": 0.0, "blocks": 1}
EVERYTHING: dict[str, object] = {"alpha": 0.5, "beta": 0.5, "max_epochs": 3}


def fitted_alone(shop: Shop, train: dict[str, object]) -> FitResult:
    config = shop.config(MODEL, train)
    return fit(shop.sequences, shop.tables, config, shop.profiles)


# The tolerances leave room for Adam, which turns a gradient of 1e-8, pure rounding, into a whole
# step. The gradients themselves are compared closely, below.
def assert_same_fit(shop: Shop, folder: Path, name: str, expected: FitResult) -> None:
    weights, facts = read_tensors(folder / f"{name}.safetensors")
    history = facts["history"]
    assert isinstance(history, list)
    assert facts["processes"] == 2
    assert facts["replicas_agree"]
    for got, wanted in zip(history, expected.history, strict=True):
        assert got["loss"] == pytest.approx(wanted.loss, rel=1e-4)
        assert got["sequences"] == wanted.sequences
        assert got["validation_ndcg"] == pytest.approx(wanted.validation_ndcg, nan_ok=True)
        assert got["is_best"] == wanted.is_best
    scores = scores_of(shop, expected.model)  # Before its weights are replaced.
    expected.model.load_state_dict(weights)
    torch.testing.assert_close(scores_of(shop, expected.model), scores, rtol=1e-3, atol=1e-3)


def scores_of(shop: Shop, model: TriThread) -> torch.Tensor:
    scorer = ModelScorer(model)
    prefixes = shop.sequences.prefixes_of_users(np.arange(shop.sequences.user_count))
    return torch.cat([scorer.score(prefixes, domain) for domain in range(2)], dim=1)
