"""A dump as benchmarks train on it: ingested by any split, its items embedded once."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple, TypeVar

import numpy as np
import polars as pl
import typer
from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner
from rich.console import Console

from artifacts import columns as col
from artifacts.bundles import latest_refresh, parts_of
from artifacts.kinds.dataset import Dataset, read_dataset
from artifacts.kinds.item_vectors import ItemEmbeddings, read_item_embeddings
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from flows.server.api import prefect_api
from flows.settings import Settings, default_llm
from model.data.tables import ItemTables
from model.training.trainer import EpochReport
from tasks.dump.dump_config import DumpConfig
from tasks.embed import embed_items
from tasks.ingest import ingest
from tasks.llm.providers.endpoints import open_endpoints
from tasks.llm.settings.llm_config import LlmConfig
from tasks.project import ProjectConfig, project_vectors

Made = TypeVar("Made")

Interactions = Annotated[Path, typer.Option(help="File of interactions.")]
Items = Annotated[Path, typer.Option(help="File that describes the items.")]
Preset = Annotated[str, typer.Option(help="Model preset.")]
BaselinesOnly = Annotated[
    bool, typer.Option("--baselines-only", help="Train no model, embed nothing.")
]
EmbeddedBy = Annotated[
    str | None, typer.Option(help="Store whose latest refresh has the items' embeddings.")
]
KeptStore = Annotated[
    str | None, typer.Option(help="Keep embeddings here; a temporary folder by default.")
]
Threads = Annotated[int, typer.Option(min=1)]
TrainingDevice = Annotated[str, typer.Option(help="Where to train: cpu, cuda, auto.")]


class Embedded(NamedTuple):
    """A dataset of the whole dump, and the vectors of its items."""

    data: Dataset
    embeddings: ItemEmbeddings


@contextmanager
def kept_folder(store: str | None) -> Iterator[Path]:
    if store is not None:
        Path(store).mkdir(parents=True, exist_ok=True)
        yield Path(store)
        return
    with TemporaryDirectory() as folder:
        yield Path(folder)


def dump_of(files: dict[str, str], **choices: object) -> DumpConfig:
    return DumpConfig.model_validate({**files, **choices})


def ingested(dump: DumpConfig, folder: Path) -> Dataset:
    store = Store(folder)
    return read_dataset(store, ingest.fn(dump, store.root).ref)


def embedded_items(
    files: dict[str, str], refreshed: str | None, provider: str | None, folder: Path
) -> Embedded:
    """Texts do not depend on the split: they are embedded once, from the whole dump."""
    if refreshed is not None:
        store = Store(refreshed)
        parts = parts_of(store, latest_refresh(store))
        data = read_dataset(store, parts["dataset"])
        return Embedded(data, read_item_embeddings(store, parts["embeddings"]))
    store, settings = Store(folder), Settings()
    llm = default_llm(settings)
    llm = llm if provider is None else llm.model_copy(update={"provider": provider})
    with prefect_api(store.workspace("logs") / "prefect-server.log"):
        dataset, embeddings = embed(dump_of(files), llm, store.root)
    return Embedded(read_dataset(store, dataset), read_item_embeddings(store, embeddings))


@flow(name="embed a benchmark", task_runner=ThreadPoolTaskRunner(max_workers=4))  # pyright: ignore
def embed(dump: DumpConfig, llm: LlmConfig, store: str) -> tuple[ArtifactRef, ArtifactRef]:
    """Returns the dataset and the item embeddings of a dump."""
    opened, settings = Store(store), Settings()
    with open_endpoints(llm, settings.local_vllm, opened.workspace("logs")) as endpoints:
        dataset = ingest(dump, store).ref
        return dataset, embed_items(dataset, endpoints.embedding, llm, store).ref


def timed(name: str, make: Callable[[], Made]) -> Made:
    started = time.monotonic()
    made = make()
    Console().print(f"{name}: {time.monotonic() - started:.1f} s")
    return made


def tables_of(data: Dataset, embedded: Embedded, hidden: int) -> ItemTables:
    """The item tables of a dataset, its vectors looked up by the ids of the items."""
    place = embedded.data.items.select(col.DOMAIN, col.ITEM_ID, pl.col(col.ITEM_INDEX).alias("row"))
    rows = data.items.join(place, [col.DOMAIN, col.ITEM_ID], "left", maintain_order="left")["row"]
    if rows.null_count():
        raise typer.BadParameter(
            f"{rows.null_count():,} items of the dump have no embedding in the store: refresh it "
            "on these files"
        )
    index = np.concatenate(([0], rows.to_numpy()))
    made = project_vectors(
        embedded.embeddings.vectors[index],
        embedded.embeddings.is_embedded[index],
        data.domains,
        data.domain_starts,
        ProjectConfig(hidden=hidden),
    )
    return ItemTables(made.global_table, made.local_table)


def show(report: EpochReport) -> None:
    measured = (
        "refit, without validation"
        if report.phase == "refit"
        else f"validation NDCG@10 {report.validation_ndcg:.4f}"
    )
    Console().print(f"epoch {report.epoch}: {measured}")
