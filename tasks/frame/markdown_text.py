"""Escape of untrusted texts (names of domains, files and models) in Markdown."""

_MARKS = "\\`|*_[]<>#"


def markdown_text(text: str) -> str:
    """Returns one line of plain text, with Markdown and HTML escaped."""
    shown = " ".join(text.split())
    return "".join(f"\\{sign}" if sign in _MARKS else sign for sign in shown)
