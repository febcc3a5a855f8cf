"""Tables with Hive partitions: ``domain=food/part-0.csv``."""

from collections.abc import Iterator, Mapping

import polars as pl

from tasks.dump.readers.table import Batch, Table, Tally


class PartitionedTable:
    """A `Table` with an additional column per partition, unless the file has it."""

    def __init__(self, table: Table, partition: Mapping[str, str | None]) -> None:
        self._table = table
        self._added = {name: value for name, value in partition.items() if name not in table.names}
        self.names = (*table.names, *self._added) if table.names else ()

    @property
    def tally(self) -> Tally:
        return self._table.tally

    def batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        of_file = {theirs: ours for theirs, ours in columns.items() if theirs not in self._added}
        added = [
            pl.lit(value, pl.String).alias(columns[name])
            for name, value in self._added.items()
            if name in columns
        ]
        for batch in self._table.batches(of_file):
            yield Batch(batch.rows.with_columns(added), batch.broken, batch.repaired)
