"""Files that stay as they are while they are read: else a dataset would mix two dumps."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks.dump.sources.files import UnreadableDumpError
from tasks.dump.sources.source_files import SourceFile

State = tuple[str, int, int, int, int]


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
            now = []
        if changed := set(self._began) ^ set(now):
            raise DumpChangedError(
                f"{min(changed)[0]} was replaced or written to while it was read; nothing was made "
                "from it. Wait until the copy has ended and run again; exports that are copied "
                "into a folder of their own are never half new"
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

    def _now(self) -> list[State]:
        return [state for file in self._listed() if (state := _state(file.path))]


def _state(path: str) -> State | None:
    """Returns what a replacement of a file or a write to it changes, None if it does not exist."""
    with suppress(FileNotFoundError, NotADirectoryError):
        found = Path(path).stat()
        # Not its ctime: a backup by hard links changes it too.
        return (path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    return None
