"""The path for export gives what the scorer gives, whatever the switches of the model."""

import numpy as np
import pytest
import torch

from model.network.text_similarity import TextSimilarity
from model.scoring.exported_graph import ScoringPath
from model.scoring.model_scorer import ModelScorer
from model.training.bridge_fit import fit_bridge
from tests.model.conftest import Shop


@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"scoring": "cosine", "block": "pre_norm", "heads": 2},
        {"global_thread": False},
        {"local_threads": False},
        {"global_correction": True},
        {"ensemble_size": 3, "scoring": "cosine"},
        {"ensemble_size": 2, "local_threads": False, "memory_events": 3, "memory_reach": 4},
        {"memory_events": 3},
        {"memory_events": 3, "memory_neighbours": 2},
        {"bridge_factors": 4, "scoring": "cosine", "ensemble_size": 2, "memory_events": 3},
        {"bridge_factors": 4, "local_threads": False},
        {"memory_events": 3, "text_decay": 0.7, "scoring": "cosine", "bridge_factors": 4},
    ],
)
def test_every_history_gets_the_scorers_scores(shop: Shop, switches: dict[str, object]) -> None:
    model = shop.model(switches)
    if model.memory is not None:
        model.memory.learn(shop.sequences)
        model.memory.gain.copy_(torch.tensor([0.5, 2.0]))
        model.memory.other.fill_(0.3)
    if model.config.text_decay:
        texts = model.global_table
        model.similarity = TextSimilarity.of_texts(model.domain_starts, texts, model.config)
        model.similarity.gain.copy_(torch.tensor([0.5, 2.0]))
    fit_bridge(model, shop.sequences, seed=0)
    scorer = ModelScorer(model)
    path = ScoringPath(scorer).eval()
    users = np.arange(shop.sequences.user_count)  # Histories of one domain and none among them.
    offsets = shop.sequences.offsets
    width = int(np.diff(offsets).max())
    prefixes = shop.sequences.prefixes_of_users(users)
    for is_left in (False, True):  # Libraries pad sequences at either end.
        padded = torch.zeros(len(users), width, dtype=torch.int64)
        for user in users:
            items = shop.sequences.items[offsets[user] : offsets[user + 1]]
            start = width - len(items) if is_left else 0
            padded[user, start : start + len(items)] = torch.from_numpy(items)
        with torch.inference_mode():
            found = path(padded)
        for domain, scores in enumerate(found):
            expected = scorer.score(prefixes, domain)
            torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
