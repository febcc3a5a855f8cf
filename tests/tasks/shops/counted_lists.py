"""The counts of a whole table of recommendations."""

import polars as pl

from artifacts.kinds.dataset import Dataset
from tasks.promoting.quality_guards import RecommendationCounts


def recommendation_counts(data: Dataset, recommended: pl.DataFrame) -> dict[str, int | float]:
    counted = RecommendationCounts(data)
    counted.add(recommended)
    return counted.counts()
