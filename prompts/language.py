"""The languages of prompts and profiles."""

from enum import StrEnum


class Language(StrEnum):
    """The prompt sets that ship; a folder of templates each."""

    ENGLISH = "en"
    CHINESE = "zh"
