"""What several profile artifacts and answers across domains bring, on one withheld-domain split.

Profiles and answers must have been made from the dataset that is measured, so that they saw neither
withheld domains nor held-out events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import typer
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from artifacts.kinds.item_vectors import read_item_embeddings
from artifacts.kinds.user_profiles import read_profile_vectors
from artifacts.manifest import ArtifactRef, Kind
from artifacts.store import Store
from model.config import TriThreadConfig
from model.data.sequences import COLD_TEST, TEST, VALIDATION, Prefixes, Sequences
from model.data.tables import AnswerVectors, ItemTables, ProfileVectors
from model.network.tri_thread import TriThread
from model.scoring.cold_domain_metrics import ALL_NDCG, ANY_HIT, FIRST_HIT, ColdGains, measure_cold
from model.scoring.model_scorer import ModelScorer
from model.scoring.ranking import expected_gains, rank_all
from model.training.crossing_fit import add_votes, fitted_weight
from model.training.processes import alone
from model.training.trainer import fit
from tasks.ablation.differences import (
    CUTOFF,
    GROUPS,
    NEW_TO_DOMAIN,
    Gains,
    Inputs,
    PairedGains,
    gains,
    gains_of_model,
)
from tasks.ablation.sample import VALIDATION_SHARE, Sample
from tasks.frame.model_inputs import load_crossings

TRIED_WEIGHTS = (2.0, 6.0)
"""Of the votes beside the fitted weight, which may be 0."""


@dataclass(frozen=True)
class Arms:
    """The artifacts to compare, by the names they have in the table."""

    profiles: dict[str, ProfileVectors]
    crossings: dict[str, AnswerVectors]
    items: NDArray[np.float32]  # (V + 1, width) embeddings, not projected

    @classmethod
    def read(
        cls,
        store: Store,
        parts: Mapping[str, ArtifactRef],
        profiles: Sequence[str],
        crossings: Sequence[str],
    ) -> Self:
        """Reads artifacts given as NAME=FINGERPRINT."""
        vectors, answers = {}, {}
        for name, ref in _named(profiles, Kind.USER_PROFILES):
            vectors[name] = ProfileVectors(*read_profile_vectors(store, ref))
        for name, ref in _named(crossings, Kind.CROSSING_ANSWERS):
            found = load_crossings(store, ref, parts["tables"])
            if found is None:
                raise typer.BadParameter(f"{ref} holds no answer")
            answers[name] = found
        items = read_item_embeddings(store, parts["embeddings"]).vectors
        return cls(vectors, answers, items)

    @property
    def are_given(self) -> bool:
        return bool(self.profiles or self.crossings)

    def measured(
        self,
        sample: Sample,
        tables: ItemTables,
        config: TriThreadConfig,
        seed: int,
        device: str,
    ) -> list[PairedGains]:
        """Returns the gains with each artifact and without it."""
        whole = Inputs(tables, None, config)
        model = fit(sample.sequences, tables, config, process_group=alone(device)).model
        plain = gains_of_model(model, sample)
        random = {
            f"{name}, shuffled": shuffled(each, seed) for name, each in self.crossings.items()
        }
        return [
            *nearest_arms(sample, self.profiles, self.items),
            *crossing_arms(sample, model, {**self.crossings, **random}),
            *profile_arms(sample, whole, plain, self.profiles, device),
        ]


def _named(given: Sequence[str], kind: Kind) -> list[tuple[str, ArtifactRef]]:
    pairs = [text.rpartition("=") for text in given]
    return [(name, ArtifactRef(kind=kind, fingerprint=found)) for name, _, found in pairs]


def own_split(sequences: Sequences, seed: int) -> Sample:
    """Returns all users of a withheld-domain split; most of its validation events are measured."""
    validated = sequences.split == VALIDATION
    measured = np.random.default_rng(seed).random(len(validated)) >= VALIDATION_SHARE
    split = np.where(validated & measured, TEST, sequences.split).astype(np.int8)
    users = np.arange(sequences.user_count)
    return Sample(replace(sequences, split=split), users, len(users))


def profile_arms(
    sample: Sample, whole: Inputs, plain: Gains, arms: dict[str, ProfileVectors], device: str
) -> list[PairedGains]:
    """Returns the gains with each arm's profiles and without any, of the users whom it profiles."""
    asked = sample.sequences.prefixes_of_split(TEST).users
    new = np.unique(sample.sequences.prefixes_of_withheld(COLD_TEST).users)
    found = []
    for name, profiles in arms.items():
        with_them = gains(sample, replace(whole, profiles=profiles), device)
        for group in (*GROUPS.values(), NEW_TO_DOMAIN):
            users = new if group == NEW_TO_DOMAIN else asked
            rows = profiles.has_profile[users] & ~np.isnan(plain[group])
            found.append(PairedGains(name, group, with_them[group][rows], plain[group][rows]))
    return found


