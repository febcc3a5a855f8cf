"""Text similarity: a naive sum gives its scores, and it stays only where it ranks better."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoint import (
    WEIGHTS_FILE,
    load_model,
    read_tensors,
    save_model,
    write_tensors,
)
from model.data.sequences import Sequences, sequences_from_lists
from model.data.tables import ItemTables
from model.network.text_similarity import TextSimilarity
from model.network.tri_thread import TriThread
from model.scoring.model_scorer import CandidateScorer, ModelScorer
from model.scoring.new_items import with_catalogue
from model.training.memory_fit import fit_memory
from model.training.trainer import fit
from tests.model.conftest import Shop

GAINS = [0.5, 2.0]
USERS = np.arange(23)
SIMILAR: dict[str, object] = {"memory_events": 3, "memory_reach": 1, "text_decay": 0.6}
STARTS, NAMES = [0, 60, 120], ("a", "b")


def similar(shop: Shop, switches: dict[str, object] | None = None) -> TriThread:
    model = shop.model(SIMILAR | (switches or {}))
    model.similarity = TextSimilarity.of_texts(
        model.domain_starts, model.global_table, model.config
    )
    model.similarity.gain.copy_(torch.tensor(GAINS))
    return model


def naive_scores(
    model: TriThread,
    sequences: Sequences,
    user: int,
    domain: int,
    other_domains: float = 0.0,
    power: float = 0.5,
) -> list[float]:
    """One user's additions, text by text."""
    starts, table = sequences.domain_starts, model.global_table.double().numpy()

    def text(item: int) -> np.ndarray:
        low, high = next((a, b) for a, b in pairwise(starts) if a < item <= b)
        centred = table[item] - table[low + 1 : high + 1].mean(0)
        return centred / np.linalg.norm(centred)

    history = sequences.items[sequences.offsets[user] : sequences.offsets[user + 1]]
    inside = (history > starts[domain]) & (history <= starts[domain + 1])
    weights = 0.6 ** np.arange(len(history))[::-1] * np.where(inside, 1.0, other_domains)
    length = (weights.sum() or 1.0) ** power
    texts = [weight * text(event) for weight, event in zip(weights, history.tolist(), strict=True)]
    items = range(starts[domain] + 1, starts[domain + 1] + 1)
    return [
        GAINS[domain] * np.dot(sum(texts, np.zeros(table.shape[1])), text(item)) / length
        for item in items
    ]


@pytest.mark.parametrize("scoring", ["dot", "cosine"])
def test_a_naive_sum_over_the_history_gives_the_addition(shop: Shop, scoring: str) -> None:
    model = similar(shop, {"scoring": scoring, "ensemble_size": 2})
    prefixes = shop.sequences.prefixes_of_users(USERS)
    for domain in (0, 1):
        together = ModelScorer(model).score(prefixes, domain)
        candidates = np.tile(model.domain_items(domain).numpy(), (len(USERS), 1))
        chosen = CandidateScorer(model).score(prefixes, domain, candidates)
        torch.testing.assert_close(chosen, together, rtol=1e-4, atol=1e-4)
        similarity, model.similarity = model.similarity, None
        alone = ModelScorer(model).score(prefixes, domain)
        model.similarity = similarity
        wanted = [naive_scores(model, shop.sequences, user, domain) for user in range(len(USERS))]
        torch.testing.assert_close(
            together - alone, torch.tensor(wanted).float(), rtol=1e-3, atol=1e-4
        )


def test_a_model_of_an_earlier_version_sums_the_events_of_all_domains(
    shop: Shop, tmp_path: Path
) -> None:
    model, prefixes = similar(shop), shop.sequences.prefixes_of_users(USERS)
    config = shop.config(SIMILAR, {})
    save_model(tmp_path, model, config, NAMES)
    tensors, facts = read_tensors(tmp_path / WEIGHTS_FILE)
    for name in ("other_domains", "length_power"):
        del tensors[f"similarity.{name}"]
    write_tensors(tmp_path / WEIGHTS_FILE, tensors, facts)
    earlier = load_model(tmp_path)[0]
    together = ModelScorer(earlier).score(prefixes, 1)
    earlier.similarity = None
    alone = ModelScorer(earlier).score(prefixes, 1)
    wanted = [naive_scores(model, shop.sequences, user, 1, 1.0, 0.0) for user in range(len(USERS))]
    torch.testing.assert_close(together - alone, torch.tensor(wanted).float(), rtol=1e-3, atol=1e-4)


