"""The catalogue: clean titles at any size, items by domain."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prompts.render import one_line
from tasks.dump.items.item_reader import TITLE_CHARACTERS, catalogue_of, clean_titles, index_of
from tasks.dump.sources.files import UnreadableDumpError
from tests.tasks.dump.dump_files import events_of, items_of, of_events

PLAIN = st.text(max_size=12).filter(lambda text: text and text == text.strip())
UNCLEAN = (
    "Tea &amp; co",
    "a <b>c</b>",
    "a  b",
    "x" * 301,
    "soft\u00adhyphen",
    "a\u3000b",
    "\U00013460",
)
TITLES = st.none() | PLAIN | st.sampled_from(UNCLEAN)


@settings(deadline=None)
@given(st.lists(TITLES, min_size=1, max_size=9))
def test_titles_are_what_cleaning_each_one_gives(titles: list[str | None]) -> None:
    expected = [title and (one_line(title, TITLE_CHARACTERS) or None) for title in titles]
    assert clean_titles(pl.Series("title", titles, dtype=pl.String)).to_list() == expected


def test_an_item_outside_the_catalogue_has_index_zero() -> None:
    bought = pl.DataFrame({"domain": ["b", "a", "a"], "item_id": ["1", "2", "1"]})
    described = pl.DataFrame(
        {name: [] for name in ("item_id", "domain", "title", "brand", "description")},
        schema_overrides=dict.fromkeys(
            ("item_id", "domain", "title", "brand", "description"), pl.String
        ),
    )
    items = catalogue_of(bought, described)
    keys = pl.DataFrame({"domain": ["a", "b", "b"], "item_id": ["2", "2", "1"]})
    assert index_of(keys, items).tolist() == [2, 0, 3]


def test_an_items_file_without_rows_is_named(tmp_path: Path) -> None:
    (tmp_path / "i.csv").write_text("item_id,domain,title\n")
    with pytest.raises(UnreadableDumpError, match=r"i\.csv cannot be read: there is no row in it"):
        of_events(tmp_path, events_of(), items=str(tmp_path / "i.csv"))


def test_a_domain_whose_items_file_has_no_row_is_named(tmp_path: Path) -> None:
    (tmp_path / "food.csv").write_text("item_id,title\n")
    rows = [f"{row['item_id']},{row['title']}" for row in items_of() if row["domain"] == "kitchen"]
    (tmp_path / "kitchen.csv").write_text("\n".join(["item_id,title", *rows]))
    items = tuple(f"{name}={tmp_path}/{name}.csv" for name in ("food", "kitchen"))
    with pytest.raises(UnreadableDumpError, match=r"food\.csv cannot be read: there is no row"):
        of_events(tmp_path, events_of(), items=items)
