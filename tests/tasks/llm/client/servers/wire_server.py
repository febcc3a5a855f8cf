"""A server whose replies are written byte by byte by a test's behaviour."""

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.imitated_servers import CHAT, EMBEDDINGS, Books, Call, completion, vectors


@dataclass
class Wire:
    """What a connection sends in reply to requests. ``number`` counts all requests from 0."""

    connection: socket.socket
    number: int
    good: bytes
    """A right answer as JSON."""

    is_open: bool = True

    def head(self, status: str = "200 OK", version: str = "1.1", **headers: str) -> None:
        lines = [f"HTTP/{version} {status}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n")

    def send(self, content: bytes) -> None:
        self.connection.sendall(content)

    def answer(self, content: bytes | None = None, status: str = "200 OK", **more: str) -> None:
        body = self.good if content is None else content
        self.head(status, content_length=str(len(body)), content_type="application/json", **more)
        self.send(body)

    def end(self) -> None:
        self.is_open = False


Behaviour = Callable[[Wire], None]


@dataclass
class WireServer:
    """Requests that a behaviour has answered well, by text, and their number."""

    port: int
    requests: int = 0
    paid: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def books(self) -> Books:
        return Books(f"http://127.0.0.1:{self.port}/v1")


@contextmanager
def speaking(behaviour: Behaviour) -> Iterator[WireServer]:
    """Runs a server until the block ends; its threads end with their connections."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    server = WireServer(listener.getsockname()[1])
    connections: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            threads.append(threading.Thread(target=_talk, args=(server, connection, behaviour)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield server
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for connection in connections:
            _close(connection)
        for thread in threads:
            thread.join()


def _close(connection: socket.socket) -> None:
    with suppress(OSError):  # The other side was first.
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def _talk(server: WireServer, connection: socket.socket, behaviour: Behaviour) -> None:
    is_open = True
    try:
        with connection.makefile("rb") as lines:
            while is_open and (first := lines.readline()):
                length = 0
                while (line := lines.readline()) not in (b"\r\n", b""):
                    name, _, value = line.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                body = json.loads(lines.read(length))
                path = first.split()[1].decode()
                route = CHAT if path.endswith(CHAT) else EMBEDDINGS
                call = Call(route, path, "", {}, body, server.requests)
                form = completion() if route == CHAT else vectors()
                with server.lock:
                    number, server.requests = server.requests, server.requests + 1
                wire = Wire(connection, number, json.dumps(form(call)).encode())
                behaviour(wire)
                is_open = wire.is_open
    except OSError:
        pass  # The client, or the end of the test, closed the connection.
    finally:
        _close(connection)
