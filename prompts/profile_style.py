"""The styles of user profiles: the paper's description of a person, or words to search with."""

from enum import StrEnum


class ProfileStyle(StrEnum):
    """Which questions a profile is made of.

    The lists of `RETRIEVAL` are joined as they are: a summary costs a question more, and small
    models lose the words of the titles in it.
    """

    PAPER = "paper"
    RETRIEVAL = "retrieval"

    @property
    def templates(self) -> tuple[str, ...]:
        """The templates whose answers make a profile, in their order."""
        return ("analyze", "summarize") if self is ProfileStyle.PAPER else ("analyze_retrieval",)

    @property
    def is_summarized(self) -> bool:
        """Whether the answers about the clusters of a history are summarized by a question."""
        return len(self.templates) > 1
