import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoint import CheckpointError, read_tensors
from model.config import ModelConfig, TrainConfig, TriThreadConfig
from model.data.batches import batch_count
from model.data.sequences import TEST, sequences_from_lists
from model.data.tables import ItemTables
from model.network.tri_thread import TriThread
from model.scoring.model_scorer import ModelScorer
from model.scoring.ranking import rank_all, ranking_metrics
from model.training.trainer import (
    STATE_FILE,
    DivergedError,
    EpochReport,
    FitResult,
    NothingToLearnError,
    WidthError,
    fit,
)
from model.training.training_state import TrainingState
from tests.model.conftest import Shop


class Killed(BaseException):
    """Stands for the end of the process."""


def weights(result: FitResult) -> dict[str, torch.Tensor]:
    return dict(result.model.state_dict())


def same(left: FitResult, right: FitResult) -> bool:
    return all(torch.equal(weights(left)[name], t) for name, t in weights(right).items())


def outcomes(result: FitResult) -> list[tuple[int, float, float, bool]]:
    return [(r.epoch, r.loss, r.validation_ndcg, r.is_best) for r in result.history]


def test_the_same_seed_gives_the_same_weights_and_another_seed_does_not(shop: Shop) -> None:
    first, again = (
        fit(shop.sequences, shop.tables, shop.config(), shop.profiles) for _ in range(2)
    )
    other = fit(shop.sequences, shop.tables, shop.config(train={"seed": 1}), shop.profiles)
    assert same(first, again)
    assert outcomes(first) == outcomes(again)
    assert not same(first, other)


def test_training_leaves_the_callers_random_state_alone(shop: Shop) -> None:
    torch.manual_seed(4)
    wanted = torch.rand(3)
    torch.manual_seed(4)
    fit(shop.sequences, shop.tables, shop.config(train={"max_epochs": 1}))
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize(
    "train",
    [{}, {"weight_decay": 0.1, "averaging": 0.9}, {"table_update": "lazy"}],
    ids=["adam", "adamw_averaged", "lazy"],
)
def test_a_killed_run_resumes_and_ends_like_an_uninterrupted_one(
    shop: Shop, tmp_path: Path, train: dict[str, object]
) -> None:
    config = shop.config(train={"max_epochs": 4, **train})
    wanted = fit(shop.sequences, shop.tables, config, shop.profiles)

    def kill_after_two(report: EpochReport) -> None:
        if report.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        fit(shop.sequences, shop.tables, config, shop.profiles, tmp_path, kill_after_two)
    seen: list[int] = []
    resumed = fit(
        shop.sequences, shop.tables, config, shop.profiles, tmp_path, lambda r: seen.append(r.epoch)
    )
    assert seen == [3, 4]
    assert outcomes(resumed) == outcomes(wanted)
    assert same(resumed, wanted)


def test_a_checkpoint_of_another_configuration_is_refused(shop: Shop, tmp_path: Path) -> None:
    fit(shop.sequences, shop.tables, shop.config(train={"max_epochs": 1}), None, tmp_path)
    with pytest.raises(CheckpointError, match="another configuration"):
        fit(shop.sequences, shop.tables, shop.config(train={"seed": 9}), None, tmp_path)


def test_more_epochs_continue_a_finished_run(shop: Shop, tmp_path: Path) -> None:
    fit(shop.sequences, shop.tables, shop.config(train={"max_epochs": 1}), None, tmp_path)
    longer = shop.config(train={"max_epochs": 3})
    resumed = fit(shop.sequences, shop.tables, longer, None, tmp_path)
    assert same(resumed, fit(shop.sequences, shop.tables, longer))


def test_the_result_has_the_weights_of_the_best_epoch(shop: Shop, tmp_path: Path) -> None:
    config = shop.config(train={"max_epochs": 6, "learning_rate": 0.05})
    result = fit(shop.sequences, shop.tables, config, None, tmp_path)
    tensors, _ = read_tensors(tmp_path / STATE_FILE)
    assert result.best.validation_ndcg == max(r.validation_ndcg for r in result.history)
    assert torch.equal(
        weights(result)["adapter.first.weight"], tensors["best.adapter.first.weight"]
    )


@pytest.mark.parametrize(("steps", "epochs"), [(0, 3), (13, 8)])
def test_patience_counts_validations_and_steps(shop: Shop, steps: int, epochs: int) -> None:
    stuck = {"learning_rate": 1e-12, "patience": 2, "max_epochs": 50}
    config = shop.config(train={**stuck, "patience_steps": steps})
    assert batch_count(shop.sequences.training(), config.train.batch_size) == 2
    result = fit(shop.sequences, shop.tables, config)
    assert (result.stopped, result.best.epoch, len(result.history)) == ("patience", 1, epochs)


def test_a_refit_trains_as_long_as_was_best_and_also_on_validation_events(shop: Shop) -> None:
    config = shop.config(train={"refit": True, "max_epochs": 5})
    result = fit(shop.sequences, shop.tables, config)
    again = [report for report in result.history if report.phase == "refit"]
    assert len(again) == result.best.epoch
    by_hand = fit(
        shop.sequences.with_validation_in_training(),
        shop.tables,
        shop.config(train={"max_epochs": result.best.epoch}),
    )
    assert same(result, by_hand)


