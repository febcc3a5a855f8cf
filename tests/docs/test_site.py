"""The documentation site."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from flows.refresh import RefreshConfig
from flows.retrain import RetrainConfig

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    program = Path(sys.executable).with_name("mkdocs")
    done = subprocess.run(
        [program, "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_in_the_navigation(site: Path) -> None:
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert {page for page in pages if page not in navigation} == set()


def test_the_site_loads_nothing_from_a_network(site: Path) -> None:
    sources = re.compile(r'<(?:script|img|iframe)[^>]*\ssrc="(https?:[^"]+)"')
    sheets = re.compile(r'<link[^>]*rel="(?:stylesheet|preconnect)"[^>]*href="(https?:[^"]+)"')
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        assert sources.findall(text) + sheets.findall(text) == [], page.name


def test_the_reference_has_every_command_and_every_field(site: Path) -> None:
    from flows.cli.command_table import COMMANDS
    from model.config import ModelConfig, TrainConfig

    commands = (site / "reference" / "commands.html").read_text("utf-8")
    fields = (site / "reference" / "model.html").read_text("utf-8")
    assert [name for name in COMMANDS if f"llm4cdsr {name}" not in commands] == []
    names = [f"model.{name}" for name in ModelConfig.model_fields]
    names += [f"train.{name}" for name in TrainConfig.model_fields]
    assert [name for name in names if name not in fields] == []
    assert "PydanticUndefined" not in fields


@pytest.mark.parametrize("config", [RefreshConfig, RetrainConfig])
def test_a_field_has_one_default(config: type[BaseModel]) -> None:
    """Else a run that sets another field of the same object would change it unnoticed."""
    assert _other_defaults(config()) == []


def _other_defaults(made: BaseModel) -> list[str]:
    found = []
    for name, info in type(made).model_fields.items():
        value = getattr(made, name)
        if isinstance(value, BaseModel):
            found += _other_defaults(value)
        elif value != info.get_default(call_default_factory=True, validated_data={}):
            found.append(f"{type(made).__name__}.{name}")
    return found
