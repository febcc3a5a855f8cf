"""NDCG@10 of a trial on the validation events, with the memory fitted on other users' events.

The network's epoch is chosen on these events, its memory and text similarity are fitted on those of
one half of the users and measured on the other half, and the reverse.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from model.config import ModelConfig, TriThreadConfig
from model.data.sequences import TEST, VALIDATION, Prefixes, Sequences
from model.network.transition_memory import TransitionMemory
from model.network.tri_thread import TriThread
from model.scoring.model_scorer import ModelScorer
from model.scoring.ranking import expected_gains, rank_all
from model.training.memory_fit import fit_memory

CUTOFF, HALVES = 10, 2
MOST_EVENTS = 5_000
"""Validation events that a trial is measured on; a seeded sample of more."""


def network_only(config: TriThreadConfig) -> TriThreadConfig:
    """Returns the configuration without the parts that are fitted after the epochs, without refit
    and with one ensemble member."""
    parts = {"memory_events": 0, "memory_neighbours": 0, "text_decay": 0.0, "bridge_factors": 0}
    model = config.model.model_copy(update={**parts, "ensemble_size": 1})
    train = config.train.model_copy(update={"refit": False, "cold_items": "trained"})
    return TriThreadConfig(model=model, train=train)


def validation_gains(
    network: TriThread, sequences: Sequences, config: ModelConfig, seed: int
) -> NDArray[np.float64]:
    """Returns the mean NDCG@10 of each user's measured validation events, by ascending user.

    `config` has the memory's settings; test events are not read.
    """
    rng = np.random.default_rng(seed)
    events = sequences.prefixes_of_split(VALIDATION)
    events = events.select(events.sampled_rows(MOST_EVENTS, rng))
    half = rng.permutation(np.arange(sequences.user_count) % HALVES)[events.users]
    gains = np.zeros(len(events))
    if not config.memory_events:
        gains = _gains(network, events)
    else:
        own = network.config
        network.config = config.model_copy(update={"ensemble_size": 1})
        for number in range(HALVES):
            network.memory = TransitionMemory(network.domain_starts, network.config)
            network.memory.to(network.device)
            network.similarity = None
            fit_memory(network, _without(sequences, events.users[half == number]), seed)
            measured = half == number
            gains[measured] = _gains(network, events.select(np.flatnonzero(measured)))
        network.config = own
    _, rows, counts = np.unique(events.users, return_inverse=True, return_counts=True)
    return np.bincount(rows, gains) / counts


def _gains(model: TriThread, events: Prefixes) -> NDArray[np.float64]:
    return expected_gains(rank_all(ModelScorer(model), events), (CUTOFF,))["NDCG"][CUTOFF]


def _without(sequences: Sequences, users: NDArray[np.int64]) -> Sequences:
    """Returns the sequences with the validation events of `users` held out."""
    theirs = np.isin(sequences.event_users, users) & (sequences.split == VALIDATION)
    return replace(sequences, split=np.where(theirs, TEST, sequences.split).astype(np.int8))
