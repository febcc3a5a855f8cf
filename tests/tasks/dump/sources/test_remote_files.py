"""Files of URLs are copied once, read like others, and named without the secrets of their URLs."""

import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.registry import _registry

from artifacts.store import Store
from tasks.dump.dump_config import DumpConfig
from tasks.dump.sources.files import UnreadableDumpError
from tasks.dump.sources.remote_files import with_local_files
from tasks.dump.sources.source_files import paths_of
from tasks.dump.sources.unchanged_files import DumpChangedError
from tests.tasks.dump.dump_files import Ingested, as_csv, events_of


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[fsspec.AbstractFileSystem]:
    """A remote storage in memory with two days of events below ``/bucket``."""
    memory = fsspec.filesystem("memory")
    for place, rows in enumerate((events_of()[:50], events_of()[50:])):
        content = Path(as_csv(tmp_path / "x.csv", rows)).read_bytes()
        memory.pipe_file(f"/bucket/day={place}/part-0.csv", content)
    memory.pipe_file("/bucket/_SUCCESS", b"")
    yield memory
    memory.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    "url",
    [
        "memory://bucket",
        "memory://bucket/*/part-*.csv",
        ("memory://bucket/day=0/part-0.csv", "memory://bucket/day=1/part-0.csv"),
    ],
)
def test_a_folder_a_pattern_and_files_behind_a_url_are_read(
    url: str | tuple[str, ...], bucket: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    made = Ingested(tmp_path, interactions=url)
    made.require_balance()
    assert (made.counts["rows_in"], made.counts["events"]) == (96, 96)
    assert Ingested(tmp_path, interactions=url).result.reused


def test_files_that_are_replaced_between_two_copies_are_not_mixed(
    bucket: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    files = [f"memory://bucket/day={day}/part-0.csv" for day in range(2)]
    get = type(bucket).get_file

    def replacing(self: object, path: str, *others: object, **named: object) -> object:
        got = get(self, path, *others, **named)  # type: ignore[arg-type]
        bucket.pipe_file("/bucket/day=0/part-0.csv", b"another content")
        return got

    with monkeypatch.context() as patched:
        patched.setattr(type(bucket), "get_file", replacing)
        with pytest.raises(DumpChangedError, match=r"day=0/part-0\.csv was replaced or written"):
            with_local_files(DumpConfig(interactions=tuple(files)), store)
    local = with_local_files(DumpConfig(interactions=tuple(files)), store)
    assert Path(paths_of(local.interactions or ())[0]).read_bytes() == b"another content"


def test_what_did_not_change_is_not_fetched_again(
    bucket: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, dump = Store(tmp_path / "store"), DumpConfig(interactions="memory://bucket")
    fetched: list[str] = []
    get = type(bucket).get_file

    def counted(self: object, path: str, *others: object, **named: object) -> object:
        fetched.append(path)
        return get(self, path, *others, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(type(bucket), "get_file", counted)
    first = with_local_files(dump, store)
    assert with_local_files(dump, store) == first
    assert len(fetched) == 3
    bucket.pipe_file("/bucket/day=1/part-0.csv", b"user_id,item_id,domain,timestamp\n")
    bucket.rm("/bucket/day=0/part-0.csv")
    again = with_local_files(dump, store)
    left = sorted(Path(str(again.interactions)).rglob("part-0.csv"))
    assert [path.read_text() for path in left] == ["user_id,item_id,domain,timestamp\n"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memory://bucket/none.csv", "is no file and no folder of files; correct the URL"),
        ("memory://bucket/*.parquet", "is no file and no folder of files; correct the URL"),
        ("nonsense://x/e.csv", "cannot be read: ValueError: Protocol not known: nonsense"),
        ("http://127.0.0.1:9/e.csv", "cannot be read: "),
    ],
)
def test_a_url_that_cannot_be_read_is_one_line(
    url: str, said: str, bucket: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    with pytest.raises(UnreadableDumpError) as caught:
        Ingested(tmp_path, interactions=url)
    message = str(caught.value)
    assert message.startswith(url.partition("?")[0])
    assert said in message
    assert "\n" not in message


def test_a_package_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    for scheme in ("s3", "s3a"):  # Other tests may have loaded it.
        monkeypatch.delitem(_registry, scheme, raising=False)
    with pytest.raises(
        UnreadableDumpError, match=r"s3:// needs a package that is not.*s3fs.*with pip"
    ):
        Ingested(tmp_path, interactions="s3://bucket/events.parquet")


def test_no_secret_of_a_url_is_shown(tmp_path: Path) -> None:
    secret = "https://user:word@host.invalid/e.csv?X-Amz-Signature=abc"
    with pytest.raises(UnreadableDumpError) as caught:
        Ingested(tmp_path, interactions=secret.replace("https", "nonsense"))
    assert not any(part in str(caught.value) for part in ("word", "abc"))
