"""A program in place of `vllm run-batch`; retries without waits."""

import sys
from pathlib import Path

import pytest

from tasks.llm.settings.batch_config import BatchConfig, BatchKind

FAKE_VLLM = """
import argparse, json, sys
sys.path.insert(0, {room!r})
from tests.fake_batch import BatchPlan, BatchServer
parser = argparse.ArgumentParser()
for name in ("-i", "-o", "--model", "--served-model-name", "--max-model-len"):
    parser.add_argument(name)
given = parser.parse_args()
print("loading", given.model)
if given.model == "broken":
    sys.exit("no such weights")
server = BatchServer(BatchPlan(refuse="number 3"))
lines = [json.loads(line) for line in open(given.i)]
assert all(line["body"]["model"] == given.served_model_name for line in lines)
with open(given.o, "w") as file:
    for line in lines:
        file.write(json.dumps(server._answered(line)) + "\\n")
"""


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.05)


@pytest.fixture
def vllm(tmp_path: Path) -> BatchConfig:
    """A program with the arguments and files of `vllm run-batch`."""
    program = tmp_path / "vllm.py"
    program.write_text(FAKE_VLLM.format(room=str(Path(__file__).parents[4])))
    return BatchConfig(
        kind=BatchKind.VLLM,
        vllm_command=(sys.executable, str(program)),
        vllm_chat_arguments=("--max-model-len", "2048"),
        vllm_chat_weights="the-weights",
    )
