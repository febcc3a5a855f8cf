"""The user profiles artifact: texts, partial interests, vectors."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import JsonValue

from artifacts.kinds.arrays import read_arrays, write_arrays
from artifacts.manifest import ArtifactRef
from artifacts.store import Store

INTEREST = "interest"
PROFILE = "profile"
CUT = "cut"

PROFILES_FILE = "profiles.parquet"
INTERESTS_FILE = "interests.parquet"
FAILURES_FILE = "failures.parquet"
VECTORS_FILE = "vectors.safetensors"


@dataclass(frozen=True)
class UserProfiles:
    """Profiles of some or all users of a dataset.

    Attributes:
        profiles: ``user_index, user_id, profile, cut`` (cut: stopped by its length limit).
        interests: ``user_index, cluster, interest, cut``.
        failures: ``key, reason`` of prompts without a usable answer.
        vectors: float32 (users, width); zeros for users without a profile.
        has_profile: bool (users,).
    """

    profiles: pl.DataFrame
    interests: pl.DataFrame
    failures: pl.DataFrame
    vectors: np.ndarray
    has_profile: np.ndarray


def write_user_profiles(folder: Path, made: UserProfiles) -> None:
    """Writes all parts of the artifact."""
    made.profiles.write_parquet(folder / PROFILES_FILE)
    made.interests.write_parquet(folder / INTERESTS_FILE)
    made.failures.write_parquet(folder / FAILURES_FILE)
    write_profile_vectors(folder, made.vectors, made.has_profile)


def write_profile_vectors(folder: Path, vectors: np.ndarray, has_profile: np.ndarray) -> None:
    """Writes vectors and mask, the input of training."""
    write_arrays(folder / VECTORS_FILE, {"vectors": vectors, "has_profile": has_profile})


def read_profile_vectors(store: Store, ref: ArtifactRef) -> tuple[np.ndarray, np.ndarray]:
    """Returns ``vectors`` and ``has_profile`` without the texts; raises `ArtifactMissingError`."""
    arrays = read_arrays(store.path(ref) / VECTORS_FILE)
    return arrays["vectors"], arrays["has_profile"]


def read_user_profiles(store: Store, ref: ArtifactRef) -> UserProfiles:
    """Returns the profiles; raises `ArtifactMissingError`."""
    folder = store.path(ref)
    arrays = read_arrays(folder / VECTORS_FILE)
    return UserProfiles(
        profiles=pl.read_parquet(folder / PROFILES_FILE, glob=False),
        interests=pl.read_parquet(folder / INTERESTS_FILE, glob=False),
        failures=pl.read_parquet(folder / FAILURES_FILE, glob=False),
        vectors=arrays["vectors"],
        has_profile=arrays["has_profile"],
    )


def model_of(parameter: JsonValue) -> str | None:
    """Returns the name of a model in the parameters of profiles, ``[name, request fields]``."""
    return str(parameter[0]) if isinstance(parameter, list) and parameter else None
