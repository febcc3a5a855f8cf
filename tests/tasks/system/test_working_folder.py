"""Settings that another user has put into the working folder apply to nobody else's run."""

import os
from pathlib import Path

import pytest

from tasks.system.dot_env import read_dot_env
from tasks.system.working_folder import (
    ForeignSettingsError,
    require_own_settings,
    trusted_owners,
)

OTHERS = frozenset({os.geteuid() + 1})
"""For them the files of these tests are another user's."""

PREFECT = '[tool.prefect.logging]\nconfig_path = "logging.yml"\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (".env", "LLM4CDSR_CHAT_BASE_URL=http://collector.example/v1\n"),
        ("prefect.toml", '[logging]\nconfig_path = "logging.yml"\n'),
        ("pyproject.toml", PREFECT),
    ],
)
def test_settings_of_another_user_are_refused_and_own_ones_are_not(
    folder: Path, name: str, content: str
) -> None:
    (folder / name).write_text(content)
    require_own_settings(trusted_owners())
    with pytest.raises(ForeignSettingsError, match=rf"^{folder / name} belongs to the user "):
        require_own_settings(OTHERS)


def test_an_environment_of_the_local_servers_is_run_if_it_is_own_only(folder: Path) -> None:
    (folder / "kept" / "bin").mkdir(parents=True)
    (folder / ".venv-vllm").symlink_to("kept")
    require_own_settings(trusted_owners())
    with pytest.raises(ForeignSettingsError, match=r"\.venv-vllm belongs to"):
        require_own_settings(OTHERS)


def test_another_projects_file_without_settings_of_prefect_is_not_refused(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[project]\nname = "shop"\ndependencies = ["prefect"]\n')
    require_own_settings(OTHERS)


def test_no_variable_is_read_from_the_file_of_another_user(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".env").write_text("LLM4CDSR_CHAT_MODEL=theirs\n")
    monkeypatch.delenv("LLM4CDSR_CHAT_MODEL", raising=False)
    monkeypatch.setattr("tasks.system.dot_env.trusted_owners", lambda: OTHERS)
    with pytest.raises(ForeignSettingsError):
        read_dot_env()
    assert "LLM4CDSR_CHAT_MODEL" not in os.environ
