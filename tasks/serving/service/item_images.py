"""Images of items: files below a folder, served by this service, and addresses at allowed hosts.

Without a setting no image is shown: loading an image from another host reveals to it which user
views which item.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from artifacts.user_error import InvalidSettingError

FOLDER_VARIABLE = "LLM4CDSR_SERVE_IMAGES"
HOSTS_VARIABLE = "LLM4CDSR_SERVE_IMAGE_HOSTS"
ROUTE = "/image"
MOST_BYTES = 5_000_000
KINDS = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".avif": "image/avif",
}
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


@dataclass(frozen=True)
class ItemImages:
    """``folder`` holds the files that the items' paths name; ``hosts`` may be asked for images."""

    folder: Path | None = None
    hosts: frozenset[str] = frozenset()

    @classmethod
    def of(cls, folder: str | Path | None, hosts: Iterable[str]) -> "ItemImages":
        """Raises `InvalidSettingError`."""
        place = Path(folder).resolve() if folder else None
        if place is not None and not place.is_dir():
            raise InvalidSettingError(f"{folder}: no such folder of images")
        names = frozenset(host.strip().lower() for host in hosts if host.strip())
        for name in names:
            if not _HOST.fullmatch(name):
                raise InvalidSettingError(
                    f"{name!r} is no host name: images are allowed from hosts such as "
                    "cdn.example.com, without https:// and without a path"
                )
        return cls(place, names)

    @classmethod
    def of_environment(
        cls, folder: Path | None = None, hosts: list[str] | None = None
    ) -> "ItemImages":
        """Returns the settings of the variables, replaced by the given ones; raises
        `InvalidSettingError`."""
        named = os.environ.get(HOSTS_VARIABLE, "").split(",") if hosts is None else hosts
        return cls.of(folder or os.environ.get(FOLDER_VARIABLE), named)

    @property
    def sources(self) -> str:
        """Returns the allowed image sources of a page, for its Content-Security-Policy."""
        return " ".join(["'self'", "data:", "blob:", *(f"https://{h}" for h in sorted(self.hosts))])

    def address(self, domain: str, item_id: str, image: str | None) -> str | None:
        """Returns where a page finds an item's image, None where it may not be shown."""
        if image is None:
            return None
        if image.lower().startswith("https://"):
            try:
                parts = urlsplit(image)
                plain = parts.username is None and parts.port in (None, 443)
            except ValueError:
                return None
            return image if plain and parts.hostname in self.hosts else None
        if self.file(image) is None:
            return None
        return f"{ROUTE[1:]}?{urlencode({'domain': domain, 'item_id': item_id})}"

    def file(self, image: str | None) -> Path | None:
        """Returns the file of a path, None where it is none, or not below the folder."""
        if self.folder is None or image is None or Path(image).suffix.lower() not in KINDS:
            return None
        try:
            path = (self.folder / image).resolve()
            inside = path.is_relative_to(self.folder) and path.suffix.lower() in KINDS
            return path if inside and path.is_file() else None
        except (OSError, ValueError):  # Too long a name, a null byte, a loop of links.
            return None
