"""The ledger in a remote store, shared by all machines.

``<store>/ledger/<role>/`` holds

================================  ================================================================
``part-<age>-<sha256>.parquet``   sealed answers: written once, named by their content
``claims/<name>.parquet``         keys that a machine is asking now; ``<name>.beat`` shows it lives
``turn/``                         which machine may claim now: see `artifacts.remote.remote_lease`
``questions/<sha256>.json``       a model and its parameters, to find the keys of a prompt
================================  ================================================================

Requests read and write the machine's local ledger only. Sealed parts are linked into ``outbox`` and
uploaded within ten seconds, at the latest at the end of the stage; parts of other machines are
downloaded before prompts are sent.
"""

import hashlib
import json
import re
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from artifacts import columns as col
from artifacts.files.ownership import locked
from artifacts.fingerprint import canonical_json, sha256_of_file
from artifacts.ledger.answers import (
    KEY_SCHEMA,
    Question,
    Role,
    scan_parts,
    time_ordered_name,
)
from artifacts.ledger.journal import OUTBOX, link, write_part
from artifacts.remote.remote_lease import Liveness, RemoteLease, beating
from artifacts.remote.remote_side import RemoteStore
from artifacts.user_error import UserError

_PART = re.compile(r"part-[0-9a-f]{16}-([0-9a-f]{64})\.parquet")
_CLAIM = re.compile(r"[0-9a-f]{16}-[0-9a-f]{12}-[0-9a-f]{32}")
_SHARED_PARTS = "shared-parts.txt"
"""Names of remote parts whose answers are in the local ledger, possibly merged."""
_LOCK = ".shared.lock"
_CACHE_NAME = ".cache-name"
_FETCHES = 6
"""Download attempts before a part is considered damaged; they take three seconds."""


class SharedPartDamagedError(UserError, RuntimeError):
    """An object of the remote ledger does not match the digest in its name."""


class SharedLedgerGoneError(UserError, RuntimeError):
    """The remote ledger is empty, but had parts."""


