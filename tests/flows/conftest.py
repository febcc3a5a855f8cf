"""A Prefect server for all commands of a test run that do not have to bring their own."""

from collections.abc import Iterator

import pytest

from flows.server.api import prefect_api


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of its API: to start a server takes longer than most of these commands."""
    with prefect_api(tmp_path_factory.mktemp("prefect") / "server.log") as url:
        yield url
