"""Objects under an fsspec URL: read, replaced, created conditionally, listed and deleted."""

from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from fsspec.implementations.local import LocalFileSystem

from artifacts.files.durable import copy_atomically, create_exclusively, write_atomically
from artifacts.remote.file_systems import file_system_of


class RemoteObjects:
    """Access to the objects under a URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._files, self._root = file_system_of(url)

    def read(self, *parts: str) -> bytes | None:
        """Returns an object's content, None if it does not exist or is a folder."""
        self._files.invalidate_cache()
        try:
            return cast(bytes, self._files.cat_file(self._path(*parts)))
        except (FileNotFoundError, IsADirectoryError):
            return None

    def write(self, content: bytes, *parts: str) -> None:
        """Replaces an object; no reader sees a part of it."""
        self._files.makedirs(self._path(*parts[:-1]), exist_ok=True)
        path = self._path(*parts)
        if isinstance(self._files, LocalFileSystem):
            write_atomically(Path(path), content)
        else:
            self._files.pipe_file(path, content)

    def create(self, content: bytes, *parts: str) -> None:
        """Creates an object conditionally (``If-None-Match`` on S3).

        Raises:
            FileExistsError: it exists.
        """
        self._files.makedirs(self._path(*parts[:-1]), exist_ok=True)
        path = self._path(*parts)
        if isinstance(self._files, LocalFileSystem):
            create_exclusively(Path(path), content)
        else:
            self._files.pipe_file(path, content, mode="create")

    def put(self, source: Path, *parts: str) -> None:
        """Uploads a file as an object; no reader sees a part of it."""
        path = self._path(*parts)
        self._files.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
        if isinstance(self._files, LocalFileSystem):
            copy_atomically(source, Path(path))
        else:
            self._files.put_file(str(source), path)

    def get(self, target: Path, *parts: str) -> None:
        """Downloads an object into a file; raises FileNotFoundError."""
        self._files.get_file(self._path(*parts), str(target))

    def opened(self, *parts: str) -> BinaryIO:
        """Returns an object, open for reading of its parts; raises FileNotFoundError."""
        return cast(BinaryIO, self._files.open(self._path(*parts), "rb"))

    def delete(self, *parts: str) -> None:
        """Deletes an object or all objects below a folder, if they exist."""
        path = self._path(*parts)
        self._files.invalidate_cache()
        # `rm` would interpret brackets in names as patterns.
        for found in self._files.find(path):
            self._files.rm_file(found)

    def delete_folders(self, *parts: str) -> None:
        """Deletes an empty folder with its folders, where the file system has such."""
        path = self._path(*parts)
        self._files.invalidate_cache()
        if self._files.isdir(path):
            for folder, _, _ in self._files.walk(path, topdown=False):
                self._files.rmdir(folder)

    def names(self, *parts: str) -> list[str]:
        """Returns the sorted names below a folder; empty if it does not exist."""
        self._files.invalidate_cache()
        path = self._path(*parts)
        try:
            entries = self._files.ls(path, detail=False)
        except FileNotFoundError:
            return []
        return sorted(PurePosixPath(entry).name for entry in entries)

    def _path(self, *parts: str) -> str:
        return str(PurePosixPath(self._root, *parts))
