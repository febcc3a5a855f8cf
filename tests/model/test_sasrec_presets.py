"""The SASRec presets compute SASRec: scores and losses against one written out plainly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.config import load_preset
from model.data.batches import training_batch
from model.data.sequences import TEST
from model.network.encoder import Block, Encoder
from model.network.tri_thread import TriThread
from model.scoring.model_scorer import ModelScorer
from model.training.objective import Objective
from tests.model.conftest import Shop

CHANGES = {"model": {"hidden": 8}}


def preset_model(shop: Shop, preset: str) -> TriThread:
    torch.manual_seed(4)
    config = load_preset(preset, CHANGES).model
    model = TriThread(shop.tables, shop.sequences.domain_starts, config).eval()
    with torch.no_grad():  # Untrained tables are so small that every score is about zero.
        for table in model.item_tables():
            table.weight.normal_()
    return model


def plain_sasrec(thread: Encoder, table: Tensor, items: list[int]) -> Tensor:
    """Kang & McAuley's network for one history, (T, H): scaled items and positions, then blocks of
    attention from normed queries to plain keys, residual onto the queries, and a two-layer net."""
    assert thread.positions is not None
    states = table[items] * math.sqrt(table.shape[1]) + thread.positions.weight[: len(items)]
    for block in thread.blocks:
        assert isinstance(block, Block)
        attention = block.attention
        queries = F.layer_norm(states, states.shape[1:], *norm(block.attention_norm))
        q = queries @ attention.query.weight.T + attention.query.bias
        kv = states @ attention.key_value.weight.T + attention.key_value.bias
        k, v = kv[:, : q.shape[1]], kv[:, q.shape[1] :]
        rows = []
        for t in range(len(items)):
            weights = torch.softmax(q[t] @ k[: t + 1].T / math.sqrt(q.shape[1]), dim=-1)
            rows.append(weights @ v[: t + 1])
        mixed = torch.stack(rows) @ attention.out.weight.T + attention.out.bias
        states = F.layer_norm(queries + mixed, states.shape[1:], *norm(block.feed_forward_norm))
        wide = F.relu(states @ block.widen.weight.T + block.widen.bias)
        states = states + wide @ block.narrow.weight.T + block.narrow.bias
    return F.layer_norm(states, states.shape[1:], *norm(thread.norm))


def norm(layer: torch.nn.LayerNorm) -> tuple[Tensor, Tensor, float]:
    return layer.weight, layer.bias, layer.eps


def thread_and_table(model: TriThread, preset: str, domain: int) -> tuple[Encoder, Tensor]:
    if preset == "sasrec-domain":
        thread = model.local_threads[domain]
        assert isinstance(thread, Encoder)
        return thread, model.local_table.weight
    assert isinstance(model.global_thread, Encoder)
    if preset == "sasrec-mixed":
        assert model.identities is not None
        return model.global_thread, model.identities.weight
    return model.global_thread, model.adapter(model.global_table)


@pytest.mark.parametrize("preset", ["sasrec-mixed", "sasrec-domain", "sasrec-text"])
@torch.no_grad()
def test_scores_are_those_of_a_plain_sasrec(shop: Shop, preset: str) -> None:
    model, sequences = preset_model(shop, preset), shop.sequences
    scorer, prefixes = ModelScorer(model), sequences.prefixes_of_split(TEST)
    assert len(prefixes) > 10
    for domain in range(sequences.domain_count):
        low, high = sequences.domain_starts[domain : domain + 2].tolist()
        scores = scorer.score(prefixes, domain)
        thread, table = thread_and_table(model, preset, domain)
        for row, (start, stop) in enumerate(zip(prefixes.start, prefixes.stop, strict=True)):
            items = sequences.items[start:stop].tolist()
            if preset == "sasrec-domain":
                items = [item for item in items if low < item <= high]
            expected = torch.zeros(high - low)
            if items:
                expected = table[low + 1 : high + 1] @ plain_sasrec(thread, table, items)[-1]
            torch.testing.assert_close(scores[row], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("preset", ["sasrec-mixed", "sasrec-domain", "sasrec-text"])
@torch.no_grad()
def test_the_loss_is_binary_with_one_negative_of_the_targets_domain(
    shop: Shop, preset: str
) -> None:
    model, training = preset_model(shop, preset), shop.sequences.training()
    objective = Objective(model, training, load_preset(preset, CHANGES).train)
    users = np.flatnonzero(np.diff(training.offsets) >= 2)
    batch = training_batch(training, users, model.config.max_length)
    draws = objective.draw(batch, np.random.default_rng(8))
    losses: list[list[Tensor]] = [[] for _ in range(training.domain_count)]
    taken = [0] * training.domain_count
    for user in users:
        items = training.items[training.offsets[user] : training.offsets[user + 1]].tolist()
        for place in range(1, len(items)):
            domain = int(training.domain_of(np.array([items[place]]))[0])
            low, high = training.domain_starts[domain : domain + 2].tolist()
            negative = int(draws.negatives[domain][taken[domain], 0])
            taken[domain] += 1
            assert low < negative <= high
            assert negative not in items
            read = items[:place]
            if preset == "sasrec-domain":
                read = [item for item in read if low < item <= high]
            if read:
                thread, table = thread_and_table(model, preset, domain)
                state = plain_sasrec(thread, table, read)[-1]
                right, wrong = state @ table[items[place]], state @ table[negative]
                losses[domain].append(-F.logsigmoid(right) - F.logsigmoid(-wrong))
    assert all(
        len(negatives) == count for negatives, count in zip(draws.negatives, taken, strict=True)
    )
    expected = sum(torch.stack(each).mean() for each in losses)
    torch.testing.assert_close(objective.loss(batch, draws), expected, rtol=1e-4, atol=1e-4)
