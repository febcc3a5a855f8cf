"""Reader of Arrow files (Feather), by their batches."""

from collections.abc import Iterator, Mapping

import pyarrow as pa

from tasks.dump.readers.column_types import names_in
from tasks.dump.readers.parquet_table import typed_batch
from tasks.dump.readers.table import Batch, Tally
from tasks.dump.sources.files import readable
from tasks.dump.sources.size_limits import UnpackedSize


class ArrowTable:
    """An Arrow file as a `Table`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.tally = Tally()
        with readable(path), pa.memory_map(path) as file:
            self.names = tuple(names_in(pa.ipc.open_file(file).schema))

    def batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        self.tally = Tally()
        unpacked = UnpackedSize(self._path)
        with readable(self._path), pa.memory_map(self._path) as file:
            reader = pa.ipc.open_file(file)
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                batch.validate(full=True)  # Offsets of a damaged file would end the process.
                unpacked.add(batch.nbytes)
                yield typed_batch(batch, columns, self._path, self.tally.records)
                self.tally.records += batch.num_rows
