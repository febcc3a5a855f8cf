"""Who may import whom (`[tool.importlinter]` in pyproject.toml), and one name for one thing."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_MODULES = 14
MOST_LINES = 400
ROOMS = ("flows", "tasks", "model", "prompts", "artifacts")


def modules_of(*folders: str) -> list[Path]:
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(path for path in found if path.name not in {"__init__.py", "conftest.py"})


def test_no_room_imports_what_it_must_not_know() -> None:
    # In a process of its own: the program configures logging.
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_no_modules_import_each_other() -> None:
    """Also imports in functions and for type checkers, which the import rules leave out."""
    paths = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in modules_of(*ROOMS)
    }
    imports = {name: set(_imports_of(path)) & paths.keys() for name, path in paths.items()}
    order = list(TopologicalSorter(imports).static_order())  # raises CycleError, which names them
    assert set(order) == paths.keys()


@pytest.mark.parametrize("folders", [(*ROOMS, "benchmarks"), ("tests",)], ids=["product", "tests"])
def test_no_file_name_occurs_twice(folders: tuple[str, ...]) -> None:
    assert _twice(path.name for path in modules_of(*folders)) == {}


def test_no_class_name_occurs_twice() -> None:
    trees = [ast.parse(path.read_bytes()) for path in modules_of(*ROOMS, "benchmarks")]
    nodes = (node for tree in trees for node in ast.walk(tree))
    assert _twice(node.name for node in nodes if isinstance(node, ast.ClassDef)) == {}


def test_no_room_holds_more_modules_than_one_takes_in_at_a_glance() -> None:
    rooms = Counter(path.parent for path in modules_of(*ROOMS, "tests"))
    assert {str(room): count for room, count in rooms.items() if count > MOST_MODULES} == {}


def test_no_module_is_longer_than_one_idea_needs() -> None:
    paths = modules_of(*ROOMS, "benchmarks", "tests")
    lines = {path: len(path.read_bytes().splitlines()) for path in paths}
    assert {str(path): count for path, count in lines.items() if count > MOST_LINES} == {}


def test_no_test_module_is_imported_by_another() -> None:
    imported = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in modules_of("tests")
        for name in _imports_of(path)
        if name.startswith("tests.") and name.split(".")[-1].startswith("test_")
    ]
    assert imported == []


def test_every_slow_test_that_is_listed_exists() -> None:
    listed = (ROOT / "tests/slow_tests.txt").read_text("utf-8").split()
    assert listed == sorted(set(listed))
    for name in listed:
        file, _, function = name.partition("::")
        content = (ROOT / file).read_text("utf-8")
        assert not function or f"def {function.rpartition('::')[2]}(" in content, name


def _imports_of(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return names


def _twice(names: Iterable[str]) -> dict[str, int]:
    return {name: count for name, count in Counter(names).items() if count > 1}
