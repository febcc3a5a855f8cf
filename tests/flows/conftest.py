"""A Prefect server for all commands of a test run that bring none; a dump and an endpoint."""

from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows.server.api import prefect_api
from tasks.demo.demo_dump import write_demo_dump
from tests.fakes import FaultPlan, FaultyServer, faulty_endpoint
from tests.flows.command_shop import Shop


@pytest.fixture(scope="session")
def closed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URL of its API, and its credential: to start a server takes longer than most of these
    commands.

    A closed server of our own, also where tests of stages have left Prefect's open one configured.
    """
    log = tmp_path_factory.mktemp("prefect") / "server.log"
    apart = copy_context()  # Its settings are not those of the tests that come in between.
    server = _closed_server(log)
    yield apart.run(next, server)
    apart.run(next, server, None)


def _closed_server(log: Path) -> Iterator[tuple[str, str]]:
    own = temporary_settings(restore_defaults={PREFECT_API_URL, PREFECT_API_AUTH_STRING})
    with own, prefect_api(log) as url:
        yield url, PREFECT_API_AUTH_STRING.value() or ""


@pytest.fixture(scope="module")
def prefect_server(closed_server: tuple[str, str]) -> Iterator[str]:
    """The URL of its API, configured for each module anew: tests of stages that ran in between
    have configured another server on top of it."""
    url, credential = closed_server
    with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: credential}):
        yield url


@pytest.fixture
def shop(tmp_path: Path, prefect_server: str) -> Shop:
    write_demo_dump(tmp_path, seed=3, users=60, items=80)
    return Shop(tmp_path, prefect_server)


@pytest.fixture
def stub() -> Iterator[FaultyServer]:
    with faulty_endpoint(FaultPlan()) as server:
        yield server
