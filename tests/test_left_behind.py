"""What tests leave behind: bytecode in pytest's folder; with anything else a test fails.

Tried on tests in a run of their own.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FAULTS = {
    "a thread": ("threading.Thread(target=time.sleep, args=(20,), daemon=True).start()", "threads"),
    "a variable": ('os.environ["LEFT_BEHIND"] = "1"', "LEFT_BEHIND"),
    "a loop": ("asyncio.events._set_running_loop(asyncio.new_event_loop())", "event loop running"),
    "nothing": ("monkeypatch.setenv('LEFT_BEHIND', '1')", ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_test_leaves_behind_fails_it(fault: str, tmp_path: Path) -> None:
    statement, told = FAULTS[fault]
    ran = _tested(statement, tmp_path)
    assert (ran.returncode != 0) is bool(told), ran.stdout
    assert told in ran.stdout


def test_where_python_is_to_write_no_bytecode_modules_are_still_compiled_once(
    tmp_path: Path,
) -> None:
    ran = _tested("assert threading", tmp_path, PYTHONDONTWRITEBYTECODE="1")
    assert ran.returncode == 0, ran.stdout
    kept = tmp_path / ".pytest_cache" / "bytecode"
    assert any(path.name.startswith("test_one.") for path in kept.rglob("*.pyc"))
    assert not [*(tmp_path / "tests").rglob("*.pyc")]


def _tested(statement: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a test of one statement below our `conftest.py`."""
    tests = folder / "tests"
    tests.mkdir()
    for name in ("conftest.py", "slow_tests.txt"):
        shutil.copy(ROOT / "tests" / name, tests)
    (tests / "test_one.py").write_text(
        f"import asyncio, os, threading, time\n\n\ndef test_it(monkeypatch):\n    {statement}\n",
        "utf-8",
    )
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
