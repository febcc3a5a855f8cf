"""What the console script sets before anything else is imported."""

import os
import subprocess
import sys

import httpx
import pytest

from tasks.llm.providers.dummy_endpoint import running_dummy_endpoint
from tasks.system.free_port import free_port
from tasks.system.proxies import tame_proxy_variables


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("spared", [None, "intranet.example"])
def test_a_companys_proxy_is_not_asked_for_servers_of_this_machine(
    variable: str, spared: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, f"http://127.0.0.1:{free_port()}")  # nobody listens there
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")  # So that what is set here is taken back.
        if spared is not None:
            monkeypatch.setenv(name, spared)
    with running_dummy_endpoint() as server:
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.base_url}/models")
        tame_proxy_variables()
        assert httpx.get(f"{server.base_url}/models").status_code == 200
    if spared is not None:
        assert os.environ["NO_PROXY"].split(",")[0] == spared


def test_an_interrupt_while_modules_are_loaded_ends_with_its_status_and_no_traceback() -> None:
    code = (
        "import signal, sys, types, llm4cdsr\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'flows.cli.entry': signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "llm4cdsr.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "Interrupted.\n")
