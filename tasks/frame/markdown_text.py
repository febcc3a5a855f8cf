"""Texts of data in Markdown: names of domains, files and models are other people's."""

_MARKS = "\\`|*_[]<>#"


def markdown_text(text: str) -> str:
    """Returns one line of plain text, with Markdown and HTML escaped."""
    shown = " ".join(text.split())
    return "".join(f"\\{sign}" if sign in _MARKS else sign for sign in shown)
