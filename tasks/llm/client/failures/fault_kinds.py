"""Classification of failed requests: fault of the prompt, of the server, or of the configuration.

Based on status, content type and error message; errors with status 200 are recognised. Correctable
faults (a refused field, a too large batch) have their own kinds.
"""

import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import NamedTuple

from pydantic import JsonValue
from pydantic_core import from_json

from prompts.render import one_line
from tasks.llm.client.failures import error_phrases as phrases
from tasks.llm.client.failures.server_errors import ServerError, error_in
from tasks.llm.client.failures.unusual_json import unusual_json

REASON_CHARACTERS = 300
READ_CHARACTERS = 4096
"""Maximum length of a quoted error message."""

SYSTEM = "system"
"""Name of the system role among the fields that a server may refuse."""


class FaultKind(Enum):
    """Kind of a fault, which determines the reaction."""

    PROMPT = "refused"
    TOO_LONG = "the prompt is too long for the model"
    FIELD = "a field of the request is refused"
    BATCH = "too many texts in one request"
    BAD_ANSWER = "no usable answer"
    BUSY = "rate limited"
    SERVER = "server error"
    TIMEOUT = "timeout"
    CUT = "connection cut"
    UNREACHABLE = "unreachable"
    KEY = "refuses the key"
    FORBIDDEN = "forbids the request"
    CREDIT = "has no credit"
    MODEL = "has no such model"
    NO_API = "has no API at this URL"
    CERTIFICATE = "has a certificate that this machine does not trust"


REFUSALS = frozenset(
    {
        FaultKind.KEY,
        FaultKind.FORBIDDEN,
        FaultKind.CREDIT,
        FaultKind.MODEL,
        FaultKind.NO_API,
        FaultKind.CERTIFICATE,
    }
)
"""Faults that concern all prompts."""

DOUBTFUL = frozenset({FaultKind.FORBIDDEN, FaultKind.NO_API})
"""Faults that may concern one prompt after earlier answers, for example by a firewall."""

PASSING = frozenset(
    {FaultKind.BUSY, FaultKind.SERVER, FaultKind.TIMEOUT, FaultKind.CUT, FaultKind.UNREACHABLE}
)
"""Temporary faults."""


@dataclass(frozen=True)
class Fault:
    """Cause of a failed request. ``words``: the server's message, made one line without control
    characters, of at most `REASON_CHARACTERS`: it is logged.

    ``retry_after``: seconds requested by the server. ``field``: the refused field. ``limit``:
    maximum texts, if stated. ``may_pass``: a retry may succeed. ``of_all``: the fault concerns the
    whole batch, not one text. ``is_short``: wrong number of vectors. ``is_judged``: the server has
    processed the request and rejected it, or its answer is rejected, so the server is up.
    """

    kind: FaultKind
    words: str
    retry_after: float | None = None
    field: str | None = None
    limit: int | None = None
    may_pass: bool = True
    of_all: bool = False
    is_short: bool = False
    is_judged: bool = False

    def __post_init__(self) -> None:
        line = one_line(self.words[:READ_CHARACTERS], REASON_CHARACTERS)
        object.__setattr__(self, "words", line)


class HttpReply(NamedTuple):
    """One HTTP response. ``retry_after`` is the raw header, in seconds or as a date."""

    status: int
    content: bytes
    content_type: str = ""
    retry_after: str | None = None


class Sent(NamedTuple):
    """Properties of a request: names of its fields, presence of a system message, number of
    texts."""

    fields: Collection[str]
    has_system: bool = False
    texts: int = 1


def read_reply(reply: HttpReply, sent: Sent) -> JsonValue | Fault:
    """Returns the JSON data of a valid response, else the fault."""
    try:
        # Only names of fields are repeated, so a cache of all strings would be slower.
        body: JsonValue = from_json(reply.content, cache_strings="keys")
    except ValueError as error:
        unusual = unusual_json(reply.content)
        if unusual is None:
            return _not_json(reply, sent, str(error))
        body = unusual
    error = error_in(body)
    if error is None and reply.status < 300:
        return body
    return fault_of(reply, error or ServerError("an answer without words", None, (), None), sent)


def fault_of(reply: HttpReply, error: ServerError, sent: Sent) -> Fault:
    """Returns the fault of an exception."""
    status = _meant(reply.status, error)
    words = f"HTTP {reply.status}: {error.words[:READ_CHARACTERS]}"
    said = " ".join((error.words[:READ_CHARACTERS], *error.names)).lower()
    seconds = seconds_of(reply.retry_after)
    kind, field, limit = _kind(status, said, error, sent)
    if kind is FaultKind.SERVER and seconds is not None:
        kind = FaultKind.BUSY  # The server is up and states a delay.
    is_judged = (
        status is not None
        and 400 <= status < 500
        and (kind in _JUDGED or (kind is FaultKind.PROMPT and bool(phrases.MODERATED.search(said))))
    )
    is_vague = kind in PASSING or kind is FaultKind.BAD_ANSWER
    may_pass = is_vague or (kind in _JUDGED and not is_judged)
    return Fault(kind, words, seconds, field, limit, may_pass, is_judged=is_judged)


def seconds_of(retry_after: str | None) -> float | None:
    """Returns the seconds of a Retry-After header, None without one."""
    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if seconds == seconds else None


def _meant(status: int, error: ServerError) -> int | None:
    """Returns the status of a response, or a more specific one in its body."""
    if status < 400:
        return error.named_status
    inner = error.status
    return inner if inner is not None and status >= 500 and inner < 500 else status


