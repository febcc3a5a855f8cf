"""Rewriting and deletion of artifacts for the removal of users, which are otherwise immutable."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from artifacts.drafts import Draft, draft_beside, take_place
from artifacts.files.durable import sync, sync_tree, write_atomically
from artifacts.files.private_files import settle
from artifacts.integrity import describe_files
from artifacts.manifest import MANIFEST, ArtifactRef, Kind, document_of
from artifacts.store import Store

REWRITTEN = ".rewritten-"
"""Prefix of complete folders that are to replace an artifact."""


@contextmanager
def rewrite(store: Store, ref: ArtifactRef) -> Iterator[Draft]:
    """Yields a draft that replaces an artifact at the end of the block, under the same name.

    `finish_rewrites` completes the rewrites of a killed process.
    """
    manifest, place = store.manifest(ref), _folder(store, ref)
    with draft_beside(place) as draft:
        draft.counts, draft.notes = dict(manifest.counts), list(manifest.notes)
        yield draft
        settle(draft.path)
        files = describe_files(draft.path)
        facts = {"counts": draft.counts, "notes": draft.notes, "files": files}
        changed = manifest.model_copy(update=facts)
        if store.remote is not None:
            changed = store.remote.replace(changed, draft.path)
        write_atomically(draft.path / MANIFEST, document_of(changed))
        sync_tree(draft.path)
        ready = place.with_name(f"{REWRITTEN}{place.name}")
        draft.path.rename(ready)
        sync(place.parent)
        take_place(ready, place)


def finish_rewrites(store: Store) -> None:
    """Completes the rewrites that a killed process has left."""
    for kind in Kind:
        for ready in (store.local / kind).glob(f"{REWRITTEN}*"):
            take_place(ready, ready.with_name(ready.name.removeprefix(REWRITTEN)))


def drop(store: Store, ref: ArtifactRef) -> None:
    """Deletes an artifact; its stage makes it again."""
    if store.remote is not None:
        store.remote.drop(ref)
    shutil.rmtree(_folder(store, ref), ignore_errors=True)


def _folder(store: Store, ref: ArtifactRef) -> Path:
    return store.local / ref.kind / ref.fingerprint
