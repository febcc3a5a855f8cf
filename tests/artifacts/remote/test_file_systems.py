"""A URL that nothing here can open is named in one line, with what it needs."""

from pathlib import Path

import pytest

from artifacts.remote.file_systems import (
    CredentialsOfBucketError,
    MissingFileSystemError,
    file_system_of,
)
from artifacts.remote.url_credentials import hide_credentials
from artifacts.store import Store


@pytest.mark.parametrize("url", ["gs://bucket/x", "abfs://box/x", "hdfs://host/x", "dropbox://x"])
def test_a_package_that_is_missing_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_package(name: str, **options: object) -> None:
        raise ImportError("Please install the package of this protocol")

    monkeypatch.setattr("fsspec.core.url_to_fs", no_package)
    with pytest.raises(
        MissingFileSystemError, match=rf"{url.partition('://')[0]}:// needs a package"
    ):
        file_system_of(url)


def test_a_protocol_that_nobody_knows_is_named() -> None:
    with pytest.raises(MissingFileSystemError, match="nosuch:// is not a protocol"):
        file_system_of("nosuch://bucket/x")


def test_a_store_under_such_a_url_says_so(tmp_path: Path) -> None:
    with pytest.raises(MissingFileSystemError, match="nosuch://"):
        Store("nosuch://bucket/x")


@pytest.mark.parametrize("secret", ["secret", "se/cret"])
def test_credentials_of_a_bucket_are_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(CredentialsOfBucketError, match="AWS_ACCESS_KEY_ID") as refused:
        file_system_of(hide_credentials(f"s3://id:{secret}@bucket/store"))
    assert "cret" not in str(refused.value)


def test_a_local_folder_needs_nothing(tmp_path: Path) -> None:
    files, root = file_system_of(str(tmp_path))
    assert files.isdir(root)