def _kind(
    status: int | None, said: str, error: ServerError, sent: Sent
) -> tuple[FaultKind, str | None, int | None]:
    if status == 402 or (status not in (401, 404) and phrases.CREDIT.search(said)):
        return FaultKind.CREDIT, None, None
    if status == 429:
        is_too_large = phrases.TOO_LARGE_FOR_RATE.search(said)
        return (FaultKind.TOO_LONG if is_too_large else FaultKind.BUSY), None, None
    if status not in (401, 403, 408, 409, 425, 502, 503, 504):
        is_too_long = phrases.TOO_LONG.search(said) and not phrases.FIELD_BY_CODE.search(said)
        if not is_too_long and (field := _refused_field(said, error.field, sent)):
            return FaultKind.FIELD, field, None
        if is_too_long:
            return FaultKind.TOO_LONG, None, None
        if sent.texts > 1 and (status == 413 or phrases.BATCH.search(said)):
            return FaultKind.BATCH, None, _limit_in(said, sent.texts)
        if status == 413:
            return FaultKind.TOO_LONG, None, None
    return _kind_of_status(status, said), None, None


def _kind_of_status(status: int | None, said: str) -> FaultKind:
    match status:
        case 401:
            return FaultKind.KEY
        case 403 if phrases.KEY.search(said):
            return FaultKind.KEY
        case 403:
            return FaultKind.PROMPT if phrases.MODERATED.search(said) else FaultKind.FORBIDDEN
        case 404 | 410:
            is_route = phrases.ROUTE.search(said) and not phrases.MODEL.search(said)
            return FaultKind.NO_API if is_route else FaultKind.MODEL
        case 405 | 501:
            return FaultKind.MODEL if phrases.MODEL.search(said) else FaultKind.NO_API
        case 400 | 422 if phrases.KEY.search(said):
            return FaultKind.KEY
        case 400 | 422 if phrases.MODEL.search(said):
            return FaultKind.MODEL
        case 408 | 409 | 420 | 424 | 425 | 498 | 499:  # 424: TGI and TEI; 498: Groq; 499: nginx.
            return FaultKind.SERVER
        case None:
            return _kind_of_words(said)
        case _ if status >= 500:
            return FaultKind.SERVER
        case _:
            return FaultKind.PROMPT


def _kind_of_words(said: str) -> FaultKind:
    """Returns the kind of an error without a status, by its message."""
    for phrase, kind in (
        (phrases.KEY, FaultKind.KEY),
        (phrases.MODEL, FaultKind.MODEL),
        (phrases.RATE, FaultKind.BUSY),
    ):
        if phrase.search(said):
            return kind
    return FaultKind.BAD_ANSWER


def _refused_field(said: str, named: str | None, sent: Sent) -> str | None:
    """Returns the refused field of the request; `SYSTEM` for the role of a message."""
    is_role = named is not None and _ROLE.fullmatch(named)
    if sent.has_system and (is_role or phrases.NO_SYSTEM_ROLE.search(said)):
        return SYSTEM
    path = None if named is None else named.removeprefix("body.").split(".")[0].split("[")[0]
    if path in (None, "input") and "input" in sent.fields and phrases.TEXT_INPUT.search(said):
        return "input"
    if path is not None:
        return path if path in sent.fields and path not in _ALWAYS_SENT else None
    if "base64" in said and "encoding_format" in sent.fields:
        return "encoding_format"
    if not phrases.REFUSED.search(said):
        return None
    for field in sorted(sent.fields, key=len, reverse=True):
        if field not in _ALWAYS_SENT and re.search(rf"\b{re.escape(field.lower())}\b", said):
            return field
    return None


def _limit_in(said: str, texts: int) -> int | None:
    """Returns the stated maximum number of texts: the largest number below the sent one."""
    numbers = [int(number) for number in re.findall(r"\d+", said) if len(number) < 7]
    return max((number for number in numbers if 0 < number < texts), default=None)


def _not_json(reply: HttpReply, sent: Sent, error: str) -> Fault:
    text = reply.content[:READ_CHARACTERS].decode(errors="replace").strip()
    is_page = "html" in reply.content_type or text.startswith("<")
    if reply.status < 300 and not is_page:
        found = "an empty body" if not text else f"malformed answer: {error}"
        if text.startswith("data:"):
            found = "an incomplete stream, which was not requested"
        return Fault(FaultKind.BAD_ANSWER, found)
    if not is_page:
        return fault_of(reply, ServerError(text or "an empty body", None, (), None), sent)
    title = _TITLE.search(text)
    words = f"a web page, {title[1].strip()!r}" if title else "a web page"
    if reply.status in (429, 413) or reply.status >= 500:
        return fault_of(reply, ServerError(words, None, (), None), sent)
    return Fault(FaultKind.NO_API, f"HTTP {reply.status}: {words}")


_JUDGED = frozenset({FaultKind.TOO_LONG, FaultKind.FIELD, FaultKind.BATCH})
"""Specific refusals. With a status of 5xx, their phrases may be those of another error."""

_ALWAYS_SENT = frozenset({"model", "messages", "input"})
_ROLE = re.compile(r"(?:body\.)?messages(?:\[\d+\]|\.\d+)\.role")
_TITLE = re.compile(r"<title[^>]*>([^<]{1,100})", re.IGNORECASE)
