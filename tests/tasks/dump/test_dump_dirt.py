"""What real dumps hold: every row is used, or set aside with its reason; nothing is a trace."""

import gzip
import json
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from artifacts.kinds.dataset import DROPPED, ITEMS, QUARANTINE, Dataset, read_dataset
from artifacts.store import Store
from tasks.dump.dump_config import DumpConfig
from tasks.dump.events.event_reader import UndeclaredDomainError
from tasks.dump.fields.item_texts import LONGEST_TEXT
from tasks.dump.made_dataset import made_from
from tasks.dump.sources import files as dump_files
from tasks.dump.sources.files import UnreadableDumpError
from tasks.ingest import dataset_identity

HEADER = b"user_id,item_id,domain,timestamp\n"
GOOD = b"u,1,a,1400000000\nu,2,b,1400000060\n"


class Ingested:
    """A dataset with what was set aside on the way to it."""

    def __init__(self, folder: Path, **choices: object) -> None:
        store = Store(folder / "store")
        dump = DumpConfig.model_validate(choices)
        identity = dataset_identity(dump)
        with store.create(identity) as draft:
            made_from(dump).write(draft)
        place = store.path(identity.ref)
        self.dataset: Dataset = read_dataset(store, identity.ref)
        self.counts = store.manifest(identity.ref).counts
        self.dropped = dict(pl.read_parquet(place / DROPPED).rows())
        self.quarantine = pl.read_parquet(place / QUARANTINE)
        self.items = pl.read_parquet(place / ITEMS)

    @property
    def reasons(self) -> list[tuple[int, str]]:
        return self.quarantine.select("row", "reason").rows()

    @property
    def history(self) -> list[tuple[str, str]]:
        """Domain and item id of every event, user by user."""
        keys = list(zip(self.dataset.items["domain"], self.dataset.items["item_id"], strict=True))
        return [keys[index - 1] for index in self.dataset.item_indices]


def ingested_csv(folder: Path, content: bytes, name: str = "e.csv", **choices: object) -> Ingested:
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return Ingested(folder, interactions=str(path), **choices)


def ingested_items(folder: Path, *items: dict[str, object]) -> pl.DataFrame:
    (folder / "e.csv").write_bytes(HEADER + GOOD)
    rows = [
        {"item_id": str(n), "domain": "ab"[n % 2 - 1], **item} for n, item in enumerate(items, 1)
    ]
    (folder / "i.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Ingested(folder, interactions=str(folder / "e.csv"), items=str(folder / "i.jsonl")).items


@pytest.mark.parametrize("name", ["e.csv", "e.csv.gz"])
def test_rows_with_too_many_or_too_few_fields_are_set_aside_one_by_one(
    name: str, tmp_path: Path
) -> None:
    made = ingested_csv(tmp_path, HEADER + b"x\n" + GOOD + b'u,3,"a,1\n' + b"v,1,a,1,2\n", name)
    assert made.reasons[0] == (0, "1 fields instead of 4")
    assert made.counts["events"] == 2
    assert made.counts["rows_in"] == 2 + made.counts["rows_dropped"]


def test_a_lone_quotation_mark_before_an_id_costs_its_own_row_alone(tmp_path: Path) -> None:
    made = ingested_csv(tmp_path, HEADER + GOOD + b'u,3,"a,1\nv,1,a,1\nw,1,a,2\n')
    assert made.reasons == [(2, "a quotation mark not closed")]
    assert made.counts["events"] == 4


def test_a_row_that_is_not_utf8_does_not_cost_the_others(tmp_path: Path) -> None:
    made = ingested_csv(tmp_path, HEADER + GOOD + b"\xe9,1,a,1400000000\nv,1,a,1400000000\n")
    assert made.reasons == [(2, "not UTF-8")]
    assert made.dataset.users["user_id"].to_list() == ["u", "v"]


def test_utf16_is_known_by_its_mark(tmp_path: Path) -> None:
    content = (HEADER + GOOD).decode() + "é漢,1,a,1400000000\n"
    made = ingested_csv(tmp_path, content.encode("utf-16"))
    assert made.dataset.users["user_id"].to_list() == ["u", "é漢"]


def test_json_lines_that_are_no_objects_are_set_aside(tmp_path: Path) -> None:
    good = {"user_id": "u", "item_id": 7, "domain": "a", "timestamp": 1_400_000_000}
    lines = [
        json.dumps(good),
        "{'user_id': 'v'}",
        "[1]",
        '{"user_id": "v", "item_id"',
        "",
        json.dumps({**good, "item_id": "007", "domain": "b"}),
        json.dumps({**good, "user_id": ["u", "v"]}),
    ]
    (tmp_path / "e.jsonl").write_text("\n".join(lines))
    made = Ingested(tmp_path, interactions=str(tmp_path / "e.jsonl"))
    assert made.history == [("a", "7"), ("b", "007")]
    assert made.reasons == [
        (1, "no item_id"),
        *((place, "not a JSON object") for place in (2, 3)),
        (5, "no user_id"),
    ]


def test_a_block_with_a_broken_line_gives_what_whole_blocks_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"user_id": f"u{n % 7}", "item_id": n % 5, "domain": "ab"[n % 2], "timestamp": 10**9 + n}
        for n in range(300)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "whole.jsonl").write_text(text)
    (tmp_path / "broken.jsonl").write_text("nonsense\n" + text)
    whole = Ingested(tmp_path, interactions=str(tmp_path / "whole.jsonl"))
    monkeypatch.setattr(dump_files, "BLOCK_BYTES", 1000)
    broken = Ingested(tmp_path, interactions=str(tmp_path / "broken.jsonl"))
    assert broken.history == whole.history
    assert broken.dropped == {"interactions: not a JSON object": 1}


