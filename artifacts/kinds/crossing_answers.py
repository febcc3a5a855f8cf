"""The crossing answers artifact: preferences in another domain of users of some items, by the LLM.

Dimensions: Q questions, V items, D domains.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from artifacts import columns as col
from artifacts.kinds.arrays import read_arrays, write_arrays
from artifacts.manifest import ArtifactRef
from artifacts.store import Store

SOURCE = "source"
ANSWER = "answer"
QUESTION_SCHEMA = pl.Schema(
    {
        SOURCE: pl.String,
        col.DOMAIN: pl.String,
        col.CLUSTER: pl.Int32,
        col.ITEM_INDEX: pl.Int32,
        ANSWER: pl.String,
    }
)
"""A question refers to the items of one cluster in the domain ``source``, or to a single item of
them; ``domain`` is the target domain. ``answer`` is null if there is none."""

_ANSWERS_FILE = "answers.parquet"
_FAILURES_FILE = "failures.parquet"
_VECTORS_FILE = "vectors.safetensors"


@dataclass(frozen=True)
class CrossingAnswers:
    """Embedded answers, and the answer of each item.

    Attributes:
        vectors: float32 (Q + 1, width) embedded answers; row 0, and those without an answer, are 0.
        answer_of: int32 (D, V + 1) the row of each item's answer towards a domain; 0: none.
    """

    vectors: np.ndarray
    answer_of: np.ndarray


def write_crossing_answers(
    folder: Path, questions: pl.DataFrame, failures: pl.DataFrame, made: CrossingAnswers
) -> None:
    """Writes ``questions`` (`QUESTION_SCHEMA`, row ``q`` for vector ``q + 1``), ``key, reason`` of
    prompts without a usable answer, and the arrays."""
    questions.select(list(QUESTION_SCHEMA)).write_parquet(folder / _ANSWERS_FILE)
    failures.write_parquet(folder / _FAILURES_FILE)
    arrays = {"vectors": made.vectors, "answer_of": made.answer_of}
    write_arrays(folder / _VECTORS_FILE, arrays)


def read_crossing_answers(store: Store, ref: ArtifactRef) -> CrossingAnswers:
    """Raises `ArtifactMissingError`."""
    arrays = read_arrays(store.path(ref) / _VECTORS_FILE)
    return CrossingAnswers(arrays["vectors"], arrays["answer_of"])
