"""A cell: made once, the same after a kill, and what its numbers are made from is its name."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from filelock import FileLock

from artifacts.kinds.results import FULL, RANKS, read_candidates, read_table
from artifacts.manifest import Kind
from artifacts.store import Store
from model.baselines.registry import BASELINES
from model.data.overlap import has_own_domain_history, overlapping_users
from model.data.sequences import TEST
from model.scoring.model_scorer import ModelScorer
from model.scoring.ranking import rank_all, rank_sampled
from model.training.trainer import fit
from tasks.evaluate import stored_candidates
from tasks.experiments.cell import CellData, cell_identity, make_cell
from tasks.experiments.grid import Cell, OverlapCut, ProfileSource, Saw
from tasks.frame.model_inputs import load_sequences, load_tables
from tests.tasks.experiments.experiment_shop import DATASET, baseline, cell_data, neural


@pytest.fixture
def data(store: Store, tmp_path: Path) -> CellData:
    return cell_data(store, tmp_path / "dump")


def ranks(store: Store, cell: Cell, data: CellData) -> pl.DataFrame:
    return read_table(store, cell_identity(cell, data).ref, RANKS)


def test_a_cell_holds_the_ranks_of_a_model_fitted_by_hand(store: Store, data: CellData) -> None:
    cell = neural()
    assert make_cell(store, cell, data)
    sequences = load_sequences(store, data.dataset)
    assert cell.recipe.kind == "neural"
    model = fit(sequences, load_tables(store, data.tables), cell.recipe.config).model
    prefixes = sequences.prefixes_of_split(TEST)
    expected = rank_all(ModelScorer(model), prefixes)
    full = ranks(store, cell, data).filter(ranking=FULL)
    assert full["user_index"].to_list() == prefixes.users.tolist()
    assert full["greater"].to_list() == expected.greater.tolist()
    assert full["candidates"].to_list() == expected.candidates.tolist()
    counts = store.manifest(cell_identity(cell, data).ref).counts
    assert counts["epochs"] == 3
    assert counts["test_events"] == len(prefixes)


def test_sampled_ranks_use_the_stored_candidates(store: Store, data: CellData) -> None:
    make_cell(store, baseline(), data)
    sequences = load_sequences(store, data.dataset)
    prefixes = sequences.prefixes_of_split(TEST)
    drawn = read_candidates(store, data.candidates[5])
    expected = rank_sampled(BASELINES["popularity"](sequences), prefixes, drawn)
    sampled = ranks(store, baseline(), data).filter(ranking="5")
    assert sampled["greater"].to_list() == expected.greater.tolist()
    assert sampled["equal"].to_list() == expected.equal.tolist()
    assert sampled["candidates"].to_list() == expected.candidates.tolist()


@pytest.mark.parametrize(
    ("train", "limited"),
    [
        ({"max_epochs": 2}, 1),
        ({"max_epochs": 50, "patience": 1, "patience_steps": 0}, 0),
    ],
)
def test_a_cell_says_whether_a_limit_ended_it(
    store: Store, data: CellData, train: dict[str, object], limited: int
) -> None:
    cell = neural(train=train)
    make_cell(store, cell, data)
    counts = store.manifest(cell_identity(cell, data).ref).counts
    assert counts["stopped_by_limit"] == limited
    # What patience ends, it may end in the very last epoch that is allowed.
    exact = neural(train={**train, "max_epochs": int(counts["epochs"])})
    make_cell(store, exact, data)
    again = store.manifest(cell_identity(exact, data).ref).counts
    assert (again["epochs"], again["stopped_by_limit"]) == (counts["epochs"], limited)


def test_a_finished_cell_is_not_made_again(store: Store, data: CellData) -> None:
    make_cell(store, baseline(), data)
    made = store.manifest(cell_identity(baseline(), data).ref).created
    make_cell(store, baseline(), data)
    assert store.manifest(cell_identity(baseline(), data).ref).created == made


def test_a_cell_that_another_process_is_making_is_left_to_it(store: Store, data: CellData) -> None:
    wanted = cell_identity(baseline(), data)
    with FileLock(store.workspace("cells") / f"{wanted.fingerprint}.lock"):
        assert not make_cell(store, baseline(), data)
    assert store.find(wanted) is None
    assert make_cell(store, baseline(), data)


CHILD = """
import sys
from pathlib import Path
from artifacts.store import Store
from tasks.experiments.cell import make_cell
from tests.tasks.experiments.experiment_shop import cell_data, neural
store = Store(sys.argv[1])
cell = neural(train={"max_epochs": 40, "patience": 99})
make_cell(store, cell, cell_data(store, Path(sys.argv[2])))
"""


def test_a_cell_killed_in_training_resumes_and_ends_as_an_uninterrupted_one(
    tmp_path: Path,
) -> None:
    cell = neural(train={"max_epochs": 40, "patience": 99})
    whole, cut = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    data = cell_data(whole, tmp_path / "dump")
    make_cell(whole, cell, data)

    arguments = [sys.executable, "-c", CHILD, str(cut.root), str(tmp_path / "dump")]
    root = str(Path(__file__).parents[3])
    child = subprocess.Popen(arguments, env={**os.environ, "PYTHONPATH": root}, cwd=root)
    checkpoint = next_file(cut.local / "work", "cell-*/training.safetensors", child)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert checkpoint.exists()
    assert cut.find(cell_identity(cell, data)) is None

    assert make_cell(cut, cell, cell_data(cut, tmp_path / "dump"))
    assert ranks(cut, cell, data).equals(ranks(whole, cell, data))
    assert not list((cut.local / "work").glob("cell-*"))


def next_file(folder: Path, pattern: str, child: subprocess.Popen[bytes]) -> Path:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and child.poll() is None:
        if found := list(folder.glob(pattern)):
            return found[0]
        time.sleep(0.01)
    pytest.fail(f"no {pattern} before the process ended with {child.poll()}")


def test_what_decides_the_numbers_is_in_the_identity(store: Store, data: CellData) -> None:
    cut = OverlapCut(share=50, seed=0)
    cells = [
        neural(),
        neural(seed=1),
        neural(model={"causal": False}),
        neural(train={"alpha": 0.0}),
        neural(train={"beta": 0.1}, profiles=ProfileSource.LLM),
        neural().model_copy(update={"overlap": cut}),
        neural().model_copy(update={"overlap": cut.model_copy(update={"share": 25})}),
        baseline(),
        baseline(saw=Saw.TRAIN_AND_VALIDATION),
        baseline("item-kNN"),
    ]
    other = data._replace(candidates={5: stored_candidates(store, data.dataset, 5, seed=1)})
    fingerprints = [cell_identity(cell, data).fingerprint for cell in cells]
    fingerprints.append(cell_identity(neural(), other).fingerprint)
    assert len(set(fingerprints)) == len(fingerprints)


def test_names_and_a_new_switch_at_its_default_are_not(store: Store, data: CellData) -> None:
    renamed = neural().model_copy(update={"dataset": "other", "model": "other", "ablation": "x"})
    assert cell_identity(renamed, data) == cell_identity(neural(), data)
    told = cell_identity(neural(), data).parameters["config"]
    assert isinstance(told, dict)
    assert "causal" not in told["model"]  # pyright: ignore[reportArgumentType, reportOperatorIssue]
    assert cell_identity(neural(), data).kind is Kind.CELL


def test_profiles_change_the_model_and_their_absence_does_not_ask_for_them(
    store: Store, data: CellData
) -> None:
    aligned = neural(train={"beta": 1.0}, profiles=ProfileSource.LLM)
    plain = neural(train={"beta": 0.0})
    make_cell(store, aligned, data)
    make_cell(store, plain, data._replace(profiles={}))
    assert not ranks(store, aligned, data).equals(ranks(store, plain, data))


def test_every_overlap_ranks_the_same_events_of_the_same_users(
    store: Store, data: CellData
) -> None:
    sequences = load_sequences(store, data.dataset)
    prefixes = sequences.prefixes_of_split(TEST)
    expected = prefixes.users[has_own_domain_history(prefixes)].tolist()
    assert len(expected) > 0
    assert len(overlapping_users(sequences)) > 10
    seen = []
    for share in (0, 50, 100):
        cut = OverlapCut(share=share, seed=0)
        cell = neural().model_copy(update={"overlap": cut, "dataset": DATASET})
        make_cell(store, cell, data)
        made = ranks(store, cell, data)
        for ranking in (FULL, "5"):
            part = made.filter(ranking=ranking)
            assert part["user_index"].to_list() == expected
            seen.append(part.select("item_index", "candidates"))
        assert made.filter(ranking="5")["candidates"].max() == 5
    assert seen[0].equals(seen[2])
    assert seen[2].equals(seen[4])
    assert seen[1].equals(seen[5])
