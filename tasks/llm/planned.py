"""Answers to prompts that are rendered block by block, in this process or on a Ray cluster.

On a cluster (Ray Data), the workers render the prompts. A hash shuffle by key brings equal prompts
to one partition, where they are merged and compared with the ledger. Each partition of unanswered
prompts is then sent by `answer_all` in one worker process, with the same claims, journals and
checks as on one machine: a killed worker's partition is sent again without the prompts that it had
answered.
"""

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from artifacts import columns as col
from artifacts.ledger.answers import Role
from artifacts.ledger.claims import PROMPT, PROMPT_SCHEMA
from artifacts.ledger.ledger import open_ledger
from artifacts.store import Store
from artifacts.strict import Strict
from artifacts.user_error import MissingPackageError
from tasks.frame.prefect_link import send_nothing_more
from tasks.frame.progress import progress
from tasks.frame.stage import LlmUsage
from tasks.llm.answer_all import FAILURE_SCHEMA, Answered, answer_all, refuse_too_many
from tasks.llm.client.failures.refusals import EndpointRefusedError
from tasks.llm.client.stop import EndpointDownError, allow_asking, raise_if_stopped
from tasks.llm.keys_met import KeysMet
from tasks.llm.providers.endpoints import Endpoint
from tasks.llm.settings.engine import Engine, EngineSettings
from tasks.llm.settings.llm_config import EndpointSpec, LlmConfig
from tasks.llm.shards.shard import AskingStep

if TYPE_CHECKING:
    from ray.data import Dataset  # pyright: ignore[reportMissingImports]

Plan = Callable[[pl.DataFrame], Iterator[pl.DataFrame]]
"""Renders the prompts of a block: yields rows with ``key, prompt`` and columns of its own. Rows
without a prompt have null in both. It must be serialisable, without servers or open files."""

Place = Callable[[pl.DataFrame], None]
"""Receives the planned rows without ``prompt``, in the order of the blocks."""

PARTITION_ROWS = 16_384
"""Prompts per partition at most, on average: what a worker holds at once."""

PARTITIONS_OF_CORE = 2
"""Minimum partitions per core of the cluster, so that the last ones end together."""

_ENDINGS = {error.__name__: error for error in (EndpointDownError, EndpointRefusedError)}

logger = logging.getLogger("llm4cdsr")


class RayClusterError(RuntimeError):
    """The Ray cluster is out of reach, or broke down. Answers are kept."""


def answer_planned(
    step: AskingStep, plan: Plan, blocks: Iterable[pl.DataFrame], place: Place
) -> Answered:
    """Returns the answers to the prompts of all blocks, paying only for those that are not in the
    ledger. Both engines give the same rows and answers.

    Raises:
        as `answer_all`; with Ray also `MissingPackageError` and `RayClusterError`.
    """
    # A batch is one upload by one process, however many machines there are.
    if EngineSettings().engine is Engine.RAY and step.config.batch is None:
        return _answer_on_ray(step, plan, blocks, place)

    def prompts() -> Iterator[pl.DataFrame]:
        for block in blocks:
            for rows in plan(block):
                place(rows.drop(PROMPT))
                yield _prompts_of(rows)

    return answer_all(step, prompts())


def _answer_on_ray(
    step: AskingStep, plan: Plan, blocks: Iterable[pl.DataFrame], place: Place
) -> Answered:
    settings = EngineSettings()
    cores = _connect(settings)
    from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]

    try:
        return _answered(step, plan, blocks, place, cores)
    except RayError as error:
        where = settings.ray_address or "this machine"
        raise RayClusterError(
            f"{step.label}: the Ray cluster at {where} failed ({_first_line(error)}); answers "
            "are kept, run again to resume"
        ) from error


def _answered(
    step: AskingStep, plan: Plan, blocks: Iterable[pl.DataFrame], place: Place, cores: int
) -> Answered:
    ledger = open_ledger(step.store, step.role)
    if recovered := ledger.recover():
        logger.info("%s: %d answers of an interrupted run recovered", step.label, recovered)
    if ledger.shared is not None:
        ledger.shared.push()
    planned = _planned(plan, blocks)
    keys, prompts = KeysMet(), 0
    for batch in planned.drop_columns([PROMPT]).iter_batches(
        batch_size=None, batch_format="pyarrow"
    ):
        raise_if_stopped()
        rows = pl.DataFrame(batch)
        place(rows)
        asked = rows.filter(pl.col(col.KEY).is_not_null())
        prompts += asked.height
        keys.add(asked)
    usage, failures = LlmUsage(), []
    if prompts:
        partitions = max(cores * PARTITIONS_OF_CORE, math.ceil(prompts / PARTITION_ROWS))
        for asked in _asked(step, planned, partitions):
            usage += asked.usage
            failures += asked.failures
    ledger.refresh()
    usage = usage.model_copy(
        update={
            "prompts": prompts,
            "merged": prompts - len(keys),
            "reused": len(keys) - usage.requests,
        }
    )
    table = pl.DataFrame(failures, schema=FAILURE_SCHEMA, orient="row").sort(col.KEY)
    refuse_too_many(step, table, len(keys))
    return Answered(ledger, keys, table, usage)


def _planned(plan: Plan, blocks: Iterable[pl.DataFrame]) -> "Dataset":
    """Returns the planned rows in the order of the blocks, in the cluster's object store."""
    import ray  # pyright: ignore[reportMissingImports]
    from ray.data import from_arrow_refs  # pyright: ignore[reportMissingImports]

    refs = [ray.put(block.to_arrow()) for block in blocks]
    rendered = from_arrow_refs(refs).map_batches(  # pyright: ignore[reportArgumentType]
        partial(_render, plan=plan), batch_size=None, batch_format="pyarrow"
    )
    return rendered.materialize()


