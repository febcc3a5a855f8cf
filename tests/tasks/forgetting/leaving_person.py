"""A shop with a person who leaves: commands on its store, what is stored about the person, and a
search in files of all forms."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from artifacts.bundles import REFRESHED, parts_of
from artifacts.kinds.clusters import read_clusters
from artifacts.kinds.dataset import Dataset, read_dataset
from artifacts.kinds.user_profiles import read_user_profiles
from artifacts.store import Store
from benchmarks.preloaded_cli import PreloadedCli
from prompts.profile_style import ProfileStyle
from prompts.render import Language, analyze_prompt
from tasks.demo.demo_dump import write_demo_dump
from tasks.profiling.interest_titles import titles_by_interest
from tests.flows.server.command_variables import own_variables
from tests.flows.server.prefect_servers import ServerLogin

GONE = "person-who-leaves"
USERS = 40


@dataclass(frozen=True)
class Runs:
    """Commands in a folder with a dump, on one store, recorded by one server."""

    commands: PreloadedCli
    folder: Path
    server: ServerLogin
    store: str = "store"

    def __call__(self, *arguments: str, **variables: str) -> str:
        """Runs a command that ends well; returns what it says."""
        given = {**own_variables(self.folder), **self.server.variables, **variables}
        done = self.commands.run([*arguments, "--store", self.store], self.folder, given)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def refresh(
        self, dump: str = "dump/interactions.parquet", style: str = "paper", **variables: str
    ) -> str:
        files = ("--interactions", dump, "--items", "dump/items.parquet")
        made = ("--clusters", "4", "--profile-style", style, "--provider", "dummy")
        return self("refresh", *files, *made, **variables)

    def retrain(self, **variables: str) -> None:
        self("retrain", "--preset", "single", "--epochs", "1", "--seed", "1", **variables)


def renamed(table: Path, old: str, new: str) -> None:
    rows = pl.read_parquet(table)
    rows.with_columns(pl.col("user_id").replace({old: new})).write_parquet(table)


def write_dump(folder: Path) -> None:
    """Writes a dump in which the person has the longest history."""
    write_demo_dump(folder / "dump", seed=3, users=USERS, items=60)
    events = folder / "dump" / "interactions.parquet"
    longest = pl.read_parquet(events)["user_id"].value_counts(sort=True)["user_id"][0]
    renamed(events, longest, GONE)


@dataclass(frozen=True)
class AboutPerson:
    """The person's own title lists, and answers about these, which nobody else shares."""

    titles: list[list[str]]
    texts: set[str]
    data: Dataset

    @property
    def prompts(self) -> set[str]:
        """Their rendered prompts, as the ledger keeps them."""
        return {
            json.dumps(analyze_prompt(titles, language, style).model_dump(), ensure_ascii=False)
            for titles in self.titles
            for language in Language
            for style in ProfileStyle
        }


def about_person(store: Store) -> AboutPerson:
    refreshed = store.pointed(REFRESHED)
    assert refreshed is not None
    parts = parts_of(store, refreshed)
    data = read_dataset(store, parts["dataset"])
    index = data.users.filter(user_id=GONE)["user_index"][0]
    rows = titles_by_interest(data, read_clusters(store, parts["clusters"]))
    own = rows.filter(user_index=index)["titles"].to_list()
    others = rows.filter(pl.col("user_index") != index)["titles"].to_list()
    profiles = read_user_profiles(store, parts["profiles"])
    theirs = set(profiles.interests.filter(user_index=index)["interest"])
    theirs |= set(profiles.profiles.filter(user_id=GONE)["profile"])
    elsewhere = set(profiles.interests.filter(pl.col("user_index") != index)["interest"])
    elsewhere |= set(profiles.profiles.filter(pl.col("user_id") != GONE)["profile"])
    return AboutPerson([titles for titles in own if titles not in others], theirs - elsewhere, data)


def told_by(content: bytes) -> str:
    """Returns all that bytes say, also where Parquet, gzip or zstd has compressed it."""
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    elif content[:4] == b"\x28\xb5\x2f\xfd":
        content = pa.CompressedInputStream(pa.BufferReader(content), "zstd").read()
    told = content.decode("utf-8", "replace")
    if content[:4] == b"PAR1":
        rows = pq.read_table(pa.BufferReader(content)).to_pylist()
        told += json.dumps(rows, default=str, ensure_ascii=False)
    return told


def files_with(folder: Path, *texts: str) -> list[str]:
    """Returns the files that say one of the texts, or have it in their path."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert len(found) > 10
    return [
        place
        for path in found
        for place in [str(path.relative_to(folder))]
        if any(text in told for told in (told_by(path.read_bytes()) + place,) for text in texts)
    ]
