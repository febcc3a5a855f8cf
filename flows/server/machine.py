"""Operation of one machine: Prefect server, work pool, deployments, worker.

Server and worker outlive the command that starts them. Their process ids with start times (ids may
be reused) are in the store's work folder, with logs and the server's database.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from artifacts.files.durable import write_atomically
from artifacts.files.ownership import locked_within
from artifacts.store import Store
from artifacts.strict import Strict
from flows.operating import OPERATING
from flows.server import closed_app, machine_worker
from flows.server.api import has_started
from flows.server.closed_app import HOST, server_command, server_variables
from flows.server.credential import kept_credential
from flows.server.deployment_edits import edits_kept
from flows.server.machine_processes import (
    Process,
    end,
    processes_of_module,
    processes_of_runs,
    start_of,
)
from flows.server.machine_worker import (
    POOL_TEMPLATE,
    REPOSITORY,
    MachineWorker,
    worker_command,
)
from flows.server.run_records import drop_missed_runs, mark_crashed
from flows.server.work_pool import AUTOMATIONS, POOL, make_pool, missing_automations
from tasks.alerts.gone_runs import GONE, STOPPED

PREFECT = (sys.executable, "-m", "prefect")
SERVICES = {"server": closed_app.__name__, "worker": machine_worker.__name__}
# The file within the package, because an installation has no checkout folder.
DEPLOY = ["--no-prompt", "deploy", "--all", "--prefect-file", "flows/prefect.yaml"]
DEFAULT_PORT = 4200
DEFAULT_LOOK_SECONDS = 60.0
STARTUP_SECONDS = 900.0
"""A busy machine may need minutes; a server that ends is noticed at once."""
LEASES = "prefect.server.concurrency.lease_storage.filesystem"
CONSOLE_LEVEL = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"

DUMPS = "LLM4CDSR_DUMPS"
FOLDERS = ("LLM4CDSR_LOCAL_VLLM", "LLM4CDSR_CACHE")
INTERPRETER = "LLM4CDSR_LOCAL_VLLM_GPU_PYTHON"
"""A path, or a name searched in PATH."""

ANSWER_SECONDS = 10.0
OTHER_UP_SECONDS = 60.0
LOG_BYTES = 20 << 20
"""Size from which `start` renames a log."""
FOLDER = "machine"
OPTIONS = "options.json"
EDITS = "deployed.json"
RESUMED = "answers are kept, run again to resume"

_COMMAND_SECONDS = 600


class MachineError(RuntimeError):
    """The server, the worker or a deployment did not start; the message names the log."""


class MachineProcess(Strict):
    """A started process. ``started``: clock ticks since boot (proc(5)); ``port`` and ``dumps``: of
    the machine, None in old records. ``closed``: a server that requires the credential."""

    pid: int
    started: int
    log: str
    port: int | None = None
    dumps: str | None = None
    closed: bool = False

    @property
    def process(self) -> Process:
        return Process(self.pid, self.started)


class Chosen(Strict):
    """Options of the last `up`, kept by `down`. ``look_every``: seconds between dump scans."""

    port: int
    dumps: str
    look_every: float


@dataclass(frozen=True)
class Machine:
    """The machine of one store."""

    store: Store
    port: int = DEFAULT_PORT

    @property
    def folder(self) -> Path:
        """Made by `start`: what only reads also works on a read-only disk."""
        return self.store.local / "work" / FOLDER

    @property
    def api_url(self) -> str:
        return f"http://{HOST}:{self.port}/api"

    @property
    def ui_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def login_file(self) -> Path:
        """The file with the credential of the server, for `up`, worker and operator."""
        return self.folder / "login"

    @property
    def _prefect_home(self) -> Path:
        return (self.folder / "prefect").resolve()

    @property
    def credential(self) -> str:
        return kept_credential(self.login_file)

    def running(self) -> dict[str, MachineProcess]:
        """Returns the running processes by name."""
        found = {name: self._read(name) for name in SERVICES}
        return {name: one for name, one in found.items() if one and one.process.is_alive}

    def remembered(self) -> MachineProcess | None:
        """Returns the server's record, else the worker's, until `stop`; alive or dead."""
        found = (self._read(name) for name in SERVICES)
        return next((service for service in found if service), None)

    def chosen(self) -> Chosen | None:
        """Returns the options of the last `start`, None before the first."""
        path = self.folder / OPTIONS
        return Chosen.model_validate_json(path.read_bytes()) if path.exists() else None

    def start(self, dumps: str, look_every: float) -> list[str]:
        """Starts missing processes, and updates pool, deployments and automations; returns the
        changes made in the Prefect UI that were kept.

        Raises:
            MachineError.
        """
        # Protects the login and the server's database from other users.
        self.store.workspace(FOLDER).chmod(0o700)
        # Each of two would end the other's processes before they are recorded.
        with locked_within(self.folder / "up.lock", OTHER_UP_SECONDS) as is_only:
            if not is_only:
                raise MachineError(
                    f"another `llm4cdsr up` of {self.store.root} is starting the machine: wait "
                    "for its end, then repeat the command"
                )
            return self._start(dumps, look_every)

    def _start(self, dumps: str, look_every: float) -> list[str]:
        self._require_same(dumps)
        last = self.chosen()
        variables = self._environment(dumps)
        if "server" not in self.running():
            end(self._processes("server"))
            self._require_free_port()
            self._launch("server", server_command(self.port), variables)
        self._wait_for_server()
        chosen = Chosen(port=self.port, dumps=variables[DUMPS], look_every=look_every)
        write_atomically(self.folder / OPTIONS, chosen.model_dump_json().encode())
        with self.client() as client:
            make_pool(client, MachineWorker.type, POOL_TEMPLATE)
        reset = frozenset({"watch"} if last and last.look_every != look_every else ())
        with (
            self.client() as client,
            edits_kept(client, POOL, self.folder / EDITS, reset) as kept,
        ):
            self._run("deploy", DEPLOY, variables)
            self._set_watch(look_every)
        with self.client() as client:
            missing = missing_automations(client)
        if missing:
            create = ["automation", "create", "--from-file", str(AUTOMATIONS)]
            self._run("automations", create, variables)
        if "worker" not in self.running():
            end(self._processes("worker"))
            living = set(processes_of_runs(self._prefect_home).values())
            with self.client() as client:
                mark_crashed(client, POOL, living, f"{GONE}; {RESUMED}")
            self._launch("worker", worker_command(POOL, socket.gethostname()), variables)
        return kept

    def stop(self) -> list[str]:
        """Stops the worker, the runs, and the server, in this order; returns the names of stopped
        services.

        Active runs end as well, also those of a worker that was killed. The next run resumes them.
        """
        server = self.running().get("server")
        processes = {name: self._processes(name) for name in SERVICES}
        # The server outlives them, so that they can record their end.
        end(processes["worker"])
        end(processes_of_runs(self._prefect_home))
        if server:
            replace(self, port=server.port or self.port)._mark_ended()
        end(processes["server"])
        for name in SERVICES:
            (self.folder / f"{name}.json").unlink(missing_ok=True)
        return [name for name in SERVICES if processes[name]]

    def _processes(self, name: str) -> set[Process]:
        """Returns the processes of a service, recorded or not."""
        recorded = (one.process for service, one in self.running().items() if service == name)
        return {*recorded, *processes_of_module(self._prefect_home, SERVICES[name])}

    def _mark_ended(self) -> None:
        """Marks runs that were ended before they could record it; `start` does so later if the
        server does not answer."""
        if has_started(self.api_url, lambda: True, ANSWER_SECONDS):
            with self.client() as client:
                mark_crashed(client, POOL, (), f"{STOPPED}; {RESUMED}")

    def _environment(self, dumps: str) -> dict[str, str]:
        # The command line hides Prefect's messages; here they are logged.
        kept = {name: value for name, value in os.environ.items() if name != CONSOLE_LEVEL}
        # Paths are relative to the caller, the worker runs in another folder.
        paths = [*FOLDERS, *([INTERPRETER] if "/" in kept.get(INTERPRETER, "") else [])]
        places = {name: str(Path(kept[name]).absolute()) for name in paths if kept.get(name)}
        return {
            "PREFECT_WORKER_QUERY_SECONDS": "2",  # The default, 10, is half of a short run.
            # By default, leases are lost with the server, and their slots stay occupied.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASES,
            # Bounds the growth of the database.
            "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
            "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": f"P{OPERATING.keep_runs_days}D",
            **kept,
            **places,
            **server_variables(self.credential, self.port),
            "PREFECT_API_AUTH_STRING": self.credential,
            "PWD": str(REPOSITORY),  # Runs use the folder of `prefect.yaml`.
            "PREFECT_HOME": str(self._prefect_home),
            "PREFECT_API_URL": self.api_url,
            "PREFECT_LOGGING_EXTRA_LOGGERS": "llm4cdsr",
            "LLM4CDSR_STORE": _absolute(self.store.root),
            DUMPS: _absolute(dumps),
        }

    def _launch(self, name: str, command: list[str], variables: Mapping[str, str]) -> None:
        log = self.folder / f"{name}.log"
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        # Appended to, so that logrotate may cut it (copytruncate).
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=dict(variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Survives the end of the terminal.
            )
        service = MachineProcess(
            pid=process.pid,
            started=start_of(process.pid) or 0,
            log=str(log),
            port=self.port,
            dumps=variables[DUMPS],
            closed=True,
        )
        write_atomically(self.folder / f"{name}.json", service.model_dump_json().encode())

    def _run(self, name: str, arguments: list[str], variables: Mapping[str, str]) -> None:
        log = self.folder / f"{name}.log"
        try:
            with log.open("wb") as output:
                subprocess.run(
                    [*PREFECT, *arguments],
                    cwd=REPOSITORY,
                    env=dict(variables),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=_COMMAND_SECONDS,
                    check=True,
                )
        except subprocess.SubprocessError as error:
            raise MachineError(
                f"`prefect {' '.join(arguments)}` failed; its output is {log}. Started "
                "processes keep running: fix the cause and repeat `llm4cdsr up`, or `llm4cdsr down`"
            ) from error

    def _set_watch(self, look_every: float) -> None:
        schedule = IntervalSchedule(interval=timedelta(seconds=look_every))
        parameters = {"settle_seconds": min(30.0, look_every / 2)}
        with self.client() as client:
            watch = client.read_deployment_by_name("watch/watch")
            for found in watch.schedules:
                client.update_deployment_schedule(watch.id, found.id, schedule=schedule)
            client.update_deployment(watch.id, DeploymentUpdate(parameters=parameters))
            drop_missed_runs(client, watch.id)

    @contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        """Yields a client of the server."""
        with (
            temporary_settings(
                {PREFECT_API_URL: self.api_url, PREFECT_API_AUTH_STRING: self.credential}
            ),
            get_client(sync_client=True) as client,
        ):
            yield client

    def _require_same(self, dumps: str) -> None:
        """Raises if a running machine has another port or folder."""
        running = self.running()
        server, worker = running.get("server"), running.get("worker")
        if server and server.port not in (None, self.port):
            raise MachineError(
                f"the server of this store runs on {server.port}; `llm4cdsr down` first"
            )
        if server and not server.closed:
            raise MachineError(
                "the server of this store was started by an earlier version, without a login; "
                "`llm4cdsr down` first"
            )
        if worker and worker.dumps not in (None, _absolute(dumps)):
            raise MachineError(
                f"the worker of this store watches {worker.dumps}; `llm4cdsr down` first"
            )

    def _require_free_port(self) -> None:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, self.port)) == 0:
                raise MachineError(f"port {self.port} is taken; choose another with --port")

    def _wait_for_server(self) -> None:
        if has_started(self.api_url, lambda: "server" in self.running(), STARTUP_SECONDS):
            return
        log = self.folder / "server.log"
        if "server" in self.running():
            raise MachineError(
                f"the Prefect server has not answered for {STARTUP_SECONDS:,.0f} s and still runs; "
                f"its log is {log}. Repeat the command to wait longer, or `llm4cdsr down` to end "
                "it"
            )
        raise MachineError(
            f"the Prefect server ended while it started; fix the error in {log} and repeat "
            "the command"
        )

    def _read(self, name: str) -> MachineProcess | None:
        path = self.folder / f"{name}.json"
        return MachineProcess.model_validate_json(path.read_bytes()) if path.exists() else None


def _absolute(place: str) -> str:
    return place if "://" in place else str(Path(place).resolve())
