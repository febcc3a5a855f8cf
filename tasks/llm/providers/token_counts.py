"""Token estimates of texts before any paid request.

The rate of tokens per byte is measured on a sample, by vLLM's ``/tokenize``, or for OpenAI's models
by the `tiktoken` package if it is installed with its tables. Otherwise four bytes per token,
accurate to 20 % for English.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from tasks.llm.settings.llm_config import EndpointSpec, api_key
from tasks.llm.settings.urls import key_headers, root_of
from tasks.system.certificates import trusted
from tasks.system.proxies import proxy_for

BYTES_PER_TOKEN = 4.0
SAMPLE = 64


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
    tokens = 0
    try:
        proxy = proxy_for(root)
        with httpx.Client(
            headers=headers, timeout=10, proxy=proxy, trust_env=False, verify=trusted()
        ) as client:
            for text in sample:
                body = {"model": spec.model, "prompt": text}
                tokens += int(
                    client.post(f"{root}/tokenize", json=body).raise_for_status().json()["count"]
                )
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
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
