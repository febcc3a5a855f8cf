"""The commands in messages convert the file as they say."""

import gzip
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.dump.naming.column_names import AbsentColumnError
from tasks.dump.naming.sorted_files import sorted_files
from tasks.dump.sources.files import UnreadableDumpError
from tests.tasks.dump.dump_files import Ingested, as_csv, changed, events_of, items_of

EVENTS, ITEMS = events_of(), items_of()
NAMES = dict(zip(("c1", "c2", "c3", "c4"), EVENTS[0], strict=True))
MOMENTS = sorted(int(str(row["timestamp"])) for row in EVENTS)

needs_jq = pytest.mark.skipif(not shutil.which("jq"), reason="jq is not installed")


def converted(folder: Path, message: str, file: Path, new: str) -> Path:
    """Runs the command of a message as a user does: with the name of the file in place of FILE."""
    command = re.search(
        r"(?:: |\()((?:awk|sed|zcat|iconv|\.venv).*?)(?:\), where.*|, or from.*)?$", message
    )
    assert command, message
    script = command[1].replace("FILE", file.name)
    script = script.replace(".venv/bin/python", sys.executable)
    script = script if ">" in script or "write_csv" in script else f"{script} > NEW"
    subprocess.run(["bash", "-c", script], cwd=folder, check=True)
    return folder / new


def refusal(**dump: object) -> str:
    with pytest.raises(UnreadableDumpError) as refused:
        Ingested(Path("unused"), **dump)
    return str(refused.value)


@pytest.mark.parametrize(
    ("separator", "name"),
    [
        (",", "e.csv"),
        ("\t", "e.tsv"),
        ("|", "e.data"),
        (";", "e.txt"),
        ("::", "e.dat"),
        ("::::", "e.txt"),
        (" ", "e.txt"),
        ("<SEP>", "e.txt"),
        ("\x01", "part-0"),
    ],
)
def test_a_file_without_names_of_columns_is_converted_by_the_command(
    tmp_path: Path, separator: str, name: str
) -> None:
    file = tmp_path / name
    lines = [separator.join(map(str, row.values())) for row in EVENTS]
    file.write_text("\n".join(lines) + "\n")
    message = refusal(interactions=str(file))
    new = converted(tmp_path, message, file, f"NEW{file.suffix}")
    made = Ingested(tmp_path, interactions=str(new), columns=NAMES)
    made.require_balance()
    assert made.moments == MOMENTS
    with pytest.raises(UnreadableDumpError, match=re.escape(message.partition("; ")[2])):
        sorted_files([str(file)], {})


def test_a_compressed_file_and_one_with_blanks_between_names_are_converted(tmp_path: Path) -> None:
    lines = [" ".join(map(str, row)) for row in (EVENTS[0], *(row.values() for row in EVENTS))]
    file = tmp_path / "e.txt.gz"
    file.write_bytes(gzip.compress("\n".join(lines).encode()))
    new = converted(tmp_path, refusal(interactions=str(file)), file, "NEW.txt")
    assert Ingested(tmp_path, interactions=str(new)).moments == MOMENTS


def test_blocks_of_rows_below_an_id_are_converted(tmp_path: Path) -> None:
    file = tmp_path / "e.txt"
    items = sorted({row["item_id"] for row in EVENTS}, key=str)
    blocks = [
        f"{item}:\n"
        + "".join(
            f"{row['user_id']},{row['domain']},{row['timestamp']}\n"
            for row in EVENTS
            if row["item_id"] == item
        )
        for item in items
    ]
    file.write_text("".join(blocks))
    new = converted(tmp_path, refusal(interactions=str(file)), file, "NEW.csv")
    new.write_text("item_id,user_id,domain,timestamp\n" + new.read_text())
    assert Ingested(tmp_path, interactions=str(new)).moments == MOMENTS


def test_a_header_of_another_encoding_is_converted(tmp_path: Path) -> None:
    file = tmp_path / "i.csv"
    items = as_csv(file, [{**row, "größe": "groß"} for row in ITEMS])
    file.write_bytes(Path(items).read_text().encode("cp1252"))
    events = as_csv(tmp_path / "e.csv", EVENTS)
    message = refusal(interactions=events, items=items)
    assert "is not UTF-8" in message
    new = converted(tmp_path, message, file, "NEW").rename(tmp_path / "new.csv")
    assert Ingested(tmp_path, interactions=events, items=str(new)).counts["items_without_text"] == 0


@pytest.mark.parametrize("name", ["e.csv", pytest.param("e.jsonl", marks=needs_jq)])
def test_rows_without_times_are_numbered(tmp_path: Path, name: str) -> None:
    rows = [{k: v for k, v in row.items() if k != "timestamp"} for row in EVENTS]
    file = tmp_path / name
    if name == "e.csv":
        as_csv(file, changed(rows, user_id=lambda user: str(user)[1:]), delimiter=";")
    else:
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    message = refusal(interactions=str(file))
    assert "no times but the rows are in order" in message
    new = converted(tmp_path, message, file, f"NEW{file.suffix}")
    made = Ingested(tmp_path, interactions=str(new))
    assert made.moments == list(range(1, len(rows) + 1))
    assert str(made.dataset.users["user_id"][0]).endswith("000")


def test_rows_of_orders_are_joined_with_their_orders(tmp_path: Path) -> None:
    lines = [{"order_id": f"0{n}", "item_id": row["item_id"]} for n, row in enumerate(EVENTS)]
    orders = [
        {"order_id": f"0{n}", **{k: v for k, v in row.items() if k != "item_id"}}
        for n, row in enumerate(EVENTS)
    ]
    file, items = tmp_path / "lines.csv", as_csv(tmp_path / "i.csv", ITEMS)
    as_csv(file, lines)
    as_csv(tmp_path / "ORDERS", orders)
    assert sorted_files([str(file), items], {}) == ((str(file),), (items,))
    new = converted(tmp_path, refusal(interactions=str(file)), file, "NEW.csv")
    assert Ingested(tmp_path, interactions=str(new)).moments == MOMENTS


@needs_jq
@pytest.mark.parametrize("write", [json.dumps, repr])
@pytest.mark.parametrize("name", ["aid", "item_id"])
def test_rows_in_a_list_are_written_one_by_one(tmp_path: Path, write: object, name: str) -> None:
    assert callable(write)
    file = tmp_path / "e.jsonl.gz"
    rows = [
        {
            "user_id": row["user_id"],
            "domain": row["domain"],
            "events": [{"ok": True, name: row["item_id"], "ts": row["timestamp"]}],
        }
        for row in EVENTS
    ]
    file.write_bytes(gzip.compress("".join(f"{write(row)}\n" for row in rows).encode()))
    with pytest.raises(AbsentColumnError) as refused:
        Ingested(tmp_path, interactions=str(file))
    new = converted(tmp_path, str(refused.value), file, "rows.jsonl")
    columns = {f"events.{name}": "item_id", "events.ts": "timestamp"}
    assert Ingested(tmp_path, interactions=str(new), columns=columns).moments == MOMENTS
