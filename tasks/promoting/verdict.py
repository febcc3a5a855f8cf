"""What the promotion gate found. Apart from the gate, which loads models: a look into the dumps
folder tells its story every minute and has no use for them.
"""

from artifacts.strict import Strict
from tasks.promoting.baseline_lead import BaselineLead


class Verdict(Strict):
    """What the gate found. ``reasons`` are those against it, and empty where it may be served.
    ``lead`` is that over the strongest baseline, None where none was evaluated."""

    promoted: bool
    reasons: tuple[str, ...]
    basis: str
    served_ndcg: float | None
    candidate_ndcg: float | None
    user_coverage: float
    lead: BaselineLead | None = None

    @property
    def summary(self) -> str:
        """One line for a state's message, the history and the terminal."""
        if not self.promoted:
            return "; ".join(self.reasons)
        if self.served_ndcg is None or self.candidate_ndcg is None:
            return self.basis
        return f"NDCG@10 {self.candidate_ndcg:.4f} against {self.served_ndcg:.4f} ({self.basis})"
