"""Stage 1, dump to dataset: clean, filter, index, order and split (METHOD 6).

All rows are counted: rows in = events kept + rows dropped by a named rule. A dump that does not
suffice for a model is refused here, before LLM requests.
"""

import time
from pathlib import Path

from artifacts.bundles import parts_of
from artifacts.drafts import Draft
from artifacts.fingerprint import sha256_of_file
from artifacts.forgotten import Forgotten
from artifacts.integrity import ArtifactError
from artifacts.kinds.dataset import (
    ACCOUNTS,
    EVENTS,
    ITEMS,
    USERS,
    read_dataset,
)
from artifacts.manifest import ArtifactRef, Identity, Kind, identity
from artifacts.store import Store
from artifacts.store_notes import read_note, write_note
from tasks.dump.append import (
    NothingNewError,
    previous_dataset,
)
from tasks.dump.dump_config import DumpConfig, Mode
from tasks.dump.made_dataset import made_from
from tasks.dump.sources.remote_files import with_local_files
from tasks.dump.sources.source_files import SourceFile, source_files
from tasks.dump.sources.unchanged_files import UnchangedFiles
from tasks.dump.trainable import require_trainable
from tasks.frame.stage import StageResult, logger, run_stage, stage_result, stage_task
from tasks.promoting.release_history import HistoryDamagedError, serving_release

PREVIOUS = "previous"
"""Parent role of the extended dataset."""

TABLES = (USERS, ITEMS, EVENTS)

READING = 2
"""Part of the identity of datasets that older versions read differently. Others keep their
identity."""


@stage_task("ingest")
def ingest(dump: DumpConfig, store_root: str) -> StageResult:
    """Returns the dataset artifact of a dump; the extended one if the dump has no new data.

    Raises:
        DumpChangedError, UnreadableDumpError, UndeclaredDomainError, TooFewDomainsError,
            NothingHeldOutError.
    """
    store = Store(store_root)
    result = ingested(dump, store)
    require_trainable(read_dataset(store, result.ref))
    return result


def ingested(dump: DumpConfig, store: Store) -> StageResult:
    """As `ingest`, without the check that the data suffice for a model."""
    return _ingested(with_local_files(dump, store), store)


def dataset_identity(dump: DumpConfig, previous: ArtifactRef | None = None) -> Identity:
    """Returns the identity of a dataset, by the content of files, not by paths."""
    files = dump_files(dump)
    parents = {} if previous is None else {PREVIOUS: previous}
    parameters = {"files": [sha256_of_file(Path(file.path)) for file in files], **_settings(dump)}
    if any(file.partition for file in files):
        parameters["partitions"] = [dict(file.partition) for file in files]
    return identity(Kind.DATASET, parameters, parents)


def dump_files(dump: DumpConfig) -> list[SourceFile]:
    """Returns all files of a dump; raises `UnreadableDumpError`."""
    return [
        file
        for source in dump.files
        for paths in (source.interactions, source.items)
        if paths is not None
        for file in source_files(paths)
    ]


def _ingested(dump: DumpConfig, store: Store) -> StageResult:
    started = time.monotonic()
    files = UnchangedFiles(lambda: dump_files(dump))
    previous = previous_dataset(store) if dump.mode is Mode.APPEND else None
    usual = dataset_identity(dump, previous)
    repaired = usual.model_copy(update={"parameters": {**usual.parameters, "reading": READING}})
    for known in (repaired, usual):
        if store.holds(known.ref) and _is_of_this_reading(store, known):
            return stage_result(store, "ingest", known.ref, started, reused=True)
    earlier = None if previous is None else read_dataset(store, previous)
    with files.explaining():
        made = made_from(dump, earlier, forgotten=Forgotten(store).holds)

    def make(draft: Draft) -> None:
        made.write(draft)
        # The identity has the checksums of before the reading.
        files.require()
        if previous is not None:
            _refuse_no_change(draft, store, previous)
            draft.notes.extend(_notes_on_lost_events(store, previous))

    try:
        result = run_stage(store, "ingest", repaired if made.is_repaired else usual, make)
    except NothingNewError:
        assert previous is not None
        return stage_result(store, "ingest", previous, started, reused=True)
    if result.reused:
        write_note(store, _note_name(result.ref), b"")
    return result


def _is_of_this_reading(store: Store, known: Identity) -> bool:
    """Returns whether the current version would read the files equally: the dataset has accounts,
    or was made by an older version with equal reading."""
    if ACCOUNTS in store.manifest(known.ref).files:
        return True
    return read_note(store, _note_name(known.ref)) is not None


def _note_name(ref: ArtifactRef) -> str:
    return f"read-alike-{ref.fingerprint}"


def _settings(dump: DumpConfig) -> dict[str, object]:
    settings = dump.model_dump(mode="json", exclude={"interactions", "items", "sources"})
    if not dump.where:  # As datasets of before conditions, which keep their identity.
        del settings["where"]
    sources = [
        source.model_dump(mode="json", exclude={"interactions", "items"}) for source in dump.sources
    ]
    return {**settings, "sources": sources}


def _notes_on_lost_events(store: Store, previous: ArtifactRef) -> list[str]:
    """Returns a note if the last refresh has fewer events than the served release, as after a dump
    of one day in place of a full one, whose release was held."""
    try:
        served = serving_release(store)
        base = None if served is None else parts_of(store, served).get("dataset")
        if base is None or base == previous:
            return []
        now, before = (int(store.manifest(ref).counts["events"]) for ref in (previous, base))
    except (ArtifactError, HistoryDamagedError) as error:
        logger.warning("ingest: the data of the served release are not known: %s", error)
        return []
    if now >= before:
        return []
    note = (
        f"the dump was added to the data of the last refresh, which have {now:,} events; those of "
        f"the served release have {before:,}. If the last refresh was of an incomplete dump, "
        "ingest a full dump, without --mode append"
    )
    logger.warning("ingest: %s", note)
    return [note]


def _refuse_no_change(draft: Draft, store: Store, previous: ArtifactRef) -> None:
    """Raises `NothingNewError` if the draft's tables equal the previous ones."""
    files = store.manifest(previous).files
    if all(sha256_of_file(draft.path / name) == files[name].sha256 for name in TABLES):
        raise NothingNewError(str(previous))
