"""A Prefect server for all commands of a test run that do not have to bring their own."""

from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows.server.api import prefect_api


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of its API: to start a server takes longer than most of these commands.

    A closed server of our own, also where tests of stages have left Prefect's open one configured.
    """
    log = tmp_path_factory.mktemp("prefect") / "server.log"
    own = temporary_settings(restore_defaults={PREFECT_API_URL, PREFECT_API_AUTH_STRING})
    with own, prefect_api(log) as url:
        yield url
