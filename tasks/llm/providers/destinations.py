"""Destinations of a run's texts, with the origins of address and key."""

import os
from dataclasses import dataclass

from artifacts.ledger.answers import Role
from tasks.llm.settings.llm_config import (
    OPENAI_KEY_VARIABLE,
    OWN_KEY_VARIABLE,
    LlmConfig,
    Provider,
    key_in,
)
from tasks.llm.settings.urls import OPENAI_URL, shown_url
from tasks.system.dot_env import origin_of

OPENAI_URL_VARIABLE = "OPENAI_BASE_URL"


@dataclass(frozen=True)
class Destination:
    """Destination of one role; ``is_mixed``: a key of the environment is sent to a server named by
    the ``.env`` of the working folder."""

    text: str
    is_mixed: bool = False


def destination(role: Role, config: LlmConfig, provider: Provider) -> Destination:
    """Returns the destination of a role's texts."""
    what = "Chat prompts" if role is Role.CHAT else "Texts to embed"
    if provider is Provider.LOCAL:
        return Destination(f"{what} go to the local vLLM pair of this machine.")
    if provider is Provider.DUMMY:
        return Destination(f"{what} go to the dummy in this process: no model, no network.")
    own = config.of(role).base_url
    variable = f"LLM4CDSR_{'CHAT' if role is Role.CHAT else 'EMBED'}_BASE_URL"
    if own is None:
        variable, url = OPENAI_URL_VARIABLE, os.environ.get(OPENAI_URL_VARIABLE, "").strip() or None
        where = f"OpenAI ({OPENAI_URL})" if url is None else shown_url(url)
        named = None if url is None else origin_of(variable)
    else:
        where = ", ".join(shown_url(url.strip()) for url in own.split(","))
        # A run may have its own configuration.
        named = origin_of(variable) if os.environ.get(variable) == own else "the run's parameters"
        if named == "the run's parameters":
            variable = "base_url"
    origin = "" if named is None else f" ({variable} of {named})"
    key, key_origin = _key(config, own)
    mixed = _is_file(named) and key_origin is not None and not _is_file(key_origin)
    return Destination(f"{what} go to {where}{origin}; {key}.", mixed)


def _key(config: LlmConfig, own: str | None) -> tuple[str, str | None]:
    """Returns a text about the key and its origin."""
    if config.api_key_secret is not None:
        return f"key: the Prefect Secret block {config.api_key_secret}", "Prefect"
    variable = OPENAI_KEY_VARIABLE if own is None else OWN_KEY_VARIABLE
    if not key_in(variable):
        return "no key", None
    origin = origin_of(variable)
    return f"key: {variable} of {origin}", origin


def _is_file(origin: str | None) -> bool:
    return origin is not None and origin.endswith(".env")
