"""Detection of torchrun without importing PyTorch, which takes seconds."""

import os


def is_torchrun() -> bool:
    """Returns whether `torchrun` started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ
