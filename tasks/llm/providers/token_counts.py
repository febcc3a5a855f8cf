"""Token estimates of texts before any paid request.

The rate of tokens per byte is measured on a sample, by vLLM's ``/tokenize``, or for OpenAI's models
by the `tiktoken` package if it is installed with its tables. Otherwise four bytes per token,
accurate to 20 % for English.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta

import httpx
from pydantic import JsonValue

from tasks.llm.client.servers.small_answer import small_answers
from tasks.llm.settings.llm_config import EndpointSpec, api_key
from tasks.llm.settings.urls import key_headers, root_of

BYTES_PER_TOKEN = 4.0
SAMPLE = 64
ANSWER_TIME = timedelta(seconds=10)
MOST_SPECIAL = 16
"""Maximum tokens that a server adds to a text."""


@dataclass(frozen=True)
class TokenRate:
    """Tokens per byte of UTF-8, and the method of measurement."""

    per_byte: float
    how: str

    def tokens(self, text_bytes: int) -> int:
        """Returns the tokens of a number of bytes."""
        return round(self.per_byte * text_bytes)


ESTIMATED = TokenRate(1 / BYTES_PER_TOKEN, "estimated at 4 bytes a token")


def token_rate(texts: Sequence[str], spec: EndpointSpec | None, model: str) -> TokenRate:
    """Returns the rate of a model on these texts. ``spec`` is the endpoint's, if known without
    starting a server."""
    sample = [text for text in texts[:: max(1, len(texts) // SAMPLE)] if text][:SAMPLE]
    total = sum(len(text.encode()) for text in sample)
    if not total or spec is None:
        return ESTIMATED
    counted = _by_server(sample, spec) if spec.urls[0] else _by_tiktoken(sample, model)
    if counted is None:
        return ESTIMATED
    return TokenRate(counted.tokens / total, f"{counted.how} on {len(sample)} prompts")


@dataclass(frozen=True)
class _Counted:
    tokens: int
    how: str


def _by_server(sample: list[str], spec: EndpointSpec) -> _Counted | None:
    url = str(spec.urls[0])
    root, headers = root_of(url), key_headers(url, api_key(spec).get_secret_value())
    bodies: list[JsonValue] = [{"model": spec.model, "prompt": text} for text in sample]
    tokens = 0
    try:
        with closing(small_answers(f"{root}/tokenize", headers, ANSWER_TIME, bodies)) as answers:
            for text, answer in zip(sample, answers, strict=True):
                found = answer.json()
                count = found.get("count") if isinstance(found, dict) else None
                # A text has at most as many tokens as bytes, and a few special ones.
                if answer.status != 200 or not isinstance(count, int):
                    return None
                if not 0 <= count <= len(text.encode()) + MOST_SPECIAL:
                    return None
                tokens += count
    except (httpx.HTTPError, ValueError):
        return None  # Not vLLM, or unreachable: an estimate is used.
    return _Counted(tokens, "counted by the server")


def _by_tiktoken(sample: list[str], model: str) -> _Counted | None:
    if importlib.util.find_spec("tiktoken") is None:
        return None
    tiktoken = importlib.import_module("tiktoken")
    try:
        encoding = tiktoken.encoding_for_model(model)
    except (KeyError, OSError):
        return None  # An unknown model, or unavailable tables.
    return _Counted(sum(len(encoding.encode_ordinary(text)) for text in sample), "tiktoken")
