"""A column that is not there under our name is guessed from its own, and never taken."""

import json
from pathlib import Path

import pytest

from tasks.dump.dump_config import DumpConfig
from tasks.dump.events.event_reader import read_events
from tasks.dump.naming.column_names import AbsentColumnError
from tasks.dump.naming.headers import require_columns
from tasks.dump.naming.likely_names import likely_column
from tasks.dump.rows import Quarantine
from tasks.dump.sources.files import UnreadableDumpError
from tests.tasks.dump.dump_files import as_csv, events_of, items_of

EVENTS = events_of(users=2)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("customer", "user_id"),
        ("Customer ID", "user_id"),
        ("member_no", "user_id"),
        ("Customer No", "user_id"),
        ("Kunden-Nr", "user_id"),
        ("usr_id", "user_id"),
        ("product_sku", "item_id"),
        ("ASIN", "item_id"),
        ("_source.item_id", "item_id"),
        ("payload.customer_id", "user_id"),
        ("event-time", "timestamp"),
        ("t_dat", "timestamp"),
        ("time_stamp2", "timestamp"),
        ("Product Name", "title"),
        ("department", "domain"),
        ("x", None),
        ("日付", None),
    ],
)
def test_a_likely_name_is_told_from_others(theirs: str, ours: str | None) -> None:
    names = ("user_id", "item_id", "timestamp", "title", "domain")
    found = [name for name in names if likely_column(name, [theirs, "quantity"]) == theirs]
    assert found == ([] if ours is None else [ours])


def test_an_id_beside_another_is_the_one_that_items_have() -> None:
    assert likely_column("item_id", ["asin", "parent_asin"]) == "parent_asin"
    assert likely_column("item_id", ["_id", "_source.item_id"]) == "_source.item_id"


def test_the_id_of_a_nested_object_is_not_taken_for_another_id() -> None:
    assert likely_column("item_id", ["user.id", "quantity"]) is None


def test_a_list_of_objects_is_no_likely_column() -> None:
    assert likely_column("image", ["images", "images[].large"]) is None


def renamed(folder: Path, **names: str) -> DumpConfig:
    rows = [{names.get(name, name): value for name, value in row.items()} for row in EVENTS]
    items = as_csv(folder / "i.csv", items_of())
    return DumpConfig(interactions=as_csv(folder / "e.csv", rows), items=items)


def test_a_wrong_column_is_named_with_a_guess_and_the_option(tmp_path: Path) -> None:
    dump = renamed(tmp_path, user_id="customer", timestamp="ordered_at")
    with pytest.raises(AbsentColumnError) as caught:
        require_columns(dump)
    assert str(caught.value).endswith(
        "e.csv has no column user_id, timestamp (it has customer, item_id, domain, ordered_at); "
        "customer looks like user_id, ordered_at looks like timestamp: "
        "add --column customer=user_id --column ordered_at=timestamp"
    )
    assert caught.value.renamed == (
        *("--column", "customer=user_id"),
        *("--column", "ordered_at=timestamp"),
    )


def test_without_a_likely_name_the_option_is_told(tmp_path: Path) -> None:
    with pytest.raises(AbsentColumnError, match="map it: --column NAME_IN_FILE=user_id"):
        require_columns(renamed(tmp_path, user_id="c17"))


def test_a_header_that_is_right_is_taken(tmp_path: Path) -> None:
    require_columns(renamed(tmp_path))


def test_a_renamed_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    dump = renamed(tmp_path).model_copy(update={"columns": {"nobody": "user_id"}})
    with pytest.raises(UnreadableDumpError, match="no file has a column nobody"):
        require_columns(dump)


def test_files_that_were_swapped_are_told(tmp_path: Path) -> None:
    events, items = as_csv(tmp_path / "e.csv", EVENTS), as_csv(tmp_path / "i.csv", items_of())
    with pytest.raises(AbsentColumnError, match=r"i.csv .*are --interactions and --items swapped"):
        require_columns(DumpConfig(interactions=items, items=events))


def test_the_option_is_quoted_as_a_shell_reads_it(tmp_path: Path) -> None:
    with pytest.raises(AbsentColumnError, match="add --column 'Bought at=timestamp'"):
        require_columns(renamed(tmp_path, timestamp="Bought at"))


def test_items_without_text_are_told_which_column_looks_like_a_title(tmp_path: Path) -> None:
    items = [
        {**{k: row[k] for k in ("item_id", "domain")}, "Produktname": "x"} for row in items_of()
    ]
    dump = DumpConfig(
        interactions=as_csv(tmp_path / "e.csv", EVENTS), items=as_csv(tmp_path / "i.csv", items)
    )
    with pytest.raises(AbsentColumnError, match="Produktname looks like title"):
        require_columns(dump)


def test_fields_of_nested_objects_are_named_and_read(tmp_path: Path) -> None:
    def nested(row: dict) -> str:
        item = {"id": row["item_id"], "section": row["domain"]}
        return json.dumps({"client": {"id": row["user_id"]}, "item": item, "ts": row["timestamp"]})

    events = tmp_path / "e.jsonl"
    events.write_text("\n".join(map(nested, EVENTS)))
    flat = DumpConfig(
        interactions=as_csv(tmp_path / "e.csv", EVENTS),
        items=as_csv(tmp_path / "i.csv", items_of()),
    )
    dump = flat.model_copy(update={"interactions": str(events)})
    with pytest.raises(AbsentColumnError) as caught:
        require_columns(dump)
    assert caught.value.renamed == (
        *("--column", "client.id=user_id"),
        *("--column", "ts=timestamp"),
        *("--column", "item.section=domain"),
    )
    pairs = (pair.split("=") for pair in caught.value.renamed[1::2])
    columns = {theirs: ours for theirs, ours in pairs}
    read, told = (
        read_events(config, Quarantine()).events
        for config in (dump.model_copy(update={"columns": columns}), flat)
    )
    assert (read.users.tolist(), read.items.tolist()) == (told.users.tolist(), told.items.tolist())
    assert (read.times.tolist(), read.user_ids.to_list()) == (
        told.times.tolist(),
        told.user_ids.to_list(),
    )
    assert read.item_keys.equals(told.item_keys)
