"""Credentials in URLs: removed from all output, and restored to open a URL.

Each URL is split at its input (option, variable, dump configuration); parameters, artifacts, logs
and messages contain the result of `hide_credentials`. The credentials stay in the memory of the
process; other processes cannot open the URL.
"""

import re
from urllib.parse import urlsplit, urlunsplit

CREDENTIAL = re.compile(r"key|token|secret|sig|passw|pwd|auth|credential", re.IGNORECASE)
"""Parts of names of query fields with credentials."""

HIDDEN = "…"
"""Replacement of a query's credential."""

_USER = re.compile(
    r"(?<![a-zA-Z0-9+.-])(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)"
    # A secret may have a slash that is not encoded, as those of AWS; a port has digits only.
    r"(?:[^/\s?#'\"<>]*@|[^/\s?#'\"<>:@\[\]]*:(?!\d*(?:[/?#,]|$))[^\s'\"<>,]{0,200}@)"
)
_FIELD = re.compile(r"(?P<name>[?&][^=&\s'\"<>]*=)(?P<value>[^&\s'\"<>#]+)")

_kept: dict[str, str] = {}


def without_credentials(text: str) -> str:
    """Returns a text without the credentials of the URLs in it."""
    if "://" not in text:
        return text
    return _FIELD.sub(_hidden, _USER.sub(r"\g<scheme>", text))


def shown_url(url: str) -> str:
    """Returns a URL for messages, without user, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def hide_credentials(url: str) -> str:
    """Returns a URL without its credentials, which are kept for `with_credentials`."""
    shown = without_credentials(url)
    if shown != url:
        _kept[shown] = url
    return shown


def with_credentials(url: str) -> str:
    """Returns a URL, or one below it, with the credentials given to `hide_credentials`."""
    if url in _kept:
        return _kept[url]
    for shown, given in _kept.items():
        base = shown.rstrip("/")
        if "?" not in shown and url.startswith(f"{base}/"):
            return given.rstrip("/") + url.removeprefix(base)
    return url


def _hidden(field: re.Match[str]) -> str:
    return field["name"] + (HIDDEN if CREDENTIAL.search(field["name"]) else field["value"])
