"""What a GPU and the compiler change: nothing but rounding. Without a GPU only the latter runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.checkpoint import load_model, save_model
from model.config import load_preset
from model.data.sequences import TEST
from model.network.encoder import Encoder
from model.scoring.model_scorer import CandidateScorer, ModelScorer
from model.scoring.ranking import rank_all, rank_candidates, rank_sampled, sample_candidates
from model.scoring.top_k import recommend, recommend_domains
from model.training.objective import Objective
from model.training.processes import ProcessGroup, alone
from model.training.trainer import FitResult, fit
from tests.model.conftest import Shop

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
NO_DROPOUT: dict[str, object] = {"dropout": 0.0, "blocks": 1}
LIKE_BEST: dict[str, object] = {
    "ensemble_size": 2,
    "scoring": "cosine",
    "global_correction": True,
    "memory_events": 3,
    "memory_neighbours": 4,
}
SOFTMAX_TWICE: dict[str, object] = {
    "loss": "softmax",
    "negatives": 5,
    "r_drop_weight": 2.0,
    "refit": True,
}


def fitted(
    shop: Shop,
    process_group: ProcessGroup,
    folder: Path | None = None,
    model: dict[str, object] | None = None,
    compiled: bool = False,
    **train: object,
) -> FitResult:
    config = shop.config(NO_DROPOUT | (model or {}), train)
    return fit(
        shop.sequences,
        shop.tables,
        config,
        shop.profiles,
        folder,
        process_group=process_group,
        compiled=compiled,
    )


def losses(result: FitResult) -> list[float]:
    return [report.loss for report in result.history]


@pytest.mark.parametrize("preset", ["paper", "best"])
def test_a_thread_in_training_is_one_graph_to_the_compiler(preset: str) -> None:
    changes: dict[str, object] = {"hidden": 8, "max_length": 5}
    thread = Encoder(load_preset(preset, {"model": changes}).model).train()
    vectors, is_padding = torch.randn(2, 4, 8), torch.zeros(2, 4, dtype=torch.bool)
    torch.compiler.reset()
    traced = torch._dynamo.explain(thread)(vectors, is_padding)
    assert (traced.graph_count, traced.graph_break_count) == (1, 0)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_threads_learn_the_same(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the tracer alone, not the C++ compiler behind it, which would take minutes."""
    compiled: list[bool] = []
    plain = Encoder.compile

    def traced(encoder: Encoder, *, dynamic: bool) -> None:
        compiled.append(dynamic)
        plain(encoder, dynamic=dynamic, backend="eager")

    monkeypatch.setattr(Encoder, "compile", traced)
    result = fitted(shop, ProcessGroup(), compiled=True, max_epochs=1)
    assert compiled == [True, True, True]
    assert losses(result) == pytest.approx(
        losses(fitted(shop, ProcessGroup(), max_epochs=1)), rel=1e-4
    )
    save_model(tmp_path, result.model, shop.config(NO_DROPOUT), ("domain0", "domain1"))
    loaded, _ = load_model(tmp_path)
    assert loaded.state_dict().keys() == result.model.state_dict().keys()


def test_training_attends_without_cudnn_and_leaves_the_callers_choice_alone(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a GPU in half precision spends most of an epoch on planning for new shapes."""
    during: list[bool] = []
    plain = Objective.loss

    def watched(objective: Objective, *arguments: Any) -> torch.Tensor:
        during.append(torch.backends.cuda.cudnn_sdp_enabled())
        return plain(objective, *arguments)

    monkeypatch.setattr(Objective, "loss", watched)
    before = torch.backends.cuda.cudnn_sdp_enabled()
    fitted(shop, ProcessGroup(), max_epochs=1)
    assert before
    assert set(during) == {False}
    assert torch.backends.cuda.cudnn_sdp_enabled() == before


@needs_gpu
@pytest.mark.parametrize("table_update", ["dense", "lazy"])
@pytest.mark.parametrize(
    ("model", "train"), [({}, {}), (LIKE_BEST, SOFTMAX_TWICE)], ids=["paper", "best"]
)
def test_a_gpu_learns_what_a_cpu_does(
    shop: Shop, table_update: str, model: dict[str, object], train: dict[str, object]
) -> None:
    on_gpu, on_cpu = (
        fitted(shop, process_group, model=model, table_update=table_update, **train)  # pyright: ignore[reportArgumentType]
        for process_group in (alone("cuda"), ProcessGroup())
    )
    assert losses(on_gpu) == pytest.approx(losses(on_cpu), rel=1e-3)


@needs_gpu
def test_compiled_threads_learn_on_a_gpu_with_dropout(shop: Shop) -> None:
    result = fitted(shop, alone("cuda"), model={"dropout": 0.3}, compiled=True, max_epochs=2)
    assert np.isfinite(losses(result)).all()


@needs_gpu
@pytest.mark.parametrize("changes", [{}, LIKE_BEST], ids=["paper", "best"])
def test_ranking_on_a_gpu_gives_the_ranks_of_the_cpu(
    shop: Shop, changes: dict[str, object]
) -> None:
    model, prefixes = shop.model(changes), shop.sequences.prefixes_of_split(TEST)
    if model.memory is not None:
        model.memory.learn(shop.sequences.training())
    candidates = sample_candidates(shop.sequences, prefixes, 9, seed=1)
    # Without a history all scores are 0, and each device has its own order of equal items.
    users = np.flatnonzero(np.diff(shop.sequences.offsets))
    found = []
    for device in ("cpu", "cuda"):
        model.to(device)
        scorer = ModelScorer(model)
        found.append(
            [
                rank_all(scorer, prefixes).greater.tolist(),
                rank_sampled(scorer, prefixes, candidates).greater.tolist(),
                rank_candidates(CandidateScorer(model), prefixes, candidates).greater.tolist(),
                recommend(scorer, shop.sequences, users, 1, 5).items.tolist(),
                [
                    best.items.tolist()
                    for best in recommend_domains(scorer, shop.sequences, users, [0, 1], 5).values()
                ],
            ]
        )
    assert found[0] == found[1]


@needs_gpu
def test_a_run_on_a_gpu_resumes_with_its_dropout_and_average(shop: Shop, tmp_path: Path) -> None:
    changes = {"model": {"dropout": 0.3}, "averaging": 0.9}
    whole = fitted(shop, alone("cuda"), max_epochs=4, **changes)  # pyright: ignore[reportArgumentType]
    fitted(shop, alone("cuda"), tmp_path, max_epochs=2, **changes)  # pyright: ignore[reportArgumentType]
    resumed = fitted(shop, alone("cuda"), tmp_path, max_epochs=4, **changes)  # pyright: ignore[reportArgumentType]
    assert losses(resumed) == pytest.approx(losses(whole), rel=1e-3)


@needs_gpu
def test_bfloat16_on_a_gpu_stays_close(shop: Shop) -> None:
    short = fitted(shop, alone("cuda"), precision="bfloat16", max_epochs=1)
    assert losses(short) == pytest.approx(
        losses(fitted(shop, ProcessGroup(), max_epochs=1)), rel=0.05
    )


@needs_gpu
def test_training_on_a_gpu_leaves_the_callers_random_state_alone(shop: Shop) -> None:
    torch.cuda.manual_seed(4)
    wanted = torch.rand(3, device="cuda")
    torch.cuda.manual_seed(4)
    fitted(shop, alone("cuda"), max_epochs=1)
    assert torch.equal(torch.rand(3, device="cuda"), wanted)
