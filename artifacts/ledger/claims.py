"""Claims on prompts: two runs on one store never send the same prompt at the same time.

Before sending, a run writes its prompts to a claim file and holds its lock (``flock``) until they
are answered. Other runs skip these prompts, send their own, and continue when the claim has ended.
No expiry is needed, because the operating system releases the lock of a dead process. An ended
claim stays as the record of sent prompts.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Generic, NamedTuple, TypeVar

import polars as pl
from pydantic import JsonValue

from artifacts import columns as col
from artifacts.files.durable import sync
from artifacts.files.ownership import if_abandoned, locked, opened_locked
from artifacts.ledger.answers import KEY_SCHEMA, MODEL, Question, time_ordered_name
from artifacts.ledger.ledger import Ledger

PROMPT = "prompt"
PARAMETERS = "parameters"

PROMPT_SCHEMA = pl.Schema({col.KEY: pl.String, PROMPT: pl.String})
QUESTION_SCHEMA = pl.Schema(
    {col.KEY: pl.String, MODEL: pl.String, PARAMETERS: pl.String, PROMPT: pl.String}
)
"""``parameters`` is JSON; so is the ``prompt`` of a chat, that of an embedding is the text."""

POLL_SECONDS = 0.5
REMOTE_POLL_SECONDS = 2.0

_CLAIMS_LOCK = ".claims.lock"


class Claims:
    """The prompts claimed by this run until the end of its block, when they must be answered.

    ``claimed_elsewhere`` are the prompts (``key, prompt``) claimed by other runs.
    """

    def __init__(
        self,
        ledger: Ledger,
        model: str,
        parameters: dict[str, JsonValue],
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self.claimed_elsewhere = pl.DataFrame(schema=PROMPT_SCHEMA)
        self._ledger = ledger
        self._model = model
        self._parameters = parameters
        self._on_wait = on_wait
        self._held: list[tuple[Path, IO[bytes]]] = []
        self._shared: list[str] = []

    def take(self, prompts: pl.DataFrame) -> pl.DataFrame:
        """Claims and returns the unanswered ``key, prompt`` without a claim of another run."""
        ledger = self._ledger
        if ledger.shared is not None:
            # An unchanged run finds all answers locally, without access to the remote store.
            if ledger.missing(prompts[col.KEY]).is_empty():
                return prompts.clear()
            ledger.refresh()
        with locked(ledger.folder / _CLAIMS_LOCK), _turn(ledger, self._on_wait):
            # Claims are read before answers: a claim that ends in between has sealed its answers.
            claimed = _keys_claimed(ledger)
            ledger.refresh()
            lacking = ledger.unanswered(prompts)
            elsewhere = lacking.join(claimed, on=col.KEY, how="semi", maintain_order="left")
            claimed_here = lacking.join(claimed, on=col.KEY, how="anti", maintain_order="left")
            if claimed_here.height:
                self._hold(claimed_here)
                if ledger.shared is not None:
                    question = Question(self._model, self._parameters)
                    self._shared.append(ledger.shared.claim(claimed_here[col.KEY], question))
        self.claimed_elsewhere = pl.concat(
            [self.claimed_elsewhere, elsewhere.select(list(PROMPT_SCHEMA))]
        )
        return claimed_here

    def __enter__(self) -> "Claims":
        return self

    def __exit__(self, *error: object) -> None:
        try:
            for name in self._shared:
                assert self._ledger.shared is not None
                self._ledger.shared.release(name)
        finally:
            for path, file in self._held:
                _retire(path)
                file.close()

    def _hold(self, prompts: pl.DataFrame) -> None:
        """Writes prompts to a claim file, which this process locks."""
        path = self._ledger.folder / f"claim-{time_ordered_name()}.parquet"
        unseen = path.with_name(f".{path.name}.tmp")
        rows = prompts.select(
            col.KEY,
            pl.lit(self._model).alias(MODEL),
            pl.lit(json.dumps(self._parameters, ensure_ascii=False)).alias(PARAMETERS),
            PROMPT,
        )
        rows.cast(QUESTION_SCHEMA).write_parquet(unseen)
        sync(unseen)
        # Locked before it is renamed to the name that others search, as a journal.
        file = opened_locked(unseen)
        unseen.rename(path)
        self._held.append((path, file))


def wait_for_others(ledger: Ledger, keys: pl.Series, on_poll: Callable[[], None]) -> None:
    """Waits until no other run has claims on these; ``on_poll`` may raise to end the wait."""
    asked = keys.to_frame(col.KEY)
    while asked.join(_keys_claimed(ledger), on=col.KEY, how="semi").height:
        on_poll()
        time.sleep(POLL_SECONDS if ledger.shared is None else REMOTE_POLL_SECONDS)


def questions(ledger: Ledger) -> pl.LazyFrame:
    """Returns all recorded prompts, `QUESTION_SCHEMA`; keys may be repeated."""
    paths = sorted(ledger.folder.glob("questions-*.parquet"))
    if not paths:
        return pl.LazyFrame(schema=QUESTION_SCHEMA)
    return pl.scan_parquet(paths, glob=False, schema=QUESTION_SCHEMA)


def recover_claims(ledger: Ledger) -> None:
    """Makes the claims of dead processes records of their prompts."""
    for path in sorted(ledger.folder.glob("claim-*.parquet")):
        _keys_if_living(path)


def _keys_claimed(ledger: Ledger) -> pl.DataFrame:
    """Returns the keys of active claims; claims of dead processes become records."""
    living = [_keys_if_living(path) for path in sorted(ledger.folder.glob("claim-*.parquet"))]
    if ledger.shared is not None:
        living.append(ledger.shared.keys_claimed())
    return pl.concat([pl.DataFrame(schema=KEY_SCHEMA), *living])


@contextmanager
def _turn(ledger: Ledger, on_wait: Callable[[], None]) -> Iterator[None]:
    """Serialises claims of machines, so that each sees all earlier claims."""
    if ledger.shared is None:
        yield
        return
    with ledger.shared.turn().held(on_wait):
        yield


def _keys_if_living(path: Path) -> pl.DataFrame:
    nothing = pl.DataFrame(schema=KEY_SCHEMA)
    with if_abandoned(path) as is_mine:
        if is_mine:
            _retire(path)
            return nothing
    try:
        return pl.read_parquet(path, columns=[col.KEY], glob=False)
    except FileNotFoundError:
        return nothing  # Ended during the scan.


def _retire(path: Path) -> None:
    path.rename(path.with_name(path.name.replace("claim-", "questions-")))


Outcome = TypeVar("Outcome")

logger = logging.getLogger("llm4cdsr")


class Turns(NamedTuple, Generic[Outcome]):
    """``asked``: the prompts sent by this run. ``outcomes``: the results of ``ask``."""

    asked: int
    outcomes: list[Outcome]


def ask_in_turns(
    label: str,
    ledger: Ledger,
    prompts: pl.DataFrame,
    question: Question,
    ask: Callable[[pl.DataFrame], list[Outcome]],
    on_poll: Callable[[], None],
) -> Turns[Outcome]:
    """Ensures that each missing ``key, prompt`` is sent once by one of the runs on the store.

    This run sends the unclaimed prompts, waits for the runs with claims on the others, and then
    sends those that these left unanswered (failed or killed).

    ``ask`` gets a table of prompts claimed by this run, and returns when their answers are in the
    ledger. ``on_poll`` is called while waiting for another run; an error in it ends the wait.
    """
    outcomes: list[Outcome] = []
    asked, left = 0, prompts
    while True:
        with Claims(ledger, *question, on_poll) as claims:
            claimed_here = claims.take(left)
            if claimed_here.height:
                outcomes += ask(claimed_here)
        asked += claimed_here.height
        left = claims.claimed_elsewhere
        if left.is_empty():
            return Turns(asked, outcomes)
        logger.info(
            "%s: another run on this store is asking %d of these prompts; waiting for its answers",
            label,
            left.height,
        )
        wait_for_others(ledger, left[col.KEY], on_poll)
        if recovered := ledger.recover():
            logger.info("%s: that run ended early; %d of its answers recovered", label, recovered)