def test_ids_keep_zeros_and_scripts(tmp_path: Path) -> None:
    rows = b"007,0012,a,1400000000\n7,12,b,1400000000\n\xe6\xbc\xa2,0012,b,1400000000\n"
    made = ingested_csv(tmp_path, HEADER + rows)
    assert made.dataset.users["user_id"].to_list() == ["007", "7", "漢"]
    assert made.history == [("a", "0012"), ("b", "12"), ("b", "0012")]


def test_times_of_the_future_and_of_nobody_knows_when_are_set_aside(tmp_path: Path) -> None:
    rows = b"u,3,a,0\nu,4,a,-1\nu,5,a,32503680000\nu,6,a,soon\n"
    made = ingested_csv(tmp_path, HEADER + GOOD + rows)
    assert made.reasons == [
        (2, "timestamp of zero or less"),
        (3, "timestamp of zero or less"),
        (4, "timestamp in the future"),
        (5, "no usable timestamp"),
    ]
    assert made.counts["events"] == 2


@pytest.mark.parametrize("value", [["1"], [], [None], {"id": 1}, [[1]]])
def test_a_list_where_an_item_has_one_value_costs_that_row_only(
    value: object, tmp_path: Path
) -> None:
    items = ingested_items(
        tmp_path,
        {"title": "Tea", "price": 3},
        {"title": "Pot", "price": value},
        {"item_id": value, "domain": "a"},
        {"domain": value},
    )
    assert items.select("item_id", "title", "price").rows() == [
        ("1", "Tea", 3.0),
        ("2", "Pot", None),
    ]