def test_an_item_without_text_has_no_similarity(shop: Shop) -> None:
    model = shop.model(SIMILAR)
    table = model.global_table.clone()
    table[3] = table[[1, 2, 4, 5, 6, 7]].mean(0)  # Then the mean of all seven is the same.
    similarity = TextSimilarity.of_texts(model.domain_starts, table, model.config)
    assert not similarity.item_vectors(torch.tensor([0, 3]), table).any()
    assert similarity.item_vectors(torch.tensor([2]), table).any()


def test_a_new_item_is_compared_by_its_own_text_and_known_ones_as_before(shop: Shop) -> None:
    model = similar(shop)
    previous = np.array([*range(8), 0, *range(8, 19)])
    text = shop.tables.global_table[previous]
    text[8] = text[5]
    local = shop.tables.local_table[previous]
    grown = with_catalogue(model, ItemTables(text, local), np.array([0, 8, 19]), previous)
    assert grown.similarity is not None
    assert model.similarity is not None
    old = model.similarity.item_vectors(torch.arange(19), model.global_table)
    new = grown.similarity.item_vectors(torch.arange(20), grown.global_table)
    torch.testing.assert_close(new[torch.from_numpy(previous > 0)], old[1:])
    torch.testing.assert_close(new[8], old[5])


def neighbours(rng: np.random.Generator) -> tuple[Sequences, np.ndarray]:
    """Everyone stays among ten items of like texts, in an order that tells nothing."""
    kinds = np.arange(120).reshape(12, 10)
    lists = [(rng.permutation(kinds[user % 12])[:6] + 1).tolist() for user in range(240)]
    texts = rng.normal(size=(12, 8)).repeat(10, 0) + 0.1 * rng.normal(size=(120, 8))
    return sequences_from_lists(lists, STARTS, NAMES, held_out=2), texts


@pytest.mark.parametrize("tells", [True, False])
def test_it_stays_where_texts_tell_what_is_next_and_only_there(
    shop: Shop, tmp_path: Path, tells: bool
) -> None:
    sequences, texts = neighbours(np.random.default_rng(1))
    if not tells:
        texts[:] = texts[0]
    rows = np.concatenate((np.zeros((1, 8)), texts)).astype(np.float32)
    config = shop.config(
        {**SIMILAR, "hidden": 8, "local_start": "random"}, {"refit": True, "max_epochs": 1}
    )
    model = fit(sequences, ItemTables(rows, rows), config).model
    if not tells:
        assert model.similarity is None
        return
    assert model.similarity is not None
    assert (model.similarity.gain > 0).all()
    save_model(tmp_path, model, config, NAMES)
    prefixes = sequences.prefixes_of_users(np.arange(20))
    again = ModelScorer(load_model(tmp_path)[0]).score(prefixes, 1)
    torch.testing.assert_close(again, ModelScorer(model).score(prefixes, 1))


@pytest.mark.parametrize("seed", range(5))
def test_texts_of_other_items_tell_nothing_and_are_dropped(shop: Shop, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sequences, texts = neighbours(rng)
    rows = np.concatenate((np.zeros((1, 8)), rng.permutation(texts))).astype(np.float32)
    config = shop.config({**SIMILAR, "hidden": 8}).model
    torch.manual_seed(seed)
    model = TriThread(ItemTables(rows, rows), sequences.domain_starts, config).eval()
    fit_memory(model, sequences, seed)
    assert model.similarity is None


def test_a_model_of_ids_does_not_read_texts_this_way_either(shop: Shop) -> None:
    sequences, texts = neighbours(np.random.default_rng(1))
    rows = np.concatenate((np.zeros((1, 8)), texts)).astype(np.float32)
    config = shop.config({**SIMILAR, "hidden": 8, "global_items": "ids"}, {"max_epochs": 1})
    assert fit(sequences, ItemTables(rows, rows), config).model.similarity is None
