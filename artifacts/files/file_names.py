"""Names of files in text."""


def in_utf8(name: str) -> str:
    """Returns a name for messages and notes, which are UTF-8: Python reads other bytes of a name as
    lone surrogates, which are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()
