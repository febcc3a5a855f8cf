"""Expansion of a source to files: one, several, a pattern, or a Spark or Hive folder.

``NAME=PATH`` in place of a path names the domain of its rows.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from glob import glob, has_magic
from pathlib import Path, PurePosixPath
from typing import Annotated
from urllib.parse import unquote

from pydantic import AfterValidator

from artifacts import columns as col
from artifacts.remote.url_credentials import hide_credentials
from tasks.dump.sources.files import UnreadableDumpError


def _hide_credentials(paths: str | tuple[str, ...]) -> str | tuple[str, ...]:
    return (
        hide_credentials(paths) if isinstance(paths, str) else tuple(map(hide_credentials, paths))
    )


Paths = Annotated[str | tuple[str, ...], AfterValidator(_hide_credentials)]
"""One or several paths, patterns, folders or URLs."""

NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
"""Hive's and Spark's partition value for null."""

_LAKES = {
    "_delta_log": "a Delta table, whose folder also holds rows that were deleted",
    ".hoodie": "a Hudi table, whose folder also holds rows that were replaced",
    "metadata/*.metadata.json": "an Iceberg table, whose folder also holds rows that were deleted",
}


@dataclass(frozen=True)
class SourceFile:
    """One file of a source.

    Attributes: path: its path. name: its name in accounts, relative to the given folder. partition:
        columns of its folders (``domain=food``), for all rows; None for null.
    """

    path: str
    name: str
    partition: Mapping[str, str | None] = field(default_factory=dict)
    names_domain: bool = False
    """Whether the domain was given with the path."""

    def theirs(self, name: str) -> str:
        """Returns a given name of a column, of ``DOMAIN:NAME`` the latter if it is this domain."""
        return name.removeprefix(f"{self.partition[col.DOMAIN]}:") if self.names_domain else name

    def own_names(self, names: Mapping[str, str], columns: Collection[str]) -> dict[str, str]:
        """Returns the mapping of this file's ``columns`` to standard names, from that of all
        files."""
        own = {
            self.theirs(name): ours
            for name, ours in names.items()
            if self.theirs(name) != name and self.theirs(name) in columns
        }
        return {name: ours for name, ours in names.items() if ours not in own.values()} | own


def paths_of(paths: Paths) -> tuple[str, ...]:
    """Returns paths one by one."""
    return (paths,) if isinstance(paths, str) else tuple(paths)


def source_files(paths: Paths) -> tuple[SourceFile, ...]:
    """Returns the files of a source; those of a folder or pattern are sorted.

    Raises:
        UnreadableDumpError: no such file, or the folder contains other files than a table.
    """
    found = [file for path in paths_of(paths) for file in _files(path)]
    places = Counter(os.path.realpath(file.path) for file in found)
    if twice := next((path for path, count in places.items() if count > 1), None):
        raise UnreadableDumpError(f"{twice} is named twice; name each file once")
    if len({file.name for file in found}) == len(found):
        return tuple(found)
    root = os.path.commonpath([file.path for file in found])
    return tuple(replace(file, name=os.path.relpath(file.path, root)) for file in found)


def absolute(paths: Paths) -> Paths:
    """Returns absolute paths; URLs are unchanged. Raises `UnreadableDumpError`."""
    found = tuple(path if "://" in path else _absolute(path) for path in paths_of(paths))
    return found[0] if len(found) == 1 else found


def folder_name(paths: Paths) -> str:
    """Returns the name of the folder of the first path."""
    first = paths_of(paths)[0]
    return (PurePosixPath(first) if "://" in first else Path(first).absolute()).parent.name


def _of_domain(path: str) -> tuple[str, str] | None:
    """Returns the domain and the path of ``NAME=PATH``; None for a path alone."""
    name, separator, place = path.partition("=")
    if not (name.strip() and separator and place) or "/" in name or _is_there(path):
        return None
    return (name.strip(), place) if _is_there(place) else None


def _is_there(path: str) -> bool:
    return Path(path).exists() or (has_magic(path) and bool(glob(path, recursive=True)))  # noqa: PTH207


def _absolute(path: str) -> str:
    if named := _of_domain(path):
        return f"{named[0]}={_absolute(named[1])}"
    if not Path(path).exists():
        _files(path)  # Reports the fault before other work.
        return str(Path(path).absolute())
    return str(Path(path).resolve())


def _files(path: str) -> tuple[SourceFile, ...]:
    if named := _of_domain(path):
        domain, place = named
        of_domain = {col.DOMAIN: domain}
        return tuple(
            replace(file, partition={**file.partition, **of_domain}, names_domain=True)
            for file in _files(place)
        )
    place = Path(path)
    if place.is_file():
        return (SourceFile(path, place.name),)
    if place.is_dir():
        return tuple(_in_folder(place))
    if has_magic(path):
        matches = glob(path, recursive=True)  # noqa: PTH207 - the pattern may be absolute
        found = sorted(file for file in matches if Path(file).is_file())
        if found:
            root = _fixed_part(path)
            return tuple(_below(root, Path(file)) for file in found)
        raise UnreadableDumpError(f"{path} matches no file; correct the pattern")
    raise UnreadableDumpError(
        f"{path} is not a file; give the path of a Parquet, CSV or JSON file, of a folder of them, "
        "or a pattern"
    )


def _in_folder(folder: Path) -> Iterator[SourceFile]:
    for sign, what in _LAKES.items():
        if next(folder.glob(sign), None) is not None:
            raise UnreadableDumpError(
                f"{folder} is {what}; export its current rows as Parquet files"
            )
    found = [
        file for file in sorted(folder.rglob("*")) if file.is_file() and _is_data(folder, file)
    ]
    roles = {file.name.partition(".")[0] for file in found}
    if {"interactions", "items"} <= roles:
        raise UnreadableDumpError(
            f"{folder} is a whole dump and not one table; give --interactions "
            f"{folder}/interactions.… and --items {folder}/items.…"
        )
    if not found:
        raise UnreadableDumpError(f"{folder} holds no file with rows; export it again")
    for file in found:
        yield _below(folder, file)


def _is_data(folder: Path, file: Path) -> bool:
    """Returns whether a file is data: not a marker and not an empty part of Spark."""
    parts = file.relative_to(folder).parts
    return not any(part.startswith((".", "_")) for part in parts) and file.stat().st_size > 0


def _below(root: Path, file: Path) -> SourceFile:
    folders = file.relative_to(root).parts[:-1]
    named = (part.partition("=") for part in folders if "=" in part)
    partition = {
        unquote(name): None if value == NO_VALUE else unquote(value)
        for name, _, value in named
        if name
    }
    return SourceFile(str(file), file.relative_to(root).as_posix(), partition)


def _fixed_part(pattern: str) -> Path:
    fixed = Path()
    for part in Path(pattern).parts[:-1]:
        if has_magic(part):
            break
        fixed /= part
    return fixed
