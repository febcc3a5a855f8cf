"""What a vLLM server says of its load, in a few words behind the bar."""

import threading
from contextvars import ContextVar
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tasks.frame.progress import Progress
from tasks.llm.settings.llm_config import EndpointSpec
from tasks.llm.shards import server_load
from tasks.llm.shards.server_load import ServerLoad, load_shown, note_of, parse_load

PAGE = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 12.0
vllm:num_requests_running{engine="1",model_name="m"} 3.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 40.0
# TYPE vllm:prompt_tokens counter
vllm:prompt_tokens_total{engine="0",model_name="m"} 1000.0
# TYPE vllm:generation_tokens counter
vllm:generation_tokens_total{engine="0",model_name="m"} 250.0
"""


def test_the_engines_of_a_server_are_summed() -> None:
    assert parse_load(PAGE) == ServerLoad(running=15, waiting=40, tokens=1250)


def test_a_page_of_another_server_tells_nothing() -> None:
    page = "# TYPE process_cpu_seconds counter\nprocess_cpu_seconds_total 12.5\n"
    assert parse_load(page) is None
    assert parse_load("") is None


def test_the_rate_is_of_the_time_between_and_never_negative() -> None:
    earlier = ServerLoad(0, 0, 1000)
    assert note_of(ServerLoad(2, 5, 5000), earlier, 2.0) == "2 running, 5 waiting, 2,000 tokens/s"
    assert note_of(ServerLoad(1, 0, 10), earlier, 2.0) == "1 running, 0 waiting, 0 tokens/s"


API: ContextVar[str] = ContextVar("api", default="another API")


@dataclass
class Told(Progress):
    """A bar that remembers in whose context it was told something."""

    contexts: list[str] = field(default_factory=list)
    heard: threading.Event = field(default_factory=threading.Event)

    def advance(self, steps: int, note: str = "") -> None:
        self.contexts.append(API.get())
        self.heard.set()


class MetricsPage(BaseHTTPRequestHandler):
    """Answers everything with `PAGE`."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(PAGE.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def test_the_bar_is_told_in_the_context_of_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_load, "POLL_SECONDS", 0.5)
    server = HTTPServer(("127.0.0.1", 0), MetricsPage)
    serving = threading.Thread(target=server.serve_forever, args=(0.01,))
    serving.start()
    spec = EndpointSpec(
        base_url=f"http://127.0.0.1:{server.server_port}/v1",
        model="m",
        concurrency=1,
        timeout_seconds=5,
        max_retries=0,
        batch_size=1,
    )
    bar = Told("chat", 1)
    token = API.set("the run's API")
    try:
        with load_shown(spec, bar):
            assert bar.heard.wait(30)
    finally:
        API.reset(token)
        server.shutdown()
        serving.join()
        server.server_close()
    assert set(bar.contexts) == {"the run's API"}
