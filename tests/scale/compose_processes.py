"""The services of ``deploy/compose.yaml`` as processes, with its commands and variables.

Hosts and ports of the containers become free ports of loopback; moto stands in for MinIO, the
packages of this environment for the images.
"""

import asyncio
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import yaml

from tasks.system.free_port import free_port
from tests.flows.server.command_variables import REPOSITORY, own_variables

PORTS = {"postgres": 5432, "redis": 6379, "objects": 9000, "server": 4200, "recommendations": 8080}
"""Port of each service within compose's network."""

FILLED_IN = {
    "POSTGRES_PASSWORD": "pg-word",
    "PREFECT_LOGIN": "us:er-word",
    "S3_PASSWORD": "s3-word",
}
"""What a user writes into ``deploy/.env``."""

START_SECONDS = 300.0
"""For a machine with much else to do."""

_VARIABLE = re.compile(r"\$\{(\w+)(?::[-?]([^}]*))?\}")


def postgres_programs() -> Path | None:
    """Returns the folder of Postgres' programs, or None."""
    found = shutil.which("pg_ctl")
    places = [Path(found).parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "createdb").exists()), None)


@dataclass
class ComposeProcesses:
    """The running services; ``folder`` has the output of each in a file of its name."""

    folder: Path
    described: Mapping[str, Mapping[str, Any]]
    ports: dict[str, int]
    extra: Mapping[str, str]
    """Variables of the services' ``.env`` file beside the passwords."""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['server']}/api"

    @property
    def service_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['recommendations']}"

    def environment(self, service: str) -> dict[str, str]:
        """Returns the variables of a container, its hosts replaced by loopback's ports."""
        kept = {
            name: value
            for name, value in own_variables(self.folder / f"home-{service}").items()
            if not name.startswith("AWS_")
        }
        of_file = self.extra if "env_file" in self.described[service] else {}
        own = self.described[service].get("environment", {})
        return {
            **kept,
            **of_file,
            **{name: self.here(str(value)) for name, value in own.items()},
            "PREFECT_REDIS_MESSAGING_HOST": "127.0.0.1",
            "PREFECT_SERVER_API_PORT": str(self.ports["server"]),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        }

    def here(self, text: str) -> str:
        """Returns a value of the file with its variables filled in, for loopback."""
        text = _VARIABLE.sub(
            lambda found: {**FILLED_IN, **self.extra}.get(found[1], found[2] or ""), text
        )
        for host, port in PORTS.items():
            text = text.replace(f"{host}:{port}", f"127.0.0.1:{self.ports[host]}")
            text = str(self.ports[host]) if text == str(port) else text
        return text.replace("0.0.0.0", "127.0.0.1")

    def start(self, service: str, name: str | None = None, **variables: str) -> None:
        """Starts a service of the file as process ``name`` (its own name if None)."""
        program, *arguments = (self.here(word) for word in self.described[service]["command"])
        as_module = [] if program == "python" else ["-m", program]
        command = [sys.executable, *as_module, *arguments]
        self._run(name or service, command, {**self.environment(service), **variables})

    def start_postgres(self, programs: Path) -> None:
        """Starts the database server; as the user postgres where this process is root's."""
        data = self.folder / "postgres"
        data.mkdir()
        secret = self.folder / "postgres-password"
        secret.write_text(FILLED_IN["POSTGRES_PASSWORD"])
        user = None
        if os.getuid() == 0:
            user = "postgres"
            for path in (data, secret):
                shutil.chown(path, pwd.getpwnam(user).pw_uid)
        made = subprocess.run(
            [
                *(programs / "initdb", "--pgdata", data, "--username", "prefect"),
                *("--auth", "scram-sha-256", "--pwfile", secret, "--no-sync"),
            ],
            capture_output=True,
            text=True,
            check=False,
            user=user,
            cwd=self.folder,
        )
        assert made.returncode == 0, made.stderr
        command = [
            *(str(programs / "postgres"), "-D", str(data), "-p", str(self.ports["postgres"])),
            *("-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={data}"),
        ]
        self._run("postgres", command, dict(os.environ), user)
        self.wait_for("postgres", lambda: _listens(self.ports["postgres"]))
        login = {**os.environ, "PGPASSWORD": FILLED_IN["POSTGRES_PASSWORD"]}
        where = ["--host", "127.0.0.1", "--port", str(self.ports["postgres"])]
        create = [programs / "createdb", *where, "--username", "prefect", "prefect"]

        def created() -> bool:
            done = subprocess.run(create, env=login, capture_output=True, check=False)
            return done.returncode == 0

        self.wait_for("postgres", created)

    def start_redis(self) -> None:
        """Starts Redis."""
        port = str(self.ports["redis"])
        command = [*("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "")]
        self._run("redis", command, dict(os.environ))
        self.wait_for("redis", lambda: _listens(self.ports["redis"]))

    def start_objects(self) -> None:
        """Starts an S3 server."""
        port = str(self.ports["objects"])
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port]
        self._run("objects", command, dict(os.environ))
        self.wait_for("objects", lambda: _listens(self.ports["objects"]))

    def wait_for(self, name: str, ready: Callable[[], bool]) -> None:
        """Returns once ``ready``; fails with the end of the log if the process ends or is late."""
        end = time.monotonic() + START_SECONDS
        while not ready():
            process = self.processes[name]
            if process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"{name} ({process.poll()}) is not ready:\n{self.log(name)}")
            time.sleep(0.3)

    def completed(self, name: str) -> bool:
        """Returns whether a process ended without an error."""
        return self.processes[name].poll() == 0

    def healthy(self) -> bool:
        """Returns whether Prefect's server answers."""
        return _answers(f"{self.api_url}/health")

    def serves(self) -> bool:
        """Returns whether the service answers."""
        return _answers(f"{self.service_url}/health")

    def recorded_runs(self) -> int:
        """Returns the ended runs that Postgres holds."""

        async def count() -> int:
            database = await asyncpg.connect(
                f"postgresql://prefect:{FILLED_IN['POSTGRES_PASSWORD']}"
                f"@127.0.0.1:{self.ports['postgres']}/prefect"
            )
            try:
                return await database.fetchval(
                    "select count(*) from flow_run where end_time is not null"
                )
            finally:
                await database.close()

        return asyncio.run(count())

    def log(self, name: str) -> str:
        """Returns the end of a process' output."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]

    def stop(self) -> None:
        """Ends all processes, the last one first."""
        for name in reversed(list(self.processes)):
            with suppress(ProcessLookupError):
                os.killpg(self.processes[name].pid, signal.SIGKILL)
            self.processes.pop(name).wait()

    def _run(
        self, name: str, command: list[str], environment: dict[str, str], user: str | None = None
    ) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                env=environment,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
            )


@contextmanager
def compose_processes(programs: Path, extra: Mapping[str, str]) -> Iterator[ComposeProcesses]:
    """Starts what compose starts before the workers; all processes end with the block."""
    file = (REPOSITORY / "deploy" / "compose.yaml").read_text(encoding="utf-8")
    # A short path that other users may enter: Postgres' socket lies in it.
    with tempfile.TemporaryDirectory(prefix="compose-") as folder:
        Path(folder).chmod(0o711)
        ports = {host: free_port() for host in PORTS}
        running = ComposeProcesses(Path(folder), yaml.safe_load(file)["services"], ports, extra)
        try:
            running.start_postgres(programs)
            running.start_redis()
            running.start_objects()
            running.start("server")
            running.wait_for("server", running.healthy)
            running.start("services")
            running.start("deployments")
            running.wait_for("deployments", lambda: running.completed("deployments"))
            yield running
        finally:
            running.stop()


def _listens(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


def _answers(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(url, timeout=10).is_success
    return False
