"""Promotion, hold and rollback of releases."""

import polars as pl

from artifacts import columns as col
from artifacts.bundles import parts_of
from artifacts.integrity import ArtifactError
from artifacts.kinds.results import scan_recommendations
from artifacts.machines.store_in_use import store_in_use
from artifacts.manifest import ArtifactRef, Kind
from artifacts.store import Store
from artifacts.user_error import UserError
from tasks.promoting.release_history import Decision, history, record_decision, served_in_turn

FIRST_RUN = "there are none yet: `llm4cdsr run` makes the first"


class NoSuchReleaseError(UserError, LookupError):
    """No release of that name, or none before the served one."""


class ServedMeanwhileError(UserError, RuntimeError):
    """Another process served another release during a rollback."""


class UnsoundReleaseError(RuntimeError):
    """A release has missing or damaged artifacts, or non-finite scores."""


def promote(store: Store, release: ArtifactRef, reason: str) -> None:
    """Makes a release the served one, on all machines of the store, if all its artifacts are sound.

    Raises:
        UnsoundReleaseError.
        InterruptedRemovalError, InterruptedRestoreError: artifacts may not fit together.
    """
    with store_in_use(store):
        parts = require_sound(store, release)
        record_decision(store, Decision.PROMOTED, reason, lambda: (release, parts))


def hold(store: Store, release: ArtifactRef, reason: str) -> None:
    """Records a release as held."""
    parts = parts_of(store, release)
    record_decision(store, Decision.HELD, reason, lambda: (release, parts))


def roll_back(store: Store, reason: str = "by hand") -> ArtifactRef:
    """Serves and returns the previously served release.

    Raises:
        NoSuchReleaseError: there is none.
        ServedMeanwhileError: two rollbacks at once go back one release, not two.
        UnsoundReleaseError: it is missing or damaged.
        InterruptedRemovalError, InterruptedRestoreError: artifacts may not fit together.
    """
    left: list[ArtifactRef] = []

    def previous() -> tuple[ArtifactRef, dict[str, ArtifactRef]]:
        served = served_in_turn(history(store))
        if len(served) < 2:
            ways = "`llm4cdsr releases` lists them; `llm4cdsr promote RELEASE` serves any of them"
            raise NoSuchReleaseError(
                f"{store.root} has served {len(served)} release(s): there is none to go back to. "
                + (ways if served else FIRST_RUN)
            )
        if left and left != served[-1:]:
            raise ServedMeanwhileError(
                f"release {served[-1].fingerprint} was served by another decision in the "
                "meantime, and nothing was changed; see `llm4cdsr releases`, and repeat the "
                "command to go back from it"
            )
        left[:] = served[-1:]
        return served[-2], require_sound(store, served[-2])

    with store_in_use(store):
        return record_decision(store, Decision.ROLLED_BACK_TO, reason, previous)


def require_sound(store: Store, release: ArtifactRef) -> dict[str, ArtifactRef]:
    """Returns the artifacts of a release after checking the SHA-256 of every file.

    Raises:
        UnsoundReleaseError: an artifact is missing or damaged, or a score is not finite.
    """
    try:
        parts = parts_of(store, release)
        for part in (release, *parts.values()):
            store.verify(part)
        if lists := parts.get("recommendations"):
            unsound = ~pl.col(col.SCORE).is_finite()
            scores = scan_recommendations(store, lists).select(unsound.sum())
            if count := scores.collect(engine="streaming").item():
                raise UnsoundReleaseError(
                    f"release {release.fingerprint} cannot be served: {count} scores of its "
                    "recommendations are no finite numbers; run `llm4cdsr retrain`"
                )
    except (ArtifactError, pl.exceptions.PolarsError) as error:
        raise UnsoundReleaseError(
            f"release {release.fingerprint} cannot be served: {error.args[0]}. `llm4cdsr releases` "
            "lists the others"
        ) from error
    return parts


def release_named(store: Store, name: str) -> ArtifactRef:
    """Returns the release whose fingerprint begins with ``name``; raises `NoSuchReleaseError`."""
    prefix = name.removeprefix(f"{Kind.RELEASE}/")
    known = {entry.release.fingerprint for entry in history(store)}
    known |= {manifest.fingerprint for manifest in store.artifacts(Kind.RELEASE)}
    found = sorted(fingerprint for fingerprint in known if fingerprint.startswith(prefix))
    if len(found) != 1:
        listed = ", ".join(found or sorted(known))
        there = f"known: {listed}" if known else FIRST_RUN
        raise NoSuchReleaseError(f"{name} names {len(found)} releases of {store.root}; {there}")
    return ArtifactRef(kind=Kind.RELEASE, fingerprint=found[0])


def was_decided(store: Store, parts: dict[str, ArtifactRef]) -> bool:
    """Returns whether a release made from all of ``parts`` was ever promoted or held."""
    made_from = {entry.release.fingerprint: entry.parts for entry in history(store)}
    for fingerprint, known in made_from.items():
        release = ArtifactRef(kind=Kind.RELEASE, fingerprint=fingerprint)
        try:
            whole = known or parts_of(store, release)
        except ArtifactError:  # Deleted in the meantime.
            continue
        if parts.items() <= whole.items():
            return True
    return False
