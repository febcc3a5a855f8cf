"""Assignment of answered vectors to rows, in blocks."""

from collections.abc import Iterable

import numpy as np
import polars as pl

from artifacts import columns as col
from artifacts.ledger.answers import vectors_of
from tasks.llm.answer_all import Answered


def vectors_by_row(
    answered: Answered, asked: Iterable[pl.DataFrame], index: str, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns vectors, float32 (height, width), with zeros for unanswered rows, and the mask of
    answered rows, bool (height,).

    ``asked``: blocks of ``index`` (the row) and ``key``. Without any answer the width is 0.
    """
    vectors, is_answered = np.zeros((height, 0), np.float32), np.zeros(height, bool)
    for block in asked:
        answers = answered.answers_to(block[col.KEY])
        rows = block.join(answers, on=col.KEY, how="inner", maintain_order="left")
        if rows.is_empty():
            continue
        found = vectors_of(rows)
        if not vectors.size:
            vectors = np.zeros((height, found.shape[1]), np.float32)
        places = rows[index].to_numpy()
        vectors[places] = found
        is_answered[places] = True
    return vectors, is_answered
