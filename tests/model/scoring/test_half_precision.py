import numpy as np
import pytest
import torch

from model.scoring import model_scorer
from model.scoring.model_scorer import HalfProduct, ModelScorer
from model.scoring.top_k import recommend, recommend_domains
from tests.model.conftest import Shop


@pytest.mark.parametrize("is_fast", [True, False])
@pytest.mark.parametrize("rows", [1, 8, 50])
def test_a_rough_product_is_within_a_percent(
    rows: int, is_fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_fast:
        monkeypatch.setattr(model_scorer, "is_fast_here", lambda: False)
    generator = torch.Generator().manual_seed(0)
    items, states = (torch.randn(n, 96, generator=generator) for n in (301, rows))
    items, states = (torch.nn.functional.normalize(x, dim=1) for x in (items, states))
    difference = HalfProduct(items)(states) - states @ items.T
    assert 0 < difference.abs().max() < 0.01


MODELS = [{}, {"scoring": "cosine", "ensemble_size": 2, "memory_events": 3, "memory_neighbours": 4}]


@pytest.mark.parametrize("config", MODELS)
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_rough_candidates_ranked_exactly_are_the_exact_lists(
    shop: Shop, config: dict[str, object], exclude_seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelScorer, "is_rough", lambda *_: True)
    monkeypatch.setattr("model.scoring.top_k.MARGIN", 2)
    model = shop.model(config)
    if model.memory is not None:
        model.memory.learn(shop.sequences.training())
    scorer = ModelScorer(model)
    users = np.flatnonzero(np.diff(shop.sequences.offsets))
    found = recommend_domains(scorer, shop.sequences, users, (1, 0), 4, exclude_seen)
    assert list(found) == [1, 0]
    for domain, best in found.items():
        exact = recommend(scorer, shop.sequences, users, domain, 4, exclude_seen)
        np.testing.assert_array_equal(best.items, exact.items)
        np.testing.assert_allclose(best.scores, exact.scores, rtol=1e-5, atol=1e-5)


def test_what_may_not_be_recommended_is_no_candidate(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelScorer, "is_rough", lambda *_: True)
    allowed = np.zeros(11, bool)
    allowed[[2, 5]] = True
    scorer = ModelScorer(shop.model())
    found = recommend_domains(scorer, shop.sequences, np.arange(23), [0, 1], 3, False, {1: allowed})
    assert {tuple(sorted(row)) for row in found[1].items.tolist()} == {(0, 10, 13)}
    assert (found[0].items > 0).all()


def test_no_domain_is_no_list(shop: Shop) -> None:
    assert recommend_domains(ModelScorer(shop.model()), shop.sequences, np.arange(3), []) == {}
