"""`llm4cdsr doctor` finds what would end a run, says what to do, and shows no key."""

import errno
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from artifacts.files.leftovers import BEFORE_RESTORE
from artifacts.manifest import Kind, identity
from artifacts.store import Store
from flows.cli.command_table import app
from tasks.system.free_port import free_port
from tests.tasks.upkeep.kept_store import release

KEY = "sk-a-key-that-is-never-shown"
DATE = "Sat, 28 Nov 2099 12:00:00 GMT"


class _Models(BaseHTTPRequestHandler):
    """Lists two models to who brings the key; its clock is wrong where the key is."""

    def do_GET(self) -> None:
        allowed = self.headers["Authorization"] == f"Bearer {KEY}"
        body = json.dumps({"data": [{"id": "chatty"}, {"id": "vectors"}]}).encode()
        self.send_response_only(200 if allowed else 401)
        if not allowed:
            self.send_header("Date", DATE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Models) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_settings_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("LLM4CDSR_", "OPENAI_", "PREFECT_API")):
            monkeypatch.delenv(name)


def doctor(store: Store, **environment: str) -> tuple[int, list[dict[str, str]]]:
    """Returns the exit status and the findings but for those that are well."""
    given = {"LLM4CDSR_PROVIDER": "dummy", **environment}
    done = CliRunner().invoke(app, ["doctor", "--json", "--store", store.root], env=given)
    assert KEY not in done.output
    found = json.loads(done.stdout)
    for each in found:
        assert each["severity"] == "ok" or each["remedy"]
    return done.exit_code, [each for each in found if each["severity"] != "ok"]


def served_by(url: str, **more: str) -> dict[str, str]:
    return {
        "LLM4CDSR_PROVIDER": "openai",
        "LLM4CDSR_CHAT_BASE_URL": url,
        "LLM4CDSR_CHAT_MODEL": "chatty",
        "LLM4CDSR_EMBED_BASE_URL": url,
        "LLM4CDSR_EMBED_MODEL": "vectors",
        **more,
    }


def test_a_machine_that_is_well_ends_with_0(store: Store, url: str) -> None:
    release(store, 0)
    assert doctor(store, **served_by(url, LLM4CDSR_API_KEY=KEY)) == (0, [])


def test_a_model_that_the_server_lacks_is_named_with_those_it_has(store: Store, url: str) -> None:
    wrong = served_by(url, LLM4CDSR_API_KEY=KEY, LLM4CDSR_CHAT_MODEL="chtty")
    status, (found,) = doctor(store, **wrong)
    assert status == 1
    assert "does not list chtty; it has chatty, vectors" in found["found"]


def test_a_key_that_is_refused_is_told_and_so_is_a_clock(store: Store, url: str) -> None:
    status, found = doctor(store, **served_by(url, LLM4CDSR_API_KEY=f"{KEY}-old"))
    assert status == 1
    assert {each["check"] for each in found} == {"clock", "chat endpoint", "embedding endpoint"}
    assert any("LLM4CDSR_API_KEY is refused" in each["found"] for each in found)
    status, found = doctor(store, **served_by(url))
    assert any("LLM4CDSR_API_KEY is not set" in each["found"] for each in found)


def test_a_server_that_is_not_there_is_named(store: Store) -> None:
    status, found = doctor(store, **served_by(f"http://127.0.0.1:{free_port()}/v1"))
    assert status == 1
    assert len(found) == 2
    assert all("does not answer (ConnectError)" in each["found"] for each in found)


def test_a_url_with_a_password_is_refused_and_not_shown(store: Store) -> None:
    status, found = doctor(store, **served_by(f"http://me:{KEY}@127.0.0.1:1/v1"))
    assert status == 1
    assert "must not contain a key or password" in found[0]["found"]


def test_a_prefect_server_that_is_gone_is_told(store: Store) -> None:
    status, found = doctor(store, PREFECT_API_URL=f"http://127.0.0.1:{free_port()}/api")
    assert status == 1
    assert "does not answer" in found[-1]["found"]
    assert "unset it" in found[-1]["remedy"]


def test_a_setting_that_cannot_be_read_or_is_misspelt_is_told(store: Store) -> None:
    status, found = doctor(store, LLM4CDSR_PROVIDER="oenai", LLM4CDSR_STOER="x")
    assert status == 1
    assert [each["check"] for each in found] == ["settings", "settings"]
    assert "did you mean LLM4CDSR_STORE" in found[0]["found"]
    assert "LLM4CDSR_PROVIDER" in found[1]["found"]


