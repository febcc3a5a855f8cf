"""A port that passes on to a server and can be closed: the server is then gone, for its clients."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self
from urllib.parse import urlsplit


class Relay:
    """Passes connections on while it is open; ``url`` is the server's through it."""

    def __init__(self, host: str, port: int, path: str) -> None:
        self._server = (host, port)
        self._port = 0
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.open()
        self.url = f"http://127.0.0.1:{self._port}{path}"

    @classmethod
    @contextmanager
    def to(cls, url: str) -> Iterator[Self]:
        """Gives a relay to the server of a URL, closed at the end."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        relay = cls(parts.hostname, parts.port, parts.path)
        try:
            yield relay
        finally:
            relay.close()

    def open(self) -> None:
        """Listens, on the port of before."""
        if self._listener is not None:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        listener.listen(128)
        self._listener, self._port = listener, listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        """Refuses connections and cuts those there are."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(self._server)
            except OSError:
                return
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with self._lock:
            self._open.add(source)
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
        except OSError:
            """The other direction has closed it."""
        finally:
            with suppress(OSError):
                sink.shutdown(socket.SHUT_WR)
            with self._lock:
                self._open.discard(source)
            source.close()
