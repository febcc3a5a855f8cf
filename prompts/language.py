"""The languages of prompts and profiles."""

from enum import StrEnum


class Language(StrEnum):
    """Available prompt sets; each is a folder of templates."""

    ENGLISH = "en"
    CHINESE = "zh"
