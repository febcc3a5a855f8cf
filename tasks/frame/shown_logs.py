"""Removal of URL credentials from all log records, as a second safeguard."""

import logging
from collections.abc import Mapping

from artifacts.remote.url_credentials import without_credentials


def hide_credentials_in_logs() -> None:
    """Removes credentials from every record of this process; idempotent."""
    logging.setLogRecordFactory(_Record)


class _Record(logging.LogRecord):
    """A record whose message and arguments hold no credential."""

    def __init__(self, *args: object, **named: object) -> None:
        super().__init__(*args, **named)  # pyright: ignore[reportArgumentType]
        self.msg = _shown(self.msg)
        if isinstance(self.args, Mapping):
            self.args = {name: _shown(value) for name, value in self.args.items()}
        elif self.args:
            self.args = tuple(_shown(value) for value in self.args)


def _shown(value: object) -> object:
    """Returns the value unchanged if its text has no credential, for formats such as %d."""
    if isinstance(value, int | float | None):
        return value
    text = str(value)
    shown = without_credentials(text)
    return value if shown == text else shown
