"""A test that leaves something behind fails: tried on tests in a run of their own."""

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
    for name in ("conftest.py", "slow_tests.txt"):
        shutil.copy(ROOT / "tests" / name, tmp_path)
    (tmp_path / "test_one.py").write_text(
        f"import asyncio, os, threading, time\n\n\ndef test_it(monkeypatch):\n    {statement}\n",
        "utf-8",
    )
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.returncode != 0) is bool(told), ran.stdout
    assert told in ran.stdout