def test_a_run_killed_in_its_refit_resumes_there(shop: Shop, tmp_path: Path) -> None:
    config = shop.config(train={"refit": True, "averaging": 0.9})
    wanted = fit(shop.sequences, shop.tables, config)

    def kill(report: EpochReport) -> None:
        if report.phase == "refit":
            raise Killed

    with pytest.raises(Killed):
        fit(shop.sequences, shop.tables, config, None, tmp_path, kill)
    resumed = fit(shop.sequences, shop.tables, config, None, tmp_path)
    assert same(resumed, wanted)
    assert [r.loss for r in resumed.history] == [r.loss for r in wanted.history]


def test_without_validation_events_the_last_epoch_is_kept(shop: Shop) -> None:
    sequences = replace(shop.sequences, split=np.zeros_like(shop.sequences.split))
    result = fit(sequences, shop.tables, shop.config())
    assert (result.stopped, result.best.epoch) == ("max_epochs", 3)


def test_validation_reads_the_average_and_gives_the_weights_back(shop: Shop) -> None:
    config = shop.config(train={"averaging": 0.9})
    state = TrainingState(shop.model(), config.train, "test")
    first = state.model.adapter.first.weight.detach().clone()
    with torch.no_grad():
        state.model.adapter.first.weight.add_(1.0)
    with state.validated_weights():
        assert torch.equal(state.model.adapter.first.weight, first)
        state.keep_as_best()
    assert torch.equal(state.model.adapter.first.weight, first + 1.0)
    state.follow()
    torch.testing.assert_close(state._average["adapter.first.weight"], first + 0.1)  # pyright: ignore[reportOptionalSubscript]
    assert torch.equal(state.best_weights["adapter.first.weight"], first)


def test_a_refit_has_the_room_of_the_search(shop: Shop) -> None:
    models: list[int] = []

    def count(report: EpochReport) -> None:
        if report.phase == "refit":
            gc.collect()
            models.append(sum(type(each) is TriThread for each in gc.get_objects()))

    before = sum(type(each) is TriThread for each in gc.get_objects())
    config = shop.config({"memory_events": 3}, {"refit": True})
    fit(shop.sequences, shop.tables, config, on_epoch=count)
    assert set(models) == {before + 1}


def test_a_model_of_another_width_than_its_tables_is_told_both(shop: Shop) -> None:
    with pytest.raises(WidthError, match=r"model\.hidden=16.*width 8"):
        fit(shop.sequences, shop.tables, shop.config({"hidden": 16}))


def test_a_time_limit_ends_the_run_after_the_epoch(shop: Shop) -> None:
    config = shop.config(train={"max_seconds": 1e-9, "max_epochs": 50})
    result = fit(shop.sequences, shop.tables, config)
    assert (result.stopped, len(result.history)) == ("max_seconds", 1)
    assert not np.isnan(result.best.validation_ndcg)


def test_divergence_is_an_error(shop: Shop) -> None:
    with pytest.raises(DivergedError, match="learning_rate"):
        fit(shop.sequences, shop.tables, shop.config(train={"learning_rate": 1e30}))


def test_histories_of_one_event_are_nothing_to_learn(shop: Shop) -> None:
    starts, names = shop.sequences.domain_starts.tolist(), shop.sequences.domain_names
    with pytest.raises(NothingToLearnError):
        fit(sequences_from_lists([[1], []], starts, names), shop.tables, shop.config())


def test_frozen_tables_stay_as_they_were_and_trainable_ones_do_not(shop: Shop) -> None:
    frozen = fit(shop.sequences, shop.tables, shop.config({"local_tables": "frozen"}))
    trained = fit(shop.sequences, shop.tables, shop.config())
    start = torch.from_numpy(shop.tables.local_table)
    assert torch.equal(frozen.model.local_table.weight, start)
    assert not torch.isclose(trained.model.local_table.weight[1:], start[1:]).all()
    assert not trained.model.local_table.weight[0].any()
    assert torch.equal(trained.model.global_table, torch.from_numpy(shop.tables.global_table))


@pytest.mark.parametrize("loss", ["bce", "softmax"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_rule_of_succession_across_domains_is_learned(loss: str, precision: str) -> None:
    """Item n is followed by n + 1, around all three domains: a model that works ranks it first."""
    lists = [[(start + t) % 15 + 1 for t in range(9)] for start in range(15)] * 4
    sequences = sequences_from_lists(lists, [0, 4, 9, 15], ("a", "b", "c"), held_out=2)
    rng = np.random.default_rng(0)
    tables = ItemTables(one_blank(rng, 20), one_blank(rng, 16))
    config = TriThreadConfig(
        model=ModelConfig.model_validate({"hidden": 16, "dropout": 0.0}),
        train=TrainConfig.model_validate(
            {
                "loss": loss,
                "negatives": 4 if loss == "bce" else 0,
                "precision": precision,
                "learning_rate": 0.01,
                "batch_size": 12,
                "max_epochs": 25,
            }
        ),
    )
    result = fit(sequences, tables, config)
    ranks = rank_all(ModelScorer(result.model), sequences.prefixes_of_split(TEST))
    assert ranking_metrics(ranks, (1,)).hit_rate[1] > 0.9


def one_blank(rng: np.random.Generator, width: int) -> np.ndarray:
    table = rng.normal(scale=0.3, size=(16, width)).astype(np.float32)
    table[0] = 0
    return table
