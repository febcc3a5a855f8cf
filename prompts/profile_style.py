"""Styles of user profiles: the paper's description of a person, or search terms."""

from enum import StrEnum


class ProfileStyle(StrEnum):
    """Style of profiles.

    The lists of `RETRIEVAL` are joined without a summary, which would cost another prompt and lose
    words of titles with small models.
    """

    PAPER = "paper"
    RETRIEVAL = "retrieval"

    @property
    def templates(self) -> tuple[str, ...]:
        """Returns the templates of a profile, in order."""
        return ("analyze", "summarize") if self is ProfileStyle.PAPER else ("analyze_retrieval",)

    @property
    def is_summarized(self) -> bool:
        """Whether partial interests are summarised by another prompt."""
        return len(self.templates) > 1
