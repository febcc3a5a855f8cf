"""Kills what operates a night with ``kill -9``, while it profiles and while it trains.

A real server and worker refresh a dump and train on it by themselves. In the middle something
dies, `llm4cdsr up` starts what is gone, and the next refresh of the schedule must finish the
work: nobody touches the run that died. What died:

worker    the worker alone; the process of its run goes on
machine   the worker and all that it started
power     those and the server

Counts requests by the books of the endpoint and by the ledger, and epochs by the clock readings
that a checkpoint holds. Exits with 1 where something was asked twice beyond what was in flight,
or an epoch that was on disk was made again.

    python benchmarks/worker_kill.py --help
    python benchmarks/worker_kill.py --death machine --json worker_kill.json
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from uuid import UUID

import polars as pl
from operated import OperatedMachine, is_final, until
from pydantic import JsonValue
from rich.console import Console
from rich.table import Table

from tasks.system.free_port import free_port

sys.path.insert(0, str(Path(__file__).parents[1]))

from artifacts import columns as col
from artifacts.bundles import parts_of
from artifacts.kinds.results import LEARNING_CURVE
from artifacts.ledger.answers import Role
from artifacts.ledger.ledger import Ledger
from model.checkpoint import read_tensors
from tasks.demo.demo_dump import write_demo_dump
from tasks.promoting.release_history import serving_release
from tests.fakes import FaultPlan, faulty_endpoint

IN_FLIGHT = 64
"""The chat concurrency: more cannot be asked twice."""
DEATHS = ("worker", "machine", "power")
EPOCHS_BEFORE = 3
CHECKPOINT = "store/work/train-*/training.safetensors"


@dataclass(frozen=True)
class Row:
    """One death.

    Attributes:
        run_ended_as: the final state of the run that was hit.
        seconds_to_end: from its death to that state.
        seconds_to_next: from the order of the next refresh until profiles, or a served model.
        in_ledger: distinct chat prompts with an answer.
        epochs_on_disk: whole epochs at the death; epochs_again: those that were made again.
    """

    died: str
    phase: str
    run_ended_as: str
    seconds_to_end: float
    seconds_to_next: float
    chat_requests: int
    in_ledger: int
    asked_twice: int
    epochs_on_disk: int
    epochs_again: int


def main() -> None:
    """Prints one row a death."""
    parser = argparse.ArgumentParser(
        description="Kill a worker, a machine or all with kill -9; count what is done again."
    )
    parser.add_argument("--death", choices=DEATHS, action="append", help="all without it")
    parser.add_argument("--users", type=int, default=150, help="of the made-up dump")
    parser.add_argument("--epochs", type=int, default=60, help="of a training")
    parser.add_argument("--latency", type=float, default=0.5, help="seconds of every answer")
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for death in arguments.death or DEATHS:
        rows += night(death, arguments.users, arguments.epochs, arguments.latency)
        _print(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    if any(row.asked_twice > IN_FLIGHT or row.epochs_again for row in rows):
        raise SystemExit(1)


def night(death: str, users: int, epochs: int, latency: float) -> list[Row]:
    """Returns the rows of one machine, hit while it profiles and while it trains."""
    with (
        tempfile.TemporaryDirectory() as name,
        faulty_endpoint(FaultPlan(latency_s=latency)) as server,
    ):
        folder = Path(name)
        dump = folder / "dumps" / "monday"
        write_demo_dump(dump, seed=3, users=users, items=120)
        (dump / "_SUCCESS").touch()  # Else it could still be copied, for half a minute.
        machine = OperatedMachine(folder, server, free_port(), parameters=_small(epochs))
        try:
            machine.up()
            return [_while_profiling(machine, death), _while_training(machine, death)]
        finally:
            machine.down()


def _small(epochs: int) -> dict[str, dict[str, JsonValue]]:
    train: JsonValue = {"max_epochs": epochs, "patience": epochs, "refit": False}
    overrides: JsonValue = {"train": train, "model": {"ensemble_size": 1}}
    return {
        "refresh": {"config": {"clusters": {"clusters": 4}}},
        "retrain": {"config": {"training": {"overrides": overrides}}},
    }


def _while_profiling(machine: OperatedMachine, death: str) -> Row:
    hit = machine.order("refresh")
    until(lambda: machine.chats() > IN_FLIGHT)
    died = _die(machine, death)
    next_run, ordered = machine.order("refresh"), time.monotonic()
    following = machine.wait_for_end(next_run)
    assert following.state is not None
    if not following.state.is_completed():
        raise SystemExit(f"the next refresh ended as {following.state}")
    return _row(machine, death, "profiling", hit, died, time.monotonic() - ordered)


def _while_training(machine: OperatedMachine, death: str) -> Row:
    """The refresh of before has told of news, so a training begins by itself."""
    until(lambda: len(_epochs_on_disk(machine)) >= EPOCHS_BEFORE)
    hit = machine.latest("retrain")
    assert hit is not None
    died = _die(machine, death)
    kept = _epochs_on_disk(machine)
    # The next night is far away: by then the run that died has lost its place.
    until(lambda: is_final(machine.run(hit.id)))
    machine.order("refresh")
    took = until(lambda: serving_release(machine.store) is not None)
    return _row(machine, death, "training", hit.id, died, took, kept)


def _die(machine: OperatedMachine, death: str) -> float:
    """Kills, and starts again what is gone; returns when it died, in seconds since 1970."""
    died = time.time()
    if death == "power":
        machine.kill("server", with_children=True)
    machine.kill("worker", with_children=death != "worker")
    machine.up()
    return died


def _row(
    machine: OperatedMachine,
    death: str,
    phase: str,
    hit: UUID,
    died: float,
    took: float,
    kept: frozenset[float] = frozenset(),
) -> Row:
    ended = machine.wait_for_end(hit)
    assert ended.state is not None
    with Ledger(machine.store.local, Role.CHAT).reading() as answers:
        in_ledger = answers.select(col.KEY).unique().collect().height
    return Row(
        died=death,
        phase=phase,
        run_ended_as=ended.state.name or ended.state.type.value,
        seconds_to_end=round(ended.state.timestamp.timestamp() - died, 1),
        seconds_to_next=round(took, 1),
        chat_requests=machine.chats(),
        in_ledger=in_ledger,
        asked_twice=machine.chats() - in_ledger,
        epochs_on_disk=len(kept),
        epochs_again=len(kept - _epochs_of_the_model(machine)) if kept else 0,
    )


def _epochs_on_disk(machine: OperatedMachine) -> frozenset[float]:
    """Returns the seconds that each epoch of a checkpoint took: no two are equal."""
    for path in machine.folder.glob(CHECKPOINT):
        history = read_tensors(path)[1]["history"]
        assert isinstance(history, list)
        return frozenset(report["seconds"] for report in history)
    return frozenset()


def _epochs_of_the_model(machine: OperatedMachine) -> frozenset[float]:
    release = serving_release(machine.store)
    assert release is not None
    folder = machine.store.path(parts_of(machine.store, release)["model"])
    return frozenset(pl.read_parquet(folder / LEARNING_CURVE)["seconds"])


def _print(rows: list[Row]) -> None:
    names = [field.name for field in fields(Row)]
    table = Table(*(name.replace("_", " ") for name in names))
    for row in rows:
        table.add_row(*(str(getattr(row, name)) for name in names))
    Console().print(table)


if __name__ == "__main__":
    main()
