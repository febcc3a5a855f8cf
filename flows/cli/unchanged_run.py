"""Recognition of a run that has nothing to do, without Prefect or PyTorch.

A finished run writes a note to the store: its artifacts, and a digest of all inputs of its results.
A later run with an equal digest, intact artifacts and an unchanged served release needs no stage.
In every other case the flow decides by stage.
"""

import os
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

from pydantic import JsonValue, ValidationError

from artifacts.bundles import REFRESHED
from artifacts.fingerprint import sha256_of, sha256_of_file
from artifacts.forgotten import forgettings
from artifacts.integrity import ArtifactError
from artifacts.leases import in_use
from artifacts.manifest import COMPLETE, ArtifactRef
from artifacts.store import Store
from artifacts.store_notes import read_note, write_note
from artifacts.strict import Strict
from tasks.dump.dump_config import DumpConfig, Mode
from tasks.dump.sources.source_files import paths_of, source_files
from tasks.frame.stage import StageResult
from tasks.promoting.release_history import serving_release
from tasks.promoting.verdict import Verdict
from tasks.system.dot_env import PREFIX

NOTE = "last-run.json"
ROOMS = ("flows", "tasks", "model", "prompts", "artifacts")
PREFECT_URL = "PREFECT_API_URL"
WEBHOOK = f"{PREFIX}WEBHOOK_URL"
_SECRET_ENDINGS = ("KEY", "TOKEN", "SECRET", "WEBHOOK_URL")


class FinishedRun(Strict):
    """A finished run. ``asked``: its digest; ``stages``: names and artifacts, in order;
    ``serving``: the release served after it."""

    asked: str
    stages: tuple[tuple[str, ArtifactRef], ...]
    refreshed: ArtifactRef
    release: ArtifactRef
    serving: ArtifactRef | None
    verdict: Verdict

    @property
    def artifacts(self) -> Iterator[ArtifactRef]:
        return chain((ref for _, ref in self.stages), (self.refreshed, self.release))


def digest_of_run(
    dump: DumpConfig, options: Mapping[str, JsonValue], preset_file: Path | None, store: Store
) -> str | None:
    """Returns the digest of what determines a run's results: options, contents of its files,
    environment, code, removals of users.

    None for a run that must not be skipped: it appends, reads URLs, or reports its end to a
    permanent Prefect server or a webhook.
    """
    named = [
        path
        for source in dump.files
        for paths in (source.interactions, source.items)
        if paths is not None
        for path in paths_of(paths)
    ]
    if dump.mode is Mode.APPEND or any("://" in path for path in named) or _is_reported():
        return None
    files = [
        [file.path, dict(file.partition), sha256_of_file(Path(file.path))]
        for path in named  # One file may have both events and items.
        for file in source_files(path)
    ]
    facts = {
        "options": dict(options),
        "dump": dump.model_dump(mode="json"),
        "files": files,
        "preset": None if preset_file is None else sha256_of_file(preset_file),
        "environment": _environment(),
        "code": _digest_of_code(),
        "forgotten": len(forgettings(store)),
    }
    return sha256_of(facts)


def finished_run(store: Store, asked: str) -> FinishedRun | None:
    """Returns the last run if it had this digest and its results are sound and still in force."""
    content = read_note(store, NOTE)
    try:
        done = FinishedRun.model_validate_json(content) if content else None
    except ValidationError:
        return None  # Of another version.
    if done is None or done.asked != asked:
        return None
    with in_use(store.local):
        is_in_force = (
            store.pointed(REFRESHED) == done.refreshed and serving_release(store) == done.serving
        )
        return done if is_in_force and all(map(store.holds, done.artifacts)) else None


def reused_stages(store: Store, done: FinishedRun) -> tuple[StageResult, ...]:
    """Returns the stages as reused ones, with the counts and notes of their artifacts."""
    return tuple(
        StageResult(
            stage=stage,
            ref=ref,
            reused=True,
            seconds=0.0,
            counts=manifest.counts,
            notes=manifest.notes,
        )
        for stage, ref in done.stages
        for manifest in (store.manifest(ref),)
    )


def note_finished_run(
    store: Store,
    asked: str,
    stages: tuple[StageResult, ...],
    refreshed: ArtifactRef,
    release: ArtifactRef,
    verdict: Verdict,
) -> None:
    """Writes the note of a finished run, unless items failed: the next run retries those."""
    refs = tuple((stage.stage, stage.ref) for stage in stages)
    try:
        if any(store.manifest(ref).outcome != COMPLETE for _, ref in refs):
            return
    except ArtifactError:  # Deleted by another process in the meantime.
        return
    done = FinishedRun(
        asked=asked,
        stages=refs,
        refreshed=refreshed,
        release=release,
        serving=serving_release(store),
        verdict=verdict,
    )
    write_note(store, NOTE, done.model_dump_json(indent=1).encode())


def _is_reported() -> bool:
    """Returns whether the end of a run is reported to a server or a webhook.

    Reads Prefect's configuration as text: importing Prefect takes longer than everything else here.
    """
    if os.environ.get(PREFECT_URL) or os.environ.get(WEBHOOK):
        return True
    home = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect"))
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml"))
    configured = (profiles, *map(Path, (".env", "prefect.toml", "pyproject.toml")))
    return any(_mentions_prefect(path) for path in configured)


def _mentions_prefect(path: Path) -> bool:
    try:
        text = path.read_bytes().lower()
    except OSError:
        return False
    return PREFECT_URL.lower().encode() in text or b"[tool.prefect" in text or b"[api]" in text


def _environment() -> dict[str, JsonValue]:
    """Returns the settings of the environment; of secrets, only whether they are set."""
    return {
        name: bool(value) if name.endswith(_SECRET_ENDINGS) else value
        for name, value in os.environ.items()
        if name.startswith((PREFIX, "OPENAI_"))
    }


def _digest_of_code() -> str:
    """Returns the digest of the program's modules and data files."""
    root = Path(__file__).parents[2]
    found = []
    for room in ROOMS:
        for folder, below, names in os.walk(root / room):
            # The default store lies in a checkout's artifacts/data.
            below[:] = sorted(
                {*below} - {"__pycache__"} - ({"data"} if room == "artifacts" else set())
            )
            found += [Path(folder, name) for name in sorted(names)]
    return sha256_of([[path.relative_to(root).as_posix(), sha256_of_file(path)] for path in found])
