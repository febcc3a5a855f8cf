"""Rows that vanish are noticed: the account of every file is checked before anything is kept."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl
import pytest

from artifacts.bundles import REFRESHED, bundle
from artifacts.kinds.dataset import ACCOUNTS
from artifacts.manifest import Kind
from artifacts.store import Store
from flows.cli.errors.endings import FAILED, status_of
from tasks import ingest as ingest_stage
from tasks.dump.account import FileAccount, LostRowsError
from tasks.dump.dump_config import DumpConfig
from tasks.dump.readers import csv_quoting, csv_records
from tasks.dump.readers.csv_table import CsvTable
from tasks.dump.readers.table import Batch, Tally
from tasks.ingest import dataset_identity, ingested
from tests.tasks.dump.dump_files import Ingested, as_csv, as_parquet, events_of, items_of, of_events


def test_every_rule_has_its_count_in_the_account_of_its_file(tmp_path: Path) -> None:
    rows = [
        *events_of(),
        *events_of()[:3],
        {**events_of()[0], "user_id": ""},
        {**events_of()[0], "domain": "books"},
        {**events_of()[0], "timestamp": 1_500_000_000},
        *[{**events_of(20)[-1], "timestamp": 1_600_000_000 + n} for n in range(2)],
    ]
    choices = {"domains": ["food", "kitchen"], "since": "2020-01-01", "user_core": 3}
    described = [*items_of(), items_of()[0], {**items_of()[1], "item_id": ""}]
    made = of_events(tmp_path, rows, items=as_csv(tmp_path / "i.csv", described), **choices)
    made.require_balance()
    gone = dict(made.accounts.filter(holds="interactions").select("rule", "gone").rows())
    assert gone == {
        "repeated row": 3,
        "no user_id": 1,
        "domain not selected": 1,
        "outside the window": 1,
        "user below its core": 2,
    }
    assert dict(made.accounts.filter(holds="items").select("rule", "gone").rows()) == {
        "item described more than once": 1,
        "no item_id": 1,
    }
    assert "e.csv: 1 of 104 rows were quarantined: no user_id (1)" in made.notes


def test_events_that_the_dataset_has_are_in_the_account_of_their_file(tmp_path: Path) -> None:
    first = of_events(tmp_path, events_of())
    bundle(first.store, Kind.REFRESH, REFRESHED, {"dataset": first.result.ref})
    rows = [*events_of()[:30], *events_of(1, start=1_700_000_000)]
    paths = as_csv(tmp_path / "a.csv", rows[:20]), as_csv(tmp_path / "b.csv", rows[20:])
    later = Ingested(tmp_path, interactions=paths, items=str(tmp_path / "i.csv"), mode="append")
    found = later.accounts.filter(holds="interactions").select("file", "rows", "kept", "gone")
    assert found.rows() == [("a.csv", 20, 0, 20), ("b.csv", 18, 8, 10)]


def test_a_row_that_vanishes_is_a_fault_that_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = CsvTable.batches

    def without_one(self: CsvTable, columns: Mapping[str, str]) -> Iterator[Batch]:
        for batch in whole(self, columns):
            yield Batch(batch.rows.slice(1), batch.broken, batch.repaired)

    monkeypatch.setattr(CsvTable, "batches", without_one)
    said = r"e\.csv: 1 rows are not accounted for.*please report"
    with pytest.raises(LostRowsError, match=said) as caught:
        of_events(tmp_path, events_of())
    assert status_of(caught.value) == FAILED
    assert Store(tmp_path / "store").artifacts(Kind.DATASET) == []


def test_a_line_that_no_parser_saw_is_a_fault_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = csv_records.blocks_of_lines
    monkeypatch.setattr(
        csv_records,
        "blocks_of_lines",
        lambda file, path: (block.split(b"\n", 2)[2] for block in blocks(file, path)),
    )
    with pytest.raises(LostRowsError, match=r"e\.csv: 2 lines are not accounted for"):
        of_events(tmp_path, events_of())


def test_a_parser_that_reads_other_records_is_a_fault_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_quoting.Quoting, "written", lambda self, fields: b"a,b,c,d\n" * 2)
    rows = [{**row, "item_id": f'{row["item_id"]}"'} for row in events_of()]
    (tmp_path / "e.csv").write_text(
        "user_id,item_id,domain,timestamp\n"
        + "".join(",".join(map(str, row.values())) + "\n" for row in rows)
    )
    with pytest.raises(LostRowsError, match="96 records became 192 rows"):
        Ingested(tmp_path, interactions=str(tmp_path / "e.csv"))


def test_an_account_says_what_is_missing_in_which_direction() -> None:
    account = FileAccount("e.csv", "interactions", Tally(records=5), kept=6)
    with pytest.raises(LostRowsError, match=r"e\.csv: -1 rows"):
        account.require_balance()


def older(dump: DumpConfig, store: Store) -> str:
    """Puts an artifact into the store as versions without accounts left it."""
    made = ingested(dump, store)
    folder = store.path(made.ref)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    usual = dataset_identity(dump)
    with store.create(usual) as draft:
        for name, content in files.items():
            if name not in (ACCOUNTS, "manifest.json"):
                (draft.path / name).write_bytes(content)
    return usual.fingerprint


def dump_of(folder: Path, price: str) -> DumpConfig:
    items = [{**row, "price": price} for row in items_of()]
    return DumpConfig(
        interactions=as_csv(folder / "e.csv", events_of()), items=as_csv(folder / "i.csv", items)
    )


def test_a_dataset_of_an_older_version_stays_where_it_is_read_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, dump = Store(tmp_path / "store"), dump_of(tmp_path, "12.99")
    before = older(dump, store)
    assert ingested(dump, store).ref.fingerprint == before
    monkeypatch.setattr(ingest_stage, "made_from", lambda *_: pytest.fail("it was read once more"))
    assert ingested(dump, store).ref.fingerprint == before


def test_a_dataset_of_an_older_version_is_made_anew_where_it_is_read_otherwise(
    tmp_path: Path,
) -> None:
    store, dump = Store(tmp_path / "store"), dump_of(tmp_path, "12,99 €")
    before = older(dump, store)
    made = ingested(dump, store)
    assert made.ref.fingerprint != before
    assert (ingested(dump, store).ref, ingested(dump, store).reused) == (made.ref, True)
    fresh = ingested(dump, Store(tmp_path / "fresh"))
    assert fresh.ref == made.ref


def test_the_name_of_a_clean_dump_is_that_of_its_content_alone(tmp_path: Path) -> None:
    dump = DumpConfig(interactions=as_parquet(tmp_path / "e.parquet", events_of()))
    assert ingested(dump, Store(tmp_path / "store")).ref == dataset_identity(dump).ref


def test_the_table_of_accounts_has_its_schema_when_nothing_went(tmp_path: Path) -> None:
    made = of_events(tmp_path, events_of())
    assert made.accounts.select("file", "rule", "gone").rows() == [
        ("e.csv", None, 0), ("i.csv", None, 0),
    ]  # fmt: skip
    assert made.accounts.schema["lines"] == pl.Int64
