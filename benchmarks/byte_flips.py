"""Flips random bytes of a real store: is each found before an artifact is read, listed or served?

    python benchmarks/byte_flips.py --flips 10000
    python benchmarks/byte_flips.py --flips 500 --json flips.json

One run with the dummy endpoint makes every kind of artifact. Each flip changes one byte of one
file (kind, artifact, file and place are drawn evenly, manifests included) and opens the artifact as
every stage does; then the byte is put back. A flip between two forms of white space in a manifest
changes nothing and is counted apart. Some flips also try to open the release for serving. Exits
with 1 where a flip is not found. `benchmarks/checking_cost.py` tells what the checks cost.
"""

import random
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from artifacts.files.leftovers import SET_ASIDE
from artifacts.integrity import ArtifactError
from artifacts.manifest import MANIFEST, ArtifactRef, Kind, Manifest
from artifacts.store import Store
from benchmarks.demo_runs import DemoRuns, demo_machine
from benchmarks.figures import JsonFile, tell
from tasks.promoting.release_history import serving_release
from tasks.serving.served_release import READ, ReleaseDamagedError, open_release

FOUND, HARMLESS, MISSED = "found", "harmless", "missed"


def main(
    flips: Annotated[int, typer.Option(min=1)] = 10_000,
    served: Annotated[int, typer.Option(min=0, help="Of them, tried on serving.")] = 20,
    seed: Annotated[int, typer.Option()] = 0,
    target: JsonFile = None,
) -> None:
    """Makes a store, flips bytes, tells what was found."""
    with TemporaryDirectory() as name, demo_machine(Path(name)) as variables:
        runs = DemoRuns(Path(name), variables)
        runs.write_dump(seed=3)
        runs.finish()
        figures = {
            **_flipped(runs.store, flips, random.Random(seed)),
            **_flipped_under_service(runs.store, served, random.Random(seed + 1)),
        }
    tell(figures, target)
    if figures["missed"] or figures["served though damaged"]:
        raise typer.Exit(1)


def _flipped(store: Store, flips: int, dice: random.Random) -> dict[str, object]:
    by_kind = {
        kind: found for kind in Kind if (found := [each.ref for each in store.artifacts(kind)])
    }
    outcomes: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for _ in range(flips):
        ref = dice.choice(by_kind[dice.choice(list(by_kind))])
        outcomes[_flip(store, ref, dice)] += 1
        kinds[ref.kind] += 1
    return {
        "flips": flips,
        "kinds": dict(kinds),
        "found": outcomes[FOUND],
        "changed nothing": outcomes[HARMLESS],
        "missed": outcomes[MISSED],
    }


def _flip(store: Store, ref: ArtifactRef, dice: random.Random) -> str:
    folder = store.local / ref.kind / ref.fingerprint
    path = dice.choice(sorted(each for each in folder.rglob("*") if each.is_file()))
    name, content = path.relative_to(folder), path.read_bytes()
    if not content:
        return HARMLESS
    place, bits = dice.randrange(len(content)), dice.randrange(1, 256)
    damaged = bytearray(content)
    damaged[place] ^= bits
    path.write_bytes(damaged)
    try:
        store.path(ref)
    except ArtifactError:
        outcome = FOUND
    else:
        same = path.name == MANIFEST and _parsed(bytes(damaged)) == _parsed(content)
        outcome = HARMLESS if same else MISSED
    if not folder.exists():
        (aside,) = (store.local / SET_ASIDE).iterdir()
        aside.rename(folder)
    (folder / name).write_bytes(content)
    return outcome


def _parsed(content: bytes) -> Manifest | None:
    try:
        return Manifest.model_validate_json(content)
    except ValueError:
        return None


def _flipped_under_service(store: Store, flips: int, dice: random.Random) -> dict[str, object]:
    release = serving_release(store)
    assert release is not None
    parts = store.manifest(release).parents
    served = 0
    for _ in range(flips):
        ref = parts[dice.choice(READ)]
        manifest = store.manifest(ref)
        name = dice.choice([each for each, file in manifest.files.items() if file.size])
        path = store.local / ref.kind / ref.fingerprint / name
        content = path.read_bytes()
        damaged = bytearray(content)
        damaged[dice.randrange(len(damaged))] ^= dice.randrange(1, 256)
        path.write_bytes(damaged)
        try:
            open_release(store)
        except ReleaseDamagedError:
            (aside,) = (store.local / SET_ASIDE).iterdir()
            aside.rename(path.parent)
        else:
            served += 1
        path.write_bytes(content)
    return {"tried on serving": flips, "served though damaged": served}


if __name__ == "__main__":
    typer.run(main)
