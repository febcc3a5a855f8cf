"""Alerts on disk, from before they are posted until the webhook accepts them.

Alerts that a webhook did not accept are posted in order by the next dump scan or the next end of a
run. A kill between acceptance and deletion posts an alert twice.
"""

import logging
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from pathlib import Path

from pydantic import AwareDatetime, ValidationError, field_validator

from artifacts.files.durable import create_exclusively
from artifacts.files.file_names import in_utf8
from artifacts.files.leftovers import ALERTS
from artifacts.files.ownership import locked_within
from artifacts.store import Store
from artifacts.strict import Strict

FOLDER = Path("work", ALERTS)
KEPT = 100
"""Number of waiting alerts; the oldest are dropped first."""
KEPT_FOR = timedelta(days=7)
REFUSALS = 10
"""Alerts in a row that are refused before a delivery ends: the webhook then refuses all."""
DELIVERY_SECONDS = 60.0
"""Seconds after which a delivery begins no further alert: a slow webhook holds nothing up."""

_NAME = re.compile(r"([0-9]+)\.json")

logger = logging.getLogger("llm4cdsr")


class Alert(Strict):
    """A waiting alert: the time of its event, and the document to be posted, which has a text."""

    at: AwareDatetime
    document: dict[str, str]

    @field_validator("document")
    @classmethod
    def _can_be_posted(cls, document: dict[str, str]) -> dict[str, str]:
        if "text" not in document:
            raise ValueError("an alert has a text")
        return {name: in_utf8(value) for name, value in document.items()}


class Reception(Enum):
    """What a webhook did with an alert."""

    ACCEPTED = auto()
    REFUSED = auto()
    """It takes no such alert, and may accept others."""
    FAILED = auto()
    """It takes none at present."""


def put(store: Store, alert: Alert) -> None:
    """Writes an alert after all waiting ones; raises `OSError`."""
    store.workspace(FOLDER.name)
    while True:
        try:
            _create(store, max(_files(store), default=0) + 1, alert)
            break
        except FileExistsError:  # Another process was first.
            continue
    surplus = [path for path in _files(store).values() if path.is_file()][:-KEPT]
    for path in surplus:
        path.unlink(missing_ok=True)
    if surplus:
        logger.warning("%d alerts are dropped: more than %d wait", len(surplus), KEPT)


def waiting(store: Store) -> list[Alert]:
    """Returns the alerts that no webhook has accepted, oldest first."""
    return [alert for alert in _read(_files(store)).values() if alert is not None]


def deliver(store: Store, post: Callable[[Alert], Reception], patience: float) -> bool:
    """Posts the waiting alerts in order; returns whether all were accepted.

    ``post`` posts an alert. One that is refused keeps its place, and the next ones are posted. What
    is older than `KEPT_FOR` is posted once more, then dropped; so are files that are no alerts.

    Args:
        patience: seconds to wait for another process that delivers.

    Raises:
        OSError.
    """
    folder = store.local / FOLDER
    if not _files(store):
        return True
    with locked_within(folder / "delivery.lock", patience) as is_ours:
        if not is_ours:
            logger.warning("another process posts the alerts in %s", folder)
            return False
        # One list of files for both: an alert that is put in the meantime is in neither.
        found = _read(_files(store))
        for path in (path for path, alert in found.items() if alert is None):
            path.unlink(missing_ok=True)
        return _posted({path: alert for path, alert in found.items() if alert is not None}, post)


def _posted(alerts: dict[Path, Alert], post: Callable[[Alert], Reception]) -> bool:
    """Posts alerts and deletes the accepted ones; returns whether all were."""
    began, refused, all_accepted = time.monotonic(), 0, True
    for path, alert in alerts.items():
        if time.monotonic() - began > DELIVERY_SECONDS:
            return False
        answer = post(alert)
        is_last_try = datetime.now(UTC) - alert.at > KEPT_FOR
        if answer is Reception.ACCEPTED or is_last_try:
            path.unlink(missing_ok=True)
        if answer is Reception.ACCEPTED:
            refused = 0
            continue
        if is_last_try:
            logger.warning("an alert of %s is dropped: no webhook accepted it", alert.at)
        all_accepted, refused = False, refused + 1
        if answer is Reception.FAILED or refused == REFUSALS:
            return False
    return all_accepted


def _create(store: Store, number: int, alert: Alert) -> None:
    path = store.local / FOLDER / f"{number:08d}.json"
    create_exclusively(path, alert.model_dump_json().encode())


def _files(store: Store) -> dict[int, Path]:
    """Returns the files of alerts by their numbers, ascending."""
    named = ((_NAME.fullmatch(path.name), path) for path in (store.local / FOLDER).glob("*.json"))
    found = {int(name[1]): path for name, path in named if name}
    return dict(sorted(found.items()))


def _read(files: dict[int, Path]) -> dict[Path, Alert | None]:
    """Returns the alerts in files, None for other content; omits files that cannot be read."""
    found: dict[Path, Alert | None] = {}
    for path in files.values():
        try:
            found[path] = Alert.model_validate_json(path.read_bytes())
        except FileNotFoundError:  # Delivered in the meantime.
            continue
        except OSError as error:
            logger.warning("%s cannot be read (%s); it is not posted", path, error.strerror)
        except ValidationError:
            logger.warning("%s is not an alert and is not posted", path)
            found[path] = None
    return found
