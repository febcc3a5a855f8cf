"""A run tells to which servers text and key go, and who named them, before it sends anything."""

import logging
import os
from pathlib import Path

import pytest

from artifacts.ledger.answers import Role
from flows.settings import Settings, default_llm
from tasks.llm.providers.destinations import Destination, destination
from tasks.llm.providers.endpoints import open_endpoints, resolve_provider
from tasks.llm.settings.llm_config import LlmConfig, Provider
from tasks.system.dot_env import read_dot_env

FOREIGN = "http://collector.example/v1"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, and an environment without a setting of ours."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith(("LLM4CDSR_", "OPENAI_")):
            monkeypatch.delenv(name)
    for name in ("CHAT_BASE_URL", "CHAT_MODEL", "EMBED_BASE_URL", "EMBED_MODEL", "API_KEY"):
        # What a file sets is taken back after the test.
        monkeypatch.setenv(f"LLM4CDSR_{name}", "")
        monkeypatch.delenv(f"LLM4CDSR_{name}")
    return tmp_path


def told(role: Role = Role.CHAT) -> Destination:
    config = default_llm(Settings())
    own = config.chat.base_url if role is Role.CHAT else config.embedding.base_url
    return destination(role, config, resolve_provider(config, own))


def test_a_file_that_names_a_server_for_the_environments_key_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM4CDSR_API_KEY", "secret-key")
    (folder / ".env").write_text(f"LLM4CDSR_CHAT_BASE_URL={FOREIGN}\nLLM4CDSR_CHAT_MODEL=m\n")
    read_dot_env()
    found = told()
    assert found.is_mixed
    assert found.text == (
        f"Chat prompts go to {FOREIGN} (LLM4CDSR_CHAT_BASE_URL of {folder / '.env'}); "
        "key: LLM4CDSR_API_KEY of the environment."
    )


def test_a_file_that_brings_its_own_key_is_no_mixture(folder: Path) -> None:
    (folder / ".env").write_text(
        f"LLM4CDSR_CHAT_BASE_URL={FOREIGN}\nLLM4CDSR_CHAT_MODEL=m\nLLM4CDSR_API_KEY=own\n"
    )
    read_dot_env()
    assert told() == Destination(
        f"Chat prompts go to {FOREIGN} (LLM4CDSR_CHAT_BASE_URL of {folder / '.env'}); "
        f"key: LLM4CDSR_API_KEY of {folder / '.env'}."
    )


def test_what_the_environment_names_itself_is_told_as_its(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".env").write_text("LLM4CDSR_EMBED_BASE_URL=http://other.example/v1\n")
    monkeypatch.setenv("LLM4CDSR_EMBED_BASE_URL", "http://a:1/v1,http://b:1/v1")
    monkeypatch.setenv("LLM4CDSR_EMBED_MODEL", "m")
    read_dot_env()
    assert told(Role.EMBEDDING) == Destination(
        "Texts to embed go to http://a:1/v1, http://b:1/v1 "
        "(LLM4CDSR_EMBED_BASE_URL of the environment); no key."
    )


def test_openai_is_told_and_where_its_variable_points(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-word")
    assert told().text == (
        "Chat prompts go to OpenAI (https://api.openai.com/v1); "
        "key: OPENAI_API_KEY of the environment."
    )
    monkeypatch.setenv("OPENAI_BASE_URL", "https://user:word@gateway.example/v1?key=word")
    assert told().text == (
        "Chat prompts go to https://gateway.example/v1 (OPENAI_BASE_URL of the environment); "
        "key: OPENAI_API_KEY of the environment."
    )


def test_servers_of_this_machine_get_no_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM4CDSR_API_KEY", "secret-key")
    assert told().text == "Chat prompts go to the local vLLM pair of this machine."
    dummy = LlmConfig(provider=Provider.DUMMY)
    assert "the dummy" in destination(Role.CHAT, dummy, Provider.DUMMY).text


def test_both_lines_come_before_anything_is_asked(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(logging.getLogger("llm4cdsr"), "propagate", True)
    with open_endpoints(LlmConfig(provider=Provider.DUMMY), folder, folder):
        lines = [record.getMessage() for record in caplog.records if record.name == "llm4cdsr"]
    assert lines[:2] == [
        "Chat prompts go to the dummy in this process: no model, no network.",
        "Texts to embed go to the dummy in this process: no model, no network.",
    ]
