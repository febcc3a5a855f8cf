"""``vllm run-batch``: answers a file of prompts with a local model, without a server."""

import os
import time
from pathlib import Path

from artifacts.ledger.answers import Role
from tasks.llm.batches.batch_files import BatchHeader
from tasks.llm.batches.batch_folders import BatchFolder
from tasks.llm.client.stop import raise_if_stopped
from tasks.llm.settings.batch_config import BatchConfig, BatchStart
from tasks.system.guarded_process import GuardedProcess

VLLM = "vllm run-batch"
"""In the record of a batch, in place of the URL of the Batch API."""

POLL_SECONDS = 0.5
STOP_GRACE_SECONDS = 10.0


class VllmBatchError(RuntimeError):
    """``vllm run-batch`` ended without results."""


def vllm_results(folder: BatchFolder) -> Path:
    """Returns the path of the results of a file of prompts."""
    return folder.path / "0.results.jsonl"


def vllm_batch_start(asked: BatchHeader, config: BatchConfig) -> BatchStart:
    """Returns the configured command for a role's model; requests use the model name of ledger
    keys."""
    is_chat = asked.role is Role.CHAT
    weights = config.vllm_chat_weights if is_chat else config.vllm_embedding_weights
    further = config.vllm_chat_arguments if is_chat else config.vllm_embedding_arguments
    model = ["--model", weights or asked.model, "--served-model-name", asked.model]
    return BatchStart([*config.vllm_command, *model, *further], os.environ)


def run_vllm_batch(folder: BatchFolder, start: BatchStart, asked: BatchHeader, log: Path) -> None:
    """Runs the command for a folder and waits for its results; the process ends with this one, also
    by a kill.

    Raises:
        VllmBatchError: the command ended without results.
        AskingStoppedError: the run was interrupted.
    """
    partial = folder.path / "partial.jsonl"
    command = [*start.command, "-i", str(folder.requests), "-o", str(partial)]
    process = GuardedProcess(command, start.variables, log, STOP_GRACE_SECONDS)
    try:
        while process.running:
            raise_if_stopped()
            time.sleep(POLL_SECONDS)
    finally:
        process.stop()
    if not partial.exists() or partial.stat().st_size == 0:
        last = (log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"])[-1]
        raise VllmBatchError(
            f"{' '.join(command[:3])} wrote no results for {asked.model} ({last[:200]}); its log "
            f"is {log}. Check the installation of vLLM and the weights: LLM4CDSR_BATCHES names "
            "both; --provider local installs its own"
        )
    partial.replace(vllm_results(folder))
