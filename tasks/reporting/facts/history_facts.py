"""Facts beyond one model: earlier releases, answers by day, transitions of events."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl

from artifacts.bundles import parts_of
from artifacts.integrity import ArtifactError
from artifacts.kinds.dataset import Dataset, Split
from artifacts.kinds.results import overall_ndcg
from artifacts.ledger.answers import ANSWERED_AT, Role
from artifacts.ledger.ledger import Ledger
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from tasks.promoting.release_history import history
from tasks.reporting.facts.content import (
    Concentration,
    DayOfAnswers,
    ReleaseFigure,
    Transitions,
)

MOST_RELEASES = 30
MOST_DAYS = 31
POINTS = 20


def releases_until(store: Store, metrics: ArtifactRef) -> tuple[ReleaseFigure, ...]:
    """Returns the latest decided releases and the one of these metrics, by creation time, without
    releases with missing artifacts."""
    found = []
    for entry in {entry.release: entry for entry in history(store)}.values():
        try:
            own = parts_of(store, entry.release)["metrics"]
            ndcg = overall_ndcg(store, own)
            made = store.manifest(entry.release).created
        except (ArtifactError, KeyError, FileNotFoundError):
            continue
        if ndcg is not None and own != metrics:
            name = f"release {entry.release.fingerprint}"
            found.append(ReleaseFigure(name, made, entry.decision, ndcg))
    ndcg = overall_ndcg(store, metrics)
    if ndcg is not None:
        made = store.manifest(metrics).created
        found.append(ReleaseFigure("this report's model", made, "made", ndcg))
    return tuple(sorted(found, key=lambda figure: figure.made)[-MOST_RELEASES:])


def transitions_of(data: Dataset) -> Transitions | None:
    """Returns the transitions between domains of consecutive training events; None for fewer than
    two domains."""
    count = len(data.domains)
    if count < 2:
        return None
    trained = data.splits == Split.TRAIN
    users, domains = data.user_of_event[trained], data.domain_of_event[trained]
    same = users[1:] == users[:-1]
    pairs = domains[:-1][same] * count + domains[1:][same]
    table = np.bincount(pairs, minlength=count * count).reshape(count, count)
    return Transitions(data.domains, tuple(tuple(row) for row in table.tolist()))


def concentration_of(data: Dataset) -> tuple[Concentration, ...]:
    """Returns the concentration of training events over items, by domain."""
    bought = data.times_bought()[1:]
    found = []
    for number, name in enumerate(data.domains):
        low, high = data.domain_starts[number], data.domain_starts[number + 1]
        sums = np.concatenate([[0], np.cumsum(np.sort(bought[low:high])[::-1])])
        if sums[-1]:
            shares = np.linspace(0, 1, POINTS + 1)
            places = np.round(shares * (len(sums) - 1)).astype(int)
            points = zip(shares.tolist(), (sums[places] / sums[-1]).tolist(), strict=True)
            found.append(Concentration(name, tuple(points)))
    return tuple(found)


def answers_by_day(store: Store) -> tuple[DayOfAnswers, ...]:
    """Returns the ledger's answers by day and role, in chronological order."""
    found = []
    for role in Role:
        with Ledger(store.local, role).reading() as parts:
            days = (
                parts.group_by(pl.col(ANSWERED_AT).dt.date().alias("day"))
                .agg(
                    pl.len().alias("answers"),
                    pl.sum_horizontal("prompt_tokens", "completion_tokens").sum().alias("tokens"),
                )
                .sort("day")
                .collect(engine="streaming")
            )
        known = days.drop_nulls("day").iter_rows()
        found += [DayOfAnswers(day, role.value, count, tokens) for day, count, tokens in known]
    return tuple(sorted(found, key=lambda row: (row.day, row.role))[-2 * MOST_DAYS :])


def origin_of(report: str, parts: dict[str, ArtifactRef]) -> tuple[tuple[str, str], ...]:
    """Returns the origin of a report (artifacts, version, machine), as names and texts."""
    listed = ", ".join(f"{role} {ref.fingerprint}" for role, ref in sorted(parts.items()))
    commit = _commit()
    return (
        ("report", report),
        ("artifacts", listed),
        ("version", f"llm4cdsr {version('llm4cdsr')}" + (f", commit {commit}" if commit else "")),
        ("machine", f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"),
        ("Python", platform.python_version()),
    )


def _commit() -> str | None:
    """Returns the commit of the checkout; None for an installed package or without git."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None
    asked = ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
