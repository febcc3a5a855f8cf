"""Who may import whom (`[tool.importlinter]` in pyproject.toml), and one name for one thing."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("flows", "tasks", "model", "prompts", "artifacts")


def modules_of(*folders: str) -> list[Path]:
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(path for path in found if path.name not in {"__init__.py", "conftest.py"})


def test_no_room_imports_what_it_must_not_know() -> None:
    # In a process of its own: the program configures logging.
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("folders", [(*ROOMS, "benchmarks"), ("tests",)], ids=["product", "tests"])
def test_no_file_name_occurs_twice(folders: tuple[str, ...]) -> None:
    assert _twice(path.name for path in modules_of(*folders)) == {}


def _twice(names) -> dict[str, int]:  # noqa: ANN001
    return {name: count for name, count in Counter(names).items() if count > 1}
