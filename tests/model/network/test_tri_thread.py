import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from model.data.sequences import TEST, Sequences, sequences_from_lists
from model.network.tri_thread import Members, TriThread
from model.scoring.model_scorer import ModelScorer
from tests.model.conftest import Shop
from tests.model.naive_network import naive_last_state, naive_linear


def naive_score(model: TriThread, prefix: list[int], domain: int, item: int) -> float:
    """`<h_global, a(v)> + <h_d, L_d[v]>`, the latter only after own-domain events (METHOD 4)."""
    w = {name: value.double().numpy() for name, value in model.state_dict().items()}
    table, local = w["global_table"], w["local_table.weight"]

    def adapted(v: int) -> np.ndarray:
        return naive_linear(naive_linear(table[v], w, "adapter.first"), w, "adapter.second")

    if not prefix:
        return 0.0
    total = naive_last_state([adapted(v) for v in prefix], w, "global_thread") @ adapted(item)
    low, high = model.domain_starts[domain : domain + 2]
    own = [local[v] for v in prefix if low < v <= high]
    if own:
        total += naive_last_state(own, w, f"local_threads.{domain}") @ local[item]
    return float(total)


@pytest.mark.parametrize("sizes", [(7, 11), (4, 6, 5)])
def test_scores_match_a_slow_float64_twin(
    open_shop: Callable[..., Shop], sizes: tuple[int, ...]
) -> None:
    shop = open_shop(sizes, users=9, longest=6)
    model = shop.model()
    scorer = ModelScorer(model)
    prefixes = shop.sequences.prefixes_of_users(np.arange(9))
    for domain, size in enumerate(sizes):
        got = scorer.score(prefixes, domain)
        assert got.shape == (9, size)
        wanted = [
            [
                naive_score(model, history(shop.sequences, user), domain, item)
                for item in model.domain_items(domain).tolist()
            ]
            for user in range(9)
        ]
        np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-4, atol=1e-4)


def test_the_order_of_users_changes_no_score(shop: Shop) -> None:
    scorer = ModelScorer(shop.model())
    users = np.random.default_rng(0).permutation(shop.sequences.user_count)
    everyone = scorer.score(shop.sequences.prefixes_of_users(np.arange(len(users))), 1)
    shuffled = scorer.score(shop.sequences.prefixes_of_users(users), 1)
    torch.testing.assert_close(shuffled, everyone[torch.from_numpy(users)])


def test_company_of_longer_histories_changes_no_score(shop: Shop) -> None:
    scorer = ModelScorer(shop.model())
    prefixes = shop.sequences.prefixes_of_split(TEST)
    together = scorer.score(prefixes, 0)
    alone = [scorer.score(prefixes.select(np.array([r])), 0) for r in range(len(prefixes))]
    torch.testing.assert_close(together, torch.cat(alone))


def test_before_any_event_of_a_domain_the_global_thread_scores_alone(shop: Shop) -> None:
    sequences = only_first_domain(shop.sequences)
    model = shop.model()
    before = ModelScorer(model).score(sequences.prefixes_of_users(np.array([0])), 1)
    with torch.no_grad():
        model.local_table.weight[8:] += 1.0
    after = ModelScorer(model).score(sequences.prefixes_of_users(np.array([0])), 1)
    assert torch.equal(before, after)
    assert before.unique().numel() > 1


@pytest.mark.parametrize(
    "change",
    [
        {"global_thread": False},
        {"local_threads": False},
        {"scoring": "cosine"},
        {"causal": False},
        {"global_items": "ids"},
        {"global_correction": True},
        {"local_start": "random"},
        {"block": "pre_norm"},
    ],
)
def test_every_ablation_scores_all_items_with_finite_numbers(
    shop: Shop, change: dict[str, object]
) -> None:
    prefixes = shop.sequences.prefixes_of_users(np.arange(shop.sequences.user_count))
    scores = ModelScorer(shop.model(change)).score(prefixes, 1)
    assert scores.shape == (23, 11)
    assert torch.isfinite(scores).all()


def history(sequences: Sequences, user: int) -> list[int]:
    return sequences.items[sequences.offsets[user] : sequences.offsets[user + 1]].tolist()


def only_first_domain(sequences: Sequences) -> Sequences:
    return sequences_from_lists(
        [[1, 3, 2]], sequences.domain_starts.tolist(), sequences.domain_names
    )


def one_member(model: TriThread, number: int) -> TriThread:
    """The model that holds one member's weights alone."""
    hidden = model.config.hidden
    share = slice(number * hidden, (number + 1) * hidden)
    alone = copy.deepcopy(model)
    alone.config = model.config.model_copy(update={"ensemble_size": 1})
    for thread in (alone.global_thread, *alone.local_threads):
        assert isinstance(thread, Members)
        thread.members = nn.ModuleList([thread.members[number]])
    alone.adapter.second.weight = nn.Parameter(model.adapter.second.weight[share])
    alone.adapter.second.bias = nn.Parameter(model.adapter.second.bias[share])
    alone.local_table.weight = nn.Parameter(model.local_table.weight[:, share])
    return alone


@pytest.mark.parametrize("scoring", ["dot", "cosine"])
def test_an_ensemble_scores_the_mean_of_its_members(shop: Shop, scoring: str) -> None:
    model = shop.model({"ensemble_size": 3, "scoring": scoring})
    prefixes = shop.sequences.prefixes_of_users(np.arange(23))
    for domain in range(2):
        alone = [ModelScorer(one_member(model, m)).score(prefixes, domain) for m in range(3)]
        together = ModelScorer(model).score(prefixes, domain)
        torch.testing.assert_close(together, torch.stack(alone).mean(0))
        assert not torch.allclose(alone[0], alone[1])
