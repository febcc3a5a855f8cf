"""Processes of several machines resume from one checkpoint, the leading process's own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model.checkpoint import read_tensors
from model.training.trainer import STATE_FILE, fit
from tests.model.conftest import Shop
from tests.model.training.same_fit import (
    EVERYTHING,
    MODEL,
    ROOT,
    assert_same_fit,
    fitted_alone,
)

EPOCHS = 12
TRAIN = {**EVERYTHING, "averaging": 0.9, "max_epochs": EPOCHS, "patience": EPOCHS}


class Node:
    """One machine of two: a process as torchrun starts it, with a disk of its own."""

    def __init__(self, rank: int, port: int, folder: Path, train: dict[str, object]) -> None:
        self.disk = folder / f"disk{rank}"
        self.disk.mkdir(exist_ok=True)
        wanted = self.disk / "wanted.json"
        wanted.write_text(json.dumps({"fit": train}))
        program = str(ROOT / "tests/model/training/group_process.py")
        self.process = subprocess.Popen(
            [sys.executable, program, str(wanted), str(folder), str(self.disk)],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
                "OMP_NUM_THREADS": "1",
                "GLOO_SOCKET_IFNAME": "lo",
                "TORCHELASTIC_RUN_ID": "test",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "LOCAL_RANK": "0",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def state(self) -> Path:
        return self.disk / "fit.checkpoints" / STATE_FILE

    def end(self) -> str:
        said, _ = self.process.communicate(timeout=120)
        return said


def two_nodes(folder: Path, *trains: dict[str, object]) -> list[Node]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [Node(rank, port, folder, train) for rank, train in enumerate(trains)]


def kill(nodes: list[Node]) -> None:
    for node in nodes:
        node.process.send_signal(signal.SIGKILL)
    for node in nodes:
        node.end()


def kill_after_an_epoch(nodes: list[Node]) -> int:
    while not nodes[0].state.exists():
        assert all(node.process.poll() is None for node in nodes)
        time.sleep(0.01)
    kill(nodes)
    _, facts = read_tensors(nodes[0].state)
    history = facts["history"]
    assert isinstance(history, list)
    return len(history)


def killed_half_way(tmp_path: Path) -> tuple[Path, list[Node]]:
    """On a busy machine a training may end before it is killed: then another one begins."""
    for attempt in range(5):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        begun = two_nodes(folder, TRAIN, TRAIN)
        if 0 < kill_after_an_epoch(begun) < EPOCHS:
            return folder, begun
    raise AssertionError("five trainings ended before they were killed")


@pytest.mark.parametrize("second_disk", ["empty", "older"])
def test_two_machines_that_were_killed_end_with_the_weights_of_an_undisturbed_training(
    shop: Shop, tmp_path: Path, second_disk: str
) -> None:
    folder, begun = killed_half_way(tmp_path)
    assert not begun[1].state.exists(), "only the leading process saves"
    if second_disk == "older":
        begun[1].state.parent.mkdir()
        old = shop.config(MODEL, {**TRAIN, "max_epochs": 1})
        fit(shop.sequences, shop.tables, old, shop.profiles, begun[1].state.parent)
    again = two_nodes(folder, TRAIN, TRAIN)
    said = [node.end() for node in again]
    assert [node.process.returncode for node in again] == [0, 0], said
    assert_same_fit(shop, folder, "fit", fitted_alone(shop, TRAIN))


def test_a_machine_with_another_configuration_is_refused_by_all(tmp_path: Path) -> None:
    nodes = two_nodes(tmp_path, TRAIN, {**TRAIN, "learning_rate": 0.02})
    for node in nodes:
        said = node.end()
        assert node.process.returncode == 1
        assert "differ in data or configuration" in said


def test_a_leading_machine_with_a_foreign_checkpoint_ends_all(tmp_path: Path) -> None:
    kill_after_an_epoch(two_nodes(tmp_path, TRAIN, TRAIN))
    other = {**TRAIN, "learning_rate": 0.02}
    for node in two_nodes(tmp_path, other, other):
        said = node.end()
        assert node.process.returncode == 1
        assert "belongs to other data or another configuration" in said
