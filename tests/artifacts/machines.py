"""Several machines that share a store: a cache each, one URL, over each kind of remote store."""

import logging
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from artifacts.store import Store

Machine = Callable[[str], Store]
"""Opens the store as the machine of a name does."""

KINDS = ("memory", "file", pytest.param("s3", marks=pytest.mark.slow))
"""The server of S3 takes longer to start than the tests with the others take."""


@contextmanager
def remote_root(kind: str, folder: Path) -> Iterator[str]:
    """Gives the URL of an empty store; an S3 server of its own serves ``s3``."""
    if kind == "memory":
        yield f"memory://bucket-{uuid.uuid4().hex}"
    elif kind == "file":
        yield f"file://{folder}/bucket"
    else:
        with s3_bucket() as bucket:
            yield f"s3://{bucket}/store"


@contextmanager
def s3_bucket() -> Iterator[str]:
    """An empty bucket of a real S3 server on loopback, which the environment names."""
    pytest.importorskip("s3fs", reason="s3fs is not installed (extra s3)")
    server_kind = pytest.importorskip("moto.server", reason="moto's S3 server is not installed")
    import s3fs

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = server_kind.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        names = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        with pytest.MonkeyPatch.context() as environment:
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                environment.delenv(name)
            for name, value in names.items():
                environment.setenv(name, value)
            s3fs.S3FileSystem.clear_instance_cache()
            bucket = f"shop-{uuid.uuid4().hex}"  # Servers of one process share their buckets.
            s3fs.S3FileSystem().mkdir(bucket)
            yield bucket
            s3fs.S3FileSystem.clear_instance_cache()
    finally:
        server.stop()


def machines(root: str, folder: Path, environment: pytest.MonkeyPatch) -> Machine:
    """Returns how machines open the store of a URL, each with a cache below ``folder``."""

    def opened(name: str) -> Store:
        environment.setenv("LLM4CDSR_CACHE", str(folder / name))
        return Store(root)

    return opened
