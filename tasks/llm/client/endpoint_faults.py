"""What went wrong with a request, and whether asking again can help.

Passing faults (429, 5xx, timeouts, cut connections, nobody there) are worth another try. The
others are answers: either the prompt is at fault (400: it alone fails) or everything is
refused (key, model, quota: the run ends, because every prompt would fail alike).
"""

import time
from email.utils import parsedate_to_datetime
from enum import Enum

import openai

from prompts.render import one_line
from tasks.llm.settings.llm_config import NO_KEY, EndpointSpec

REASON_CHARACTERS = 300
RETRIED_STATUS = frozenset({408, 409, 429})

_NO_CONNECTION = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})
_TRANSPORTS = frozenset({"httpx", "httpx2"})
"""By name: the `openai` package came with httpx before version 3 and comes with httpx2 since."""


class EndpointRefused(RuntimeError):
    """The endpoint refuses everything: wrong key, no such model, no permission, no credit."""


class Fault(Enum):
    """Why a request may be repeated."""

    RATE_LIMITED = "rate limited"
    SERVER_ERROR = "server error"
    TIMEOUT = "timeout"
    CUT = "connection cut"
    UNREACHABLE = "unreachable"


def passing_fault(error: Exception) -> Fault | None:
    """Returns why asking again may help; None where it can't."""
    if isinstance(error, openai.RateLimitError):
        return None if _is_out_of_credit(error) else Fault.RATE_LIMITED
    if isinstance(error, openai.APIStatusError):
        retried = error.status_code >= 500 or error.status_code in RETRIED_STATUS
        return Fault.SERVER_ERROR if retried else None
    if isinstance(error, openai.APIConnectionError):
        if type(error.__cause__).__name__ in _NO_CONNECTION:
            return Fault.UNREACHABLE
        return Fault.TIMEOUT if isinstance(error, openai.APITimeoutError) else Fault.CUT
    return None


def retry_after(error: Exception) -> float | None:
    """Returns the seconds that the server asks us to wait, if it does."""
    if not isinstance(error, openai.APIStatusError):
        return None
    headers = error.response.headers
    if milliseconds := _number(headers.get("retry-after-ms")):
        return milliseconds / 1000
    said = headers.get("retry-after")
    if (seconds := _number(said)) is not None:
        return max(0.0, seconds)
    try:
        return max(0.0, parsedate_to_datetime(said or "").timestamp() - time.time())
    except ValueError:
        return None


def is_of_transport(error: Exception) -> bool:
    """Whether httpx raised it, in a moment at which `openai` does not make it one of its own."""
    return any(kind.__module__.split(".")[0] in _TRANSPORTS for kind in type(error).__mro__)


def refusal(error: Exception, spec: EndpointSpec, url: str | None, secret: str) -> EndpointRefused:
    """Returns what to raise for an error that would fail every prompt alike."""
    where, words = url or "OpenAI", said_by(error, secret)
    if isinstance(error, openai.NotFoundError):
        return EndpointRefused(
            f"{where} has no model {spec.model} (HTTP 404); check the model's name and that "
            f"base_url ends in /v1. It said: {words}"
        )
    if isinstance(error, openai.RateLimitError):
        return EndpointRefused(
            f"{where} answers no more: the account behind {_key_of(spec)} has no "
            f"credit left. What was answered is kept; top it up and run again. It said: {words}"
        )
    return EndpointRefused(
        f"{where} refuses the key or the model {spec.model}; check {_key_of(spec)}. "
        f"It said: {words}"
    )


def _key_of(spec: EndpointSpec) -> str:
    """Where the key comes from, in words."""
    if spec.key_secret:
        return f"the Prefect Secret block {spec.key_secret}"
    return spec.key_variable or "the key"


def refuses_everything(error: Exception) -> bool:
    """Whether every other prompt would meet the same error."""
    kinds = openai.AuthenticationError | openai.PermissionDeniedError | openai.NotFoundError
    return isinstance(error, kinds) or (
        isinstance(error, openai.RateLimitError) and _is_out_of_credit(error)
    )


def reason_of(error: Exception, secret: str) -> str:
    """Returns why one prompt has no answer, in words for the quarantine table."""
    words = said_by(error, secret)
    if isinstance(error, openai.BadRequestError) and _is_too_long(error):
        return f"the prompt is longer than the model reads: {words}"
    if isinstance(error, openai.BadRequestError | openai.UnprocessableEntityError):
        return f"refused: {words}"
    if fault := passing_fault(error):
        return f"after every retry ({fault.value}): {words}"
    return words


def said_by(error: Exception, secret: str) -> str:
    """Returns the words of an error in one line. A server may quote the key: it goes no further."""
    said = str(error) if secret == NO_KEY else str(error).replace(secret, "[key]")
    return one_line(said, REASON_CHARACTERS)


def _is_out_of_credit(error: openai.RateLimitError) -> bool:
    return "insufficient_quota" in (error.code, error.type)


def _is_too_long(error: openai.BadRequestError) -> bool:
    said = str(error).lower()
    return error.code == "context_length_exceeded" or "context length" in said


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
