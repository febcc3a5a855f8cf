"""The public forms: Amazon 2014, 2018 and 2023, Douban; the form changes nothing in the data."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from artifacts.kinds.dataset import EVENTS, ITEMS, USERS
from artifacts.store import Store
from tasks.dump.dump_config import DumpConfig, Source, Ties
from tasks.dump.items.item_reader import read_items
from tasks.dump.made_dataset import made_from
from tasks.dump.naming.dump_formats import DumpFormat, amazon_2018_item, amazon_2023_item
from tasks.dump.rows import Quarantine
from tasks.ingest import dataset_identity

DATED = Path(__file__).parents[5] / "shared" / "data" / "food-kitchen-dated"
AMAZON = {"food": "Grocery_and_Gourmet_Food", "kitchen": "Home_and_Kitchen"}


def as_lines(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return str(path)


def tables_of(folder: Path, dump: DumpConfig) -> dict[str, bytes]:
    """The bytes of the dataset's three tables."""
    store = Store(folder)
    identity = dataset_identity(dump)
    with store.create(identity) as draft:
        made_from(dump).write(draft)
    place = store.path(identity.ref)
    return {name: (place / name).read_bytes() for name in (USERS, ITEMS, EVENTS)}


def described(source: Source) -> dict[str, object]:
    other = Source(interactions="-", domain="other", form=source.form)
    quarantine = Quarantine()
    items = read_items(DumpConfig(sources=(source, other)), quarantine).items
    assert quarantine.table().is_empty()
    return items.row(0, named=True)


def test_amazon_2018_files_and_their_parquet_form_are_the_same_dataset(tmp_path: Path) -> None:
    if not DATED.is_dir():
        pytest.skip("the development data food-kitchen-dated is not beside the checkout")
    folder = DATED / "amazon-2018"
    sources = tuple(
        Source(
            domain=domain,
            form=DumpFormat.AMAZON_2018,
            interactions=str(folder / f"{name}.json.gz"),
            items=str(folder / f"meta_{name}.json.gz"),
        )
        for domain, name in AMAZON.items()
    )
    parquet = DumpConfig(
        interactions=str(DATED / "interactions.parquet"),
        items=str(DATED / "items.parquet"),
        ties=Ties.SHUFFLE,
    )
    amazon = DumpConfig(sources=sources)
    assert tables_of(tmp_path / "amazon", amazon) == tables_of(tmp_path / "parquet", parquet)


def test_old_metadata_lines_are_parsed_as_literals_and_never_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    lines = [
        "{'asin': '0001', 'title': \"Men's \\d hat\", 'categories': [['Hats', 'Men']], "
        "'price': 3.5}",
        f"{{'asin': __import__('pathlib').Path({str(trap)!r}).touch()}}",
    ]
    (tmp_path / "meta.json").write_text("\n".join(lines))
    quarantine = Quarantine()
    source = Source(
        interactions="-",
        items=str(tmp_path / "meta.json"),
        domain="cloth",
        form=DumpFormat.AMAZON_2018,
    )
    items = read_items(DumpConfig(sources=(source,)), quarantine).items
    assert items.select("item_id", "domain", "title", "categories", "price").rows() == [
        ("0001", "cloth", "Men's \\d hat", ["Hats", "Men"], 3.5)
    ]
    assert quarantine.counts == {("items of cloth", "not a JSON object"): 1}
    assert not trap.exists()


def test_amazon_2018_metadata_becomes_our_fields(tmp_path: Path) -> None:
    row = {
        "asin": "B01",
        "title": "Road Shoe",
        "brand": "Acme",
        "image": None,
        "category": ["Sports", "Running"],
        "price": "$59.95 - $80.00",
        "description": ["Light.", "Fast."],
        "feature": ["unused"],
    }
    source = Source(
        interactions="-",
        items=as_lines(tmp_path / "m.json.gz", [row]),
        domain="sport",
        form=DumpFormat.AMAZON_2018,
    )
    assert described(source) == {
        "item_id": "B01",
        "domain": "sport",
        "title": "Road Shoe",
        "brand": "Acme",
        "image": None,
        "categories": ["Sports", "Running"],
        "price": 59.95,
        "description": "Light. Fast.",
    }
    assert amazon_2018_item({"title": "x.getTime() - y"})["title"] is None
    assert amazon_2018_item({"feature": ["a"], "description": []})["description"] == ["a"]


