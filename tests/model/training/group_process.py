"""One process of a group, started by torchrun: fits as a JSON file says, writes the result.

torchrun --nproc-per-node 2 tests/model/training/group_process.py WANTED.json FOLDER

Checkpoints lie in FOLDER, or below DISK where a third argument names one of this process's own.
"""

import json
import os
import sys
import traceback
from dataclasses import asdict
from pathlib import Path

import torch

from model.checkpoint import write_tensors
from model.training.processes import ProcessGroup, open_process_group
from model.training.trainer import fit
from tests.model.conftest import small_shop


def main(wanted: Path, folder: Path, disk: Path) -> None:
    with open_process_group("cpu") as process_group:
        for name, train in json.loads(wanted.read_text()).items():
            _fit(name, train, folder, disk, process_group)


def _fit(
    name: str, train: dict[str, object], folder: Path, disk: Path, process_group: ProcessGroup
) -> None:
    shop = small_shop()
    checkpoints = disk / f"{name}.checkpoints"
    config = shop.config({"dropout": 0.0, "blocks": 1}, train)
    result = fit(
        shop.sequences, shop.tables, config, shop.profiles, checkpoints, process_group=process_group
    )
    weights = {key: value.contiguous() for key, value in result.model.state_dict().items()}
    agreed = [process_group.gather(value.float().reshape(1, -1)) for value in weights.values()]
    facts = {
        "history": [asdict(report) for report in result.history],
        "processes": process_group.size,
        "replicas_agree": all(bool(torch.equal(a[0], a[-1])) for a in agreed),
    }
    if process_group.is_leader:
        write_tensors(folder / f"{name}.safetensors", weights, facts)
    process_group.wait()


if __name__ == "__main__":
    status = 0
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[-1]))
    except Exception:  # noqa: BLE001  Whatever it is, the process ends by the line below.
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # As `flows.cli.entry` does: gloo's threads may abort a process at its end.
