"""Exit statuses that scripts rely on."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prefect import flow
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import ValidationError
from pydantic_settings import SettingsError

from artifacts.ledger.export import UnknownFormError
from artifacts.user_error import MissingPackageError
from flows.cli.errors.endings import BAD_INPUT, FAILED, ending_of, status_of
from flows.refresh import refresh
from flows.settings import Settings, default_llm
from model.config import TrainConfig
from model.training.trainer import NothingToLearnError
from tasks.dump.events import event_reader as dump_events
from tasks.embed import NothingEmbeddedError
from tasks.llm.settings.batch_config import BatchConfig
from tasks.llm.settings.budget import Budget, UnusableBudgetError
from tasks.llm.settings.llm_config import LlmConfig
from tasks.promoting.promotion import NoSuchReleaseError
from tasks.serving import catalogue
from tasks.serving.embed_new_items import OtherEmbedderError
from tasks.serving.export.export_model import ParityError
from tasks.serving.export.export_recs import NotAnExportError
from tasks.serving.served_release import NothingServedError


@pytest.mark.parametrize(
    "kind",
    [
        UnusableBudgetError,
        UnknownFormError,
        NoSuchReleaseError,
        MissingPackageError,
        NothingEmbeddedError,
        NothingToLearnError,
        NothingServedError,
        NotAnExportError,
        OtherEmbedderError,
        catalogue.InvalidItemsError,
        catalogue.UnknownDomainError,
        dump_events.UndeclaredDomainError,
    ],
)
def test_what_trying_again_does_not_help_is_bad_input(kind: type[Exception]) -> None:
    assert status_of(kind("why")) == BAD_INPUT


def test_a_fault_of_our_own_is_a_failure() -> None:
    assert status_of(ParityError("why")) == FAILED


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("LLM4CDSR_PRICES", "{m: 3}", "LLM4CDSR_PRICES is not JSON"),
        ("LLM4CDSR_CHAT_CONCURRENCY", "many", "LLM4CDSR_CHAT_CONCURRENCY: Input should be"),
        ("LLM4CDSR_CHAT_CONCURRENCY", "0", "LLM4CDSR_CHAT_CONCURRENCY: Input should be"),
        ("LLM4CDSR_EMBED_BASE_URL", "nowhere", "LLM4CDSR_EMBED_BASE_URL: write http://"),
        ("LLM4CDSR_OUTAGE_MINUTES", "-1", "LLM4CDSR_OUTAGE_MINUTES: Input should be"),
    ],
)
def test_a_wrong_setting_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises((ValidationError, SettingsError)) as raised:
        default_llm(Settings())
    ending = ending_of(raised.value)
    assert ending is not None
    assert ending.status == BAD_INPUT
    assert ending.text.startswith(said)


def test_a_fault_of_several_fields_has_no_empty_name() -> None:
    with pytest.raises(ValidationError) as raised:
        TrainConfig.model_validate({"r_drop_weight": 2.0})
    ending = ending_of(raised.value)
    assert ending is not None
    assert ending.text.startswith("r_drop_weight compares")


IN_A_CALL = """
import ctypes
from flows.cli.errors import exits
exits.GRACE_SECONDS = 0.2
library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
with exits.interruptible("What was answered is kept."):
    library.pthread_mutex_lock(mutex)
    print("up", flush=True)
    library.pthread_mutex_lock(mutex)
"""
"""Locks a mutex twice: the call never returns, and Python handles no signal during it."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_a_call_that_does_not_return_ends_the_run(number: signal.Signals) -> None:
    command = [sys.executable, "-c", IN_A_CALL]
    folder = Path(__file__).parents[4]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        try:
            assert run.stdout.readline() == "up\n"
            run.send_signal(number)
            _, said = run.communicate(timeout=60)
        finally:
            run.kill()
    assert (run.returncode, said) == (130, "Interrupted. What was answered is kept.\n")


IN_A_LIBRARY = """
import os, signal
from pydantic import BaseModel, field_serializer
from flows.cli.errors.exits import interruptible, one_message

class Interrupted(BaseModel):
    at: int = 0

    @field_serializer("at")
    def interrupt(self, at: int) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        return at

with {block}:
    Interrupted().model_dump()
"""


@pytest.mark.parametrize(
    ("block", "status", "said"),
    [
        ("interruptible('All is kept.')", 130, "Interrupted. All is kept."),
        ("one_message()", -signal.SIGINT, "KeyboardInterrupt"),
    ],
)
def test_an_interrupt_that_a_library_wraps_is_one(block: str, status: int, said: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", IN_A_LIBRARY.replace("{block}", block)],
        cwd=Path(__file__).parents[4],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr.splitlines()[-1]) == (status, said)


def test_a_run_that_ignores_the_end_of_its_terminal_goes_on() -> None:
    program = (
        "import os, signal\n"
        "from flows.cli.errors.exits import interruptible\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with interruptible('kept'):\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
    )
    folder = Path(__file__).parents[4]
    assert subprocess.run([sys.executable, "-c", program], cwd=folder, check=False).returncode == 0


@flow(name="endless", timeout_seconds=0.1)
def endless() -> None:
    """A flow that takes too long; it can be ended between two steps."""
    for _ in range(600):
        time.sleep(0.1)


def test_an_api_that_nobody_answers_for_is_one_line_that_names_its_variable() -> None:
    dead = "http://127.0.0.1:9/api"
    with temporary_settings({PREFECT_API_URL: dead}), pytest.raises(RuntimeError) as raised:
        endless()
    ending = ending_of(raised.value)
    assert ending is not None
    assert (ending.status, "PREFECT_API_URL" in ending.text) == (FAILED, True)
    assert dead in ending.text


@pytest.mark.usefixtures("prefect_server")
def test_a_run_that_takes_too_long_is_no_fault_of_a_disk() -> None:
    with pytest.raises(TimeoutError) as raised:
        endless()
    ending = ending_of(raised.value)
    assert ending is not None
    assert "LLM4CDSR_FLOW_TIMEOUT_HOURS" in ending.text
    assert "disk" not in ending.text


def test_a_budget_in_batches_is_refused_before_the_dump_is_read(tmp_path: Path) -> None:
    llm = LlmConfig(batch=BatchConfig(), budget=Budget(max_usd=5))
    with pytest.raises(UnusableBudgetError, match="stop a submitted batch"):
        refresh.fn(llm=llm, store=str(tmp_path / "store"), folder=str(tmp_path / "nowhere"))


def test_an_error_of_s3_is_one_line_with_what_to_check() -> None:
    errors = pytest.importorskip("botocore.exceptions")
    ending = ending_of(errors.ParamValidationError(report="Invalid bucket name: " + "x" * 500))
    assert ending is not None
    assert ending.text.startswith("S3 cannot be used (Parameter validation failed: Invalid bucket")
    assert "check the URL, AWS_ENDPOINT_URL" in ending.text
    assert len(ending.text) < 400
