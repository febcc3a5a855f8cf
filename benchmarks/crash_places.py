"""File systems for stores that are to be harmed: of limited size, read-only, or cut off from power.

They are mounted, for which the kernel asks for root.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

IMAGE_MB = 96
SPARE_MB = 128


def _call(*command: str | Path) -> None:
    subprocess.run(list(command), check=True, capture_output=True)


def can_mount(folder: Path) -> bool:
    """Returns whether this process may mount a file system."""
    place = folder / "probe"
    place.mkdir()
    try:
        with small_disk(place):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextmanager
def small_disk(place: Path, content: Path | None = None) -> Iterator[Path]:
    """Mounts a file system with a copy of ``content`` and little space beside it."""
    size = sum(path.stat().st_size for path in content.rglob("*")) if content else 0
    _call("mount", "-t", "tmpfs", "-o", f"size={size // 2**20 * 2 + SPARE_MB}m", "tmpfs", place)
    try:
        if content is not None:
            shutil.copytree(content, place, dirs_exist_ok=True)
        yield place
    finally:
        _call("umount", "-l", place)


def fill(filler: Path) -> None:
    """Writes a file until its file system is full."""
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))


@contextmanager
def made_read_only(place: Path) -> Iterator[None]:
    """Lets nothing be created or opened for writing below a folder from now on."""
    _call("mount", "--bind", place, place)
    try:
        _call("mount", "-o", "remount,bind,ro", place)
        yield
    finally:
        _call("umount", "-l", place)


class PowerCutDisk:
    """A disk (ext4 in an image) whose power can be cut: what was not synced is then gone.

    The kernel writes its cached pages back when a file is synced, or after minutes. A copy of the
    image holds what the disk would hold if the machine lost its power now.
    """

    def __init__(self, folder: Path) -> None:
        self._image, self._left = folder / "disk.img", folder / "left.img"
        self.place = folder / "disk"
        self.place.mkdir()
        with self._image.open("wb") as file:
            file.truncate(IMAGE_MB << 20)
        _call("mkfs.ext4", "-q", "-F", self._image)
        self._mount(self._image)

    def cut(self) -> None:
        """Notes what the disk holds now."""
        shutil.copyfile(self._image, self._left)

    def restart(self) -> None:
        """Mounts what the disk held when it was cut."""
        self.close()
        self._mount(self._left)

    def sync(self) -> None:
        _call("sync", "-f", self.place)

    def close(self) -> None:
        _call("umount", self.place)

    def _mount(self, image: Path) -> None:
        # Else the journal, and with it what was written before it, is committed every 5 seconds.
        _call("mount", "-o", "loop,commit=600", image, self.place)
