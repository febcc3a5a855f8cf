"""Projection of new items' text embeddings into the model's tables.

The projections are stored with the item tables, so both threads can score a new item without
retraining (METHOD 8).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from artifacts.kinds.dataset import Dataset
from artifacts.kinds.item_vectors import ItemEmbeddings


class WrongVectorsError(ValueError):
    """The vectors of new items do not come from the catalogue's model."""


@dataclass(frozen=True)
class TextSpace:
    """The space of item texts.

    Attributes: projections: those of `artifacts.kinds.item_vectors.StoredItemTables`. means:
        float32 (width,) by domain, of items without text.
    """

    projections: dict[str, NDArray[np.float32]]
    means: dict[str, NDArray[np.float32]]

    def complete(
        self, vectors: NDArray[np.float32], domains: list[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Returns vectors (rows, width) with NaN rows replaced by the domain's mean, and a mask
        (rows,) of the others.

        Vectors of width 0 are treated as NaN rows.

        Raises:
            WrongVectorsError: wrong width or number of rows, or an infinite value.
        """
        width = len(self.projections["global.mean"])
        if vectors.shape == (len(domains), 0):
            vectors = np.full((len(domains), width), np.nan, np.float32)
        if vectors.shape != (len(domains), width):
            raise WrongVectorsError(
                f"vectors of shape {vectors.shape} for {len(domains)} items; ({len(domains)}, "
                f"{width}) is needed, from the model that embedded the catalogue"
            )
        lacking = np.asarray(np.isnan(vectors).any(axis=1), bool)
        if not np.isfinite(vectors[~lacking]).all():
            raise WrongVectorsError("a vector has infinity; mark an item without vector by NaN")
        filled = np.array(vectors, np.float32)
        for row in np.flatnonzero(lacking):
            filled[row] = self.means[domains[row]]
        return filled, np.logical_not(lacking)


def text_space(
    projections: dict[str, NDArray[np.float32]], embeddings: ItemEmbeddings, data: Dataset
) -> TextSpace:
    """Returns the space of a dataset's item texts."""
    means = {}
    for number, domain in enumerate(data.domains):
        rows = slice(data.domain_starts[number] + 1, data.domain_starts[number + 1] + 1)
        means[domain] = embeddings.vectors[rows][embeddings.is_embedded[rows]].mean(axis=0)
    return TextSpace(projections, means)
