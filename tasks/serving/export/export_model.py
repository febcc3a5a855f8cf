"""Export of the scoring path of a release as a graph.

The graph's scores are compared with the model's on real histories, single-domain histories and an
empty one (`ParityError`).
"""

import logging
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from artifacts.files.durable import write_atomically
from artifacts.store import Store
from artifacts.strict import Strict
from artifacts.user_error import MissingPackageError
from model.data.sequences import Sequences, sequences_from_lists
from model.scoring.exported_graph import ScoringPath
from model.scoring.model_scorer import ModelScorer
from tasks.serving.catalogue import Catalogue
from tasks.serving.export.file_formats import ModelFormat
from tasks.serving.served_release import LATEST, open_release

CARD, ITEMS = "model.json", "items.parquet"
TOLERANCE = 1e-3
"""Tolerance of scores, whose range is tens and whose float32 sums depend on order."""

PARITY_HISTORIES = 64

Run = Callable[[Tensor], tuple[np.ndarray, ...]]
"""Executes a written graph."""


class ParityError(ArithmeticError):
    """Scores of the exported graph differ from the model's."""


class ExportedModel(Strict):
    """`model.json`: inputs and outputs of the graph, one output per domain in order.

    `input`: its name; int64 (rows, events), item indices of `items.parquet`, oldest first, zeros as
    padding. Column `j` of output `d` is the score of item `domain_starts[d] + 1 + j`.
    """

    file: str
    release: str
    input: str
    max_length: int
    outputs: tuple[str, ...]
    domain_starts: tuple[int, ...]
    histories: int
    largest_difference: float


def export_model(
    store: Store | str, folder: Path, form: ModelFormat, release: str = LATEST
) -> ExportedModel:
    """Writes ``model.pt2`` or ``model.onnx``, ``items.parquet`` and, last, ``model.json``.

    A folder with ``model.json`` has graph and items of one release, also after a kill.

    Raises:
        MissingPackageError, ParityError, NothingServedError.
    """
    if form is ModelFormat.ONNX:
        _require_onnx()
    opened = open_release(store, release)
    scorer = ModelScorer(opened.model)
    path, example = ScoringPath(scorer), torch.ones(2, 3, dtype=torch.int64)
    path.eval().requires_grad_(False)
    folder.mkdir(parents=True, exist_ok=True)
    write = _write_onnx if form is ModelFormat.ONNX else _write_torch
    file = "model.onnx" if form is ModelFormat.ONNX else "model.pt2"
    asked = _histories_to_check(opened.histories)
    with TemporaryDirectory(prefix=".draft-", dir=folder) as made:
        draft = Path(made)
        run = write(path, example, draft / file, opened.model.config.max_length)
        difference = largest_difference(run, scorer, asked)
        if not difference <= TOLERANCE:
            raise ParityError(
                f"the exported graph differs from the model by {difference:g}, more than "
                f"{TOLERANCE:g}, and was not kept; please report this with the model's config.json"
            )
        _write_items(opened.catalogue, draft / ITEMS)
        (folder / CARD).unlink(missing_ok=True)
        for name in (file, ITEMS):
            (draft / name).replace(folder / name)
    card = ExportedModel(
        file=file,
        release=opened.facts.ref.fingerprint,
        input="histories",
        max_length=opened.model.config.max_length,
        outputs=tuple(opened.catalogue.domains),
        domain_starts=tuple(opened.catalogue.domain_starts.tolist()),
        histories=asked.user_count,
        largest_difference=difference,
    )
    write_atomically(folder / CARD, card.model_dump_json(indent=2).encode())
    return card


def largest_difference(run: Run, scorer: ModelScorer, histories: Sequences) -> float:
    """Returns the largest difference of scores; NaN if one is NaN."""
    padded = _padded(histories, scorer.model.config.max_length)
    found = run(padded)
    prefixes = histories.prefixes_of_users(np.arange(histories.user_count))
    differences = [
        np.abs(found[domain] - scorer.score(prefixes, domain).cpu().numpy()).max()
        for domain in range(histories.domain_count)
    ]
    return float(np.max(differences))


def _write_torch(path: ScoringPath, example: Tensor, file: Path, longest: int) -> Run:
    program = torch.export.export(path, (example,), dynamic_shapes=_shapes(longest))
    torch.export.save(program, file)
    loaded = torch.export.load(file).module()
    return lambda histories: tuple(scores.numpy() for scores in loaded(histories))


def _write_onnx(path: ScoringPath, example: Tensor, file: Path, longest: int) -> Run:
    import onnxruntime  # pyright: ignore[reportMissingImports]

    # Suppresses warnings about unused optional packages and internals.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            path,
            (example,),
            str(file),
            input_names=["histories"],
            output_names=[f"scores_{number}" for number in range(len(path.starts) - 1)],
            dynamic_shapes=_shapes(longest),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    session = onnxruntime.InferenceSession(str(file))
    return lambda histories: tuple(session.run(None, {"histories": histories.numpy()}))


def _shapes(longest: int) -> tuple[dict[int, torch.export.Dim]]:
    return ({0: torch.export.Dim("users"), 1: torch.export.Dim("events", max=longest)},)


def _histories_to_check(histories: Sequences) -> Sequences:
    """Returns real histories: long, short, of one domain, and empty."""
    users = np.linspace(0, histories.user_count - 1, PARITY_HISTORIES).astype(int)
    chosen = [
        histories.items[histories.offsets[user] : histories.offsets[user + 1]].tolist()
        for user in np.unique(users).tolist()
    ]
    of_domain = [[int(start) + 1] for start in histories.domain_starts[:-1]]
    starts = histories.domain_starts.tolist()
    return sequences_from_lists([*chosen, *of_domain, []], starts, histories.domain_names)


def _padded(histories: Sequences, longest: int) -> Tensor:
    rows = [
        histories.items[histories.offsets[user] : histories.offsets[user + 1]][-longest:]
        for user in range(histories.user_count)
    ]
    padded = np.zeros((len(rows), max(2, *(len(row) for row in rows))), np.int64)
    for row, items in enumerate(rows):
        padded[row, : len(items)] = items
    return torch.from_numpy(padded)


def _write_items(catalogue: Catalogue, path: Path) -> None:
    catalogue.items.select("item_index", "domain", "item_id", "title").write_parquet(path)


def _require_onnx() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"ONNX needs {', '.join(missing)}: .venv/bin/pip install 'llm4cdsr[onnx]', "
            "or use --format torch"
        )