def _asked(step: AskingStep, planned: "Dataset", partitions: int) -> Iterator["_Asked"]:
    """Yields what became of each partition of unanswered prompts; all of them end first.

    The endpoint is made reachable only if there are any.
    """
    root = step.store.root if step.store.remote else str(step.store.local.absolute())
    unanswered = (
        planned.map_batches(_prompts, batch_size=None, batch_format="pyarrow")
        .repartition(partitions, keys=[col.KEY])
        .map_batches(
            partial(_unanswered, root=root, role=step.role), batch_size=None, batch_format="pyarrow"
        )
        .materialize()
    )
    missing = unanswered.count()
    if not missing:
        return
    sender = _Sender(
        label=step.label,
        role=step.role,
        spec=step.endpoint.spec(),
        config=step.config.model_copy(update={"max_failed_share": 1.0}),
        root=root,
        max_tokens=step.max_tokens,
        max_words=step.max_words,
    )
    sent = unanswered.map_batches(
        partial(_send, sender=sender), batch_size=None, batch_format="pyarrow"
    )
    ended: _Asked | None = None
    with progress(step.label, missing) as bar:
        for batch in sent.iter_batches(batch_size=None, batch_format="pyarrow"):
            raise_if_stopped()
            for text in pl.DataFrame(batch)[_Asked.__name__]:
                asked = _Asked.model_validate_json(text)
                bar.advance(asked.rows)
                ended = ended or (asked if asked.error else None)
                yield asked
    if ended is not None and ended.error is not None:
        # The others have ended too, because their answers are paid for.
        raise _ENDINGS[ended.error](ended.message)


class _Asked(Strict):
    """What became of one partition: its failures and cost, or the error that ended it."""

    rows: int
    usage: LlmUsage = LlmUsage()
    failures: tuple[tuple[str, str], ...] = ()
    error: str | None = None
    message: str = ""


@dataclass(frozen=True)
class _Sender:
    """What a worker needs to send prompts: data, no key and no connection."""

    label: str
    role: Role
    spec: EndpointSpec
    config: LlmConfig
    root: str
    max_tokens: int
    max_words: int | None


def _render(block: pa.Table, plan: Plan) -> Iterator[pa.Table]:
    for rows in plan(pl.DataFrame(block)):
        yield rows.to_arrow()


def _prompts_of(rows: pl.DataFrame) -> pl.DataFrame:
    """Returns ``key, prompt`` of the planned rows that have a prompt."""
    return rows.filter(pl.col(col.KEY).is_not_null()).select(list(PROMPT_SCHEMA))


def _prompts(rows: pa.Table) -> pa.Table:
    return _prompts_of(_frame(rows)).to_arrow()


def _unanswered(partition: pa.Table, root: str, role: Role) -> pa.Table:
    """Returns the distinct prompts of a partition that are not in the ledger."""
    prompts = _frame(partition).unique(col.KEY, keep="first", maintain_order=True)
    if prompts.height:
        ledger = open_ledger(Store(root), role)
        ledger.refresh()
        prompts = ledger.unanswered(prompts)
    return prompts.to_arrow()


def _send(partition: pa.Table, sender: _Sender) -> pa.Table:
    """Sends the prompts of a partition; its answers are in the ledger afterwards."""
    prompts = _frame(partition)
    asked = _Asked(rows=prompts.height)
    if prompts.height:
        send_nothing_more()  # A worker has no Prefect server.
        allow_asking()
        spec = sender.spec
        endpoint = Endpoint(spec.model, spec.parameters, (), lambda: spec, spec.price)
        limits = (sender.max_tokens, sender.max_words)
        step = AskingStep(
            sender.label, sender.role, endpoint, sender.config, Store(sender.root), *limits
        )
        try:
            answered = answer_all(step, prompts)
            asked = asked.model_copy(
                update={"usage": answered.usage, "failures": tuple(answered.failures.iter_rows())}
            )
        except tuple(_ENDINGS.values()) as error:
            # As data: Ray would repeat the error with its trace, and run the partition again.
            asked = asked.model_copy(update={"error": type(error).__name__, "message": str(error)})
    return pa.table({_Asked.__name__: [asked.model_dump_json()]})


def _frame(table: pa.Table) -> pl.DataFrame:
    """Returns a block of Ray's as a frame; an empty block has no columns."""
    return pl.DataFrame(table) if table.num_rows else pl.DataFrame(schema=PROMPT_SCHEMA)


def _connect(settings: EngineSettings) -> int:
    """Connects to the cluster, or starts a local one; returns its number of cores.

    Raises:
        MissingPackageError: Ray is not installed.
        RayClusterError: the cluster does not answer.
    """
    # Ray reports its use to its makers otherwise.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray  # pyright: ignore[reportMissingImports]
        import ray.data  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingPackageError(
            "LLM4CDSR_ENGINE=ray, and Ray is not installed: .venv/bin/pip install 'llm4cdsr[ray]', "
            "or set it to threads"
        ) from error
    if not ray.is_initialized():
        try:
            if settings.ray_address:
                ray.init(settings.ray_address, log_to_driver=False, logging_level=logging.WARNING)
            else:
                ray.init(
                    num_cpus=settings.ray_processes,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.WARNING,
                )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise RayClusterError(
                f"no Ray cluster answers at {settings.ray_address or 'this machine'} "
                f"({_first_line(error)}); start one, or correct LLM4CDSR_RAY_ADDRESS"
            ) from error
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
