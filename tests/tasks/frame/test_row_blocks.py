"""Rows come back in their order, and files hold the same bytes however the rows were cut."""

from pathlib import Path

import polars as pl
import pytest

from tasks.frame import row_blocks
from tasks.frame.row_blocks import RowFile, regrouped, write_blocks

ROWS = pl.DataFrame({"n": range(50), "text": [None if n % 7 == 0 else f"ä{n}" for n in range(50)]})


@pytest.mark.parametrize("slices", [1, 7, 50])
@pytest.mark.parametrize("block", [1, 9, 1000])
def test_rows_come_back_in_their_order_and_frames_stay_whole(
    tmp_path: Path, slices: int, block: int
) -> None:
    with RowFile(ROWS.schema, tmp_path) as file:
        for part in ROWS.iter_slices(slices):
            file.append(part)
        file.append(ROWS.clear())
        blocks = list(file.blocks(block))
        assert next(file.blocks(block)).equals(blocks[0]), "a second reading begins anew"
    assert pl.concat(blocks).equals(ROWS)
    assert all(each.height % slices == 0 for each in blocks[:-1])
    assert all(each.height >= block for each in blocks[:-1])
    assert not list(tmp_path.iterdir()), "the file has no name that could be left behind"


def test_a_file_without_rows_has_no_block(tmp_path: Path) -> None:
    with RowFile(ROWS.schema, tmp_path) as file:
        assert list(file.blocks(5)) == []


@pytest.mark.parametrize("slices", [1, 7, 50])
def test_regrouped_rows_are_as_many_as_asked_for(slices: int) -> None:
    frames = list(regrouped(ROWS.iter_slices(slices), 8))
    assert [frame.height for frame in frames] == [8] * 6 + [2]
    assert pl.concat(frames).equals(ROWS)


def test_a_file_has_the_same_bytes_however_its_rows_were_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_blocks, "ROW_GROUP", 13)
    paths = [tmp_path / f"{slices}.parquet" for slices in (1, 7, 50)]
    for path, slices in zip(paths, (1, 7, 50), strict=True):
        write_blocks(path, ROWS.iter_slices(slices), ROWS.schema)
    assert len({path.read_bytes() for path in paths}) == 1
    assert pl.read_parquet(paths[0]).equals(ROWS)
    write_blocks(paths[0], [], ROWS.schema)
    assert pl.read_parquet(paths[0]).equals(ROWS.clear())
