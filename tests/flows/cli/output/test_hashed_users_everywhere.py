"""With LLM4CDSR_SHOWN_USERS=hashed no id is in anything that people see; without it ids are.

Everything that commands and flows show is searched: output, logs, report and model card, Prefect's
database, the service's page and its JSON.
"""

import json
import re
import signal
import sqlite3
import threading
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import polars as pl
import pytest

from artifacts.manifest import Kind
from artifacts.shown_users import PREFIX, SHOWN_VARIABLE, hashed_users
from artifacts.store import Store
from benchmarks.preloaded_cli import PreloadedCli
from tasks.demo.demo_dump import write_demo_dump
from tests.flows.server.command_variables import own_variables

pytestmark = pytest.mark.slow

DATA = frozenset({".parquet", ".safetensors", ".npy"})
"""Files for machines; they keep ids."""


@dataclass
class Seen:
    """Texts that people see, by their place."""

    folder: Path
    ids: list[str]
    texts: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return Store(self.folder / "store")

    def named(self) -> dict[str, list[str]]:
        """Returns the ids that are words of a text, by its place."""
        pattern = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, self.ids))})(?![\w-])")
        found = {place: sorted(set(pattern.findall(text))) for place, text in self.texts.items()}
        return {place: users for place, users in found.items() if users}


def environment(folder: Path, shown: str, database: Path | None = None) -> dict[str, str]:
    return {**own_variables(folder, database), SHOWN_VARIABLE: shown, "COLUMNS": "200"}


def command(
    seen: Seen,
    commands: PreloadedCli,
    variables: dict[str, str],
    *arguments: str,
    status: int = 0,
) -> str:
    done = commands.run(arguments, seen.folder, variables)
    assert done.returncode == status, done.stdout + done.stderr
    seen.texts[f"$ {' '.join(arguments[:1])} ({len(seen.texts)})"] = done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=["plain", "hashed"])
def seen(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    commands: PreloadedCli,
    prefect_database: Path,
) -> Seen:
    folder = tmp_path_factory.mktemp(request.param)
    write_demo_dump(folder / "dump", seed=3, users=40, items=60)
    events = pl.read_parquet(folder / "dump/interactions.parquet")
    often = pl.concat([events.filter(user_id=events["user_id"][0])] * 9)
    events = pl.concat([events, often.with_columns(pl.col("timestamp") + pl.int_range(pl.len()))])
    odd = events.head(3).with_columns(user_id=pl.lit("zzodd\x01zzperson"))
    pl.concat([events, odd]).write_parquet(folder / "dump/interactions.parquet")
    broken = f'[{{"user_id": "{events["user_id"][1]}", "item_id": }}]'
    (folder / "broken.json").write_text(broken)
    (folder / "cut.parquet").write_bytes((folder / "dump/interactions.parquet").read_bytes()[:-50])
    found = Seen(folder, sorted(set(events["user_id"]) | {"zzodd", "zzperson"}))
    made = ("--interactions", "dump/interactions.parquet", "--items", "dump/items.parquet")
    store = ("--store", "store")
    variables = environment(folder, request.param, prefect_database)
    quick = ("--clusters", "4", "--epochs", "1", "--provider", "dummy")
    small = ("--preset", "single", "--ablation-users", "0")
    out = ("--report", "copy.html", "--summary", "summary.md")
    command(found, commands, variables, "check", "dump/interactions.parquet", "dump/items.parquet")
    command(found, commands, variables, "run", *made, *quick, *small, *out, "--verbose", *store)
    for damaged in ("broken.json", "cut.parquet"):
        files = ("--interactions", damaged, "--items", "dump/items.parquet")
        command(found, commands, variables, "refresh", *files, *quick[:2], *store, status=2)
    for name in ("show", "status"):
        command(found, commands, variables, name, *store)
    command(found, commands, variables, "export-recs", "exported", *store)
    look_at_files(found)
    look_at_the_service(found, commands, variables)
    return found


