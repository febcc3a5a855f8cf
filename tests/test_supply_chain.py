"""What is installed is pinned, held against its digest, and under a licence."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def pins_in(name: str) -> set[str]:
    lines = (ROOT / name).read_text("utf-8").splitlines()
    pins = [line.split()[0] for line in lines if re.match(r"[A-Za-z0-9]", line)]
    assert all("==" in pin for pin in pins)
    return {
        re.sub(r"[-_.]+", "-", pin.partition("==")[0]).lower() + pin[pin.index("==") :]
        for pin in pins
    }


def test_every_pin_has_digests_and_the_same_version() -> None:
    assert pins_in("requirements-hashed.txt") == pins_in("constraints.txt")
    text = (ROOT / "requirements-hashed.txt").read_text("utf-8")
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    for entry in entries:
        assert re.search(r" \\\n    --hash=sha256:[0-9a-f]{64}", entry), entry


def test_no_file_of_pins_names_a_registry() -> None:
    names = ("constraints.txt", "constraints-tools.txt", "requirements-hashed.txt")
    local = [*(ROOT / "tasks/llm/providers").glob("*.txt")]
    assert len(local) == 2
    for path in (*(ROOT / name for name in names), *local):
        text = path.read_text("utf-8")
        assert "://" not in text
        assert not re.search(r"^\s*(-i|--index-url|--extra-index-url|-f|--find-links)", text, re.M)


def test_every_requirement_of_the_project_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", one)[0]).lower() for one in wanted}
    pinned = {pin.partition("==")[0] for pin in pins_in("constraints.txt")}
    assert names - pinned == set()


def test_the_licence_is_in_the_repository_and_the_metadata() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
