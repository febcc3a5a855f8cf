from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoint import CheckpointError, load_model, save_model, write_tensors
from model.scoring.model_scorer import ModelScorer
from tests.model.conftest import Shop


def test_a_loaded_model_scores_exactly_like_the_saved_one(shop: Shop, tmp_path: Path) -> None:
    model = shop.model()
    save_model(tmp_path, model, shop.config(), shop.sequences.domain_names)
    loaded, card = load_model(tmp_path)
    prefixes = shop.sequences.prefixes_of_users(np.arange(23))
    for domain in range(2):
        wanted = ModelScorer(model).score(prefixes, domain)
        assert torch.equal(ModelScorer(loaded).score(prefixes, domain), wanted)
    assert card.config == shop.config()
    assert card.domain_names == ("domain0", "domain1")


def test_the_memory_travels_with_the_model(shop: Shop, tmp_path: Path) -> None:
    model = shop.model({"memory_events": 3, "memory_neighbours": 4, "ensemble_size": 2})
    assert model.memory is not None
    model.memory.learn(shop.sequences.training())
    save_model(
        tmp_path,
        model,
        shop.config({"memory_events": 3, "memory_neighbours": 4, "ensemble_size": 2}),
        ("a", "b"),
    )
    loaded, _ = load_model(tmp_path)
    prefixes = shop.sequences.prefixes_of_users(np.arange(23))
    wanted = ModelScorer(model).score(prefixes, 1)
    assert torch.equal(ModelScorer(loaded).score(prefixes, 1), wanted)


def test_a_folder_without_its_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_model(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    write_tensors(path, {"a": torch.ones(2)}, {"epoch": 1})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_tensors(path, {"a": torch.zeros(2)}, {"epoch": object()})
    assert path.read_bytes() == before