def test_a_parquet_column_of_lists_is_refused_as_ids_by_its_name_and_type(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_bytes(HEADER + GOOD)
    lists = pl.DataFrame({"item_id": [["1"], ["2"]], "domain": ["a", "b"], "price": [[1], [2]]})
    lists.write_parquet(tmp_path / "i.parquet")
    said = r"i\.parquet: the column item_id has the type large_list<.*no item_id can be read, as"
    with pytest.raises(UnreadableDumpError, match=said):
        Ingested(tmp_path, interactions=str(tmp_path / "e.csv"), items=str(tmp_path / "i.parquet"))


def test_titles_lose_markup_and_prices_their_signs(tmp_path: Path) -> None:
    items = ingested_items(
        tmp_path,
        {"title": "Tea &amp; <b>milk</b>\u0000 set", "price": "$3.50 - $7"},
        {"title": "x" * 1000, "price": ".a-box-inner{background:#fff}"},
    )
    assert items["title"][0] == "Tea & milk set"
    assert items["title"].str.len_chars().to_list()[1] == 300
    assert items["price"].to_list() == [3.5, None]


@pytest.mark.parametrize(
    ("text", "price"),
    [("12", 12.0), ("$1,234.50", 1234.5), ("€ 9", 9.0), ("35.00元", 35.0), ("free", None),
     ("$", None), ("3.5.1", None), ("$7.00 to $9", 7.0), (" 4 ", 4.0), ("inf", None)],
)  # fmt: skip
def test_a_price_is_its_number_or_nothing(text: str, price: float | None, tmp_path: Path) -> None:
    assert ingested_items(tmp_path, {"price": text}, {})["price"][0] == price


def test_a_description_of_any_length_is_cut(tmp_path: Path) -> None:
    items = ingested_items(tmp_path, {"description": "long " * 20_000}, {"description": [None]})
    assert items["description"].str.len_chars().to_list() == [LONGEST_TEXT - 1, None]


def test_millions_of_rows_of_one_user_are_one_history(tmp_path: Path) -> None:
    count = 200_000
    table = pl.DataFrame(
        {
            "user_id": ["only"] * count,
            "item_id": pl.int_range(count, eager=True).cast(pl.String),
            "domain": ["a", "b"] * (count // 2),
            "timestamp": pl.int_range(1_400_000_000 + count, 1_400_000_000, -1, eager=True),
        }
    )
    table.write_parquet(tmp_path / "e.parquet")
    made = Ingested(tmp_path, interactions=str(tmp_path / "e.parquet"))
    assert made.dataset.users.rows() == [(0, "only", count)]
    assert made.history[:2] == [("b", str(count - 1)), ("a", str(count - 2))]


def test_a_named_column_that_no_file_has_is_refused_with_the_columns(tmp_path: Path) -> None:
    said = r"column reviewerId; correct --column: .*has user_id, item_id"
    with pytest.raises(UnreadableDumpError, match=said):
        ingested_csv(tmp_path, HEADER + GOOD, columns={"reviewerId": "user_id"})


def test_a_domain_without_events_is_refused_with_those_there_are(tmp_path: Path) -> None:
    said = r"domain books; correct --domain: it has a \(1 events\), b \(1 events\)"
    with pytest.raises(UndeclaredDomainError, match=said):
        ingested_csv(tmp_path, HEADER + GOOD, domains=("a", "books"))


def test_an_interrupted_download_is_refused_not_read_in_part(tmp_path: Path) -> None:
    (tmp_path / "e.csv.gz").write_bytes(gzip.compress(HEADER + GOOD * 500)[:-9])
    with pytest.raises(UnreadableDumpError, match=r"ends in the middle.*fetch it again"):
        Ingested(tmp_path, interactions=str(tmp_path / "e.csv.gz"))


def test_an_interrupted_zstandard_download_is_refused_too(tmp_path: Path) -> None:
    whole = tmp_path / "whole.csv.zst"
    with pa.output_stream(whole, compression="zstd") as file:
        file.write(HEADER + GOOD * 500)
    (tmp_path / "e.csv.zst").write_bytes(whole.read_bytes()[:-9])
    with pytest.raises(UnreadableDumpError, match="cannot be read"):
        Ingested(tmp_path, interactions=str(tmp_path / "e.csv.zst"))


def test_days_outside_the_window_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = b"u,3,a,1399939199\nu,4,a,1399939200\nu,5,a,1400111999\nu,6,b,1400112000\n"
    made = ingested_csv(tmp_path, HEADER + GOOD + rows, since="2014-05-13", until="2014-05-14")
    assert made.dropped == {"outside the window": 2}
    assert sorted(item for _, item in made.history) == ["1", "2", "4", "5"]
