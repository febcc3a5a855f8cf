"""Facts of an ablation."""

from artifacts.kinds.ablation import ABLATION, read_ablation
from artifacts.kinds.results import read_table
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from tasks.ablation.findings import findings
from tasks.reporting.facts.content import AblationFacts


def ablation_facts(store: Store, ref: ArtifactRef) -> AblationFacts:
    """Returns the rows and sentences of an ablation; only notes if nothing was measured."""
    table = read_table(store, ref, ABLATION)
    manifest = store.manifest(ref)
    return AblationFacts(
        users=int(manifest.counts["users"]),
        of_users=int(manifest.counts["of_users"]),
        rows=read_ablation(store, ref),
        findings=tuple(findings(table)) or tuple(manifest.notes),
    )
