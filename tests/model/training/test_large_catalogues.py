"""A large catalogue is trained without what would walk through, or copy, its tables."""

from pathlib import Path

import pytest
import torch

from model.config import load_preset
from model.training import large_catalogues
from model.training.large_catalogues import LARGE_CATALOGUE, changes_for, for_catalogue
from model.training.processes import ProcessGroup
from model.training.table_memory import table_memory
from model.training.trainer import STATE_FILE, fit
from model.training.training_state import TrainingState
from tests.model.conftest import Shop


def test_a_smaller_catalogue_is_trained_as_configured() -> None:
    config = load_preset("single")
    assert for_catalogue(config, LARGE_CATALOGUE - 1) is config
    assert changes_for(config, LARGE_CATALOGUE - 1) == []


def test_a_large_one_is_updated_lazily_without_bridge_and_co_occurrences_and_says_so() -> None:
    config = load_preset("single")
    made = for_catalogue(config, LARGE_CATALOGUE)
    assert (made.train.table_update, made.model.bridge_factors) == ("lazy", 0)
    assert made.model.memory_neighbours == 0
    lazily, bridge, successions = changes_for(config, LARGE_CATALOGUE)
    assert "updated lazily" in lazily
    assert "no bridge" in bridge
    assert "no co-occurrences" in successions
    others = made.model_copy(
        update={
            "train": made.train.model_copy(update={"table_update": "dense"}),
            "model": made.model.model_copy(update={"bridge_factors": 64, "memory_neighbours": 50}),
        }
    )
    assert others == config, "nothing else is changed"


def test_a_table_update_that_was_chosen_stays() -> None:
    config = load_preset("paper", {"train": {"table_update": "dense"}})
    assert for_catalogue(config, 10 * LARGE_CATALOGUE).train.table_update == "dense"
    assert changes_for(config, 10 * LARGE_CATALOGUE) == []


def test_a_large_catalogue_keeps_no_second_table_in_memory_and_counts_the_bridge() -> None:
    small = table_memory(LARGE_CATALOGUE - 1, 384, load_preset("single"))
    large = table_memory(LARGE_CATALOGUE, 384, load_preset("single"))
    assert small.bridge == LARGE_CATALOGUE * 4 * (64 + 128 + 64 + 65)
    assert small.copies == 2 * small.trainable
    assert (large.bridge, large.copies, large.gradients) == (0, 0, 0)
    assert large.total < 0.6 * small.total


LAZY: dict[str, object] = {"table_update": "lazy", "averaging": 0.9, "max_epochs": 4}


def test_averages_leave_lazily_updated_tables_out(shop: Shop, tmp_path: Path) -> None:
    config = shop.config(train=LAZY)
    model = shop.model()
    state = TrainingState(model, config.train, "test", tmp_path)
    table = model.local_table.weight
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    state.follow()
    before = table.clone()
    network = model.adapter.first.weight.clone()
    with state.validated_weights():
        assert torch.equal(table, before)
        assert not torch.equal(model.adapter.first.weight, network)
    assert torch.equal(model.adapter.first.weight, network)


def test_the_best_tables_lie_in_a_file_without_a_name_and_come_back(
    shop: Shop, tmp_path: Path
) -> None:
    model = shop.model()
    state = TrainingState(model, shop.config(train=LAZY).train, "test", tmp_path)
    assert not list(tmp_path.iterdir())
    table = model.local_table.weight
    best = table.detach().clone()
    with torch.no_grad():
        table.add_(5.0)
        kept = state.best_weights["local_table.weight"]
        assert torch.equal(kept, best)
        state.keep_as_best()
        assert torch.equal(kept, table)


@pytest.mark.parametrize("kill_at", [1, 3])
def test_a_killed_run_of_a_large_catalogue_ends_as_an_undisturbed_one(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> None:
    monkeypatch.setattr(large_catalogues, "LARGE_CATALOGUE", 2)
    config = shop.config({"bridge_factors": 4}, {"averaging": 0.9, "max_epochs": 5})

    class KilledError(Exception):
        pass

    def kill(report: object) -> None:
        if getattr(report, "epoch", None) == kill_at:
            raise KilledError

    whole = fit(shop.sequences, shop.tables, config, shop.profiles)
    assert whole.model.bridge is None
    with pytest.raises(KilledError):
        fit(shop.sequences, shop.tables, config, shop.profiles, tmp_path, kill)
    assert (tmp_path / STATE_FILE).exists()
    resumed = fit(shop.sequences, shop.tables, config, shop.profiles, tmp_path)
    for name, weights in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], weights), name


def test_a_step_touches_only_the_rows_of_its_batch(shop: Shop) -> None:
    model = shop.model()
    state = TrainingState(model, shop.config(train=LAZY).train, "test")
    table = model.local_table.weight
    before = table.detach().clone()
    table.grad = torch.sparse_coo_tensor(
        torch.tensor([[3]]), torch.ones(1, 8), table.shape, check_invariants=True
    )
    state.optimizers.step(ProcessGroup())
    state.follow()
    changed = (table.detach() != before).any(1).nonzero().flatten()
    assert changed.tolist() == [3]
