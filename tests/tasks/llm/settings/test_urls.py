"""Where a request goes, and what of an address is shown."""

import pytest

from tasks.llm.settings.urls import (
    CHAT_ROUTE,
    EMBEDDINGS_ROUTE,
    address,
    key_headers,
    root_of,
    shown_url,
)

AZURE = "https://r.openai.azure.com/openai/deployments/d"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h:8000/v1", "http://h:8000/v1/chat/completions"),
        ("http://h:8000/v1/", "http://h:8000/v1/chat/completions"),
        ("http://h", "http://h/chat/completions"),
        (f"{AZURE}?api-version=1", f"{AZURE}/chat/completions?api-version=1"),
        (f"{AZURE}/?api-version=1", f"{AZURE}/chat/completions?api-version=1"),
        (f"{AZURE}/chat/completions?api-version=1", f"{AZURE}/chat/completions?api-version=1"),
        ("http://h/v1/embeddings", "http://h/v1/chat/completions"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1/chat/completions"),
        ("http://h/v1#part", "http://h/v1/chat/completions"),
        (None, "https://api.openai.com/v1/chat/completions"),
    ],
)
def test_a_route_stands_before_the_query(url: str | None, expected: str) -> None:
    assert address(url, CHAT_ROUTE) == expected


def test_openais_own_url_is_as_its_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", " https://eu.api.openai.com/v1/ ")
    assert address(None, EMBEDDINGS_ROUTE) == "https://eu.api.openai.com/v1/embeddings"
    assert shown_url(None) == "https://eu.api.openai.com/v1/"


def test_the_root_of_a_server_has_no_v1_and_no_query() -> None:
    assert root_of("http://h:8000/v1/") == "http://h:8000"
    assert root_of("http://h:8000/a/v1?x=1") == "http://h:8000/a"


def test_what_is_shown_of_an_address_holds_no_credential() -> None:
    assert shown_url("http://user:pw@h:1/v1?code=x#y") == "http://h:1/v1"
    assert shown_url(None) == "OpenAI"


def test_the_key_goes_into_the_header_that_the_server_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project")
    assert key_headers(f"{AZURE}?api-version=1", "k") == {"api-key": "k"}
    assert key_headers("http://h/v1", "k") == {"Authorization": "Bearer k"}
    assert key_headers(None, "k") == {
        "Authorization": "Bearer k",
        "OpenAI-Organization": "org",
        "OpenAI-Project": "project",
    }
