"""Labels of clusters: number, and name or most central title."""

from collections.abc import Mapping

import polars as pl

from artifacts import columns as col
from artifacts.kinds.clusters import central_titles
from artifacts.kinds.dataset import Dataset
from prompts.render import one_line

LABEL_CHARACTERS = 40


def cluster_labels(
    data: Dataset, clusters: pl.DataFrame, names: Mapping[int, str]
) -> dict[int, str]:
    """Returns a label of every cluster, as "07 · Moka pots", sortable by number."""
    central = {cluster: titles[0] for cluster, titles in central_titles(data, clusters, 1).rows()}
    numbers = sorted(clusters[col.CLUSTER].unique().to_list())
    digits = len(str(max(numbers, default=0)))
    called = {number: names.get(number) or central.get(number) for number in numbers}
    return {
        number: f"{number:0{digits}}" + (f" · {one_line(name, LABEL_CHARACTERS)}" if name else "")
        for number, name in called.items()
    }
