"""The styles of user profiles: the paper's description of a person, or words to search with."""

from enum import StrEnum


class ProfileStyle(StrEnum):
    """Which questions a profile is made of; a template each in every language."""

    PAPER = "paper"
    RETRIEVAL = "retrieval"

    @property
    def analyze(self) -> str:
        """The template that asks about one cluster of a history."""
        return "analyze" if self is ProfileStyle.PAPER else "analyze_retrieval"

    @property
    def summarize(self) -> str:
        """The template that asks for one profile from the answers."""
        return "summarize" if self is ProfileStyle.PAPER else "summarize_retrieval"
