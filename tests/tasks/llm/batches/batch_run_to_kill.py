"""A run that waits long for its batches: batch_run_to_kill URL STORE."""

import sys

from artifacts.store import Store
from tests.tasks.llm.batches.asking_in_batches import QUICK, ask

if __name__ == "__main__":
    print("ready", flush=True)
    ask(sys.argv[1], Store(sys.argv[2]), QUICK.model_copy(update={"poll_seconds": 30.0}))
