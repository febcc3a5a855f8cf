"""Public Python API and entry point: ``from llm4cdsr import Recommender``.

Names are imported lazily, so PyTorch and Prefect are loaded on use. ``python -m llm4cdsr`` is the
command line.
"""

import os
import signal
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from artifacts.store import Store
    from flows.pipeline import pipeline
    from flows.refresh import RefreshConfig, refresh
    from flows.retrain import RetrainConfig, retrain
    from model.config import ModelConfig, TrainConfig, load_preset
    from model.scoring.top_k import recommend
    from model.training.trainer import fit
    from tasks.dump.dump_config import DumpConfig
    from tasks.llm.settings.llm_config import LlmConfig
    from tasks.serving.app import create_app
    from tasks.serving.embed_new_items import LedgerEmbedder
    from tasks.serving.recommender import Recommender

__all__ = [
    "DumpConfig",
    "LedgerEmbedder",
    "LlmConfig",
    "ModelConfig",
    "Recommender",
    "RefreshConfig",
    "RetrainConfig",
    "Store",
    "TrainConfig",
    "create_app",
    "fit",
    "load_preset",
    "pipeline",
    "recommend",
    "refresh",
    "retrain",
]

_MODULES = {
    "DumpConfig": "tasks.dump.dump_config",
    "LedgerEmbedder": "tasks.serving.embed_new_items",
    "LlmConfig": "tasks.llm.settings.llm_config",
    "ModelConfig": "model.config",
    "Recommender": "tasks.serving.recommender",
    "RefreshConfig": "flows.refresh",
    "RetrainConfig": "flows.retrain",
    "Store": "artifacts.store",
    "TrainConfig": "model.config",
    "create_app": "tasks.serving.app",
    "fit": "model.training.trainer",
    "load_preset": "model.config",
    "pipeline": "flows.pipeline",
    "recommend": "model.scoring.top_k",
    "refresh": "flows.refresh",
    "retrain": "flows.retrain",
}
_PACKAGES = ("flows", "tasks", "model", "prompts", "artifacts")


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'llm4cdsr' has no attribute {name!r}")
    if fault := shadowed():
        raise ImportError(fault)
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


def shadowed() -> str | None:
    """Returns a sentence about the user's modules that shadow the product's."""
    for name in _PACKAGES:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            return f"the package {name!r} of LLM4CDSR is not installed; install llm4cdsr again"
        found, ours = Path(spec.origin), Path(__file__).resolve().parent / name
        if found.resolve().parent != ours:
            place = found.parent if found.name == "__init__.py" else found
            return (
                f"Python finds {place} where LLM4CDSR needs its own package {name!r}: rename "
                "yours, or take its folder out of PYTHONPATH and start from another folder"
            )
    return None


def main() -> None:
    """Runs the command line; ends with status 2 if other modules shadow the product's, and with 130
    if it is interrupted, also while modules are loaded."""
    try:
        if fault := shadowed():
            print(f"Not valid: {fault}", file=sys.stderr)
            raise SystemExit(2)
        from flows.cli.entry import main as run

        run()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("Interrupted.", file=sys.stderr, flush=True)
        os._exit(130)


if __name__ == "__main__":
    main()