def test_amazon_2023_files_become_our_fields(tmp_path: Path) -> None:
    row = {
        "parent_asin": "B02",
        "title": "Pan",
        "store": "Acme Store",
        "main_category": "Home",
        "categories": [],
        "features": ["Steel", "Heavy"],
        "description": [],
        "price": 20,
        "details": {"Brand": "Acme", "Weight": "2 kg"},
    }
    source = Source(
        interactions="-",
        items=as_lines(tmp_path / "m.jsonl.gz", [row]),
        domain="kitchen",
        form=DumpFormat.AMAZON_2023,
    )
    assert described(source) == {
        "item_id": "B02",
        "domain": "kitchen",
        "title": "Pan",
        "brand": "Acme",
        "image": None,
        "categories": ["Home"],
        "price": 20.0,
        "description": "Steel Heavy",
    }
    assert amazon_2023_item({"store": "S", "details": None})["brand"] == "S"


def test_amazon_2023_interactions_go_by_the_parent_and_milliseconds(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {
            "user_id": "u",
            "asin": f"child{n}",
            "parent_asin": f"p{n}",
            "timestamp": 1_650_000_000_123 + n,
        }
        for n in range(3)
    ]
    food = Source(
        interactions=as_lines(tmp_path / "f.jsonl.gz", rows),
        domain="food",
        form=DumpFormat.AMAZON_2023,
    )
    other = food.model_copy(update={"domain": "kitchen"})
    store = Store(tmp_path / "store")
    dump = DumpConfig(sources=(food, other))
    with store.create(dataset_identity(dump)) as draft:
        made_from(dump).write(draft)
        items = pl.read_parquet(draft.path / ITEMS)
        seconds = pl.read_ipc(draft.path / EVENTS)["timestamp"].unique().to_list()
    assert items["item_id"].to_list() == ["p0", "p1", "p2"] * 2
    assert seconds == [1_650_000_000]


def test_douban_reviews_and_titles_are_read_as_published(tmp_path: Path) -> None:
    for domain, key in (("book", "book_id"), ("movie", "movie_id")):
        (tmp_path / f"{domain}reviews.txt").write_text(
            f'"user_id"\t"{key}"\t"rating"\t"labels"\t"comment"\t"time"\n'
            f'"1"\t"10"\t"4"\t"小说"\t"他说 ""好"", 不错"\t"2012-05-0{len(domain) - 3}"\n'
            '"1"\t"11"\t"5"\t""\t""\t"2012-06-30"\n',
            encoding="utf-8",
        )
        (tmp_path / f"{domain}s.txt").write_text(
            '"UID"\t"name"\t"tag"\n"10"\t"百年孤独"\t"小说|文学"\n', encoding="utf-8"
        )
    sources = tuple(
        Source(
            domain=domain,
            form=DumpFormat.DOUBAN,
            interactions=str(tmp_path / f"{domain}reviews.txt"),
            items=str(tmp_path / f"{domain}s.txt"),
        )
        for domain in ("book", "movie")
    )
    dump = DumpConfig(sources=sources)
    store = Store(tmp_path / "store")
    with store.create(dataset_identity(dump)) as draft:
        made_from(dump).write(draft)
        items = pl.read_parquet(draft.path / ITEMS)
        times = pl.read_ipc(draft.path / EVENTS)["timestamp"]
        assert draft.counts["events"] == 4
    assert items.select("domain", "item_id", "title", "categories").rows() == [
        ("book", "10", "百年孤独", ["小说", "文学"]),
        ("book", "11", None, None),
        ("movie", "10", "百年孤独", ["小说", "文学"]),
        ("movie", "11", None, None),
    ]
    assert times.to_list()[:2] == [1_335_830_400, 1_335_916_800]


def test_ties_of_files_by_domain_do_not_put_one_domain_first(tmp_path: Path) -> None:
    users = [f"u{n}" for n in range(60)]
    sources = tuple(
        Source(
            domain=domain,
            form=DumpFormat.AMAZON_2018,
            interactions=as_lines(
                tmp_path / f"{domain}.json.gz",
                [
                    {"reviewerID": user, "asin": "1", "unixReviewTime": 1_400_000_000}
                    for user in users
                ],
            ),
        )
        for domain in ("a", "b")
    )
    dump = DumpConfig(sources=sources)
    store = Store(tmp_path / "store")
    with store.create(dataset_identity(dump)) as draft:
        made_from(dump).write(draft)
        first = pl.read_ipc(draft.path / EVENTS)["item_index"].gather_every(2)
    assert 15 < (first == 1).sum() < 45
