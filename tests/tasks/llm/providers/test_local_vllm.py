"""The local pair's life: waiting, failing, sharing, ending. Servers are real processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from artifacts.ledger.answers import Role
from tasks.llm.providers.local_setup import LocalEnvironment
from tasks.llm.providers.local_vllm import (
    LocalServerError,
    LocalVllm,
    LocalVllmSettings,
    cpu_dtype,
    invocation,
)

ROOT = Path(__file__).parents[4]
# Stands in for the environment's interpreter: looks only at --port, starts a child as vLLM does
# (one that ignores SIGTERM), writes both process ids beside itself, then answers /health.
FAKE_SERVER = """
import http.server, os, pathlib, subprocess, sys
if MODE == "dies":
    print("first words"); sys.exit("the weights are missing")
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", stubborn])
with pathlib.Path(PIDS).open("a") as pids:
    pids.write(f"{os.getpid()} {child.pid}\\n")
class Handler(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Handler.asked += 1
        healthy = MODE == "serves" and Handler.asked > 2
        self.send_response(200 if healthy else 503)
        self.end_headers()
    def log_message(self, *_): pass
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""

MakeEnvironment = Callable[[str], LocalEnvironment]


@pytest.fixture
def make_environment(tmp_path: Path) -> MakeEnvironment:
    def make(mode: str) -> LocalEnvironment:
        fake = tmp_path / "fake.py"
        fake.write_text(f"MODE = {mode!r}\nPIDS = {str(tmp_path / 'pids')!r}\n{FAKE_SERVER}")
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{fake}" "$@"\n')
        python.chmod(0o755)
        return LocalEnvironment(tmp_path, python, tmp_path / "chat", tmp_path / "embedding")

    return make


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def serving(
    make_environment: MakeEnvironment, tmp_path: Path, said: list[str]
) -> Iterator[LocalVllm]:
    quick = LocalVllmSettings(stop_grace=0.3)
    with LocalVllm(
        make_environment("serves"), tmp_path, report=said.append, settings=quick
    ) as pair:
        yield pair


def test_a_url_is_given_only_once_the_server_is_healthy(serving: LocalVllm) -> None:
    url = serving.base_url(Role.CHAT)
    assert url.startswith("http://127.0.0.1:")
    assert url.endswith("/v1")
    health = url.removesuffix("/v1") + "/health"
    assert httpx.get(health, trust_env=False).status_code == 200


def test_start_launches_both_roles_and_waits_for_neither(
    serving: LocalVllm, said: list[str]
) -> None:
    assert not serving.started
    serving.start()
    assert serving.started
    assert [line.split(" (")[0] for line in said] == [
        "starting the local chat server",
        "starting the local embedding server",
    ]
    assert serving.base_url(Role.CHAT) != serving.base_url(Role.EMBEDDING)


def test_threads_that_ask_at_once_get_the_same_server(serving: LocalVllm, tmp_path: Path) -> None:
    roles: list[Role] = [Role.CHAT] * 8
    with ThreadPoolExecutor(8) as pool:
        urls = set(pool.map(serving.base_url, roles))
    assert len(urls) == 1
    assert len(_written_pids(tmp_path)) == 2  # one server and its child


def test_an_early_exit_is_an_error_that_shows_the_log(
    make_environment: MakeEnvironment, tmp_path: Path, said: list[str]
) -> None:
    with LocalVllm(make_environment("dies"), tmp_path, report=said.append) as pair:
        with pytest.raises(LocalServerError, match="the weights are missing") as failure:
            pair.base_url(Role.EMBEDDING)
        assert str(tmp_path / "vllm-embedding.log") in str(failure.value)
        assert "exit code 1" in str(failure.value)


def test_a_server_of_another_user_on_its_port_is_not_asked(
    make_environment: MakeEnvironment,
    tmp_path: Path,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasks.llm.providers.local_vllm.is_foreign", lambda port: port > 0)
    impatient = LocalVllmSettings(startup_timeout=2, stop_grace=0.1)
    environment = make_environment("serves")
    with (
        LocalVllm(environment, tmp_path, report=said.append, settings=impatient) as pair,
        pytest.raises(LocalServerError, match="did not answer"),
    ):
        pair.base_url(Role.CHAT)


def test_a_server_that_never_answers_is_given_up(
    make_environment: MakeEnvironment, tmp_path: Path, said: list[str]
) -> None:
    impatient = LocalVllmSettings(startup_timeout=0.5, stop_grace=0.1)
    environment = make_environment("is never healthy")
    with (
        LocalVllm(environment, tmp_path, report=said.append, settings=impatient) as pair,
        pytest.raises(LocalServerError, match="did not answer"),
    ):
        pair.base_url(Role.CHAT)


def test_stop_ends_the_whole_tree_even_a_child_that_ignores_sigterm(
    serving: LocalVllm, tmp_path: Path
) -> None:
    serving.base_url(Role.CHAT)
    serving.base_url(Role.EMBEDDING)
    pids = _written_pids(tmp_path)
    assert len(pids) == 4
    assert all(_lives(pid) for pid in pids)
    serving.stop()
    _wait_until(lambda: not any(_lives(pid) for pid in pids))
    assert not serving.started
    serving.stop()


def test_an_exception_in_the_program_ends_the_servers(
    make_environment: MakeEnvironment, tmp_path: Path, said: list[str]
) -> None:
    quick = LocalVllmSettings(stop_grace=0.1)
    pair = LocalVllm(make_environment("serves"), tmp_path, report=said.append, settings=quick)

    def program() -> None:
        with pair:
            pair.base_url(Role.CHAT)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        program()
    pids = _written_pids(tmp_path)
    _wait_until(lambda: not any(_lives(pid) for pid in pids))


def test_a_server_that_died_healthy_is_started_again(serving: LocalVllm, tmp_path: Path) -> None:
    url = serving.base_url(Role.CHAT)
    first = _written_pids(tmp_path)
    os.kill(first[0], signal.SIGKILL)
    # The guard of the dead server ends later than the server.
    _wait_until(lambda: len(_written_pids(tmp_path)) == 4)
    assert serving.base_url(Role.CHAT) == url
    assert not any(_lives(pid) for pid in first)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_program_ended_by_a_signal_leaves_no_server(
    number: signal.Signals, make_environment: MakeEnvironment, tmp_path: Path
) -> None:
    environment = make_environment("serves")
    program = f"""
import sys, time
from pathlib import Path
from artifacts.ledger.answers import Role
from tasks.llm.providers.local_setup import LocalEnvironment
from tasks.llm.providers.local_vllm import LocalVllm, LocalVllmSettings
folder = Path({str(tmp_path)!r})
environment = LocalEnvironment(folder, Path({str(environment.python)!r}), folder, folder)
settings = LocalVllmSettings(stop_grace=0.1)
with LocalVllm(environment, folder, report=lambda _: None, settings=settings) as pair:
    pair.base_url(Role.CHAT)
    print("up", flush=True)
    for _ in range(6000):  # A signal that comes just before one long sleep would end with it.
        time.sleep(0.1)
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        pids = _written_pids(tmp_path)
        assert all(_lives(pid) for pid in pids)
        parent.send_signal(number)
        parent.wait()
    _wait_until(lambda: not any(_lives(pid) for pid in pids))


def test_the_environment_is_made_only_when_a_server_is_wanted(
    make_environment: MakeEnvironment, tmp_path: Path, said: list[str]
) -> None:
    made: list[str] = []

    def lazily() -> LocalEnvironment:
        made.append(threading.current_thread().name)
        return make_environment("serves")

    quick = LocalVllmSettings(stop_grace=0.1)
    with LocalVllm(lazily, tmp_path, report=said.append, settings=quick) as pair:
        assert made == []
        pair.start()
        pair.base_url(Role.CHAT)
        assert len(made) == 1


def test_a_server_that_is_killed_is_started_again_under_the_same_url_once(
    make_environment: MakeEnvironment, tmp_path: Path, said: list[str]
) -> None:
    lost: list[str] = []
    quick = LocalVllmSettings(stop_grace=0.1)
    environment = make_environment("serves")
    with LocalVllm(
        environment, tmp_path, report=said.append, settings=quick, on_lost=lost.append
    ) as pair:
        url = pair.base_url(Role.CHAT)
        os.kill(_written_pids(tmp_path)[0], signal.SIGKILL)
        _wait_until(lambda: len(_written_pids(tmp_path)) == 4)
        _wait_until(lambda: _is_healthy(url))
        assert pair.base_url(Role.CHAT) == url
        _wait_until(lambda: sum("answers after" in line for line in said) == 2)
        assert any("restarting it" in line for line in said)
        assert lost == []
        os.kill(_written_pids(tmp_path)[2], signal.SIGKILL)
        _wait_until(lambda: bool(lost))
    assert "crashed twice" in lost[0]
    _wait_until(lambda: not any(_lives(pid) for pid in _written_pids(tmp_path)))


@pytest.fixture
def machine(tmp_path: Path) -> LocalEnvironment:
    return LocalEnvironment(tmp_path, tmp_path / "cpu", tmp_path / "c", tmp_path / "e")


def _flags(
    role: Role, machine: LocalEnvironment, gpus: int, gpu_python: Path | None = Path("/gpu")
) -> tuple[dict[str, str], dict[str, str]]:
    """The values of a command's flags, its interpreter as ``python``; and its environment."""
    settings = LocalVllmSettings(gpu_python=gpu_python)
    command, variables = invocation(role, machine, 8000, settings, gpus)
    values = {
        flag: "" if value.startswith("--") else value
        for flag, value in pairwise([*command, "--"])
        if flag.startswith("--")
    }
    return {"python": command[0], **values}, variables


@pytest.mark.parametrize(
    ("info", "dtype"),
    [
        ("flags : fpu sse4_2 avx avx2 f16c", "float32"),
        ("flags : avx2 avx512f avx512bw avx512_bf16", "bfloat16"),
        ("flags : avx2 avx512f avx512bw avx512vl", "bfloat16"),
        ("Features : fp asimd i8mm bf16", "bfloat16"),
        ("Features : fp asimd asimdhp", "float32"),
        ("", "float32"),
    ],
)
def test_a_processor_that_emulates_bfloat16_gets_float32(
    info: str, dtype: str, machine: LocalEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cpu_dtype(info) == dtype
    (cpu := machine.directory.parent / "cpuinfo").write_text(info)
    monkeypatch.setattr("tasks.llm.providers.local_vllm._CPU_INFO", cpu)
    for role in Role:
        assert _flags(role, machine, 0, None)[0]["--dtype"] == dtype
        assert _flags(role, machine, 1, Path("/gpu"))[0]["--dtype"] == "bfloat16"


@pytest.mark.parametrize("gpus", [0, 1])
def test_no_module_of_the_working_folder_is_run_in_place_of_the_server(
    gpus: int, machine: LocalEnvironment, tmp_path: Path
) -> None:
    (tmp_path / "vllm.py").write_text("print('taken')")
    variables = _flags(Role.CHAT, machine, gpus)[1]
    command = [sys.executable, "-m", "vllm"]
    ended = subprocess.run(
        command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "taken" not in ended.stdout


@pytest.mark.parametrize("role", Role)
def test_without_a_gpu_the_cpu_build_serves(role: Role, machine: LocalEnvironment) -> None:
    for gpus, gpu_python in ((0, Path("/gpu")), (2, None)):
        flags, variables = _flags(role, machine, gpus, gpu_python)
        assert flags["python"] == str(machine.python)
        assert "--enforce-eager" in flags
        assert "--gpu-memory-utilization" not in flags
        assert variables["VLLM_CPU_KVCACHE_SPACE"] == "1"


def test_one_gpu_is_shared_and_not_overbooked(machine: LocalEnvironment) -> None:
    shares = [float(_flags(role, machine, 1)[0]["--gpu-memory-utilization"]) for role in Role]
    assert 0.5 < sum(shares) <= 0.9
    flags, variables = _flags(Role.CHAT, machine, 1)
    assert flags["python"] == "/gpu"
    assert "--enforce-eager" not in flags
    assert "VLLM_CPU_KVCACHE_SPACE" not in variables


@pytest.mark.parametrize(
    ("gpus", "chat", "replicas", "embedding"),
    [(2, "0", None, "1"), (4, "0,1,2", "3", "3"), (8, "0,1,2,3,4,5,6", "7", "7")],
)
def test_of_several_gpus_chat_gets_all_but_one(
    gpus: int, chat: str, replicas: str | None, embedding: str, machine: LocalEnvironment
) -> None:
    flags, variables = _flags(Role.CHAT, machine, gpus)
    assert variables["CUDA_VISIBLE_DEVICES"] == chat
    assert flags.get("--data-parallel-size") == replicas
    flags, variables = _flags(Role.EMBEDDING, machine, gpus)
    assert variables["CUDA_VISIBLE_DEVICES"] == embedding
    assert "--data-parallel-size" not in flags


def _is_healthy(url: str) -> bool:
    try:
        health = url.removesuffix("/v1") + "/health"
        return httpx.get(health, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _written_pids(folder: Path) -> list[int]:
    return [int(pid) for pid in (folder / "pids").read_text().split()]


def _lives(pid: int) -> bool:
    """A zombie is dead: only its parent, which may be init, has not looked yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _wait_until(condition: Callable[[], bool]) -> None:
    """Bounded by the test's own timeout only, so that a slow machine fails nothing."""
    while not condition():
        time.sleep(0.02)
