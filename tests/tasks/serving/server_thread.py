"""An ASGI app on a thread of the test's process and a real socket, its lifespan included."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from tasks.serving.service.http_server import ConnectionLimits, server_config


@contextmanager
def running_server(app: FastAPI, limits: ConnectionLimits | None = None) -> Iterator[str]:
    """Gives the server's URL; it is stopped, and its lifespan ended, on leaving."""
    config = server_config(app, limits)
    config.timeout_graceful_shutdown = 2
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)
