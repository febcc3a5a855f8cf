"""A client that lacks files to connect says so; the server is not taken for one that is down."""

import subprocess
import sys

import pytest

ASKS = """
import asyncio, os, resource, signal, sys, time
from contextlib import aclosing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import httpx2
from prefect.client.base import PrefectHttpxSyncClient
from tasks.frame.prefect_link import watched
from tasks.llm.client.servers.transport import Transport
from tasks.system.machine_errors import is_lack

class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
    do_POST = do_GET
    def log_message(self, *said): ...

server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
child = os.fork()
if child == 0:  # Its files are not taken.
    signal.alarm(60)
    server.serve_forever()
url = f"http://127.0.0.1:{server.server_port}"

def of_the_language_model():
    async def ask():
        one, other = (aclosing(Transport(url, "", 60)) for _ in range(2))
        async with one as first, other as second:
            await first.post("/x", {})
            take_files()
            await second.post("/x", {})
    asyncio.run(ask())

def of_prefect():
    client = PrefectHttpxSyncClient
    with client(base_url=url) as first, client(base_url=url) as second, watched(url, waits=False):
        first.get("/x")
        time.sleep(2)  # The watch is connected.
        take_files()
        second.get("/x")

def take_files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

try:
    globals()[sys.argv[1]]()
except Exception as error:
    print("a lack" if is_lack(error) else repr(error), flush=True)
finally:
    os.kill(child, signal.SIGKILL)
"""


@pytest.mark.parametrize("client", ["of_the_language_model", "of_prefect"])
def test_a_lack_of_files_is_raised_at_once(client: str) -> None:
    asked = subprocess.run(
        [sys.executable, "-c", ASKS, client],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert asked.stdout == "a lack\n", asked.stderr
