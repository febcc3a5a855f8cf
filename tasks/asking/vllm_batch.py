"""Has a file of prompts answered by ``vllm run-batch``: a model on this machine, no server."""

import os
import time
from pathlib import Path

from artifacts.answers import Role
from tasks.asking.asking_end import raise_if_stopped
from tasks.asking.batch_config import BatchConfig
from tasks.asking.batch_files import Asked
from tasks.asking.batch_folders import BatchFolder
from tasks.asking.guarded_process import GuardedProcess

VLLM = "vllm run-batch"
"""Stands in a file's record where the Batch API's files have their URL."""

POLL_SECONDS = 0.5
STOP_GRACE_SECONDS = 10.0


class VllmBatchFailed(RuntimeError):
    """``vllm run-batch`` ended without results."""


def vllm_results(folder: BatchFolder) -> Path:
    """Returns where the results of a file of prompts are, or will be."""
    return folder.path / "0.results.jsonl"


def vllm_batch_command(
    requests: Path, results: Path, asked: Asked, config: BatchConfig
) -> list[str]:
    """Returns the command line for a role's model; prompts name it as the ledger's keys do."""
    is_chat = asked.role is Role.CHAT
    weights = config.vllm_chat_weights if is_chat else config.vllm_embedding_weights
    further = config.vllm_chat_arguments if is_chat else config.vllm_embedding_arguments
    files = ["-i", str(requests), "-o", str(results)]
    model = ["--model", weights or asked.model, "--served-model-name", asked.model]
    return [*config.vllm_command, *files, *model, *further]


def run_vllm_batch(folder: BatchFolder, asked: Asked, config: BatchConfig, log: Path) -> None:
    """Waits until the results of a folder are written; the process ends with us, also by a kill.

    Raises:
        VllmBatchFailed: it ended without them.
        AskingStopped: the run was interrupted.
    """
    partial = folder.path / "partial.jsonl"
    command = vllm_batch_command(folder.requests, partial, asked, config)
    process = GuardedProcess(command, os.environ, log, STOP_GRACE_SECONDS)
    try:
        while process.running:
            raise_if_stopped()
            time.sleep(POLL_SECONDS)
    finally:
        process.stop()
    if not partial.exists() or partial.stat().st_size == 0:
        last = (log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"])[-1]
        raise VllmBatchFailed(
            f"{' '.join(command[:2])} wrote no results for {asked.model} ({last[:200]}); "
            f"its log is {log}. Is vLLM installed here, and are the weights where BatchConfig says?"
        )
    partial.replace(vllm_results(folder))
