"""A release of the small shop with an untrained model: everything that is served, made by hand.

The model is an ensemble, and its transition memory holds the shop's events.
"""

import numpy as np
import polars as pl
import torch

from artifacts.bundles import SERVING, bundle
from artifacts.kinds.dataset import read_dataset
from artifacts.kinds.item_vectors import STATUS, EmbeddingStatus, write_item_embeddings
from artifacts.kinds.user_profiles import UserProfiles, write_user_profiles
from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import Store
from model.checkpoint import save_model
from model.config import TriThreadConfig
from model.data.sequences import Sequences
from model.data.tables import AnswerVectors
from model.network.text_similarity import TextSimilarity
from model.network.tri_thread import TriThread
from model.training.bridge_fit import fit_bridge
from model.training.crossing_fit import add_votes
from prompts.render import Language, prompt_version
from tasks.embed import item_texts
from tasks.frame.model_inputs import load_tables, sequences_of
from tasks.llm.answer_all import PROMPT
from tasks.llm.providers.dummy_endpoint import embed_texts
from tasks.llm.providers.dummy_models import EMBEDDING_MODEL
from tasks.project import ProjectConfig, project_items
from tests.tasks.shops.small_shop import SmallShop

HIDDEN = 8
PROFILES = {"ada": "Likes coffee.\nAnd yoga."}


def small_release(
    store: Store,
    seed: int = 3,
    scoring: str = "dot",
    shop: SmallShop | None = None,
    bridged: bool = False,
) -> ArtifactRef:
    """Makes a release, a new one for every seed, and lets the store serve it.

    ``bridged``: the model has a bridge between domains, and votes of answers across them.
    """
    dataset = (shop or SmallShop()).ingested(store)
    embeddings = _embeddings(store, dataset)
    tables = project_items.fn(dataset, embeddings, ProjectConfig(hidden=HIDDEN), store.root).ref
    parts = {"dataset": dataset, "embeddings": embeddings, "tables": tables}
    parts["profiles"] = _profiles(store, dataset)
    parts["model"] = _model(store, dataset, tables, seed, scoring, bridged)
    return bundle(store, Kind.RELEASE, SERVING, parts)


def _embeddings(store: Store, dataset: ArtifactRef) -> ArtifactRef:
    texts = item_texts(read_dataset(store, dataset).items, Language.ENGLISH)[PROMPT].to_list()
    has_text = np.array([False, *map(bool, texts)])
    vectors = np.vstack(
        [np.zeros((1, 384), np.float32), embed_texts([text or "none" for text in texts])]
    )
    vectors[~has_text] = 0
    status = [EmbeddingStatus.EMBEDDED if text else EmbeddingStatus.NO_TEXT for text in texts]
    table = pl.DataFrame(
        {"item_index": range(1, len(vectors)), STATUS: [str(s) for s in status]}
    ).with_columns(pl.lit(None, pl.String).alias("reason"))
    parameters = {
        "model": EMBEDDING_MODEL,
        "parameters": {},
        "language": Language.ENGLISH.value,
        "template": prompt_version(Language.ENGLISH, "item"),
    }
    made = identity(Kind.ITEM_EMBEDDINGS, parameters, {"dataset": dataset})
    with store.create(made) as draft:
        write_item_embeddings(draft.path, vectors, table)
    return made.ref


def _profiles(store: Store, dataset: ArtifactRef) -> ArtifactRef:
    users = read_dataset(store, dataset).users
    chosen = users.filter(pl.col("user_id").is_in(list(PROFILES)))
    profiles = chosen.select("user_index", "user_id").with_columns(
        pl.col("user_id").replace_strict(PROFILES).alias("profile"), pl.lit(False).alias("cut")
    )
    empty = pl.DataFrame({"user_index": [], "cluster": [], "interest": [], "cut": []})
    made = identity(Kind.USER_PROFILES, {}, {"dataset": dataset})
    has_profile = users["user_id"].is_in(list(PROFILES)).to_numpy()
    with store.create(made) as draft:
        write_user_profiles(
            draft.path,
            UserProfiles(
                profiles,
                empty,
                pl.DataFrame({"key": [], "reason": []}),
                np.zeros((users.height, 4), np.float32),
                has_profile,
            ),
        )
    return made.ref


def _model(
    store: Store,
    dataset: ArtifactRef,
    tables: ArtifactRef,
    seed: int,
    scoring: str,
    bridged: bool,
) -> ArtifactRef:
    config = TriThreadConfig.model_validate(
        {
            "model": {
                "hidden": HIDDEN,
                "blocks": 1,
                "max_length": 12,
                "scoring": scoring,
                "ensemble_size": 2,
                "memory_events": 3,
                "memory_neighbours": 4,
                "bridge_factors": 2 if bridged else 0,
                "text_decay": 0.7 if bridged else 0.0,
            }
        }
    )
    sequences = sequences_of(read_dataset(store, dataset))
    torch.manual_seed(seed)
    model = TriThread(load_tables(store, tables), sequences.domain_starts, config.model)
    assert model.memory is not None
    model.memory.learn(sequences)
    if bridged:
        texts = model.global_table
        model.similarity = TextSimilarity.of_texts(model.domain_starts, texts, model.config)
        model.similarity.gain.fill_(0.5)
        fit_bridge(model, sequences, seed)
        add_votes(model, _answers(sequences, model.global_table.shape[1]), 3.0)
    made = identity(Kind.MODEL, {"seed": seed, "scoring": scoring}, {"tables": tables})
    with store.create(made) as draft:
        save_model(draft.path, model, config, sequences.domain_names)
    return made.ref


def _answers(sequences: Sequences, width: int) -> AnswerVectors:
    """An answer of its own for each item, towards every domain but its own."""
    items = np.arange(1, sequences.item_count + 1)
    answer_of = np.zeros((sequences.domain_count, len(items) + 1), np.int32)
    for domain, row in enumerate(answer_of):
        row[1:] = np.where(sequences.domain_of(items) == domain, 0, items)
    vectors = np.random.default_rng(2).normal(size=(len(items) + 1, width)).astype(np.float32)
    vectors[0] = 0
    return AnswerVectors(vectors, answer_of)
