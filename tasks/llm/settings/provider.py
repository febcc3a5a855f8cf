"""LLM providers."""

from enum import StrEnum


class Provider(StrEnum):
    """LLM provider. ``auto``: configured URLs; else OpenAI where a key is set; else local."""

    AUTO = "auto"
    LOCAL = "local"
    OPENAI = "openai"
    DUMMY = "dummy"
