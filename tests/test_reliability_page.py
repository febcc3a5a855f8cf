"""The page of promises names tests and programs that exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text("utf-8")


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 30
    defined = {path: _functions(ROOT / path) for path in {path for path, _ in named}}
    assert [f"{path}::{name}" for path, name in named if name not in defined[path]] == []


def test_every_program_that_the_page_names_exists() -> None:
    programs = set(re.findall(r"benchmarks/\w+\.py", PAGE))
    assert len(programs) >= 3
    assert [path for path in sorted(programs) if not (ROOT / path).is_file()] == []


def _functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
