"""Several processes fit the model that one would: with real processes under torchrun, over gloo."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoint import read_tensors
from model.config import TrainConfig
from model.network.tri_thread import TriThread
from model.training.micro_batches import shares
from model.training.objective import Objective
from model.training.processes import NoSuchDeviceError, ProcessGroup, alone
from model.training.trainer import STATE_FILE, fit
from tests.model.conftest import PROFILE_WIDTH, Shop
from tests.model.training.same_fit import (
    EVERYTHING,
    MODEL,
    ROOT,
    assert_same_fit,
    fitted_alone,
    scores_of,
)

WANTED: dict[str, dict[str, object]] = {
    "bce": {**EVERYTHING, "negatives": 2},
    "softmax": {
        **EVERYTHING,
        "loss": "softmax",
        "negatives": 5,
        "averaging": 0.9,
        "r_drop_weight": 0.5,
        "recency": 2.0,
    },
    "lazy": {**EVERYTHING, "table_update": "lazy"},
    "accumulated": {**EVERYTHING, "beta": 0.0, "accumulate": 3, "recency": 2.0},
    "refitted": {**EVERYTHING, "refit": True, "weight_decay": 0.1},
}


def start_team(wanted: dict[str, dict[str, object]], folder: Path) -> subprocess.Popen[str]:
    asked = folder / "wanted.json"
    asked.write_text(json.dumps(wanted))
    rendezvous = ["--nnodes=1", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]
    command = [
        *(sys.executable, "-m", "torch.distributed.run", *rendezvous, "--local-addr=127.0.0.1"),
        *(
            "--nproc-per-node=2",
            str(ROOT / "tests/model/training/group_process.py"),
            str(asked),
            str(folder),
        ),
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def members_of(process: subprocess.Popen[str]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in children.read_text().split()]


def finish(process: subprocess.Popen[str]) -> None:
    try:
        said, _ = process.communicate(timeout=500)
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun then ends its members.
        raise
    assert process.returncode == 0, said


@pytest.fixture(scope="module")
def team_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes made of everything in WANTED."""
    folder = tmp_path_factory.mktemp("team")
    finish(start_team(WANTED, folder))
    return folder


@pytest.mark.parametrize("name", WANTED)
def test_two_processes_fit_the_model_of_one(shop: Shop, team_folder: Path, name: str) -> None:
    assert_same_fit(shop, team_folder, name, fitted_alone(shop, WANTED[name]))


def test_a_team_that_lost_a_member_resumes_where_it_stood(shop: Shop, tmp_path: Path) -> None:
    train = {**EVERYTHING, "max_epochs": 12, "patience": 12}
    state = tmp_path / "killed.checkpoints" / STATE_FILE
    killed = start_team({"killed": train}, tmp_path)
    while not state.exists():
        assert killed.poll() is None
        time.sleep(0.01)
    os.kill(members_of(killed)[-1], signal.SIGKILL)
    killed.communicate(timeout=500)
    assert killed.returncode != 0
    _, facts = read_tensors(state)
    reached = facts["history"]
    assert isinstance(reached, list)
    assert 0 < len(reached) < 12
    finish(start_team({"killed": train}, tmp_path))
    assert_same_fit(shop, tmp_path, "killed", fitted_alone(shop, train))


def test_one_process_goes_on_from_the_checkpoint_of_two(shop: Shop, team_folder: Path) -> None:
    longer = shop.config(MODEL, {**WANTED["bce"], "max_epochs": 5})
    resumed = fit(
        shop.sequences, shop.tables, longer, shop.profiles, team_folder / "bce.checkpoints"
    )
    whole = fitted_alone(shop, {**WANTED["bce"], "max_epochs": 5})
    torch.testing.assert_close(
        scores_of(shop, resumed.model), scores_of(shop, whole.model), rtol=1e-3, atol=1e-3
    )


def gradients(model: TriThread) -> dict[str, torch.Tensor]:
    found = {name: p.grad.to_dense() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize(
    "train",
    [
        {"loss": "bce", "negatives": 3},
        {"loss": "bce", "first_crossing": False},
        {"loss": "softmax", "negatives": 0},
        {"loss": "softmax", "negatives": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize(("processes", "pieces"), [(1, 4), (3, 1), (2, 5), (1, 40)])
def test_the_shares_of_a_batch_add_up_to_its_loss_and_its_gradient(
    shop: Shop, train: dict[str, object], processes: int, pieces: int
) -> None:
    model, users = shop.model(), np.arange(23)
    config: TrainConfig = shop.config(train={**train, "alpha": 0.7}).train
    objective = Objective(model, shop.sequences.training(), config)

    def summed(size: int, micro: int) -> tuple[float, dict[str, torch.Tensor]]:
        total = 0.0
        for rank in range(size):
            rng = np.random.default_rng(8)
            for share in shares(objective, users, ProcessGroup(rank, size), micro, rng):
                loss = objective.loss(share.batch, share.draws, share.whole)
                if loss.requires_grad:
                    loss.backward()
                total += float(loss.detach())
        return total, gradients(model)

    whole_loss, whole = summed(1, 1)
    loss, found = summed(processes, pieces)
    assert loss == pytest.approx(whole_loss, rel=1e-5)
    assert found.keys() == whole.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def test_micro_batches_compare_a_user_with_those_of_the_same_micro_batch(shop: Shop) -> None:
    """The alignment's rule: each micro-batch counts for its share of the users with a profile."""
    model, users = shop.model(), np.arange(23)
    config = shop.config(train={"alpha": 0.0, "beta": 1.0}).train
    objective = Objective(model, shop.sequences.training(), config, shop.profiles)
    plain = Objective(model, shop.sequences.training(), config)
    apart = []
    for share in shares(objective, users, ProcessGroup(), 2, np.random.default_rng(8)):
        both = objective.loss(share.batch, share.draws, share.whole)
        next_item = plain.loss(share.batch, share.draws, share.whole)
        weight = objective.counts(share.batch).profiles / share.whole.profiles
        alone_loss = objective.loss(share.batch, share.draws) - plain.loss(share.batch, share.draws)
        apart.append(((both - next_item).item(), weight * alone_loss.item()))
    assert len(apart) == 2
    for got, wanted in apart:
        assert got == pytest.approx(wanted, rel=1e-4)


def test_every_row_belongs_to_exactly_one_process() -> None:
    rows = [row for rank in range(3) for row in ProcessGroup(rank, 3).share_of(11)]
    assert sorted(rows) == list(range(11))


@pytest.mark.parametrize("name", ["gpu", "cuda:7"])
def test_a_device_that_is_not_there_is_refused_by_name(name: str) -> None:
    with pytest.raises(NoSuchDeviceError, match=name):
        alone(name)


@pytest.mark.parametrize(
    ("gpus", "said"), [(0, "sees 0; use --device auto or cpu"), (1, "sees 1; name another")]
)
def test_a_missing_gpu_is_told_with_the_way_out(
    gpus: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(NoSuchDeviceError, match=said):
        alone("cuda:3")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_auto_is_the_cpu_where_there_is_no_gpu() -> None:
    assert alone("auto").device.type == "cpu"


def test_the_shop_has_profiles_so_that_the_alignment_is_really_compared(shop: Shop) -> None:
    assert shop.profiles.vectors.shape[1] == PROFILE_WIDTH
    assert 2 <= shop.profiles.has_profile.sum() < 23
