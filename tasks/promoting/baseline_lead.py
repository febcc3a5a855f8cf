"""Significance of the difference between the model and the strongest baseline.

Both rank the same held-out events; users are resampled, because events of one user are correlated.
"""

import numpy as np
import polars as pl

from artifacts import columns as col
from artifacts.kinds.results import FULL, OUR_MODEL
from artifacts.strict import Strict
from model.scoring.bootstrap import paired_bootstrap
from tasks.frame.number_texts import signed

FEWEST = 100
"""Minimum number of events for a decision."""

_MANY_USERS, _DRAWS, _DRAWS_OF_MANY = 20_000, 2_000, 400


class BaselineLead(Strict):
    """NDCG@10 by full ranking of the model and of the strongest baseline over the same events.

    ``low`` and ``high``: 95 % interval of the difference, model minus baseline.
    """

    baseline: str
    ours: float
    theirs: float
    low: float
    high: float
    events: int

    @property
    def is_judged(self) -> bool:
        """Whether there are enough events."""
        return self.events >= FEWEST

    @property
    def is_behind(self) -> bool:
        """Whether the baseline is significantly better."""
        return self.is_judged and self.high < 0

    @property
    def is_ahead(self) -> bool:
        return self.is_judged and self.low > 0

    @property
    def sentence(self) -> str:
        """Returns the result as a sentence without a full stop."""
        if not self.is_judged:
            return (
                f"too few held-out events to judge the model against baselines: {self.events:,}, "
                f"{FEWEST} are needed"
            )
        figures = (
            f"NDCG@10 {self.ours:.3f} against {self.theirs:.3f}, 95% interval of the difference "
            f"{signed(self.low)} to {signed(self.high)}, {self.events:,} events"
        )
        if self.is_behind:
            return f"the baseline {self.baseline} is significantly better than the model: {figures}"
        if self.is_ahead:
            return f"the model is better than the strongest baseline, {self.baseline}: {figures}"
        return f"no significant difference from the strongest baseline, {self.baseline}: {figures}"


def baseline_lead(ranks: pl.DataFrame) -> BaselineLead | None:
    """Returns the lead over the baseline with the highest NDCG@10; None without full ranking or
    baseline.

    ``ranks`` is the table of `artifacts.kinds.results.RANKS`.
    """
    from tasks.promoting.stored_ranks import gains_at_10  # Imports PyTorch.

    rows = ranks.filter(ranking=FULL).sort(col.USER_INDEX, "model", maintain_order=True)
    gains = {str(model): gains_at_10(part) for (model,), part in rows.group_by("model")}
    ours = gains.pop(OUR_MODEL, None)
    if ours is None or not len(ours) or not gains:
        return None
    baseline = max(sorted(gains), key=lambda model: float(gains[model].mean()))
    users = rows.filter(model=OUR_MODEL)[col.USER_INDEX].to_numpy()
    _, first, sizes = np.unique(users, return_index=True, return_counts=True)
    # Weights by events, so that the mean is over events.
    mine, other = (
        np.add.reduceat(found, first) / sizes.mean() for found in (ours, gains[baseline])
    )
    (compared,) = paired_bootstrap(mine, other[:, None], bootstrap_draws(len(sizes)))
    return BaselineLead(
        baseline=baseline,
        ours=float(ours.mean()),
        theirs=float(gains[baseline].mean()),
        low=compared.low,
        high=compared.high,
        events=len(ours),
    )


def bootstrap_draws(users: int) -> int:
    """Returns the number of samples for so many users."""
    return _DRAWS if users <= _MANY_USERS else _DRAWS_OF_MANY
