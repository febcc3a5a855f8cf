"""Classification of files as interactions or items, by their headers."""

from collections.abc import Iterable, Mapping

from artifacts import columns as col
from tasks.dump.naming.column_names import listed, plain_name
from tasks.dump.naming.forms import Form, open_interactions
from tasks.dump.naming.likely_names import likely_column
from tasks.dump.sources.files import UnreadableDumpError
from tasks.dump.sources.source_files import source_files


def sorted_files(
    paths: Iterable[str], renamed: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the paths of interactions and those of items.

    A file with a user column is one of interactions, or with a similar column and no title.

    Raises:
        UnreadableDumpError: a file cannot be read, or none has events.
    """
    events, items, headers = [], [], []
    for path in paths:
        names = [
            renamed.get(name, name)
            for file in source_files(path)[:1]
            for name in (*open_interactions(file.path, Form.TABLE).names, *file.partition)
        ]
        headers.append(f"{path} has {listed(names)}")
        plain = {plain_name(name) for name in names}
        has_user = plain_name(col.USER_ID) in plain
        is_items = not has_user and (
            plain_name(col.TITLE) in plain or likely_column(col.USER_ID, names) is None
        )
        (items if is_items else events).append(path)
    if not events:
        raise UnreadableDumpError(
            f"no file has a column {col.USER_ID}; give the file of events too, or name its column: "
            f"--column NAME_IN_FILE={col.USER_ID} ({'; '.join(headers)})"
        )
    return tuple(events), tuple(items)
