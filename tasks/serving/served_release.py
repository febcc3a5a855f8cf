"""Loading of a release: model, catalogue, histories and profiles, in memory."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import JsonValue

from artifacts import columns as col
from artifacts.bundles import parts_of
from artifacts.forgotten import forgettings
from artifacts.integrity import ArtifactError
from artifacts.kinds.dataset import Dataset, read_dataset
from artifacts.kinds.item_vectors import read_item_embeddings, read_item_tables
from artifacts.kinds.results import REPORT
from artifacts.kinds.user_profiles import PROFILE, model_of, read_user_profiles
from artifacts.machines.cached_copies import catch_up
from artifacts.machines.store_in_use import interruption
from artifacts.manifest import ArtifactRef, Kind
from artifacts.shown_users import BY_ID, SHOWN_PARAMETER, ShownUsers, shown_users
from artifacts.store import Store
from artifacts.user_error import UserError
from model.checkpoint import load_model
from model.data.sequences import IntArray, Sequences
from model.network.tri_thread import TriThread
from tasks.frame.model_inputs import sequences_of
from tasks.promoting.release_history import serving_release
from tasks.serving.catalogue import Catalogue
from tasks.serving.text_space import TextSpace, text_space

LATEST = "latest"

READ = ("dataset", "embeddings", "profiles", "tables", "model")
"""Roles of the artifacts that are read for serving."""


class NothingServedError(UserError, LookupError):
    """The release does not exist, or none is served."""


class ReleaseDamagedError(RuntimeError):
    """An artifact of the release is missing or damaged."""


@dataclass(frozen=True)
class ReleaseFacts:
    """Origin of a release. `embedding`: parameters of its item embeddings; `report`: its page, if
    any that names users as this machine's setting."""

    ref: ArtifactRef
    model: ArtifactRef
    created: datetime
    notes: tuple[str, ...]
    report: Path | None
    embedding: dict[str, JsonValue]
    chat_model: str | None = None
    """What wrote the profiles, by its name."""


@dataclass(frozen=True)
class OpenRelease:
    """A release in memory.

    Attributes: vectors: float32 (items + 1, width), the item texts' embeddings; row 0 zeros.
        has_text: bool (items + 1,), False for items whose vector is the mean of their domain.
        last_seen: int64 (users,), seconds since 1970 of the latest event; -1 without events.
        profiles: profile texts by user id. forgettings: number of removals of users at loading.
        shown: names of users on the page.
    """

    facts: ReleaseFacts
    catalogue: Catalogue
    model: TriThread
    vectors: NDArray[np.float32]
    has_text: NDArray[np.bool_]
    space: TextSpace
    histories: Sequences
    user_ids: list[str]
    last_seen: IntArray
    profiles: dict[str, str]
    forgettings: int
    shown: ShownUsers = BY_ID


def release_ref(store: Store, release: str = LATEST) -> ArtifactRef:
    """Returns the served release, or one by its fingerprint; raises `NothingServedError`."""
    if release == LATEST:
        ref = serving_release(store)
        if ref is None:
            raise NothingServedError(f"{store.root} serves nothing yet; {_way_to_serve(store)}")
        return ref
    made = [manifest.fingerprint for manifest in store.artifacts(Kind.RELEASE)]
    if release not in made:
        raise NothingServedError(
            f"{store.root} has no release {release!r}; it has {', '.join(made) or 'none'}"
        )
    return ArtifactRef(kind=Kind.RELEASE, fingerprint=release)


def open_release(store: Store | str | Path, release: str = LATEST) -> OpenRelease:
    """Loads a release after checking the SHA-256 of its files.

    Raises:
        NothingServedError, ReleaseDamagedError, model.checkpoint.CheckpointError.
    """
    opened = store if isinstance(store, Store) else Store(store)
    ref = release_ref(opened, release)
    catch_up(opened)
    times = len(forgettings(opened))
    shown = shown_users(opened)
    parts = _sound_parts(opened, ref)
    data = read_dataset(opened, parts["dataset"])
    embeddings = read_item_embeddings(opened, parts["embeddings"])
    profiles = read_user_profiles(opened, parts["profiles"]).profiles
    projections = read_item_tables(opened, parts["tables"]).projections
    manifest = opened.manifest(ref)
    bought = np.bincount(data.item_indices, minlength=data.items.height + 1)
    return OpenRelease(
        facts=ReleaseFacts(
            ref=ref,
            model=parts["model"],
            created=manifest.created,
            notes=tuple(manifest.notes),
            report=_report(opened, parts, shown),
            embedding=opened.manifest(parts["embeddings"]).parameters,
            chat_model=model_of(opened.manifest(parts["profiles"]).parameters.get("chat")),
        ),
        catalogue=Catalogue(data.items, data.domains, data.domain_starts, bought),
        model=load_model(opened.path(parts["model"]))[0],
        vectors=embeddings.vectors,
        has_text=embeddings.is_embedded,
        space=text_space(projections, embeddings, data),
        histories=sequences_of(data),
        user_ids=data.users[col.USER_ID].to_list(),
        last_seen=_last_seen(data),
        profiles=dict(profiles.select(col.USER_ID, PROFILE).iter_rows()),
        forgettings=times,
        shown=shown,
    )


def _report(store: Store, parts: dict[str, ArtifactRef], shown: ShownUsers) -> Path | None:
    """Returns the report's path, None if it is missing, or shows ids though ``shown`` is hashed."""
    try:
        if "report" not in parts:
            return None
        has_ids = SHOWN_PARAMETER not in store.manifest(parts["report"]).parameters
        return None if shown.are_hashed and has_ids else store.path(parts["report"]) / REPORT
    except ArtifactError:
        return None


def _sound_parts(store: Store, ref: ArtifactRef) -> dict[str, ArtifactRef]:
    try:
        parts = parts_of(store, ref)
        for role in READ:
            store.verify(parts[role])
    except ArtifactError as error:
        cause = interruption(store) or (
            f"{error.args[0]}. `llm4cdsr rollback` serves the release before it"
        )
        raise ReleaseDamagedError(f"release {ref.fingerprint} is not served: {cause}") from error
    return parts


def _last_seen(data: Dataset) -> IntArray:
    latest = pl.DataFrame({"user": data.user_of_event, "time": data.timestamps})
    found = latest.group_by("user").agg(pl.col("time").max())
    last = np.full(data.users.height, -1, np.int64)
    last[found["user"].to_numpy()] = found["time"].to_numpy()
    return last


def _way_to_serve(store: Store) -> str:
    if any(store.artifacts(Kind.RELEASE)):
        return "`llm4cdsr releases` lists held releases, `llm4cdsr promote RELEASE` serves one"
    return "run `llm4cdsr run` first"
