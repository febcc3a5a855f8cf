"""A release and a verdict for summaries."""

import polars as pl

from artifacts.bundles import create_bundle
from artifacts.kinds.results import METRIC_SCHEMA, METRICS, REPORT
from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import Store
from tasks.promoting.verdict import Verdict


def release(store: Store, ndcg: float) -> ArtifactRef:
    metrics = identity(Kind.METRICS, {"ndcg": ndcg}, {})
    rows = [
        (model, "full", "all", "all", "NDCG@10", value, 9)
        for model, value in (("llm4cdsr", ndcg), ("popularity", 0.05))
    ]
    with store.create(metrics) as draft:
        table = pl.DataFrame(rows, schema=METRIC_SCHEMA, orient="row")
        table.write_parquet(draft.path / METRICS)
    report = identity(Kind.REPORT, {"ndcg": ndcg}, {})
    with store.create(report) as draft:
        (draft.path / REPORT).write_text("<html>")
    return create_bundle(store, Kind.RELEASE, {"metrics": metrics.ref, "report": report.ref})


VERDICT = Verdict(
    promoted=True,
    reasons=(),
    basis="validation events of one split",
    served_ndcg=0.20,
    candidate_ndcg=0.22,
    user_coverage=1.0,
)
