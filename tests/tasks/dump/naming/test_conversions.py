"""The commands in messages convert the file as they say."""

import gzip
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from tasks.dump.naming.column_names import AbsentColumnError
from tasks.dump.naming.sorted_files import sorted_files
from tasks.dump.sources.files import UnreadableDumpError
from tests.tasks.dump.dump_files import Ingested, as_csv, changed, events_of, items_of

EVENTS, ITEMS = events_of(), items_of()
NAMES = dict(zip(("c1", "c2", "c3", "c4"), EVENTS[0], strict=True))
MOMENTS = sorted(int(str(row["timestamp"])) for row in EVENTS)

needs_zstd = pytest.mark.skipif(not shutil.which("zstd"), reason="zstd is not installed")
needs_jq = pytest.mark.skipif(not shutil.which("jq"), reason="jq is not installed")


def converted(folder: Path, message: str, file: Path, new: str) -> Path:
    """Runs the command of a message as a user does: with the name of the file in place of FILE."""
    command = re.search(
        r"(?:: |\()((?:awk|sed|zcat|zstd|iconv|\.venv).*?)(?:\), where.*|, or from.*)?$", message
    )
    assert command, message
    script = command[1].replace("FILE", file.name)
    script = script.replace(".venv/bin/python", sys.executable)
    script = script if ">" in script or "write_csv" in script else f"{script} > NEW"
    subprocess.run(["bash", "-c", script], cwd=folder, check=True)
    return folder / new


def packed(text: str, packing: str) -> bytes:
    if packing == "gz":
        return gzip.compress(text.encode())
    return bytes(pa.compress(text.encode(), codec="zstd", asbytes=True))


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


@pytest.mark.parametrize("packing", ["gz", pytest.param("zst", marks=needs_zstd)])
def test_a_compressed_file_and_one_with_blanks_between_names_are_converted(
    tmp_path: Path, packing: str
) -> None:
    lines = [" ".join(map(str, row)) for row in (EVENTS[0], *(row.values() for row in EVENTS))]
    file = tmp_path / f"e.txt.{packing}"
    file.write_bytes(packed("\n".join(lines), packing))
    new = converted(tmp_path, refusal(interactions=str(file)), file, "NEW.txt")
    assert Ingested(tmp_path, interactions=str(new)).moments == MOMENTS


def test_lines_in_quotation_marks_that_end_in_cr_lf_are_converted(tmp_path: Path) -> None:
    file = tmp_path / "e.csv"
    lines = [",".join(map(str, row)) for row in (EVENTS[0], *(row.values() for row in EVENTS))]
    file.write_bytes("".join(f'"{line}"\r\n' for line in lines).encode())
    new = converted(tmp_path, refusal(interactions=str(file)), file, "NEW.csv")
    assert Ingested(tmp_path, interactions=str(new)).moments == MOMENTS


@pytest.mark.parametrize(("name", "end"), [("e.txt", "\n"), ("e.txt.gz", "\r\n")])
def test_blocks_of_rows_below_an_id_are_converted(tmp_path: Path, name: str, end: str) -> None:
    file = tmp_path / name
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
    text = "".join(blocks).replace("\n", end).encode()
    file.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    new = converted(tmp_path, refusal(interactions=str(file)), file, "NEW.txt")
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


@pytest.mark.parametrize(
    "name",
    [
        "e.csv",
        pytest.param("e.jsonl", marks=needs_jq),
        pytest.param("e.json", marks=needs_jq),
    ],
)
def test_rows_without_times_are_numbered(tmp_path: Path, name: str) -> None:
    rows = [{k: v for k, v in row.items() if k != "timestamp"} for row in EVENTS]
    file = tmp_path / name
    if name == "e.csv":
        as_csv(file, changed(rows, user_id=lambda user: str(user)[1:]), delimiter=";")
    elif name == "e.json":
        file.write_text(json.dumps(rows))
    else:
        file.write_text("\n".join(map(json.dumps, rows)))  # The last line has no end.
    message = refusal(interactions=str(file))
    assert "no times but the rows are in order" in message
    new = converted(tmp_path, message, file, "NEW.csv" if name == "e.csv" else "NEW.jsonl")
    made = Ingested(tmp_path, interactions=str(new))
    assert made.moments == list(range(1, len(rows) + 1))
    assert str(made.dataset.users["user_id"][0]).endswith("000")


@pytest.mark.parametrize("name", ["lines.csv", "lines.json", "lines.arrow"])
def test_rows_of_orders_are_joined_with_their_orders(tmp_path: Path, name: str) -> None:
    lines = [{"order_id": f"0{n}", "item_id": row["item_id"]} for n, row in enumerate(EVENTS)]
    orders = [
        {"order_id": f"0{n}", **{k: v for k, v in row.items() if k != "item_id"}}
        for n, row in enumerate(EVENTS)
    ]
    file, items = tmp_path / name, as_csv(tmp_path / "i.csv", ITEMS)
    for path, rows in ((file, lines), (tmp_path / "ORDERS", orders)):
        match file.suffix:
            case ".csv":
                as_csv(path, rows)
            case ".json":
                path.write_text(json.dumps(rows))
            case _:
                pl.DataFrame(rows).write_ipc(path)
    assert sorted_files([str(file), items], {}) == ((str(file),), (items,))
    new = converted(tmp_path, refusal(interactions=str(file)), file, "NEW.csv")
    assert Ingested(tmp_path, interactions=str(new)).moments == MOMENTS


@needs_jq
@pytest.mark.parametrize("write", [json.dumps, repr])
@pytest.mark.parametrize("name", ["aid", "item_id"])
@pytest.mark.parametrize("field", ["events", "line-items"])
def test_rows_in_a_list_are_written_one_by_one(
    tmp_path: Path, write: object, name: str, field: str
) -> None:
    assert callable(write)
    file = tmp_path / "e.jsonl.gz"
    rows = [
        {
            "user_id": row["user_id"],
            "domain": row["domain"],
            field: [{"ok": True, name: row["item_id"], "ts": row["timestamp"]}],
        }
        for row in EVENTS
    ]
    file.write_bytes(gzip.compress("".join(f"{write(row)}\n" for row in rows).encode()))
    with pytest.raises(AbsentColumnError) as refused:
        Ingested(tmp_path, interactions=str(file))
    new = converted(tmp_path, str(refused.value), file, "rows.jsonl")
    columns = {f"{field}.{name}": "item_id", f"{field}.ts": "timestamp"}
    assert Ingested(tmp_path, interactions=str(new), columns=columns).moments == MOMENTS
