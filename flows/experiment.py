"""Experiments: artifacts of each dataset are made once and pinned, then cells are measured."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from prefect import flow

from artifacts.bundles import bundle, parts_of
from artifacts.fingerprint import fingerprint_of, sha256_of_file
from artifacts.machines.store_in_use import store_in_use
from artifacts.manifest import Kind
from artifacts.store import Store
from flows.operating import shard_threads
from flows.settings import Settings
from flows.unrecorded import call, note_end
from tasks.cluster import ClusterConfig, cluster_items
from tasks.dump.dump_config import DumpConfig
from tasks.dump.sources.source_files import paths_of
from tasks.embed import embed_items
from tasks.evaluate import candidates_identity, stored_candidates
from tasks.experiments.cell import CellData, cell_identity, make_cell
from tasks.experiments.grid import (
    Cell,
    DatasetEntry,
    Grid,
    GridError,
    NeuralRecipe,
    ProfileSource,
    cells_of,
)
from tasks.experiments.kept_cells import KeptCells, lacking
from tasks.experiments.title_profiles import profile_by_titles
from tasks.frame.stage import logger
from tasks.ingest import ingest
from tasks.llm.providers.endpoints import open_endpoints
from tasks.llm.settings.llm_config import LlmConfig
from tasks.profile import ProfileConfig, profile_users
from tasks.project import ProjectConfig, project_items


class PlannedCell(NamedTuple):
    """A cell, its dataset's artifacts (None if not made yet), and whether it is finished."""

    cell: Cell
    data: CellData | None
    done: bool


class Plan(NamedTuple):
    """All cells of one grid on one store."""

    grid: Grid
    folder: Path
    pointers: dict[str, str]
    """Pins of prepared artifacts by dataset; their names contain the hash of the dump."""
    cells: tuple[PlannedCell, ...]

    @property
    def missing(self) -> tuple[PlannedCell, ...]:
        return tuple(planned for planned in self.cells if not planned.done)


def plan(
    grid: Grid, folder: Path, llm: LlmConfig, store: Store, kept: KeptCells | None = None
) -> Plan:
    """Returns finished and missing cells, in the store or kept; reads the dumps, but makes no
    artifact and sends no prompt.

    Raises:
        FileNotFoundError: a dump's file does not exist.
    """
    pointers = {entry.name: _pointer(grid, entry, folder, llm) for entry in grid.datasets}
    if kept is not None:
        for pointer in pointers.values():
            kept.take(store, pointer)
    data = {name: _pinned(grid, pointer, store) for name, pointer in pointers.items()}
    cells = (_planned(cell, data[cell.dataset], store, kept) for cell in cells_of(grid))
    return Plan(grid, folder, pointers, tuple(cells))


def make_missing(
    planned: Plan,
    chosen: Callable[[Cell], bool],
    llm: LlmConfig,
    store: Store,
    prefect_api: Callable[[], AbstractContextManager[object]],
    device: str = "auto",
    kept: KeptCells | None = None,
) -> None:
    """Makes the selected missing cells; `prefect_api` is opened only to prepare data.

    Cells in work by another process are skipped. Each is `kept` when finished.
    """
    wanted = [each for each in planned.missing if chosen(each.cell)]
    with store_in_use(store):
        data = _made_ready(planned, wanted, llm, store, prefect_api)
        for number, (each, left) in enumerate(_timed(wanted), start=1):
            logger.info("cell %d of %d%s: %s", number, len(wanted), left, each.cell.label)
            made_from = data[each.cell.dataset]
            if not make_cell(store, each.cell, made_from, device):
                logger.info("another process is at it; left to that one")
            elif kept is not None:
                pointer = planned.pointers[each.cell.dataset]
                kept.keep(store, pointer, [cell_identity(each.cell, made_from).ref])


def keep_finished(planned: Plan, store: Store, kept: KeptCells) -> None:
    """Keeps all finished cells, including earlier ones."""
    for name, pointer in planned.pointers.items():
        cells = [each for each in planned.cells if each.done and each.cell.dataset == name]
        refs = [cell_identity(each.cell, each.data).ref for each in cells if each.data is not None]
        kept.keep(store, pointer, refs)


def read_dumps(planned: Plan, store: Store) -> None:
    """Ingests the datasets of cells from other machines, whose events define user groups."""
    told = {each.cell.dataset: each.data for each in planned.cells if each.done}
    for entry in planned.grid.datasets:
        data = told.get(entry.name)
        if data is not None:
            _ingest_where_missing(planned, entry, data, store)


def _ingest_where_missing(planned: Plan, entry: DatasetEntry, data: CellData, store: Store) -> None:
    if not store.holds(data.dataset):
        ingest.fn(entry.dump(planned.folder), store.root)


