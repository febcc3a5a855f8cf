"""Stage 5, vectors to item tables: PCA for the two sides of the model.

The global table is a PCA over all domains; each domain's local table is the PCA of its own items to
the model's width (METHOD 1). Projections are stored, so that new items can be projected without
retraining (METHOD 8).
"""

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from artifacts.drafts import Draft
from artifacts.kinds.dataset import read_dataset
from artifacts.kinds.item_vectors import StoredItemTables, read_item_embeddings, write_item_tables
from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import Store
from artifacts.strict import Strict
from tasks.frame.stage import StageResult, run_stage, stage_task

if TYPE_CHECKING:
    from sklearn.decomposition import PCA

FIT_ITEMS = 200_000
"""Maximum items to fit a PCA, sampled by seed; all items are projected."""

BLOCK_ITEMS = 65_536
"""Items per block of projection."""


class ProjectConfig(Strict):
    """Widths of the item tables."""

    global_width: int = Field(
        default=1024, ge=1, description="Maximum of k; less for narrower embeddings."
    )
    hidden: int = Field(default=128, ge=1, description="h, the width of the model.")
    seed: int = Field(default=0, description="Seed of the PCA solver.")


@stage_task("project items")
def project_items(
    dataset: ArtifactRef, embeddings: ArtifactRef, config: ProjectConfig, store_root: str
) -> StageResult:
    """Returns the item tables.

    The global width is min(1024, width of the embeddings, items - 1).
    """
    store = Store(store_root)
    wanted = identity(Kind.ITEM_TABLES, config, {"dataset": dataset, "embeddings": embeddings})

    def make(draft: Draft) -> None:
        read = read_item_embeddings(store, embeddings)
        data = read_dataset(store, dataset)
        tables = project_vectors(
            read.vectors, read.is_embedded, data.domains, data.domain_starts, config
        )
        write_item_tables(draft.path, tables)
        draft.counts.update(
            {
                "items": len(read.vectors) - 1,
                "global_width": tables.global_table.shape[1],
                "hidden": config.hidden,
            }
        )

    return run_stage(store, "project items", wanted, make)


def project_vectors(
    vectors: np.ndarray,
    is_embedded: np.ndarray,
    domains: tuple[str, ...],
    domain_starts: np.ndarray,
    config: ProjectConfig,
) -> StoredItemTables:
    """Returns the tables of embeddings (items + 1, width) with their mask (items + 1,).

    Projections are fitted on embedded items only; all are projected.
    """
    k = min(config.global_width, vectors.shape[1], len(vectors) - 2)
    pca = _fit(vectors, is_embedded, k, config.seed)
    global_table = np.zeros((len(vectors), k), np.float32)
    _project(pca, vectors[1:], global_table[1:])
    projections = _arrays("global", pca)

    local_table = np.zeros((len(vectors), config.hidden), np.float32)
    for domain, low, high in zip(domains, domain_starts[:-1], domain_starts[1:], strict=True):
        rows = slice(low + 1, high + 1)
        pca = _fit(vectors[rows], is_embedded[rows], config.hidden, config.seed)
        _project(pca, vectors[rows], local_table[rows])
        projections |= _arrays(f"local.{domain}", pca)
    return StoredItemTables(global_table, local_table, projections)


def _fit(vectors: np.ndarray, is_embedded: np.ndarray, width: int, seed: int) -> "PCA":
    from sklearn.decomposition import PCA

    rows = np.flatnonzero(is_embedded)
    if len(rows) > FIT_ITEMS:
        rows = rows[np.random.default_rng(seed).choice(len(rows), FIT_ITEMS, replace=False)]
    chosen = vectors[rows]
    # Exact, and much faster than a full SVD for more items than dimensions.
    solver = "covariance_eigh" if len(chosen) > chosen.shape[1] else "full"
    # Without variance (a single item, equal texts), explained variance ratios are 0/0, which are
    # not used.
    with np.errstate(invalid="ignore"):
        return PCA(min(width, *chosen.shape), svd_solver=solver).fit(chosen)


def _project(pca: "PCA", vectors: np.ndarray, into: np.ndarray) -> None:
    """Fills rows of a table in blocks; columns beyond the rank of the data are zero."""
    for begin in range(0, len(vectors), BLOCK_ITEMS):
        block = vectors[begin : begin + BLOCK_ITEMS]
        into[begin : begin + len(block), : pca.n_components_] = pca.transform(block)


def _arrays(name: str, pca: "PCA") -> dict[str, np.ndarray]:
    return {
        f"{name}.mean": np.asarray(pca.mean_, np.float32),
        f"{name}.components": np.asarray(pca.components_, np.float32),
    }