def crossing_arms(
    sample: Sample, model: TriThread, arms: dict[str, AnswerVectors]
) -> list[PairedGains]:
    """Returns the gains of users new to a domain with the votes of each arm's answers and without:
    at the weight that validation chooses, and at fixed ones."""
    withheld = sample.sequences.prefixes_of_withheld(COLD_TEST)
    without = measure_cold(ModelScorer(model), withheld)
    found = []
    for name, answers in arms.items():
        chosen = fitted_weight(model, sample.sequences, answers)
        for weight in (chosen, *TRIED_WEIGHTS):
            bridge = model.bridge
            if bridge is None:
                continue
            if weight:
                add_votes(model, answers, weight)
            voted = measure_cold(ModelScorer(model), withheld)
            bridge.votes = None
            how = f"weight {weight:g}" if weight is not chosen else "fitted weight"
            found += _paired(f"{name}, {how}", voted, without)
    return found


def shuffled(answers: AnswerVectors, seed: int) -> AnswerVectors:
    """Returns answers to other questions of the same direction: what a vote brings that says
    nothing of the history."""
    rng = np.random.default_rng(seed)
    answer_of = answers.answer_of.copy()
    for row in answer_of:
        used = np.unique(row[row > 0])
        place = np.zeros(len(answers.vectors), np.int32)
        place[used] = rng.permutation(used)
        row[:] = place[row]
    return AnswerVectors(answers.vectors, answer_of)


class NearestToText:
    """Ranks the items of a domain by the cosine of their text with a vector of the user."""

    def __init__(self, users: NDArray[np.float32], items: NDArray[np.float32]) -> None:
        self.users, self.items = _unit(users), _unit(items)

    def score(self, prefixes: Prefixes, domain: int) -> Tensor:
        low, high = prefixes.sequences.domain_starts[domain : domain + 2].tolist()
        return from_numpy(self.users[prefixes.users] @ self.items[low + 1 : high + 1].T)


def nearest_arms(
    sample: Sample, arms: dict[str, ProfileVectors], items: NDArray[np.float32]
) -> list[PairedGains]:
    """Returns the gains of ranking by the profile's text alone, and by the mean text of the
    history, of users with a profile: what a style says that matches items, before any training."""
    known = sample.sequences
    is_read = known.split < VALIDATION
    texts = np.zeros((known.user_count, items.shape[1]), np.float32)
    np.add.at(texts, known.event_users[is_read], _unit(items)[known.items[is_read]])
    found = []
    for name, profiles in arms.items():
        for group, asked in (
            ("all", known.prefixes_of_split(TEST)),
            (NEW_TO_DOMAIN, known.prefixes_of_withheld(COLD_TEST)),
        ):
            rows = asked.select(np.flatnonzero(profiles.has_profile[asked.users]))
            pair = [
                _values(NearestToText(vectors, items), rows, group)
                for vectors in (profiles.vectors, texts)
            ]
            found.append(PairedGains(f"{name}, text alone", group, *pair))
    return found


def _values(scorer: NearestToText, rows: Prefixes, group: str) -> NDArray[np.float64]:
    if group == NEW_TO_DOMAIN:
        return measure_cold(scorer, rows).values[ALL_NDCG]
    return expected_gains(rank_all(scorer, rows), (CUTOFF,))["NDCG"][CUTOFF]


def _paired(name: str, voted: ColdGains, without: ColdGains) -> list[PairedGains]:
    return [
        PairedGains(name, metric, voted.values[metric], without.values[metric])
        for metric in (ANY_HIT, ALL_NDCG, FIRST_HIT)
    ]


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
