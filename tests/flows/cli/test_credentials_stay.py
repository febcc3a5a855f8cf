"""A run whose dump is behind URLs with credentials: they open it, and are written nowhere."""

import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tasks.demo.demo_dump import write_demo_dump
from tests.flows.server.command_variables import own_variables

WORD, SIGNATURE = "pass-w0rd-of-the-url", "s1gnature-of-the-url"
LOGIN = b64encode(f"reader:{WORD}".encode()).decode()


class Files(BaseHTTPRequestHandler):
    """Two files, for who has the password and the signature."""

    folder: Path

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        file = self.folder / parts.path.strip("/")
        allowed = self.headers["Authorization"] == f"Basic {LOGIN}"
        if not allowed or f"sig={SIGNATURE}" not in parts.query or not file.is_file():
            self.send_error(401 if not allowed else 404)
            return
        content = file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def files_served(folder: Path) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Files,), {"folder": folder}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join(20)
        server.server_close()


def refreshed(
    folder: Path, database: Path, port: int, word: str
) -> subprocess.CompletedProcess[str]:
    """A refresh with a Prefect server and a home of its own; all it writes is in the folder."""
    address = f"http://reader:{word}@127.0.0.1:{port}"
    return subprocess.run(
        [
            *(sys.executable, "-m", "flows.cli.entry", "refresh", "--provider", "dummy"),
            *("--interactions", f"{address}/interactions.parquet?sig={SIGNATURE}&v=1"),
            *("--items", f"{address}/items.parquet?sig={SIGNATURE}"),
            *("--store", "store", "--clusters", "4", "--profile-users", "3", "--verbose"),
        ],
        cwd=folder,
        env={**own_variables(folder, database), "PREFECT_LOGGING_LEVEL": "DEBUG"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def holding(folder: Path, *secrets: str) -> list[Path]:
    """Files that hold one of some texts, in whatever folder below."""
    wanted = [secret.encode() for secret in secrets]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    return [
        path
        for path in files
        if any(text in path.read_bytes() or text.decode() in path.name for text in wanted)
    ]


def test_a_urls_credentials_open_the_dump_and_are_written_nowhere(
    tmp_path: Path, prefect_database: Path
) -> None:
    pytest.importorskip("aiohttp")
    source = tmp_path / "source"
    write_demo_dump(source, seed=3, users=40, items=60)
    run = tmp_path / "run"
    run.mkdir()
    with files_served(source) as port:
        done = refreshed(run, prefect_database, port, WORD)
        assert done.returncode == 0, done.stderr
        refused = refreshed(run, prefect_database, port, f"{WORD}-old")
    told = done.stdout + done.stderr + refused.stdout + refused.stderr
    assert refused.returncode == 2
    assert f"http://127.0.0.1:{port}/" in refused.stderr
    for secret in (WORD, SIGNATURE, LOGIN):
        assert secret not in told
    assert holding(run, WORD, SIGNATURE, LOGIN) == []
    assert holding(run, "interactions.parquet") != []  # The search finds what is there.