def _made_ready(
    planned: Plan,
    wanted: list[PlannedCell],
    llm: LlmConfig,
    store: Store,
    prefect_api: Callable[[], AbstractContextManager[object]],
) -> dict[str, CellData]:
    """Returns the artifacts of each requested dataset, made if missing.

    Baselines need events only, so no LLM is used for them.
    """
    pinned = {each.cell.dataset: each.data for each in wanted if each.data is not None}
    trained = {each.cell.dataset for each in wanted if each.cell.recipe.reads_texts}
    for entry in planned.grid.datasets:
        if entry.name in pinned.keys() - trained:
            _ingest_where_missing(planned, entry, pinned[entry.name], store)
    ready = {
        name: data
        for name, data in pinned.items()
        if name not in trained or not lacking(store, data)
    }
    names = {each.cell.dataset for each in wanted} - set(ready)
    if names:
        with prefect_api():
            for entry in planned.grid.datasets:
                if entry.name in names:
                    ready[entry.name] = _prepared(planned, entry, llm, store)
    for data in ready.values():
        for count in planned.grid.candidates:
            stored_candidates(store, data.dataset, count, planned.grid.candidate_seed)
    return ready


def _timed(wanted: list[PlannedCell]) -> Iterator[tuple[PlannedCell, str]]:
    """Yields each cell with the estimated remaining time."""
    started = time.monotonic()
    for number, each in enumerate(wanted):
        mean = (time.monotonic() - started) / max(number, 1)
        minutes = mean * (len(wanted) - number) / 60
        yield each, f", about {minutes:.0f} min left" if number else ""


def _planned(
    cell: Cell, data: CellData | None, store: Store, kept: KeptCells | None
) -> PlannedCell:
    if data is None:
        return PlannedCell(cell, None, False)
    wanted = cell_identity(cell, data)
    if kept is not None:
        kept.take_cell(store, wanted)
    return PlannedCell(cell, data, store.find(wanted) is not None)


def _prepared(planned: Plan, entry: DatasetEntry, llm: LlmConfig, store: Store) -> CellData:
    pointer = planned.pointers[entry.name]
    sources = _sources(planned.grid)
    call(prepare, entry, entry.dump(planned.folder), sources, llm, store.root, pointer)
    ready = _pinned(planned.grid, pointer, store)
    assert ready is not None, "the flow has just set the pointer"
    return ready


@flow(
    name="prepare experiment",
    flow_run_name="prepare: {entry.name}",
    task_runner=shard_threads(),
)
def prepare(
    entry: DatasetEntry,
    dump: DumpConfig,
    sources: tuple[ProfileSource, ...],
    llm: LlmConfig,
    store: str,
    pointer: str,
) -> None:
    """Makes and pins the common artifacts of a dataset's cells, so that later runs use the same
    ones even if failed prompts could be answered by then."""
    opened, settings = Store(store), Settings()
    with open_endpoints(llm, settings.local_vllm, opened.workspace("logs")) as endpoints:
        dataset = ingest(dump, store).ref
        embeddings = embed_items(dataset, endpoints.embedding, llm, store).ref
        parts = {"dataset": dataset}
        parts["tables"] = project_items(dataset, embeddings, ProjectConfig(), store).ref
        if sources:
            config = ProfileConfig(max_users=entry.profile_users)
            clusters = cluster_items(embeddings, ClusterConfig(clusters=entry.clusters), store).ref
            written = profile_users(dataset, clusters, endpoints, llm, config, store).ref
            parts[ProfileSource.LLM.value] = written
            if ProfileSource.TITLES in sources:
                titles = profile_by_titles(dataset, written, endpoints.embedding, llm, store)
                parts[ProfileSource.TITLES.value] = titles.ref
    bundle(opened, Kind.REFRESH, pointer, parts)
    note_end(None)


def _pinned(grid: Grid, pointer: str, store: Store) -> CellData | None:
    """Returns the dataset's artifacts, None if not made yet."""
    pinned = store.pointed(pointer)
    if pinned is None:
        return None
    parts = parts_of(store, pinned)
    dataset = parts["dataset"]
    return CellData(
        dataset=dataset,
        tables=parts["tables"],
        profiles={source: parts[source.value] for source in _sources(grid)},
        candidates={
            count: candidates_identity(dataset, count, grid.candidate_seed).ref
            for count in grid.candidates
        },
    )


def _sources(grid: Grid) -> tuple[ProfileSource, ...]:
    """Returns the profile sources of the cells."""
    recipes = [cell.recipe for cell in cells_of(grid)]
    used = {recipe.profiles for recipe in recipes if isinstance(recipe, NeuralRecipe)}
    return tuple(source for source in ProfileSource if source in used - {ProfileSource.NONE})


def _pointer(grid: Grid, entry: DatasetEntry, folder: Path, llm: LlmConfig) -> str:
    """Returns the pin's name: hash of the dump's content, settings and models.

    Default settings are excluded, so that new settings keep existing pins valid.
    """
    dump = entry.dump(folder)
    files = [path for paths in (dump.interactions, dump.items) if paths for path in paths_of(paths)]
    absent = [path for path in files if not Path(path).is_file()]
    if absent:
        raise GridError(
            f"{', '.join(absent)}: no such file. The grid names it for {entry.name}; put your copy "
            "of the data there, or change `interactions` and `items` in the grid"
        )
    settings = {
        "files": [sha256_of_file(Path(path)) for path in files],
        "entry": entry.model_dump(
            mode="json", exclude={"name", "interactions", "items", "note"}, exclude_defaults=True
        ),
        "profiles": sorted(source.value for source in _sources(grid)),
        "llm": llm.answer_settings(),
    }
    return f"experiment-{fingerprint_of(settings)}"