def look_at_files(seen: Seen) -> None:
    """Adds all texts of the run, also those in folders of the store, and Prefect's tables."""
    for path in sorted(seen.folder.rglob("*")):
        place = str(path.relative_to(seen.folder))
        is_input = place.startswith(("dump/", "broken.json", "cut.parquet", "exported/"))
        if not path.is_file() or is_input or path.suffix in DATA:
            continue
        if path.suffix == ".db":
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
                seen.texts[place] = "\n".join(database.iterdump())
        else:
            seen.texts[place] = path.read_bytes().decode("utf-8", "replace")
        seen.texts[f"name of {place}"] = place


def look_at_the_service(seen: Seen, commands: PreloadedCli, variables: dict[str, str]) -> None:
    log = seen.folder / "service.log"
    asked = ("serve-recs", "--port", "0", "--store", "store")
    process = commands.start(asked, seen.folder, variables, log)
    try:
        while not (log.exists() and (url := re.search(r"http://localhost:\d+", log.read_text()))):
            assert process.poll() is None, log.read_text()
            threading.Event().wait(0.2)
        with httpx.Client(base_url=url[0], timeout=60) as client:
            users = client.get("/users", params={"any": True, "limit": 5}).json()["users"]
            paths = ["/", "/docs", "/health", "/metrics", "/report", "/users?limit=100"]
            paths += [f"/users/{user}" for user in users]
            paths += [f"/users/{user}/recommendations" for user in users]
            for path in paths:
                answer = client.get(path)
                assert answer.status_code == 200, answer.text
                seen.texts[f"HTTP {path}"] = answer.text
            unknown = client.get(f"/users/{seen.ids[0]}x")
            seen.texts["HTTP unknown"] = unknown.text.replace(f"{seen.ids[0]}x", seen.ids[0])
            exact = client.get("/users", params={"search": seen.ids[1]})
            seen.texts["HTTP search"] = exact.text
            assert len(exact.json()["users"]) == 1
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    seen.texts["service's log"] = log.read_text()


def test_ids_are_in_what_people_see_only_if_set(seen: Seen) -> None:
    assert len(seen.texts) > 40
    named = seen.named()
    if seen.folder.name.startswith("plain"):
        for place in ("HTTP /users?limit=100", "HTTP /report", "copy.html", "HTTP unknown"):
            assert place in named, sorted(named)
        assert any(place.startswith("$ run") for place in named)
        assert any(place.startswith("$ refresh") for place in named)
        return
    assert named == {}
    assert all(PREFIX in seen.texts[place] for place in ("copy.html", "HTTP /users?limit=100"))


def test_no_note_of_an_artifact_names_a_user(seen: Seen) -> None:
    """Notes are shown later, also where the setting was another one at first."""
    notes = [n for kind in Kind for made in seen.store.artifacts(kind) for n in made.notes]
    assert any("the most frequent user_id alone has" in note for note in notes)
    assert any("have control characters" in note for note in notes)
    assert not any(user in note.split() for note in notes for user in seen.ids)
    assert "zz" not in json.dumps(notes)


def test_an_operator_who_knows_an_id_finds_its_name(seen: Seen, commands: PreloadedCli) -> None:
    variables = environment(seen.folder, "plain")
    (seen.folder / "ids.txt").write_text("\n".join(seen.ids[:2]))
    again = Seen(seen.folder, seen.ids)
    told = command(
        again, commands, variables, "shown-users", "--ids", "ids.txt", "--store", "store"
    )
    expected = [hashed_users(seen.store).name(user) for user in seen.ids[:2]]
    assert told.split() == expected


def test_data_for_machines_keep_ids(seen: Seen) -> None:
    lists = pl.concat(
        pl.read_parquet(path) for path in (seen.folder / "exported").glob("*.parquet")
    )
    assert set(lists["user_id"]) <= set(seen.ids)
