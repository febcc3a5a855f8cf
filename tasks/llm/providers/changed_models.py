"""Models of a run that differ from those of the latest refresh."""

import json
import logging

from artifacts.bundles import REFRESHED, parts_of
from artifacts.integrity import ArtifactCorruptError, ArtifactMissingError
from artifacts.store import Store
from tasks.llm.providers.endpoints import Endpoint, Endpoints

logger = logging.getLogger("llm4cdsr")

_FOLLOWS = {
    "chat": "Profiles and names of clusters are requested from it",
    "embedding": "Vectors, clusters and profiles are made with it",
}


def warn_of_changed_models(store: Store, endpoints: Endpoints) -> None:
    """Logs a warning for each model that the profiles of the latest refresh were not made with,
    before anything is sent: a misspelt name costs as much as a first run."""
    latest = store.pointed(REFRESHED)
    if latest is None:
        return
    try:
        before = store.manifest(parts_of(store, latest)["profiles"]).parameters
    except (ArtifactMissingError, ArtifactCorruptError):
        return  # The stages name what is missing or damaged.
    for role, follows in _FOLLOWS.items():
        endpoint: Endpoint = getattr(endpoints, role)
        now = [endpoint.model, endpoint.parameters]
        if before[role] != now:
            logger.warning(
                "The %s model is %s; that of the latest refresh is %s. %s; only prompts without "
                "an answer of this model are sent, and --dry-run prints their cost.",
                role,
                _shown(now),
                _shown(before[role]),
                follows,
            )


def _shown(model: object) -> str:
    name, parameters = json.loads(json.dumps(model))
    return f"{name} {json.dumps(parameters)}" if parameters else name
