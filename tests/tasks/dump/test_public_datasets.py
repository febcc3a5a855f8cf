"""Data sets by name: what ships is complete, and a file of one's own needs no code."""

import gzip
import json
from pathlib import Path

import pytest

from artifacts.store import Store
from model.config import load_preset
from tasks.dump.dump_config import DumpConfig
from tasks.dump.public_datasets import (
    PublicDatasetError,
    dataset_names,
    dataset_text,
    load_public_dataset,
)
from tasks.frame.training_config import TrainingConfig
from tasks.ingest import ingested

OWN = """
title = "Three shops"
about = "made up"
source = "nowhere"
form = "amazon-2018"
user_core = 2

[split]
kind = "users"

[[domains]]
name = "a"
interactions = "A.json.gz"
[[domains]]
name = "b"
interactions = "B.json.gz"
[[domains]]
name = "c"
interactions = "C.json.gz"
"""


@pytest.mark.parametrize("name", dataset_names())
def test_a_shipped_data_set_says_where_its_files_are_and_trains_as_named(name: str) -> None:
    preset = load_public_dataset(name)
    assert len(preset.raw_files()) == 2 * len(preset.domains)
    assert preset.source
    assert preset.language in ("en", "zh")
    named = preset.training
    assert TrainingConfig(preset=named.preset, overrides=named.overrides).smallest(items=100)
    assert preset.title in dataset_text(name)


def test_the_papers_data_sets_have_the_papers_settings() -> None:
    def settings(name: str) -> tuple[object, ...]:
        preset = load_public_dataset(name)
        train = load_preset(preset.training.preset, preset.training.overrides).train
        window = (str(preset.since), str(preset.until))
        return (*window, preset.user_core, preset.item_core, train.alpha, train.beta)

    assert settings("cloth-sport") == ("2018-01-01", "2019-12-31", 5, 3, 0.1, 0.1)
    assert settings("electronics-phone") == ("2017-07-14", "2020-09-13", 5, 3, 1.0, 1.0)
    assert settings("book-movie") == ("None", "None", 5, 3, 0.1, 1.0)


def test_missing_raw_files_are_all_named_with_where_to_get_them(tmp_path: Path) -> None:
    (tmp_path / "Sports_and_Outdoors.json").write_text("{}")
    with pytest.raises(PublicDatasetError) as refused:
        load_public_dataset("cloth-sport").dump_settings(tmp_path)
    message = str(refused.value)
    assert "lacks Clothing_Shoes_and_Jewelry.json.gz, meta_Clothing" in message
    assert "nijianmo.github.io/amazon" in message
    assert "lacks Sports" not in message
    assert ", Sports_and_Outdoors.json" not in message


def test_a_file_of_ones_own_makes_a_dataset_of_three_domains(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OWN)
    for name in ("A.json.gz", "B.json", "C.json.gz"):
        lines = "".join(
            json.dumps({"reviewerID": f"u{n % 5}", "asin": str(n), "unixReviewTime": 10**9 + n})
            + "\n"
            for n in range(20)
        ).encode()
        (tmp_path / name).write_bytes(gzip.compress(lines) if name.endswith(".gz") else lines)
    preset = load_public_dataset(str(tmp_path / "own.toml"))
    store = Store(tmp_path / "store")
    made = ingested(DumpConfig.model_validate(preset.dump_settings(tmp_path)), store)
    assert (made.counts["events"], made.counts["users"], made.counts["items"]) == (60, 5, 60)
    assert made.notes[0].startswith("held out by user")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title = ", "is not TOML"),
        (OWN.replace('form = "amazon-2018"', 'form = "ebay"'), "describes no data set: form"),
        (OWN.replace("user_core = 2", "user_cores = 2"), "describes no data set: user_cores"),
        (OWN[: OWN.index('[[domains]]\nname = "b"')], "describes no data set: domains"),
    ],
)
def test_a_faulty_file_is_refused_with_the_fault(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(PublicDatasetError, match=words):
        load_public_dataset(str(tmp_path / "own.toml"))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        PublicDatasetError, match="no data set books; there are book-movie, cloth-sport"
    ):
        load_public_dataset("books")
