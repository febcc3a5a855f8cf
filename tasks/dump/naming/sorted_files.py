"""Classification of files as interactions or items, by their headers."""

from collections.abc import Iterable, Mapping

from artifacts import columns as col
from tasks.dump.naming.column_names import listed, order_column, plain_name
from tasks.dump.naming.conversions import way_to_a_header
from tasks.dump.naming.dump_formats import DumpFormat, open_interactions
from tasks.dump.naming.likely_names import likely_column
from tasks.dump.sources.files import UnreadableDumpError
from tasks.dump.sources.source_files import source_files


def sorted_files(
    paths: Iterable[str], renamed: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the paths of interactions and those of items.

    A file with a user column is one of interactions, or with a similar column, or one of an order,
    and no title.

    Raises:
        UnreadableDumpError: a file cannot be read, or none has events.
    """
    events, items, headers, ways = [], [], [], []
    for path in paths:
        file = source_files(path)[0]
        found = (*open_interactions(file.path, DumpFormat.TABLE).names, *file.partition)
        ours = file.own_names(renamed, found)
        names = [ours.get(name, name) for name in found]
        headers.append(f"{path} has {listed(names)}")
        if way := way_to_a_header(file.path, names):
            ways.append(f"{path} has no column {col.USER_ID} (it has {listed(names)}); {way}")
        plain = {plain_name(name) for name in names}
        has_user = plain_name(col.USER_ID) in plain
        is_items = not has_user and (
            plain_name(col.TITLE) in plain
            or (likely_column(col.USER_ID, names) is None and order_column(names) is None)
        )
        (items if is_items else events).append(path)
    if way := None if events else next(filter(None, ways), None):
        raise UnreadableDumpError(way)
    if not events:
        raise UnreadableDumpError(
            f"no file has a column {col.USER_ID}; give the file of events too, or name its column: "
            f"--column NAME_IN_FILE={col.USER_ID} ({'; '.join(headers)})"
        )
    return tuple(events), tuple(items)
