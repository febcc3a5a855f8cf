"""Files that stay as they are while they are read: else a dataset would mix two dumps."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tasks.dump.sources.files import UnreadableDumpError
from tasks.dump.sources.source_files import SourceFile


class State(NamedTuple):
    """What a replacement of a file or a write to it changes. ``place``: device and inode."""

    size: int
    written_ns: int
    changed_ns: int
    place: tuple[int, int]

    def is_same(self, other: "State | None") -> bool:
        """Returns whether this is the unchanged file of ``other``.

        A replacement of the same size and time differs in place and ``ctime``. One of them may
        change alone: the place where a mount renumbers its files, the ``ctime`` by a backup by hard
        links.
        """
        if other is None or self[:2] != other[:2]:
            return False
        return self.changed_ns == other.changed_ns or self.place == other.place


class DumpChangedError(UnreadableDumpError):
    """A file of a dump was replaced or written to while it was read."""


class UnchangedFiles:
    """The state of a dump's files when their reading began."""

    def __init__(self, listed: Callable[[], Sequence[SourceFile]]) -> None:
        """``listed`` returns the files; its errors are raised."""
        self._listed = listed
        self._began = self._now()

    def require(self) -> None:
        """Raises `DumpChangedError` if a file was changed, added or removed since."""
        try:
            now = self._now()
        except UnreadableDumpError:  # All are gone.
            now = {}
        began = self._began
        changed = [path for path in began if not began[path].is_same(now.get(path))]
        if changed := [*changed, *(now.keys() - began.keys())]:
            raise DumpChangedError(
                f"{min(changed)} was replaced or written to while it was read; no artifact was "
                "made from it. Wait until the copy has ended and run again; copy each export into "
                "a folder of its own to avoid this"
            )

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Raises `DumpChangedError` in place of the `UnreadableDumpError` of a block, if a file has
        changed."""
        try:
            yield
        except UnreadableDumpError as error:
            # If it cannot be told whether a file has changed, the first error says why.
            with suppress(OSError):
                try:
                    self.require()
                except DumpChangedError as changed:
                    raise changed from error
            raise

    def _now(self) -> dict[str, State]:
        states = {file.path: _state(file.path) for file in self._listed()}
        return {path: state for path, state in states.items() if state is not None}


def _state(path: str) -> State | None:
    """Returns the state of a file, None if it does not exist."""
    with suppress(FileNotFoundError, NotADirectoryError):
        found = Path(path).stat()
        place = found.st_dev, found.st_ino
        return State(found.st_size, found.st_mtime_ns, found.st_ctime_ns, place)
    return None
