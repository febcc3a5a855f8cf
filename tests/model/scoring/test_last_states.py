from itertools import product

import numpy as np
import pytest
import torch

from model.config import ModelConfig
from model.data.batches import prefix_batch
from model.network.tri_thread import Members
from model.scoring.last_states import LastStates
from model.scoring.model_scorer import ModelScorer
from tests.model.conftest import Shop

LENGTHS = torch.tensor([3, 1, 7, 5])


@pytest.mark.parametrize(
    ("block", "causal", "members"),
    list(product(("sasrec", "pre_norm"), (True, False), (1, 3))),
)
def test_the_last_state_is_that_of_the_whole_encoder(
    block: str, causal: bool, members: int
) -> None:
    torch.manual_seed(3)
    values = {"hidden": 8, "heads": 2, "blocks": 2, "max_length": 9}
    config = ModelConfig.model_validate(
        {**values, "block": block, "causal": causal, "ensemble_size": members}
    )
    thread = Members(config).eval()
    is_padding = torch.arange(7)[None] >= LENGTHS[:, None]
    vectors = torch.randn(4, 7, 8 * members)
    with torch.no_grad():
        every = thread(vectors, is_padding)  # (M, B, T, H)
        last = LastStates([*thread.members])(vectors, is_padding)  # type: ignore[list-item]
    torch.testing.assert_close(last, every[:, torch.arange(4), LENGTHS - 1])


CONFIGS = [
    {},
    {"ensemble_size": 3, "scoring": "cosine"},
    {"global_thread": False},
    {"local_threads": False, "block": "pre_norm"},
    {"max_length": 4},
    {"global_correction": True, "blocks": 1},
]


@pytest.mark.parametrize("config", CONFIGS)
def test_one_reading_for_all_domains_gives_the_states_that_training_has(
    shop: Shop, config: dict[str, object]
) -> None:
    model = shop.model(config)
    scorer = ModelScorer(model)
    prefixes = shop.sequences.prefixes_of_users(np.arange(23))  # some without any event
    assert (np.diff(shop.sequences.offsets) == 0).any()
    moments = scorer.read(prefixes, [1, 0])
    for domain in range(2):
        batch = prefix_batch(prefixes, model.config.max_length, domain)
        with torch.no_grad():
            states, _ = model.states(batch, scorer.rows)
        torch.testing.assert_close(moments.states[domain], states[domain])


def test_a_reader_keeps_the_weights_it_was_made_with(shop: Shop) -> None:
    model = shop.model({"ensemble_size": 2})
    scorer = ModelScorer(model)
    prefixes = shop.sequences.prefixes_of_users(np.arange(5))
    before = scorer.score(prefixes, 0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2)
    torch.testing.assert_close(scorer.score(prefixes, 0), before)