def test_damaged_decisions_and_lost_artifacts_are_errors(store: Store) -> None:
    released = release(store, 0)
    model = store.manifest(released).parents["model"]
    (store.local / model.kind / model.fingerprint / "data").unlink()
    status, found = doctor(store)
    assert status == 1
    assert any("data is gone" in each["found"] for each in found)
    (store.local / "operation" / "decisions" / "00000001.json").write_text("garbage")
    status, found = doctor(store)
    assert status == 1
    assert any("00000001.json is not a decision" in each["found"] for each in found)


def test_dead_drafts_and_damaged_artifacts_are_warnings(store: Store) -> None:
    release(store, 0)
    (store.local / Kind.MODEL / ".abc.12345678.tmp").mkdir()
    (store.local / Kind.MODEL / ".abc.12345678.tmp.lock").touch()
    for name in ("model-x", f"{BEFORE_RESTORE}x"):
        (store.local / "set-aside" / name).mkdir(parents=True)
    status, found = doctor(store)
    assert status == 0
    told = " ".join(each["found"] for each in found)
    assert "2 draft" in told
    assert "1 damaged artifact(s) were moved to" in told
    assert (store.local / Kind.MODEL / ".abc.12345678.tmp").exists(), "it only looks"


def test_a_file_newer_than_the_clock_is_a_warning_that_names_it(store: Store, url: str) -> None:
    release(store, 0)
    late = time.time() + 3 * 86_400
    decisions = store.local / "operation" / "decisions"
    os.utime(decisions, (late, late))
    status, (found,) = doctor(store, **served_by(url, LLM4CDSR_API_KEY=KEY))
    assert status == 0
    assert (found["check"], found["severity"]) == ("clock", "warning")
    assert f"{decisions} is of" in found["found"]
    assert f"touch {decisions}" in found["remedy"]


def test_an_interrupted_removal_is_the_cause_of_a_damaged_release(store: Store, url: str) -> None:
    released = release(store, 0)
    model = store.manifest(released).parents["model"]
    (store.local / model.kind / model.fingerprint / "data").unlink()
    (store.local / "operation" / "forgotten").mkdir()
    (store.local / "operation" / "forgotten" / "pending").touch()
    status, (found,) = doctor(store, **served_by(url, LLM4CDSR_API_KEY=KEY))
    assert status == 1
    assert f"forget --store {store.root}" in found["found"]
    assert "rollback" not in json.dumps(found)
    told = CliRunner().invoke(app, ["status", "--store", store.root])
    assert told.exit_code == 1
    assert "a removal of users" in told.stdout
    assert "rollback" not in told.stdout


def test_a_store_without_the_answers_it_was_made_of_is_a_warning(store: Store, url: str) -> None:
    for kind, count in ((Kind.USER_PROFILES, "with_profile"), (Kind.ITEM_EMBEDDINGS, "items")):
        with store.create(identity(kind, {}, {})) as draft:
            (draft.path / "data").touch()
            draft.counts[count] = 99
    status, found = doctor(store, **served_by(url, LLM4CDSR_API_KEY=KEY))
    assert status == 0
    assert [each["check"] for each in found] == ["ledger", "ledger"]
    assert "99 user_profiles made of them" in found[0]["found"]
    assert "99 item_embeddings made of them" in found[1]["found"]
    for role in ("chat", "embedding"):
        (store.local / "ledger" / role).mkdir(parents=True)
        (store.local / "ledger" / role / "part-1.parquet").touch()
    assert doctor(store, **served_by(url, LLM4CDSR_API_KEY=KEY)) == (0, [])


def test_a_store_that_cannot_be_written_is_an_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**named: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    status, found = doctor(store)
    assert status == 1
    assert "cannot be written (Read-only file system)" in found[0]["found"]


def test_a_file_that_cannot_be_read_is_a_finding_and_the_other_checks_run(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(store: Store) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "decisions")

    monkeypatch.setattr("flows.cli.diagnosis.store_checks.serving_release", unreadable)
    status, found = doctor(store)
    assert status == 1
    served = next(each for each in found if each["check"] == "served")
    assert "Permission denied" in served["found"]
    assert "owner and mode" in served["remedy"]
    assert "chat endpoint" in [each["check"] for each in found]
