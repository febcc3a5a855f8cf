"""Identities: equal values agree on any machine, and what has no identity is refused."""

import os
import re
import subprocess
import sys
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from artifacts.fingerprint import (
    FINGERPRINT_LENGTH,
    NoStableIdentityError,
    fingerprint_of,
    sha256_of,
    sha256_of_file,
)
from artifacts.manifest import COMPLETE, Kind, identity

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abcé", max_size=3), inner),
    max_leaves=12,
)

IN_A_PROCESS = """
from artifacts.fingerprint import sha256_of
from artifacts.manifest import Kind, identity
print(sha256_of({"b": [1, 2.5, None, True], "a": {"é": "ü", "c": ""}}))
print(identity(Kind.DATASET, {"y": 1, "x": ["z"]}, {}).fingerprint)
"""


class Colour(StrEnum):
    RED = "red"


class Settings(BaseModel):
    width: int = 3
    rate: float = 0.5
    colour: Colour = Colour.RED


@settings(deadline=None)
@given(st.dictionaries(st.text("abcé", max_size=3), JSON))
def test_the_order_of_keys_does_not_count(value: dict[str, object]) -> None:
    assert sha256_of(value) == sha256_of(dict(reversed(value.items())))


def test_equal_values_have_equal_identities_and_other_values_have_others() -> None:
    assert sha256_of((1, "a")) == sha256_of([1, "a"])
    assert sha256_of(Settings()) == sha256_of({"width": 3, "rate": 0.5, "colour": "red"})
    distinct = [None, "", "1", 1, 2, [1], [[1]], {"a": 1}, {"a": 2}, {"b": 1}, ["a", "b"], ["ab"]]
    assert len({sha256_of(value) for value in distinct}) == len(distinct)


def test_a_process_with_another_hash_seed_agrees() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", IN_A_PROCESS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    here = sha256_of({"a": {"c": "", "é": "ü"}, "b": [1, 2.5, None, True]})
    assert said == {f"{here}\n{identity(Kind.DATASET, {'x': ['z'], 'y': 1}, {}).fingerprint}\n"}


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Path("a"),
        {1, 2},
        b"bytes",
        np.int64(3),
        np.zeros(2),
        lambda: 0,
        {"deep": [object()]},
        {1: "a key that is no text"},
        float("nan"),
        float("inf"),
        [-float("inf")],
        Settings(rate=float("nan")),
        "half an emoji \ud83d",
        {"\ud83d": 1},
    ],
    # No addresses: every process that collects the tests must name them alike.
    ids=lambda value: re.sub(r" at 0x[0-9a-f]+", "", repr(value)),
)
def test_a_value_without_a_stable_identity_is_refused(value: object) -> None:
    with pytest.raises(NoStableIdentityError, match="cannot identify an artifact"):
        fingerprint_of(value)


def test_a_fingerprint_is_the_beginning_of_the_hash() -> None:
    assert fingerprint_of([1]) == sha256_of([1])[:FINGERPRINT_LENGTH]


def test_a_file_is_known_by_its_content_not_its_name(tmp_path: Path) -> None:
    big = b"x" * (3 << 20)  # More than one block.
    for name, content in {"a": big, "b": big, "c": big[:-1] + b"y"}.items():
        (tmp_path / name).write_bytes(content)
    first, second, third = (sha256_of_file(tmp_path / name) for name in "abc")
    assert first == second != third


def test_an_artifact_is_identified_by_kind_parameters_parents_and_outcome() -> None:
    parent = identity(Kind.DATASET, {}, {}).ref
    base = identity(Kind.CLUSTERS, {"n": 2}, {"dataset": parent})
    others = [
        identity(Kind.ITEM_TABLES, {"n": 2}, {"dataset": parent}),
        identity(Kind.CLUSTERS, {"n": 3}, {"dataset": parent}),
        identity(Kind.CLUSTERS, {"n": 2}, {"embeddings": parent}),
        identity(Kind.CLUSTERS, {"n": 2}, {"dataset": base.ref}),
        identity(Kind.CLUSTERS, {"n": 2}, {"dataset": parent}, outcome="2 failed"),
    ]
    assert base.fingerprint not in {other.fingerprint for other in others}
    same = identity(Kind.CLUSTERS, {"n": 2}, {"dataset": parent}, outcome=COMPLETE)
    assert base.fingerprint == same.fingerprint


def test_parameters_must_have_names() -> None:
    with pytest.raises(TypeError, match="must have names"):
        identity(Kind.DATASET, [1, 2], {})
