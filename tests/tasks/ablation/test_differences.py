"""Variants of a model on one sample."""

import numpy as np
import pytest

from artifacts.kinds.ablation import ALL_EVENTS
from model.config import load_preset
from model.data.sequences import Sequences, sequences_from_lists
from model.data.tables import ItemTables, ProfileVectors
from tasks.ablate import ablation_training
from tasks.ablation.differences import (
    NEW_TO_DOMAIN,
    PROFILES,
    TEXTS,
    Inputs,
    ablated,
    differences,
)
from tasks.ablation.sample import draw_sample

TOPICS, PER_TOPIC, WIDTH = 8, 30, 16
ITEMS = TOPICS * PER_TOPIC
WITHOUT_MEMORY = {"memory_events": 0, "memory_neighbours": 0}
"""The transition memory finds the topics in pairs of items, so that texts would add little."""

CONFIG = ablation_training(
    load_preset(
        "single", {"model": {"hidden": WIDTH, "heads": 2, "bridge_factors": 4, **WITHOUT_MEMORY}}
    ),
    8,
)


def shop_of_topics(users: int = 240) -> tuple[Sequences, ItemTables]:
    """Users stay with one topic, items are rarely bought twice, and a text names the topic."""
    rng = np.random.default_rng(0)
    topic_of_item = np.repeat(np.arange(TOPICS), PER_TOPIC)
    topic_of_item = np.concatenate((topic_of_item, topic_of_item))  # both domains
    histories = []
    for user in range(users):
        own = np.flatnonzero(topic_of_item == user % TOPICS) + 1
        histories.append(rng.choice(own, 6, replace=False).tolist())
    texts = rng.standard_normal((TOPICS, WIDTH)).astype(np.float32)[topic_of_item]
    texts += 0.2 * rng.standard_normal(texts.shape).astype(np.float32)
    table = np.concatenate((np.zeros((1, WIDTH), np.float32), texts))
    sequences = sequences_from_lists(histories, (0, ITEMS, 2 * ITEMS), ("one", "two"), held_out=2)
    return sequences, ItemTables(table, table)


def test_texts_that_tell_what_is_bought_next_are_found_to_help() -> None:
    sequences, tables = shop_of_topics()
    sample = draw_sample(sequences, 10_000, None, seed=0)
    found = differences(sample, Inputs(tables, None, CONFIG), seed=0, device="cpu")
    assert found.filter(part=TEXTS, group=ALL_EVENTS)["low"].item() > 0
    assert found["part"].unique().to_list() == [TEXTS]
    assert found.filter(group=NEW_TO_DOMAIN)["events"].item() > 30


def test_profiles_are_measured_on_users_with_a_profile_alone() -> None:
    sequences, tables = shop_of_topics(160)
    sample = draw_sample(sequences, 10_000, None, seed=0)
    rng = np.random.default_rng(1)
    users = len(sample.users)
    profiles = ProfileVectors(
        rng.standard_normal((users, 8)).astype(np.float32), np.arange(users) % 2 == 0
    )
    short = CONFIG.model_copy(update={"train": CONFIG.train.model_copy(update={"max_epochs": 1})})
    found = differences(sample, Inputs(tables, profiles, short), seed=0, device="cpu")
    of_all, of_profiled = (
        int(found.filter(part=part)["events"].sum()) for part in (TEXTS, PROFILES)
    )
    assert 0.3 * of_all < of_profiled < 0.7 * of_all


def test_without_texts_nothing_of_a_text_is_left() -> None:
    _, tables = shop_of_topics()
    inputs = ablated(Inputs(tables, None, CONFIG), seed=0)[TEXTS]
    noise, texts = inputs.tables.global_table[1:], tables.global_table[1:]
    assert (
        abs(float(np.corrcoef((noise @ noise.T).ravel(), (texts @ texts.T).ravel())[0, 1])) < 0.02
    )
    assert inputs.config.model.global_items == "ids"
    assert inputs.config.model.local_start == "random"


@pytest.mark.parametrize("preset", ["best", "large", "paper"])
def test_variants_of_every_preset_are_short_and_single(preset: str) -> None:
    config = ablation_training(load_preset(preset), 12)
    assert (config.model.ensemble_size, config.train.refit) == (1, False)
    assert config.train.max_epochs <= 12
