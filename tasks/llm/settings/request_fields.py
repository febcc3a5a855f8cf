"""Fields that a configuration adds to every request: checked, and free of credentials.

They are kept with answers and artifacts and shown in messages, so a key must never be one of them.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import AfterValidator, JsonValue

OURS = frozenset({"model", "messages", "input", "prompt", "stream", "stream_options", "n"})
"""Fields set by the client; configurations must not override them."""

INERT = frozenset(
    {
        "cache_salt",
        "encoding_format",
        "keep_alive",
        "metadata",
        "priority",
        "prompt_cache_key",
        "request_id",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
"""Fields that change no answer: no part of a ledger's key."""

KEY_VARIABLES = ("OPENAI_API_KEY", "LLM4CDSR_API_KEY")


def checked_fields(fields: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Returns the fields; raises ValueError, which quotes no value, for what they must not hold."""
    for name in fields:
        if name.lower() in OURS:
            raise ValueError(f"{name} is set by the pipeline; omit it")
    for path, value in _leaves(fields, ""):
        name = path.rpartition(".")[2]
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{path} is not a JSON number")
        named_so = name not in INERT and _CREDENTIAL_NAME.search(name)
        if (named_so and isinstance(value, str)) or _is_credential(value):
            raise ValueError(
                f"{path} looks like a credential, and these fields are stored and shown; set the "
                "key of your own server in LLM4CDSR_API_KEY"
            )
    return fields


RequestFields = Annotated[dict[str, JsonValue], AfterValidator(checked_fields)]


def deciding(fields: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Returns the fields that change answers: they are part of a ledger's key."""
    return {name: value for name, value in fields.items() if name not in INERT}


def chat_fields(max_tokens: int, fields: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Returns the fields of a question beside its messages, null to remove one. Configured fields
    take precedence, under either name of the limit of tokens."""
    return {"max_tokens": max_tokens, **fields}


def as_sent(fields: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Returns the fields of a request: no null, and one limit of tokens."""
    sent: dict[str, JsonValue] = {}
    sent.update((name, value) for name, value in fields.items() if value is not None)
    if "max_completion_tokens" in sent:
        sent.pop("max_tokens", None)
    return sent


_CREDENTIAL_NAME = re.compile(
    r"(?:^|[_-])(?:api_?)?key$|apikey|secret|passw|authorization|bearer|credential|cookie"
    r"|(?:access|auth|session|refresh|ad|id)[_-]?token$|^token$",
    re.IGNORECASE,
)
_CREDENTIAL_VALUE = re.compile(
    r"(?:^|\s)(?:(?:sk|pk|xai|key)-\w{6}|(?:gsk|hf|ghp|sk)_\w{6}|AIza\w{6}|(?:Bearer|Basic)\s+\S"
    r"|eyJ[\w-]{8,}\.)"
)


def _leaves(value: JsonValue, path: str) -> Iterator[tuple[str, JsonValue]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, path)
    else:
        yield path, value


def _is_credential(value: JsonValue) -> bool:
    if not isinstance(value, str):
        return False
    keys = (os.environ.get(variable, "").strip() for variable in KEY_VARIABLES)
    return bool(_CREDENTIAL_VALUE.search(value)) or any(key and key in value for key in keys)
