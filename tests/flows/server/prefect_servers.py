"""Closed Prefect servers of the test run's own."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import NamedTuple

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows.server.api import prefect_api
from tests.flows.server.command_variables import with_database


class ServerLogin(NamedTuple):
    """The URL of a server's API, and its credential."""

    url: str
    credential: str

    @property
    def variables(self) -> dict[str, str]:
        """What a command needs to be recorded there."""
        return {"PREFECT_API_URL": self.url, "PREFECT_API_AUTH_STRING": self.credential}


@contextmanager
def closed_server_in(home: Path, database: Path) -> Iterator[ServerLogin]:
    """Runs a server whose home begins with a copy of a database.

    A closed server of our own, also where tests of stages have left Prefect's open one configured.
    """
    with_database(home, database)
    apart = copy_context()  # Its settings are not those of the tests that come in between.
    server = _closed_server(home)
    yield apart.run(next, server)
    apart.run(next, server, None)


def _closed_server(home: Path) -> Iterator[ServerLogin]:
    with (
        temporary_settings(restore_defaults={PREFECT_API_URL, PREFECT_API_AUTH_STRING}),
        ExitStack() as stack,
    ):
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("PREFECT_HOME", str(home))
            url = stack.enter_context(prefect_api(home / "server.log"))
        yield ServerLogin(url, PREFECT_API_AUTH_STRING.value() or "")
