"""Alerts on disk, from before they are posted until the webhook accepts them.

Alerts that a webhook did not accept are posted in order by the next dump scan or the next end of a
run. A kill between acceptance and deletion posts an alert twice.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from artifacts.files.durable import create_exclusively
from artifacts.files.ownership import locked
from artifacts.store import Store
from artifacts.strict import Strict

FOLDER = Path("work", "alerts")
KEPT = 100
"""Number of waiting alerts; the oldest are dropped first."""
KEPT_FOR = timedelta(days=7)

logger = logging.getLogger("llm4cdsr")


class Alert(Strict):
    """A waiting alert: the time of its event, and the document to be posted."""

    at: datetime
    document: dict[str, str]


class RefusedError(Exception):
    """The webhook refused this alert (status 4xx); others may be accepted."""


def put(store: Store, alert: Alert) -> None:
    """Writes an alert after all waiting ones; raises `OSError`."""
    store.workspace(FOLDER.name)
    while True:
        numbers = [int(path.stem) for path in _files(store)]
        try:
            _create(store, max(numbers, default=0) + 1, alert)
            break
        except FileExistsError:  # Another process was first.
            continue
    for path in _files(store)[:-KEPT]:
        path.unlink(missing_ok=True)


def waiting(store: Store) -> list[Alert]:
    """Returns the alerts that no webhook has accepted, oldest first."""
    return [alert for _, alert in _read(_files(store))]


def deliver(store: Store, post: Callable[[Alert], bool]) -> bool:
    """Posts the waiting alerts in order until one is not accepted; returns whether all were.

    ``post`` returns whether the webhook accepted an alert. One that it refuses is tried again after
    the others, so that it does not hold them back. Alerts older than `KEPT_FOR` are dropped.

    Raises:
        OSError.
    """
    folder = store.local / FOLDER
    if not _files(store):
        return True
    with locked(folder / "delivery.lock"):
        # One list of files for both: an alert that is put in the meantime is in neither.
        paths = _files(store)
        found = dict(_read(paths))
        for path in paths:
            if path not in found:
                path.unlink(missing_ok=True)
        for path, alert in found.items():
            try:
                if not post(alert):
                    return False
            except RefusedError:
                with suppress(FileExistsError):
                    _create(store, int(_files(store)[-1].stem) + 1, alert)
                    path.unlink(missing_ok=True)
                return False
            path.unlink(missing_ok=True)
    return True


def _create(store: Store, number: int, alert: Alert) -> None:
    path = store.local / FOLDER / f"{number:08d}.json"
    create_exclusively(path, alert.model_dump_json().encode())


def _files(store: Store) -> list[Path]:
    return sorted((store.local / FOLDER).glob("[0-9]*.json"))


def _read(paths: list[Path]) -> Iterator[tuple[Path, Alert]]:
    """Yields the alerts that can be read and are not too old."""
    oldest = datetime.now(UTC) - KEPT_FOR
    for path in paths:
        try:
            alert = Alert.model_validate_json(path.read_bytes())
        except FileNotFoundError:  # Delivered in the meantime.
            continue
        except ValidationError:
            logger.warning("%s is no alert; it is not posted", path)
            continue
        if alert.at >= oldest:
            yield path, alert
