"""A run that somebody ordered through the Prefect API uses the machine's servers, keys, commands
and folders; one that a person started on the command line does what that person says."""

from pathlib import Path

import pytest

from flows.server.run_parameters import (
    FLOW_RUN_VARIABLE,
    FREE_FIELDS,
    MachineSettingError,
    files_of,
    is_within,
    llm_of_run,
    refuse_other_places,
)
from flows.settings import Settings
from tasks.dump.dump_config import DumpConfig
from tasks.llm.settings.batch_config import BatchConfig, BatchKind
from tasks.llm.settings.budget import Budget
from tasks.llm.settings.llm_config import ChatConfig, EmbeddingConfig, LlmConfig, Provider

ELSEWHERE = "http://shop.example/v1"
FOREIGN = {
    "provider": LlmConfig(provider=Provider.OPENAI),
    "chat.base_url": LlmConfig(chat=ChatConfig(base_url=ELSEWHERE)),
    "chat.model": LlmConfig(chat=ChatConfig(model="dear")),
    "chat.parameters": LlmConfig(chat=ChatConfig(parameters={"api_base": ELSEWHERE})),
    "embedding.base_url": LlmConfig(embedding=EmbeddingConfig(base_url=ELSEWHERE)),
    "embedding.model": LlmConfig(embedding=EmbeddingConfig(model="dear")),
    "embedding.parameters": LlmConfig(embedding=EmbeddingConfig(parameters={"user": "us"})),
    "api_key_secret": LlmConfig(api_key_secret="another"),
    "local_gpu_python": LlmConfig(local_gpu_python=Path("/tmp/python")),
    "batch.kind": LlmConfig(batch=BatchConfig(kind=BatchKind.VLLM)),
    "batch.vllm_command": LlmConfig(batch=BatchConfig(vllm_command=("sh", "-c", "id"))),
    "batch.vllm_chat_arguments": LlmConfig(batch=BatchConfig(vllm_chat_arguments=("--trust",))),
    "batch.vllm_embedding_arguments": LlmConfig(batch=BatchConfig(vllm_embedding_arguments=())),
    "batch.vllm_chat_weights": LlmConfig(batch=BatchConfig(vllm_chat_weights="/tmp/weights")),
    "batch.vllm_embedding_weights": LlmConfig(batch=BatchConfig(vllm_embedding_weights="/tmp")),
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        store=str(tmp_path / "store"),
        provider=Provider.AUTO,
        chat_base_url="http://127.0.0.1:9/v1",
        chat_model="ours",
        chat_concurrency=3,
        api_key_secret="ours",
    )


@pytest.fixture
def ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FLOW_RUN_VARIABLE, "a-run")


@pytest.mark.usefixtures("ordered")
@pytest.mark.parametrize(("field", "given"), FOREIGN.items())
def test_an_ordered_run_decides_neither_servers_nor_keys_nor_commands(
    settings: Settings, field: str, given: LlmConfig
) -> None:
    with pytest.raises(MachineSettingError, match=rf"llm\.{field}: a setting of the machine"):
        llm_of_run(given, settings)


def test_every_field_is_either_free_or_tried_here() -> None:
    nested = {"chat": ChatConfig, "embedding": EmbeddingConfig, "batch": BatchConfig}
    named: set[str] = set()
    for prefix, kind in {"": LlmConfig, **nested}.items():
        fields = set(kind.model_fields) - FREE_FIELDS[kind]
        named |= {f"{prefix}.{field}" if prefix else field for field in fields}
    assert named == set(FOREIGN)


def test_no_free_field_is_a_path_or_a_text() -> None:
    """So that a field that is added to chat or embedding, all of whose others are free, is seen."""
    for kind, free in FREE_FIELDS.items():
        for name in free:
            annotation = kind.model_fields[name].annotation
            assert annotation not in (str, Path, str | None, Path | None), (kind, name)


@pytest.mark.usefixtures("ordered")
def test_an_ordered_run_decides_how_it_asks_and_is_answered_by_the_machines_servers(
    settings: Settings,
) -> None:
    given = LlmConfig(
        chat=ChatConfig(temperature=0.5, concurrency=9),
        budget=Budget(max_requests=7),
        batch=BatchConfig(in_flight=2),
    )
    made = llm_of_run(given, settings)
    assert made.chat.base_url == "http://127.0.0.1:9/v1"
    assert (made.chat.model, made.api_key_secret) == ("ours", "ours")
    assert (made.chat.temperature, made.chat.concurrency) == (0.5, 9)
    assert made.budget == Budget(max_requests=7)
    assert made.batch == BatchConfig(in_flight=2)
    assert llm_of_run(None, settings).chat.concurrency == 3
    # What the machine says may be repeated.
    assert llm_of_run(LlmConfig(chat=ChatConfig(model="ours")), settings).chat.model == "ours"


@pytest.mark.parametrize("given", FOREIGN.values())
def test_a_run_of_the_command_line_decides_everything(settings: Settings, given: LlmConfig) -> None:
    assert llm_of_run(given, settings) is given
    refuse_other_places(settings, "dumps", "/elsewhere", ["/etc/passwd"])


@pytest.mark.usefixtures("ordered")
@pytest.mark.parametrize(
    "place",
    [
        "/etc/passwd",
        "~/.ssh/id",
        "../up",
        "link/file",
        "sub/../../x",
        "http://shop.example/x",
        "file:///etc/passwd",
        "simplecache::s3://bucket/x",
        "s3://bucket/dumps/x",
    ],
)
def test_an_ordered_run_reads_nothing_outside_the_dumps_folder(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    dumps = tmp_path / "dumps"
    (dumps / "sub").mkdir(parents=True)
    (dumps / "link").symlink_to("/etc")
    monkeypatch.chdir(dumps)
    with pytest.raises(MachineSettingError, match="not in the dumps folder"):
        refuse_other_places(settings, str(dumps), None, [place])
    files = files_of(DumpConfig(interactions="sub/interactions.csv", items=place))
    with pytest.raises(MachineSettingError, match="not in the dumps folder"):
        refuse_other_places(settings, str(dumps), None, files)
    refuse_other_places(settings, str(dumps), None, [str(dumps), f"{dumps}/sub", "sub/x", None])


@pytest.mark.parametrize(
    ("place", "inside"),
    [
        ("s3://bucket/dumps", True),
        ("s3://bucket/dumps/monday", True),
        ("s3://bucket/dumps-of-others", False),
        ("s3://bucket/dumps/../private", False),
        ("s3://bucket/dumps/%2e%2e/private", False),
        ("s3://bucket/dumps/x::file:///etc/passwd", False),
        ("s3://other/dumps", False),
        ("/etc/passwd", False),
    ],
)
def test_a_url_of_dumps_holds_what_lies_below_it(place: str, inside: bool) -> None:
    assert is_within(place, "s3://bucket/dumps/") is inside


@pytest.mark.usefixtures("ordered")
def test_an_ordered_run_works_on_the_machines_store(settings: Settings) -> None:
    refuse_other_places(settings, "dumps", settings.store, [])
    with pytest.raises(MachineSettingError, match="this machine works on"):
        refuse_other_places(settings, "dumps", "/tmp/another", [])
