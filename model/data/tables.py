"""Item vectors from texts, the inputs of the model: frozen global table, initial local table."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class InvalidTablesError(ValueError):
    """The tables are inconsistent or contain non-finite values."""


@dataclass(frozen=True)
class ItemTables:
    """Rows by global item index; row 0 is padding and all zeros (METHOD 1)."""

    global_table: NDArray[np.float32]  # (|V| + 1, k) PCA over all domains, frozen
    local_table: NDArray[np.float32]  # (|V| + 1, h) each domain's rows from its own PCA

    def __post_init__(self) -> None:
        for name in ("global_table", "local_table"):
            table = np.ascontiguousarray(getattr(self, name), np.float32)
            object.__setattr__(self, name, table)
            if table.ndim != 2 or not np.isfinite(table).all():
                raise InvalidTablesError(f"{name} of shape {table.shape} must be 2-d and finite")
            if np.any(table[0]):
                raise InvalidTablesError(f"row 0 of {name} is padding and must be zeros")
        if len(self.global_table) != len(self.local_table):
            raise InvalidTablesError(
                f"{len(self.global_table)} global rows but {len(self.local_table)} local rows"
            )

    @property
    def item_count(self) -> int:
        """Number of items without padding."""
        return len(self.global_table) - 1


@dataclass(frozen=True)
class AnswerVectors:
    """Embedded answers of a language model across domains, in the space of the global table."""

    vectors: NDArray[np.float32]  # (A, k) row 0 is no answer and all zeros
    answer_of: NDArray[np.int32]  # (D, |V| + 1) each item's answer towards a domain; 0: none

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or not np.isfinite(self.vectors).all():
            raise InvalidTablesError(f"answers of shape {self.vectors.shape} must be finite")
        if self.answer_of.max(initial=0) >= max(len(self.vectors), 1):
            raise InvalidTablesError(
                f"item {int(self.answer_of.max(initial=0))} of {len(self.vectors)} answers"
            )


@dataclass(frozen=True)
class ProfileVectors:
    """Embedded user profiles, by user index; rows without a profile are ignored (METHOD 3)."""

    vectors: NDArray[np.float32]  # (U, m)
    has_profile: NDArray[np.bool_]  # (U,)

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.has_profile.shape != self.vectors.shape[:1]:
            raise InvalidTablesError(
                f"profiles of shape {self.vectors.shape} with a mask of {self.has_profile.shape}"
            )
        if not np.isfinite(self.vectors[self.has_profile]).all():
            raise InvalidTablesError("a profile has NaN or infinity; mark it as missing instead")
