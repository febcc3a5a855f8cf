"""Names, passwords and keys in URLs: shown nowhere, and put back where a URL is opened.

A URL is taken apart where it comes in (an option, a variable, a dump's configuration); what goes
into parameters, artifacts, logs and messages is what `put_aside` returns. The rest stays in the
memory of the process. A process that did not take the URL apart itself cannot open it.
"""

import re
from urllib.parse import urlsplit, urlunsplit

CREDENTIAL = re.compile(r"key|token|secret|sig|passw|pwd|auth|credential", re.IGNORECASE)
"""Found in the name of a query's field whose value is a credential."""

HIDDEN = "…"
"""In place of a query's credential."""

_USER = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s?#'\"<>]*@")
_FIELD = re.compile(r"(?P<name>[?&][^=&\s'\"<>]*=)(?P<value>[^&\s'\"<>#]+)")

_kept: dict[str, str] = {}


def without_credentials(text: str) -> str:
    """Returns a text, a URL or one that holds URLs, without the credentials of its URLs."""
    if "://" not in text:
        return text
    return _FIELD.sub(_hidden, _USER.sub(r"\g<scheme>", text))


def shown_url(url: str) -> str:
    """Returns a URL for messages, without user, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def put_aside(url: str) -> str:
    """Returns a URL without its credentials, and keeps them for `with_credentials`."""
    shown = without_credentials(url)
    if shown != url:
        _kept[shown] = url
    return shown


def with_credentials(url: str) -> str:
    """Returns a URL, or one below it, as `put_aside` was given it."""
    if url in _kept:
        return _kept[url]
    for shown, given in _kept.items():
        base = shown.rstrip("/")
        if "?" not in shown and url.startswith(f"{base}/"):
            return given.rstrip("/") + url.removeprefix(base)
    return url


def _hidden(field: re.Match[str]) -> str:
    return field["name"] + (HIDDEN if CREDENTIAL.search(field["name"]) else field["value"])
