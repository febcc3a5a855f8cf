"""Do the centres of the last refresh's clusters still hold for a catalogue that has changed a bit?

K-means fitted anew on a few more items moves its borders, items change their interest, and
histories that nobody added to would be asked about again. So centres are kept until enough of
the catalogue is new; new items join the nearest.
"""

from collections.abc import Mapping

import polars as pl

from artifacts.bundles import REFRESHED, parts_of
from artifacts.integrity import ArtifactError
from artifacts.kinds.dataset import read_dataset
from artifacts.manifest import ArtifactRef, Kind, Manifest
from artifacts.store import Store
from tasks.dump.dump_config import ITEM_KEY

CENTROIDS = "centroids"
"""The role of the clusters, among the parents of others, whose centres those kept."""


def kept_centroids(
    store: Store, embeddings: ArtifactRef, parameters: Mapping[str, object], changed_share: float
) -> ArtifactRef | None:
    """Returns the fitted clusters whose centres still hold, or None where they are to be fitted.

    They hold where the latest refresh used the same ``parameters``, the same embedding model and
    template, and at most ``changed_share`` of both catalogues' items are in one of them only. Where
    an artifact of that refresh is gone, nothing holds.
    """
    release = store.pointed(REFRESHED)
    if release is None:
        return None
    try:
        fitted = _still_holding(store, release, embeddings, parameters, changed_share)
    except (ArtifactError, FileNotFoundError):
        return None
    return fitted if fitted is not None and store.holds(fitted) else None


def _still_holding(
    store: Store,
    release: ArtifactRef,
    embeddings: ArtifactRef,
    parameters: Mapping[str, object],
    changed_share: float,
) -> ArtifactRef | None:
    latest = store.manifest(parts_of(store, release)["clusters"])
    fitted = store.manifest(latest.parents.get(CENTROIDS, _ref(latest)))
    now, then = store.manifest(embeddings), store.manifest(fitted.parents["embeddings"])
    if fitted.parameters != parameters or now.parameters != then.parameters:
        return None
    if _changed_share(store, now, then) > changed_share:
        return None
    return _ref(fitted)


def _changed_share(store: Store, now: Manifest, then: Manifest) -> float:
    """1 - |both| / |either|."""
    mine, theirs = (_items(store, manifest) for manifest in (now, then))
    both = mine.join(theirs, on=ITEM_KEY, how="semi").height
    either = mine.height + theirs.height - both
    return 1 - both / either if either else 0.0


def _items(store: Store, embeddings: Manifest) -> pl.DataFrame:
    return read_dataset(store, embeddings.parents["dataset"]).items.select(ITEM_KEY)


def _ref(manifest: Manifest) -> ArtifactRef:
    return ArtifactRef(kind=Kind.CLUSTERS, fingerprint=manifest.fingerprint)
