"""A price is the amount that the shop wrote, or none: never a hundredfold."""

import json
from pathlib import Path

import polars as pl
import pytest

from tasks.dump.fields.prices import PriceField
from tasks.dump.sources import files
from tests.tasks.dump.dump_files import as_csv, events_of, items_of, of_events


def read(*texts: object) -> list[float | None]:
    field = PriceField()
    column = pl.Series("price", texts, strict=False)
    found = field.read(column)
    while not field.is_settled():
        field = field.fresh()
        found = field.read(column)
    return found.to_list()


def notes(*texts: object) -> str:
    field = PriceField()
    field.read(pl.Series("price", texts, strict=False))
    return "; ".join(field.notes())


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("12,99 €", 12.99),
        ("12,50", 12.5),
        ("€ 9,95", 9.95),
        ("4,5", 4.5),
        ("1.234,56", 1234.56),
        ("1 299,00", 1299.0),
        ("1\u00a0299,00\u00a0kr", 1299.0),
        ("1\u202f299,00 €", 1299.0),
        ("R$ 1.299,00", 1299.0),
        ("12,99 zł", 12.99),
        ("0,999", 0.999),
        ("1.234.567,8", 1234567.8),
        ("CDN$ 5", 5.0),
        ("Rs. 5", 5.0),
        ("₹499", 499.0),
        ("₹1,23,456.00", 123456.0),
        ("$1,234.50", 1234.5),
        ("1'299.00", 1299.0),
        ("CHF 12.-", 12.0),
        ("129:-", 129.0),
        ("Rs. 499/-", 499.0),
        ("12,- €", 12.0),
        ("US$12.99", 12.99),
        ("12.99 USD", 12.99),
        ("NT$1,299.0", 1299.0),
        ("$3.50 - $7", 3.5),
        ("5 – 7 €", 5.0),
        (".99", 0.99),
        ("1e3", 1000.0),
        ("0", 0.0),
        ("¥1280", 1280.0),
        ("35.00元", 35.0),
        (" 4 ", 4.0),
    ],
)
def test_a_price_that_tells_its_marks_is_its_amount(text: str, price: float) -> None:
    assert read(text) == [price]


@pytest.mark.parametrize(
    "text",
    ["free", "call", "$", "", "N/A", "nan", "inf", "-1", "-12,99", "3.5.1", "1,2,3", "12 pcs",
     "3 for 2", "1 2", "12.99.", "1.23.456", "{}", "[1]", "1,2345.6",
     "12.50-", "1.234,56-", "(12.50)", "−12.50", "12-"],
)  # fmt: skip
def test_what_is_no_price_is_none(text: str) -> None:
    assert read(text, "12.99") == [None, 12.99]


@pytest.mark.parametrize(
    ("texts", "prices"),
    [
        (["1.234", "12,99"], [1234.0, 12.99]),
        (["1,234", "12.99"], [1234.0, 12.99]),
        (["1.234", "12.99"], [1.234, 12.99]),
        (["1,234", "12,99"], [1.234, 12.99]),
        (["1.234", "999"], [None, 999.0]),
        (["$1,234", "$999", "$2,500"], [None, 999.0, None]),
        (["1,234", "1,234,567"], [1234.0, 1234567.0]),
        (["1.234", "1.234.567"], [1234.0, 1234567.0]),
        (["1.234", "12,99", "12.99"], [None, 12.99, 12.99]),
    ],
)
def test_a_mark_before_three_digits_is_what_the_other_prices_say(
    texts: list[str], prices: list[float | None]
) -> None:
    assert read(*texts) == prices


def test_numbers_are_prices_as_they_are() -> None:
    assert read(1.125, -1.0, float("nan"), None, 3) == [1.125, None, None, None, 3.0]


def test_prices_that_are_left_out_are_counted_with_one_of_them() -> None:
    assert "2 of them, such as '1.234', are left out" in notes("1.234", "2.345", "7")
    assert "values that are no prices, 2 of them, such as 'free'" in notes("free", "call", "7.5")
    assert "prices below zero, 1 of them" in notes("-1", "7.5")
    assert notes("12.99", "7", "$1,234.50", None, "") == ""


def test_the_last_price_can_tell_what_the_first_one_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BLOCK_BYTES", 100)
    priced = [{**row, "price": "1.299"} for row in items_of()]
    priced[-1]["price"] = "4,50 €"
    made = of_events(tmp_path, events_of(), items=as_csv(tmp_path / "i.csv", priced))
    assert made.items["price"].to_list() == [1299.0] * 19 + [4.5]
    made.require_balance()


def test_json_numbers_keep_three_decimals(tmp_path: Path) -> None:
    prices = [1.125, 2, "3,50", None] * 5
    rows = [{**row, "price": price} for row, price in zip(items_of(), prices, strict=True)]
    (tmp_path / "i.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = of_events(tmp_path, events_of(), items=str(tmp_path / "i.jsonl"))
    assert made.items["price"].to_list()[:4] == [1.125, 2.0, 3.5, None]
