"""Atomic writes, on a disk that takes no more."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts.files.durable import create_exclusively, write_atomically


@pytest.mark.parametrize("write", [write_atomically, create_exclusively])
def test_a_write_that_fails_leaves_nothing_behind(
    write: Callable[[Path, bytes], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "note", b"content")
    assert list(tmp_path.iterdir()) == []
