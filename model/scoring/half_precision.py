"""Products of a few states with every item in half precision, to choose candidates by.

Eight histories against 24,000 items of width 512 take one core 8 to 10 ms in single precision and
2 ms so: the items' vectors are what has to be read, and they are half as large and packed once.

Dimensions: R states, I items, W width.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

ROWS_EXPECTED = 8
"""States a product is packed for; more or fewer are right as well."""


class HalfProduct:
    """The vectors of some items, ready to be multiplied."""

    def __init__(self, vectors: Tensor) -> None:
        """`vectors` (I, W) stay as they are."""
        self._vectors = vectors.bfloat16()
        self._packed = _can_pack()
        if self._packed:
            self._vectors = torch.ops.mkldnn._reorder_linear_weight(self._vectors, ROWS_EXPECTED)

    def __call__(self, states: Tensor) -> Tensor:
        """Products (R, I) of `states` (R, W), to within about a percent of the two lengths."""
        halves = states.bfloat16()
        if self._packed:
            product = torch.ops.mkldnn._linear_pointwise(
                halves, self._vectors, None, "none", [], ""
            )
        else:
            product = F.linear(halves, self._vectors)
        return product.float()


@cache
def is_fast_here() -> bool:
    """Whether this processor multiplies half precision faster than single."""
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def _can_pack() -> bool:
    """torch's compiler packs by these two operations; they have no public name."""
    names = ("_reorder_linear_weight", "_linear_pointwise")
    return is_fast_here() and all(hasattr(torch.ops.mkldnn, name) for name in names)