class SharedLedger:
    """The remote side of a ledger, for the machine with the local ledger `folder`."""

    def __init__(self, remote: RemoteStore, role: Role, folder: Path) -> None:
        self._remote, self._place, self._folder = remote, ("ledger", str(role)), folder
        self._outbox = folder / OUTBOX
        self._liveness = Liveness()
        self._claims = (*self._place, "claims")
        self._questions = (*self._place, "questions")
        self._published: set[str] = set()
        self._own: set[str] = set()
        self._read: dict[str, pl.DataFrame] = {}
        with locked(folder / _LOCK):
            if not self._outbox.exists():
                self._link_all_parts()
            self._cache = _name_of_cache(folder)

    @property
    def url(self) -> str:
        return "/".join((self._remote.url.rstrip("/"), *self._place))

    def push(self) -> int:
        """Uploads locally sealed parts; returns their number.

        Raises:
            SharedLedgerGoneError: the store has no object of the ledger any more.
        """
        with locked(self._folder / _LOCK):
            waiting = sorted(self._outbox.glob("part-*.parquet"))
            if waiting:
                self._listed()
            for part in waiting:
                digest = sha256_of_file(part)
                age = part.name.split("-")[1]
                name = f"part-{age}-{digest}.parquet"
                self._remote.put(part, *self._place, name)
                self._note(name)
                part.unlink()
        return len(waiting)

    def pull(self) -> int:
        """Downloads missing parts; returns their number.

        Raises:
            SharedPartDamagedError: a part does not match its digest.
            SharedLedgerGoneError: the store has no object of the ledger any more.
        """
        with locked(self._folder / _LOCK):
            known = set(self._noted())
            new = [name for name in self._listed() if _PART.fullmatch(name) and name not in known]
            for name in new:
                self._fetch(name)
                self._note(name)
        return len(new)

    @contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Sends heartbeats and uploads parts during the block.

        Two threads, because an upload may take longer than a claim without heartbeat lasts.
        """

        def beat(content: bytes) -> None:
            for name in list(self._own):
                self._remote.write(content, *self._claims, f"{name}.beat")

        with beating(beat), beating(lambda _: self.push()):
            try:
                yield
            finally:
                self.push()

    def turn(self) -> RemoteLease:
        """Returns the lease for reading and making claims."""
        return RemoteLease(self._remote, *self._place, "turn")

    def claim(self, keys: pl.Series, question: Question) -> str:
        """Publishes a claim on keys; returns its name. Call it within `turn`."""
        self._publish_question(question)
        name = f"{time_ordered_name()}-{self._cache}"
        sink = pa.BufferOutputStream()
        binary = keys.str.decode("hex").alias(col.KEY).to_frame()
        pq.write_table(binary.to_arrow(), sink, compression="none")
        self._remote.write(uuid.uuid4().bytes, *self._claims, f"{name}.beat")
        self._remote.write(sink.getvalue().to_pybytes(), *self._claims, f"{name}.parquet")
        self._own.add(name)
        return name

    def questions(self) -> list[Question]:
        """Returns the models and parameters that machines have asked."""
        names = self._remote.names(*self._questions)
        contents = (self._remote.read(*self._questions, name) for name in names)
        return [Question(**json.loads(content)) for content in contents if content is not None]

    def _publish_question(self, question: Question) -> None:
        content = canonical_json(question._asdict())
        name = f"{hashlib.sha256(content.encode()).hexdigest()}.json"
        if name not in self._published:
            self._remote.write(content.encode(), *self._questions, name)
            self._published.add(name)

    def release(self, name: str) -> None:
        """Ends a claim after its answers are uploaded."""
        self.push()
        self._own.discard(name)
        self._forget(name)

    def keys_claimed(self) -> pl.DataFrame:
        """Returns the keys claimed by other machines; deletes claims of dead machines.

        Claims of this machine are omitted, because its local claims are equal and react faster to
        dead processes.
        """
        names = [name.removesuffix(".parquet") for name in self._remote.names(*self._claims)]
        found = [pl.DataFrame(schema=KEY_SCHEMA)]
        for name in names:
            if not _CLAIM.fullmatch(name) or name.endswith(self._cache):
                continue
            beat = self._remote.read(*self._claims, f"{name}.beat")
            if self._liveness.is_alive(name, beat):
                found.append(self._keys_of(name))
            else:
                self._forget(name)
        return pl.concat(found)

    def remove(self, keys: pl.Series) -> int:
        """Replaces the parts that have some of these keys; returns the number of removed rows.

        Deletes all claims too: no run of any machine may use the store.
        """
        wanted = keys.unique().to_frame(col.KEY)
        gone = 0
        names = self._remote.names(*self._place)
        for name in [name for name in names if name.startswith(".part-")]:
            self._remote.delete(*self._place, name)  # Of an upload that was killed.
        for name in [name for name in names if _PART.fullmatch(name)]:
            with self._remote.opened(*self._place, name) as file:
                held = pl.DataFrame(pq.ParquetFile(file).read([col.KEY]))
            if removed := held.join(wanted, on=col.KEY, how="semi").height:
                gone += removed
                self._replace_part(name, wanted)
        self._remote.delete(*self._claims)
        return gone

    def _replace_part(self, name: str, wanted: pl.DataFrame) -> None:
        partial = self._folder / f".{name}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            self._remote.get(partial, *self._place, name)
            kept = scan_parts([partial]).collect().join(wanted, on=col.KEY, how="anti")
            if kept.height:
                write_part(kept, partial)
                other = f"part-{name.split('-')[1]}-{sha256_of_file(partial)}.parquet"
                self._remote.put(partial, *self._place, other)
                self._note(other)
        finally:
            partial.unlink(missing_ok=True)
        self._remote.delete(*self._place, name)

    def _keys_of(self, claim: str) -> pl.DataFrame:
        if claim not in self._read:
            content = self._remote.read(*self._claims, f"{claim}.parquet")
            if content is None:
                return pl.DataFrame(schema=KEY_SCHEMA)  # Ended in the meantime.
            keys = pl.DataFrame(pq.read_table(pa.BufferReader(content)))
            self._read[claim] = keys.select(pl.col(col.KEY).bin.encode("hex"))
        return self._read[claim]

    def _forget(self, claim: str) -> None:
        for kind in ("parquet", "beat"):
            self._remote.delete(*self._claims, f"{claim}.{kind}")

    def _fetch(self, name: str) -> None:
        partial = self._folder / f".{name}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            for attempt in range(_FETCHES):
                self._remote.get(partial, *self._place, name)
                if sha256_of_file(partial) == _PART.fullmatch(name)[1]:  # pyright: ignore[reportOptionalSubscript]
                    partial.replace(self._folder / name)
                    return
                # Without atomic object writes, another machine may be writing it.
                time.sleep(0.05 * 2**attempt)
            raise SharedPartDamagedError(
                f"{self.url}/{name} has other content than was written; restore it from a "
                "backup, or delete it: its answers are then requested and paid for again"
            )
        finally:
            partial.unlink(missing_ok=True)

    def _link_all_parts(self) -> None:
        """Links all parts of a formerly local ledger into the outbox."""
        filling = self._outbox.with_name(f".{OUTBOX}.{uuid.uuid4().hex[:8]}")
        filling.mkdir()
        for part in self._folder.glob("part-*.parquet"):
            link(part, filling / part.name)
        filling.rename(self._outbox)

    def _listed(self) -> list[str]:
        """Returns the names in the remote folder. One without parts and questions is refused if it
        had parts: the place of a shared folder that is not mounted would swallow answers.

        Heartbeats do not count, which this machine writes also to that place.
        """
        names = self._remote.names(*self._place)
        holds = any(name == self._questions[-1] or _PART.fullmatch(name) for name in names)
        if not holds and self._noted():
            raise SharedLedgerGoneError(
                f"{self.url} is empty, but had parts when this machine last used it; mount or "
                "restore the store. If it was emptied on purpose, delete "
                f"{self._folder / _SHARED_PARTS} and {self._outbox}: this machine then uploads "
                "all answers that it has"
            )
        return names

    def _noted(self) -> list[str]:
        path = self._folder / _SHARED_PARTS
        return path.read_text().splitlines() if path.exists() else []

    def _note(self, name: str) -> None:
        with (self._folder / _SHARED_PARTS).open("a") as file:
            file.write(f"{name}\n")


def download_again(folder: Path) -> None:
    """Makes the next `SharedLedger.pull` of a local ledger download all parts."""
    with locked(folder / _LOCK):
        _drop_notes(folder)


def _drop_notes(folder: Path) -> None:
    """Deletes the names of remote parts, but not that there are some. Called under `_LOCK`."""
    noted = folder / _SHARED_PARTS
    if noted.exists():
        noted.write_text("to be downloaded again:\n")


def _name_of_cache(folder: Path) -> str:
    """Returns the name of this machine's claims, 32 hexadecimal digits. Called under `_LOCK`.

    The inode of the file and the host's name distinguish copies of a cache: with one name, two
    machines would ignore each other's claims. Parts may have changed while they were copied, so a
    copy downloads all of them.
    """
    path = folder / _CACHE_NAME
    name, _, inode = path.read_text().partition(" ") if path.exists() else ("", "", "")
    if not name or (inode and inode != str(path.stat().st_ino)):
        _drop_notes(folder)
        name, inode = uuid.uuid4().hex, ""
    if not inode:
        path.touch()
        path.write_text(f"{name} {path.stat().st_ino}")
    return hashlib.sha256(f"{name} {socket.gethostname()}".encode()).hexdigest()[:32]
