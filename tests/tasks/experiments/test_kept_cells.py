"""Kept cells: the same numbers from few files, only for the same key, and never lost to a crash."""

import shutil
import threading
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from artifacts.bundles import bundle
from artifacts.kinds.results import RANKS, read_table
from artifacts.manifest import ArtifactRef, Kind
from artifacts.store import Store
from model.scoring.cold_domain_metrics import CUTOFF
from model.scoring.ranking import expected_gains
from tasks.experiments import rank_tables
from tasks.experiments.cell import CellData, cell_identity, make_cell
from tasks.experiments.cell_results import CUTOFFS
from tasks.experiments.grid import Cell, Saw
from tasks.experiments.kept_cells import CUT_SHORT, KeptCells
from tasks.experiments.rank_tables import DEEPEST, DamagedTableError, KeptCell, RankTables
from tasks.promoting.stored_ranks import ranks_of
from tests.tasks.experiments.experiment_shop import baseline, cell_data

PIN = "experiment-pin"
CELLS = (baseline(), baseline(saw=Saw.TRAIN_AND_VALIDATION))


@pytest.fixture
def data(store: Store, tmp_path: Path) -> CellData:
    made = cell_data(store, tmp_path / "dump")
    for cell in CELLS:
        assert make_cell(store, cell, made)
    bundle(store, Kind.REFRESH, PIN, {"dataset": made.dataset, "tables": made.tables})
    return made


@pytest.fixture
def kept(store: Store, data: CellData, tmp_path: Path) -> Path:
    """A folder that keeps both cells."""
    folder = tmp_path / "kept"
    keep(folder, store, data, *CELLS)
    return folder


def keep(folder: Path, store: Store, data: CellData, *cells: Cell) -> None:
    refs = [cell_identity(cell, data).ref for cell in cells]
    KeptCells(folder).keep(store, PIN, refs)


def taken(folder: Path, store: Store, cell: Cell, data: CellData) -> pl.DataFrame | None:
    """The ranks of a cell in another store that takes what is kept."""
    wanted = cell_identity(cell, data)
    KeptCells(folder).take_cell(store, wanted)
    return None if store.find(wanted) is None else read_table(store, wanted.ref, RANKS)


def table_of(folder: Path) -> Path:
    (path,) = folder.glob("ranks-*.parquet")
    return path


def random_ranks(seed: int, rows: int = 2_000, deepest: int = 3 * DEEPEST) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "ranking": ["full"] * rows,
            "user_index": np.arange(rows, dtype=np.int32),
            "item_index": (np.arange(rows, dtype=np.int32) * 7) % 91,
            "greater": rng.integers(0, deepest, rows).astype(np.int32),
            "equal": (rng.integers(0, 9, rows) ** 3).astype(np.int32),
            "candidates": np.full(rows, 10_000, np.int32),
        }
    )


def a_cell(number: int) -> KeptCell:
    facts = {"seed": number}
    return KeptCell(schema_version=1, parameters={**facts}, parents={}, counts={}, notes=[])


def add(folder: Path, **ranks: pl.DataFrame) -> None:
    """Adds ranks under names that stand for fingerprints."""
    cells = {name: ArtifactRef(kind=Kind.CELL, fingerprint=name) for name in ranks}
    RankTables(folder).add(cells, lambda ref: (a_cell(0), ranks[ref.fingerprint]))


def test_a_kept_cell_has_the_ranks_and_counts_of_the_one_that_was_made(
    store: Store, data: CellData, kept: Path, tmp_path: Path
) -> None:
    other = Store(tmp_path / "other")
    for cell in CELLS:
        ref = cell_identity(cell, data).ref
        ranks = taken(kept, other, cell, data)
        assert ranks is not None
        assert ranks.equals(read_table(store, ref, RANKS))
        assert ranks.schema == read_table(store, ref, RANKS).schema
        assert other.manifest(ref).counts == store.manifest(ref).counts
        assert other.manifest(ref).notes == [CUT_SHORT]
    assert len(list(kept.glob("ranks-*.parquet"))) == 1, "their events are the same"


@pytest.mark.parametrize("seed", range(3))
def test_no_metric_sees_that_ranks_are_cut(tmp_path: Path, seed: int) -> None:
    ranks = random_ranks(seed)
    add(tmp_path, one=ranks)
    found = RankTables(tmp_path).ranks("one")
    assert not found.equals(ranks)
    assert max(*CUTOFFS, CUTOFF) < DEEPEST
    before, after = (expected_gains(ranks_of(table), CUTOFFS) for table in (ranks, found))
    for name, by_cutoff in before.items():
        for cutoff, gains in by_cutoff.items():
            assert np.array_equal(gains, after[name][cutoff])


