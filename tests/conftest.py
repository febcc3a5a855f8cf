"""What every test leaves behind as it found it."""

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifacts.store import Store
from model.scoring.measurable import LEAST_CANDIDATES as USUAL_CANDIDATES

_home = tempfile.TemporaryDirectory(prefix="prefect-home-")
os.environ["PREFECT_HOME"] = _home.name
"""Set before Prefect is loaded: two test runs at once share no database, and neither has yours."""


@pytest.fixture(autouse=True)
def our_logger_stays_as_it_was() -> Iterator[None]:
    """A command that runs in the test's process sends our log lines to its terminal alone."""
    logger = logging.getLogger("llm4cdsr")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logger.propagate = propagate


@pytest.fixture(scope="session", autouse=True)
def small_shops_are_measured() -> Iterator[None]:
    """One candidate is enough for a figure: shops that a test can be worked out in are tiny."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("model.scoring.measurable.LEAST_CANDIDATES", 1)
        yield


@pytest.fixture
def usual_candidates(monkeypatch: pytest.MonkeyPatch) -> int:
    """Figures need as many candidates as they do for a user."""
    monkeypatch.setattr("model.scoring.measurable.LEAST_CANDIDATES", USUAL_CANDIDATES)
    return USUAL_CANDIDATES


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")
