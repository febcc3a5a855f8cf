"""Who answers prompts."""

from enum import StrEnum


class Provider(StrEnum):
    """Who answers. ``auto``: configured URLs; else OpenAI where a key is set; else local."""

    AUTO = "auto"
    LOCAL = "local"
    OPENAI = "openai"
    DUMMY = "dummy"
