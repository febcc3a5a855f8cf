"""Checks of Python, installed packages, settings and the clock."""

import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import metadata

from packaging.requirements import Requirement
from pydantic import ValidationError

from artifacts.store import Store
from flows.cli.diagnosis.finding import Finding, error, ok, warning
from flows.settings import Settings, unknown_variables

PACKAGE = "llm4cdsr"
SKEW_SECONDS = 60.0
"""Tolerance in seconds: beyond it, signed requests (S3) are refused and leases of other machines
seem expired."""


def versions() -> Iterator[Finding]:
    """Yields findings about the versions of the interpreter and required packages."""
    found = f"llm4cdsr {metadata.version(PACKAGE)}, Python {platform.python_version()}"
    yield ok("versions", f"{found}, {platform.system()} {platform.machine()}")
    for text in metadata.requires(PACKAGE) or ():
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        command = f"{sys.executable} -m pip install '{wanted.name}{wanted.specifier}'"
        try:
            there = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            yield error("versions", f"{wanted.name} is not installed", command)
            continue
        if not wanted.specifier.contains(there, prereleases=True):
            yield error("versions", f"{wanted.name} is {there}, not {wanted.specifier}", command)


def settings() -> Iterator[Finding]:
    """Yields findings about environment variables."""
    for sentence in unknown_variables(os.environ):
        yield warning("settings", sentence, "correct or unset the variable")
    try:
        Settings()
    except ValidationError as faults:
        for fault in faults.errors():
            name = "_".join(map(str, fault["loc"])).upper()
            said = f"LLM4CDSR_{name}: {fault['msg']}"
            yield error("settings", said, "correct the variable; docs/settings.md lists them")
    else:
        yield ok("settings", "every variable can be read")


def clock(store: Store) -> Iterator[Finding]:
    """Yields a finding if a file or folder of the store is newer than the clock."""
    now = datetime.now(UTC)
    times = ((path.stat().st_mtime, path) for path in store.local.glob("*/*"))
    newest, path = max(times, default=(0.0, store.local))
    if newest > now.timestamp() + SKEW_SECONDS:
        yield warning(
            "clock",
            f"it is {now:%Y-%m-%d %H:%M} UTC here, and {path} is of "
            f"{datetime.fromtimestamp(newest, UTC):%Y-%m-%d %H:%M}: the clock is behind, or the "
            "file was copied with another time",
            "if the clock is behind, set it and enable NTP (remote stores refuse its requests); "
            f"otherwise `touch {shlex.quote(str(path))}`",
        )
    else:
        yield ok("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC")


def clock_against(server: str, date: str | None) -> Iterator[Finding]:
    """Yields a finding if a server's ``Date`` header differs from the clock."""
    try:
        theirs = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        return
    if abs(theirs - time.time()) > SKEW_SECONDS:
        yield warning(
            "clock",
            f"{server} says that it is {theirs - time.time():+,.0f} s from now",
            "set the clock of the machine that is wrong, and enable NTP",
        )
