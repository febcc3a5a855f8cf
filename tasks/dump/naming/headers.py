"""Validation of all column names before other work."""

from artifacts import columns as col
from tasks.dump.dump_config import DumpConfig, Source
from tasks.dump.events.event_reader import event_reader
from tasks.dump.items.item_reader import item_reader
from tasks.dump.naming.column_names import require_named
from tasks.dump.naming.dump_formats import open_interactions, open_items
from tasks.dump.sources.source_files import paths_of, source_files

TEXTS = {col.TITLE, col.BRAND, col.CATEGORIES, col.DESCRIPTION}


def require_columns(dump: DumpConfig) -> None:
    """Reads the headers of all local files; remote files are checked after their download.

    Raises:
        UnreadableDumpError: a file is missing, of another format, or lacks a column.
    """
    items = []
    for source in dump.files:
        given = [paths for paths in (source.interactions, source.items) if paths is not None]
        if any("://" in path for paths in given for path in paths_of(paths)):
            continue
        require_named_columns(source)
        event_reader(source, dump.conditions)
        if source.items is not None:
            items.append(item_reader(source))
    if not any(reader.columns & TEXTS for reader in items):
        for error in filter(None, (reader.likely_title() for reader in items)):
            raise error


def require_named_columns(source: Source) -> None:
    """Raises `UnreadableDumpError` if a mapped column is in none of the files."""
    if not source.columns:
        return
    files = [
        (file, open_table(file.path, source.form))
        for paths, open_table in (
            (source.interactions, open_interactions),
            (source.items, open_items),
        )
        if paths is not None
        for file in source_files(paths)
    ]
    require_named(source.columns, files)
