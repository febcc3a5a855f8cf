"""Addresses of routes of a configured URL, and URLs for messages."""

import os
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from artifacts.remote import url_credentials

OPENAI_URL = "https://api.openai.com/v1"
CHAT_ROUTE = "/chat/completions"
EMBEDDINGS_ROUTE = "/embeddings"
API_VERSION = "api-version"
"""Query field of Azure's URLs, which also need the key in the header ``api-key``."""


def base_of(url: str | None) -> str:
    """Returns the URL of an endpoint; None stands for OpenAI's own, or OPENAI_BASE_URL."""
    return url or os.environ.get("OPENAI_BASE_URL", "").strip() or OPENAI_URL


def address(url: str | None, route: str) -> str:
    """Returns the address of a route; a query such as ``?api-version=…`` stays behind the path.

    A URL that was copied with a route at its end is understood.
    """
    parts = urlsplit(base_of(url))
    path = parts.path.rstrip("/")
    for known in (CHAT_ROUTE, EMBEDDINGS_ROUTE):
        path = path.removesuffix(known)
    return urlunsplit((parts.scheme, parts.netloc, path + route, parts.query, ""))


def root_of(url: str) -> str:
    """Returns a server's address without ``/v1``, for routes of vLLM such as ``/metrics``."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/").removesuffix("/v1")
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def shown_url(url: str | None) -> str:
    """Returns a URL for messages, without name, password and query."""
    if url is None and not os.environ.get("OPENAI_BASE_URL"):
        return "OpenAI"
    return url_credentials.shown_url(base_of(url))


def key_headers(url: str | None, key: str) -> dict[str, str]:
    """Returns the headers that show the key to a server."""
    if API_VERSION in dict(parse_qsl(urlsplit(base_of(url)).query, keep_blank_values=True)):
        return {"api-key": key}
    headers = {"Authorization": f"Bearer {key}"}
    if url is None:  # Whom OpenAI bills.
        for name, variable in _BILLED.items():
            if value := os.environ.get(variable, "").strip():
                headers[name] = value
    return headers


def require_no_credentials(urls: str) -> str:
    """Returns URLs; raises ValueError, without quoting it, for one that holds a key."""
    for url in urls.split(","):
        parts = urlsplit(url.strip())
        names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
        if "@" in parts.netloc or any(url_credentials.CREDENTIAL.search(name) for name in names):
            raise ValueError(
                "a URL must not contain a key or password, because messages show it; remove it and "
                "set LLM4CDSR_API_KEY"
            )
    return urls


_BILLED = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"}
