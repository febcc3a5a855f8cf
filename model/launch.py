"""How this process was started; known without PyTorch, which takes seconds to import."""

import os


def is_torchrun() -> bool:
    """Whether `torchrun` started this process, beside others like it."""
    return "TORCHELASTIC_RUN_ID" in os.environ
