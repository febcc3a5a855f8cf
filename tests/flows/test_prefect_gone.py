"""A run ends well without its Prefect server, says so, and asks nothing twice."""

import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from artifacts.bundles import REFRESHED
from tasks.system.free_port import free_port
from tests.fakes import CHAT, FaultPlan, faulty_endpoint
from tests.flows.command_shop import Shop, wait_until

GONE = "does not answer; the run continues without it"


def server_of(shop: Shop) -> int | None:
    """Returns the process of the Prefect server that a run brought."""
    home = f"PREFECT_HOME={shop.folder / 'prefect'}\0".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            environment = (folder / "environ").read_bytes() + b"\0"
        except OSError:  # It ended while we looked.
            continue
        is_guard = any(part.endswith(b"guarded_process.py") for part in command)
        if b"flows.server.closed_app" in command and not is_guard and home in environment:
            return int(folder.name)
    return None


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_server_that_dies_or_hangs_in_the_middle_holds_nothing_up(
    shop: Shop, how: signal.Signals
) -> None:
    shop = replace(shop, recorded={})
    with faulty_endpoint(FaultPlan(latency_s=0.2)) as endpoint:
        process = subprocess.Popen(
            shop.command(name="refresh"),
            cwd=shop.folder,
            env=shop.environment(endpoint),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        wait_until(lambda: endpoint.requests_to(CHAT) > 10, process)
        server = server_of(shop)
        assert server is not None
        os.kill(server, how)
        output, _ = process.communicate(timeout=300)
        prompts = [exchange.prompts for exchange in endpoint.answered if exchange.route == CHAT]
    assert process.returncode == 0, output
    assert " ".join(output.split()).count(GONE) == 1
    assert "Traceback" not in output
    assert "Error logging" not in output
    assert len(prompts) == len(set(prompts))
    assert shop.store.pointed(REFRESHED) is not None
    assert server_of(shop) is None


def test_a_server_that_is_not_there_is_gone_without(shop: Shop) -> None:
    dead = f"http://127.0.0.1:{free_port()}/api"
    done = replace(shop, recorded={"PREFECT_API_URL": dead}).run(
        "--provider", "dummy", name="refresh"
    )
    assert done.returncode == 0, done.stderr
    assert f"{dead} {GONE}" in " ".join(done.stderr.split())
    assert shop.store.pointed(REFRESHED) is not None


def test_a_refused_login_is_one_line_that_names_the_variable(
    shop: Shop, prefect_server: str
) -> None:
    environment = shop.environment() | {"PREFECT_API_AUTH_STRING": "llm4cdsr:guessed"}
    asked = httpx.get(f"{prefect_server}/admin/version", auth=("llm4cdsr", "guessed"), timeout=60)
    assert asked.status_code == 401
    failed = subprocess.run(
        shop.command("--provider", "dummy", name="refresh"),
        cwd=shop.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert failed.returncode == 2, failed.stderr
    assert "PREFECT_API_AUTH_STRING" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "guessed" not in failed.stderr