def test_what_is_kept_twice_is_the_same(tmp_path: Path) -> None:
    add(tmp_path / "a", one=random_ranks(1))
    add(tmp_path / "b", one=RankTables(tmp_path / "a").ranks("one"))
    assert table_of(tmp_path / "a").read_bytes() == table_of(tmp_path / "b").read_bytes()


def test_a_cell_is_taken_only_where_its_whole_key_agrees(
    data: CellData, kept: Path, tmp_path: Path
) -> None:
    wanted = cell_identity(CELLS[0], data).fingerprint
    table = table_of(kept)
    for change in (
        {"parameters": {"baseline": "popularity", "saw": "train and validation"}},
        {"parents": {}},
        {"schema_version": 99},
    ):
        cells = rank_tables.cells_of(table)
        cells[wanted] = cells[wanted].model_copy(update=change)
        changed = tmp_path / "changed" / table.name
        changed.parent.mkdir(exist_ok=True)
        changed.write_bytes(rank_tables.encoded(pq.read_table(table), cells))
        assert taken(changed.parent, Store(tmp_path / "other"), CELLS[0], data) is None


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_torn_table_is_named_and_left_as_it_is(
    store: Store, data: CellData, kept: Path, tmp_path: Path, share: float
) -> None:
    table = table_of(kept)
    torn = table.read_bytes()[: int(share * table.stat().st_size)]
    table.write_bytes(torn)
    with pytest.raises(DamagedTableError, match=f"{table.name} cannot be read"):
        taken(kept, Store(tmp_path / "other"), CELLS[0], data)
    with pytest.raises(DamagedTableError, match="restore it"):
        keep(kept, store, data, *CELLS)
    assert table.read_bytes() == torn


def test_a_changed_byte_is_never_taken_for_ranks(
    data: CellData, kept: Path, tmp_path: Path
) -> None:
    table = table_of(kept)
    whole = table.read_bytes()
    wanted = RankTables(kept).ranks(cell_identity(CELLS[0], data).fingerprint)
    for place in range(4, len(whole), max(1, len(whole) // 60)):
        table.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            found = taken(kept, Store(tmp_path / str(place)), CELLS[0], data)
        except DamagedTableError:
            continue
        assert found is None or found.equals(wanted)


def test_an_interrupted_write_leaves_the_table_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path, one=random_ranks(1))
    before = table_of(tmp_path).read_bytes()

    def killed(path: Path, content: bytes) -> None:
        path.with_name(f".{path.name}.tmp").write_bytes(content[:100])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(rank_tables, "write_atomically", killed)
        with pytest.raises(KeyboardInterrupt):
            add(tmp_path, two=random_ranks(2))
    assert table_of(tmp_path).read_bytes() == before
    add(tmp_path, two=random_ranks(2))
    assert RankTables(tmp_path).find("one") == RankTables(tmp_path).find("two") == a_cell(0)


def test_those_who_keep_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    names = [f"cell{number}" for number in range(8)]
    threads = [
        threading.Thread(target=add, args=(tmp_path,), kwargs={name: random_ranks(number)})
        for number, name in enumerate(names)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    tables = RankTables(tmp_path)
    for number, name in enumerate(names):
        expected = random_ranks(number)["greater"].clip(upper_bound=DEEPEST)
        assert tables.ranks(name)["greater"].equals(expected)


def test_cells_of_other_events_have_a_table_of_their_own(tmp_path: Path) -> None:
    add(tmp_path, one=random_ranks(1), two=random_ranks(1, rows=50))
    assert len(list(tmp_path.glob("ranks-*.parquet"))) == 2
    assert RankTables(tmp_path).ranks("two").height == 50


def test_cells_that_were_kept_one_by_one_are_still_taken(
    store: Store, data: CellData, tmp_path: Path
) -> None:
    ref = cell_identity(CELLS[0], data).ref
    old = tmp_path / "old"
    shutil.copytree(Path(store.root) / "cell", old / "cell")
    ranks = taken(old, Store(tmp_path / "other"), CELLS[0], data)
    assert ranks is not None
    assert ranks.equals(read_table(store, ref, RANKS))
