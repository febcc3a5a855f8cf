"""No credential of a URL is shown; it is put back where the URL is opened."""

import pytest

from artifacts.remote.url_credentials import (
    hide_credentials,
    shown_url,
    with_credentials,
    without_credentials,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:word@h/e.csv", "https://h/e.csv"),
        ("https://word@h:1/e.csv", "https://h:1/e.csv"),
        ("https://user:w@rd@h/e.csv", "https://h/e.csv"),
        ("https://user:w%40rd@h", "https://h"),
        ("s3://id:word@bucket/a", "s3://bucket/a"),
        ("s3://id:wo/rd+word@bucket/a", "s3://bucket/a"),
        ("https://id:wo?rd#word@h/a", "https://h/a"),
        ("https://h:8080/p/a@b.csv", "https://h:8080/p/a@b.csv"),
        ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
        ("http://h:1/v1,http://h:2/v1 a@b", "http://h:1/v1,http://h:2/v1 a@b"),
        ("s3://bucket/a: no such key, ask admin@h", "s3://bucket/a: no such key, ask admin@h"),
        ("filecache::ftp://id:word@h/a", "filecache::ftp://h/a"),
        ("postgresql+asyncpg://prefect:word@db/p", "postgresql+asyncpg://db/p"),
        ("https://h/e.csv?sig=word", "https://h/e.csv?sig=…"),
        ("https://h/e?id=5&X-Amz-Signature=word&v=1", "https://h/e?id=5&X-Amz-Signature=…&v=1"),
        ("http://h/v1?key=word", "http://h/v1?key=…"),
        ("http://h/v1?api-key=word#part", "http://h/v1?api-key=…#part"),
        ("http://h/v1?API_TOKEN=word", "http://h/v1?API_TOKEN=…"),
        ("http://h/?access_token=word&password=word", "http://h/?access_token=…&password=…"),
        ("GET https://u:word@h/a?key=word failed (https://u:word@h/b)", None),
        ("'https://u:word@h/a?key=word'", "'https://h/a?key=…'"),
        ("[https://u:word@h]", "[https://h]"),
        ("no URL: a@b ?key=x", "no URL: a@b ?key=x"),
        ("https://h/p/a@b.csv?v=2", "https://h/p/a@b.csv?v=2"),
        ("https://h/v1?api-version=2024", "https://h/v1?api-version=2024"),
        ("mail@h and https://h/a", "mail@h and https://h/a"),
    ],
)
def test_what_is_shown_holds_no_credential_and_all_else(text: str, shown: str | None) -> None:
    got = without_credentials(text)
    assert "word" not in got.replace("password", "")
    assert shown is None or got == shown
    assert without_credentials(got) == got


def test_a_url_put_aside_is_opened_whole() -> None:
    given = "https://user:word@store.invalid/data?sig=x&v=1"
    shown = hide_credentials(given)
    assert shown == "https://store.invalid/data?sig=…&v=1"
    assert with_credentials(shown) == given
    assert hide_credentials(shown) == shown
    assert with_credentials(shown) == given


def test_what_lies_below_a_url_put_aside_is_opened_with_its_credentials() -> None:
    shown = hide_credentials("sftp://user:word@nas.invalid/dumps/")
    assert with_credentials(f"{shown}2026/e.csv") == "sftp://user:word@nas.invalid/dumps/2026/e.csv"
    for other in ("sftp://nas.invalid/dumps-2/e.csv", "sftp://nas.invalid.evil/dumps/e.csv"):
        assert with_credentials(other) == other


@pytest.mark.parametrize(
    "url", ["data/store", "s3://bucket/a b", "/tmp/x?key=y", "", "https://h/a"]
)
def test_a_place_without_credentials_stays_as_it_is(url: str) -> None:
    assert hide_credentials(url) == url
    assert with_credentials(url) == url


def test_a_short_url_has_no_query() -> None:
    assert shown_url("https://user:word@h/a/b.csv?sig=word#x") == "https://h/a/b.csv"
