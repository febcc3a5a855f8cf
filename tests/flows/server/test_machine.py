"""A machine stops what it started, and nothing that merely got the same process id."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from artifacts.files.ownership import locked
from artifacts.store import Store
from flows.cli import command_table
from flows.cli.commands.machine.machine_command import up
from flows.server import machine as module
from flows.server.api import has_started
from flows.server.machine import FOLDER, Chosen, Machine, MachineError, MachineProcess
from flows.server.machine_processes import start_of
from tasks.system.free_port import free_port
from tests.tasks.alerts.inbox import Inbox


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    store = Store(tmp_path / "store")
    store.workspace(FOLDER)
    return Machine(store)


def note(machine: Machine, name: str, service: MachineProcess) -> None:
    (machine.folder / f"{name}.json").write_text(service.model_dump_json())


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    )


def test_what_runs_is_stopped_once(machine: Machine) -> None:
    process = sleeper()
    started = start_of(process.pid)
    assert started is not None
    note(machine, "worker", MachineProcess(pid=process.pid, started=started, log="worker.log"))
    assert list(machine.running()) == ["worker"]
    assert machine.stop() == ["worker"]
    assert process.wait(timeout=10) != 0
    assert machine.stop() == []


def test_another_process_under_an_old_id_is_left_alone(machine: Machine) -> None:
    process = sleeper()
    started = start_of(process.pid)
    assert started is not None
    note(machine, "server", MachineProcess(pid=process.pid, started=started - 1, log="server.log"))
    assert machine.running() == {}
    assert machine.stop() == []
    assert process.poll() is None
    process.kill()
    process.wait()


def test_a_process_that_died_does_not_count_as_running(machine: Machine) -> None:
    process = sleeper()
    started = start_of(process.pid)
    assert started is not None
    note(machine, "server", MachineProcess(pid=process.pid, started=started, log="server.log"))
    process.kill()
    while start_of(process.pid) is not None:  # Dead, and not yet waited for.
        time.sleep(0.01)
    assert machine.running() == {}
    process.wait()


def test_a_server_that_still_starts_is_waited_for_and_told_from_one_that_ended(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STARTUP_SECONDS", 0.5)
    process = sleeper()
    started = start_of(process.pid)
    assert started is not None
    server = MachineProcess(pid=process.pid, started=started, log="server.log", closed=True)
    note(machine, "server", server)
    with pytest.raises(MachineError, match=r"has not answered .* and still runs.* wait longer"):
        machine.start(str(tmp_path), look_every=60)
    monkeypatch.setattr(module, "STARTUP_SECONDS", 60.0)
    threading.Timer(1, process.kill).start()
    with pytest.raises(MachineError, match=r"ended while it started; fix the error in .*log"):
        machine.start(str(tmp_path), look_every=60)
    process.wait()


def test_a_server_of_a_slow_machine_is_waited_for(tmp_path: Path) -> None:
    port = free_port()
    late = (
        "import http.server as h, time\n"
        "class Healthy(h.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.end_headers()\n"
        f"time.sleep(1); h.HTTPServer(('127.0.0.1', {port}), Healthy).serve_forever()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", late])
    assert has_started(f"http://127.0.0.1:{port}/api", lambda: process.poll() is None, 60)
    process.kill()
    process.wait()
    assert not has_started(f"http://127.0.0.1:{port}/api", lambda: process.poll() is None, 60)


def test_a_taken_port_is_refused_before_anything_starts(tmp_path: Path) -> None:
    inbox = Inbox([])
    try:
        port = int(inbox.server_address[1])
        with pytest.raises(MachineError, match=f"port {port} is taken"):
            Machine(Store(tmp_path / "store"), port).start(str(tmp_path), look_every=60)
    finally:
        inbox.server_close()


def test_a_second_up_waits_for_the_first_and_ends_none_of_its_processes(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OTHER_UP_SECONDS", 0.1)
    monkeypatch.setattr(module, "end", lambda _: pytest.fail("a process was ended"))
    with (
        locked(machine.folder / "up.lock"),
        pytest.raises(MachineError, match=r"another `llm4cdsr up` of .* wait for its end"),
    ):
        machine.start("dumps", 60)


def test_the_worker_is_given_what_the_callers_dot_env_says(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = ("API_KEY=own", "WEBHOOK_URL=http://file", "LOCAL_VLLM=venv", "CACHE=")
    (tmp_path / ".env").write_text("".join(f"LLM4CDSR_{line}\n" for line in lines) + "OTHER=1\n")
    monkeypatch.setattr(os, "environ", {"LLM4CDSR_WEBHOOK_URL": "http://environment"})
    given: dict[str, str] = {}
    monkeypatch.setattr(
        command_table, "app", lambda **_: given.update(machine._environment("dumps"))
    )
    command_table.run_app()
    assert given["LLM4CDSR_API_KEY"] == "own"
    assert given["LLM4CDSR_WEBHOOK_URL"] == "http://environment"
    assert given["LLM4CDSR_LOCAL_VLLM"] == str(tmp_path / "venv")
    assert "OTHER" not in given


def test_another_port_or_folder_than_that_of_what_runs_is_refused(machine: Machine) -> None:
    process = sleeper()
    started = start_of(process.pid)
    assert started is not None
    service = MachineProcess(pid=process.pid, started=started, log="log", port=4321, dumps="/dumps")
    service = service.model_copy(update={"closed": True})
    note(machine, "server", service)
    with pytest.raises(MachineError, match=r"runs on 4321; `llm4cdsr down` first"):
        machine.start("/dumps", look_every=60)
    note(machine, "worker", service)
    with pytest.raises(MachineError, match=r"watches /dumps; `llm4cdsr down` first"):
        Machine(machine.store, 4321).start("/others", look_every=60)
    assert process.poll() is None
    assert machine.stop() == ["server", "worker"]
    process.wait()


def test_a_server_of_before_there_was_a_login_is_not_taken_over(machine: Machine) -> None:
    process = sleeper()
    started = start_of(process.pid)
    assert started is not None
    note(
        machine,
        "server",
        MachineProcess(pid=process.pid, started=started, log="log", port=machine.port),
    )
    with pytest.raises(MachineError, match="without a login; `llm4cdsr down` first"):
        machine.start("dumps", look_every=60)
    assert machine.stop() == ["server"]
    process.wait()


def test_the_login_is_random_kept_and_readable_by_its_owner_alone(machine: Machine) -> None:
    before = os.umask(0)
    try:
        made = machine.credential
    finally:
        os.umask(before)
    assert machine.login_file.stat().st_mode & 0o777 == 0o600
    assert len(made.partition(":")[2]) >= 40
    machine.login_file.chmod(0o644)
    assert machine.credential == made
    assert machine.login_file.stat().st_mode & 0o777 == 0o600
    machine.login_file.unlink()
    assert machine.credential != made


def test_a_link_in_place_of_the_login_is_not_followed(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("known:password")
    machine.login_file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="login"):
        _ = machine.credential


def test_what_the_caller_says_of_prefect_does_not_open_the_server(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "")
    monkeypatch.setenv("PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS", "*")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "other:one")
    given = machine._environment("dumps")
    assert given["PREFECT_SERVER_API_AUTH_STRING"] == machine.credential
    assert given["PREFECT_API_AUTH_STRING"] == machine.credential
    assert given["PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"] == machine.ui_url


def test_a_log_of_up_says_where_the_login_is_and_not_what(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Machine, "start", lambda self, dumps, look_every: None)
    up(store=machine.store.root, dumps=str(machine.folder))
    told = capsys.readouterr().out
    assert str(machine.login_file) in told
    assert machine.credential.partition(":")[2] not in told


def test_up_without_options_repeats_the_port_and_the_folder_of_before(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, str]] = []
    monkeypatch.setattr(
        Machine, "start", lambda self, dumps, look_every: asked.append((self.port, dumps))
    )
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: SimpleNamespace(pid=0))
    watched = str(tmp_path / "dumps")
    Machine(machine.store, 4321)._launch("worker", [], machine._environment(watched))
    up(store=machine.store.root)
    assert asked == [(4321, watched)]


def test_up_after_down_repeats_the_options_of_the_last_up(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remedy of many alerts is `down`, then `up`, as written."""
    last = Chosen(port=4321, dumps=str(tmp_path / "dumps"), look_every=30)
    (machine.folder / "options.json").write_text(last.model_dump_json())
    machine.stop()
    asked: list[tuple[int, str, float]] = []
    monkeypatch.setattr(Machine, "start", lambda self, *given: asked.append((self.port, *given)))
    up(store=machine.store.root)
    up(store=machine.store.root, port=4400, dumps=str(tmp_path / "others"), look_every=20)
    assert asked == [(4321, last.dumps, 30), (4400, str(tmp_path / "others"), 20)]


def test_a_long_log_is_set_aside_and_a_short_one_goes_on(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: SimpleNamespace(pid=0))
    monkeypatch.setattr(module, "LOG_BYTES", 10)
    log = machine.folder / "worker.log"
    for text, kept in (("short", True), ("much longer", False)):
        log.write_text(text)
        machine._launch("worker", [], machine._environment("dumps"))
        assert log.read_text() == (text if kept else "")
    assert log.with_suffix(".log.1").read_text() == "much longer"


def test_a_failed_command_names_its_log(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(MachineError, match=r"deploy --all` failed; its output is .*deploy\.log"):
        machine._run("deploy", ["deploy", "--all"], {})
