"""Parsing of error responses in common formats.

OpenAI's ``{"error": {…}}`` also arrives as a text (TEI, Ollama), in a list (Gemini), in a choice
(OpenRouter), or with the fields at the top (Mistral, DashScope, Azure, Baidu); FastAPI reports
``detail``, MiniMax a ``base_resp`` whose code is 0 without an error.
All of them also occur with status 200.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import JsonValue

_NAMED_STATUS = {
    "resource_exhausted": 429,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "rate_limited": 429,
    "too_many_requests": 429,
    "insufficient_quota": 402,
    "insufficient_balance": 402,
    "payment_required": 402,
    "unauthenticated": 401,
    "unauthorized": 401,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_denied": 403,
    "permission_error": 403,
    "not_found": 404,
    "not_found_error": 404,
    "model_not_found": 404,
    "invalid_argument": 400,
    "invalid_request_error": 400,
    "unavailable": 503,
    "overloaded_error": 503,
    "service_unavailable": 503,
    "deadline_exceeded": 504,
    "timeout": 504,
    "internal": 500,
    "internal_error": 500,
    "internal_server_error": 500,
    "server_error": 500,
    "api_error": 500,
}
_STATUS = re.compile(r"[0-9]{3}")
_LONGEST_NAME = 200
_WORDS = ("message", "msg", "detail", "error_msg", "status_msg", "error", "title", "reason")


class ServerError(NamedTuple):
    """A server's error. ``status``: number in the body (None without one); ``names``: codes and
    types in lower case; ``field``: refused field of the request."""

    words: str
    status: int | None
    names: tuple[str, ...]
    field: str | None

    @property
    def named_status(self) -> int | None:
        """Returns the status in the body, as a number or by its name."""
        if self.status is not None:
            return self.status
        return next((_NAMED_STATUS[name] for name in self.names if name in _NAMED_STATUS), None)


def error_in(body: JsonValue) -> ServerError | None:
    """Returns the error in a JSON body, None without one."""
    if isinstance(body, list):
        return error_in(body[0]) if body and isinstance(body[0], dict) else None
    if not isinstance(body, dict):
        return None
    for name in ("error", "errors"):
        if body.get(name):
            return _error_of(body[name], body)
    told = body.get("base_resp")
    if isinstance(told, dict) and told.get("status_code"):
        return _error_of(told, {})
    if in_choice := _error_in_choice(body):
        return in_choice
    if "choices" in body or "data" in body:
        return None
    if body.get("object") == "error" or any(
        name in body and not (name == "message" and isinstance(body[name], dict))
        for name in ("message", "msg", "detail", "error_msg")
    ):  # A message with parts is an answer (Ollama's format).
        return _error_of(body, {})
    return None


def _error_in_choice(body: Mapping[str, JsonValue]) -> ServerError | None:
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    error = first.get("error") if isinstance(first, dict) else None
    return _error_of(error, {}) if error else None


def _error_of(error: JsonValue, around: Mapping[str, JsonValue]) -> ServerError:
    if isinstance(error, list) and error:
        error = error[0]
    if not isinstance(error, dict):
        said = "" if error is True else str(error)
        more = _first_text(around, "message", "detail")
        words = said if more in said else ": ".join(filter(None, (said, more)))
        return ServerError(words, _status(around), _names(around), None)
    detail = error.get("detail")
    if isinstance(detail, list) and detail and isinstance(detail[0], dict):
        return _invalid_field(detail[0])
    words = _first_text(error, *_WORDS)
    if upstream := _upstream_words(error):
        words = f"{words}: {upstream}" if words else upstream
    names = (*_names(error), *_names(around))
    status = _status(error) or _status(around)
    field = error.get("param")
    return ServerError(
        words or ", ".join(names) or "an error without words",
        status,
        names,
        field if isinstance(field, str) and field else None,
    )


def _invalid_field(detail: Mapping[str, JsonValue]) -> ServerError:
    """Returns the invalid field in FastAPI's error format."""
    location = detail.get("loc")
    path = [str(part) for part in location] if isinstance(location, list) else []
    path = path[1:] if path[:1] == ["body"] else path
    words = f"{'.'.join(path)}: {detail.get('msg')}"
    return ServerError(words, None, _names(detail), ".".join(path) or None)


def _upstream_words(error: Mapping[str, JsonValue]) -> str | None:
    """Returns the error message of the provider behind a router."""
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return raw if isinstance(raw, str) else None


def _first_text(error: Mapping[str, JsonValue], *names: str) -> str:
    return next((_text(value) for name in names if (value := error.get(name))), "")


def _text(value: JsonValue) -> str:
    """Returns a message; several ones, as NestJS sends them, are joined."""
    return "; ".join(map(_text, value)) if isinstance(value, list) else str(value)


def _names(error: Mapping[str, JsonValue]) -> tuple[str, ...]:
    values = (error.get(name) for name in ("code", "type", "status", "error_type", "object"))
    return tuple(
        value[:_LONGEST_NAME].lower()
        for value in values
        if isinstance(value, str) and value and not value.isdigit() and value != "error"
    )


def _status(error: Mapping[str, JsonValue]) -> int | None:
    for name in ("code", "status", "statusCode", "status_code", "http_status"):
        value = error.get(name)
        if isinstance(value, str) and _STATUS.fullmatch(value):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600:
            return value
    return None
