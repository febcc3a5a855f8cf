"""Pages, help texts, docstrings, messages and deployment files use the field's terms."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("artifacts", "flows", "model", "prompts", "tasks")
WRITTEN_BEFORE = {"log.md", "results.md"}
"""Dated records and generated tables."""
FEWEST_WORDS = 4
SHOWN_FILES = (
    *("prefect.yaml", "flows/automations.yaml", "deploy/prefect.yaml", "deploy/compose.yaml"),
    *("deploy/Dockerfile", "deploy/env.example", "Makefile"),
    "tasks/reporting/templates/report.html.j2",
    *(f"tasks/serving/service/templates/{name}" for name in ("browse.html", "browse.js", "api.js")),
)

BANNED = {
    r"anew": "again",
    r"comes? to(?= (?:its|the|an?) (?:end|verdict|bytes|same))": "ends, equals",
    r"takes? after": "inherits from",
    r"is (?:told|said)": "is reported, is logged",
    r"let expect": "predicts",
    r"lend(?:s)? (?:a hand|their hands)": "join",
    r"under somebody's pen": "being written",
    r"holds? against|held against": "compares with, is checked against",
    r"owes? (?:anything )?to": "depends on",
    r"nobody|somebody": "no user, no process, another user",
    r"whoever|whatever": "the subject",
    r"meanwhile": "in the meantime",
    r"made-up": "generated",
    r"what came (?:back|of)": "result",
    r"who (?:asks|answers)": "client, provider",
    r"stand(?:s)? (?:at|beside|behind|in the way)": "is",
    r"beyond chance": "significantly",
    r"let go of|dealt to": "a plain verb",
    r"what was answered": "answers",
    r"(?:go|goes|going) on": "continues, resumes",
    r"(?:asked|asks|answers) no more": "is excluded, no longer responds",
    r"(?:stood|stands?) (?:twice|before|there)": "is a duplicate, precedes",
    r"mend(?:s|ed)?": "fixes, repairs",
    r"is a fault of llm4cdsr": "is a defect of llm4cdsr",
    r"(?:would|do not) meet": "match",
    r"everybody|everyone": "all users",
    r"successions?": "transitions",
}
"""Phrase to what is written in its place."""


def texts_of(path: Path) -> Iterator[str]:
    """Yields the docstrings of a module, also those of fields, and its help texts."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            value = node.value
        elif isinstance(node, ast.keyword):
            value = node.value if node.arg in ("help", "description") else None
        else:
            continue
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.value


def messages_of(path: Path) -> Iterator[str]:
    """Yields the sentences among a module's other strings; values of f-strings become ``X``."""
    tree = ast.parse(path.read_text("utf-8"))
    parts = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(
                str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values
            )
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts
        ):
            text = node.value
        else:
            continue
        if len(text.split()) >= FEWEST_WORDS:
            yield text


def faults_in(text: str) -> list[str]:
    """Returns what a text should say otherwise, as 'phrase -> better'."""
    plain = " ".join(re.sub(r"``[^`]*``|`[^`]*`", "", text).split())
    found = [
        (match.group(), better)
        for phrase, better in BANNED.items()
        for match in re.finditer(rf"\b(?:{phrase})\b", plain, re.IGNORECASE)
    ]
    return [f"{phrase} -> {better}" for phrase, better in found]


def pages() -> list[Path]:
    written = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "AGENTS.md"]
    return sorted(path for path in written if path.name not in WRITTEN_BEFORE)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_a_page_is_written_in_plain_terms(page: Path) -> None:
    code_free = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    assert faults_in(code_free) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_and_help_texts_are_written_in_plain_terms(package: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {fault}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for text in texts_of(path)
        for fault in faults_in(text)
    ]
    assert found == []


@pytest.mark.parametrize("package", PACKAGES)
def test_messages_are_written_in_plain_terms(package: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {fault}"
        for path in sorted((ROOT / package).rglob("*.py"))
        if not path.is_relative_to(ROOT / "tasks" / "demo")
        for text in messages_of(path)
        for fault in faults_in(text)
    ]
    assert found == []


@pytest.mark.parametrize("file", SHOWN_FILES)
def test_deployment_files_and_templates_are_written_in_plain_terms(file: str) -> None:
    assert faults_in((ROOT / file).read_text("utf-8")) == []


def test_the_readme_has_at_most_700_words() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 700


def test_a_phrase_is_found_across_lines_and_not_in_code() -> None:
    assert faults_in("Files are made\n    anew.") == ["anew -> again"]
    assert faults_in("The function ``anew`` and `begin_anew`.") == []
