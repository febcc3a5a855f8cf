"""A dump and an endpoint for commands."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.preloaded_cli import PreloadedCli
from tasks.demo.demo_dump import write_demo_dump
from tests.fakes import FaultPlan, FaultyServer, faulty_endpoint
from tests.flows.command_shop import Shop
from tests.flows.server.prefect_servers import ServerLogin


@pytest.fixture
def folder_shop(
    tmp_path: Path, commands: PreloadedCli, closed_server: ServerLogin, prefect_database: Path
) -> Shop:
    """Without a dump."""
    return Shop(tmp_path, commands, prefect_database, closed_server.variables)


@pytest.fixture
def shop(folder_shop: Shop) -> Shop:
    write_demo_dump(folder_shop.folder, seed=3, users=60, items=80)
    return folder_shop


@pytest.fixture
def stub() -> Iterator[FaultyServer]:
    with faulty_endpoint(FaultPlan()) as server:
        yield server
