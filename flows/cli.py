"""The command line: ``llm4cdsr --help``."""

import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from prefect.exceptions import PrefectException
from pydantic import JsonValue, ValidationError

from artifacts.results import REPORT
from artifacts.store import Store
from flows import console
from flows.pipeline import pipeline
from flows.prefect_api import prefect_api
from flows.refresh import RefreshConfig, refresh
from flows.retrain import RetrainConfig, retrain
from flows.serve_recs_command import EPILOG as SERVE_RECS_EPILOG
from flows.serve_recs_command import serve_recs
from flows.settings import Settings, default_llm
from tasks import dummy_endpoint
from tasks.bundle import SERVING, parts_of
from tasks.cluster import ClusterConfig
from tasks.demo_dump import write_demo_dump
from tasks.dump import DumpConfig
from tasks.dump_files import existing_file
from tasks.endpoint import stop_asking
from tasks.endpoints import local_pair
from tasks.llm_config import LlmConfig, Provider
from tasks.local_setup import ensure_local_environment
from tasks.local_vllm import ROLES
from tasks.profile import ProfileConfig
from tasks.recommend import RecommendationConfig
from tasks.stage import StageResult, logger
from tasks.train import TrainingConfig

INTERRUPTED = 130
GRACE_SECONDS = 5.0
"""From an interrupt to the end: time for journals to be sealed and servers to stop."""

ROOMS = frozenset({"flows", "tasks", "model", "prompts", "artifacts"})

app = typer.Typer(
    name="llm4cdsr",
    help="Next-item recommendations across domains, with items and users understood by an LLM.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class FlowName(StrEnum):
    """What `run` runs."""

    PIPELINE = "pipeline"
    REFRESH = "refresh"
    RETRAIN = "retrain"


@app.command(
    epilog="Examples:\n\n"
    "llm4cdsr run --interactions events.parquet --items items.parquet\n\n"
    "llm4cdsr run --interactions e.csv --items i.csv --column reviewerID=user_id "
    "--max-users 3000 --profile-users 300\n\n"
    "llm4cdsr run retrain --preset paper"
)
def run(
    flow: Annotated[
        FlowName, typer.Argument(help="pipeline: refresh, then retrain.")
    ] = FlowName.PIPELINE,
    interactions: Annotated[
        str | None,
        typer.Option(help="File with user_id, item_id, domain, timestamp (Parquet, CSV, JSONL)."),
    ] = None,
    items: Annotated[
        str | None, typer.Option(help="File with item_id, domain, title and more.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What to call the data; the dump's folder by default.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="A column's name, as THEIRS=OURS; may be repeated.")
    ] = None,
    domain: Annotated[
        list[str] | None, typer.Option(help="Keep only these domains; may be repeated.")
    ] = None,
    max_users: Annotated[
        int | None, typer.Option(min=1, help="Keep a seeded sample of users.")
    ] = None,
    user_core: Annotated[int, typer.Option(min=1, help="Least events of a user.")] = 1,
    item_core: Annotated[int, typer.Option(min=1, help="Least events of an item.")] = 1,
    profile_users: Annotated[
        int | None, typer.Option(min=0, help="Profile a seeded sample of users; all by default.")
    ] = None,
    clusters: Annotated[int, typer.Option(min=1, help="Interests that items fall into.")] = 10,
    preset: Annotated[str, typer.Option(help="Model preset: best, paper or released.")] = "best",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Most epochs of training; the preset's by default.")
    ] = None,
    per_domain: Annotated[int, typer.Option(min=1, help="Recommendations a user and domain.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of samples, clusters and training.")] = 0,
    provider: Annotated[
        Provider | None,
        typer.Option(help="Who answers. auto: configured URL, else OpenAI if keyed, else local."),
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="Artifact store: a folder or an fsspec URL.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Copy the HTML report here.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show libraries' log lines.")] = False,
) -> None:
    """Run a flow: from a dump to recommendations, paying only for what is new.

    Runs are recorded with the Prefect API of PREFECT_API_URL, or with a server of our own that
    lives as long as the run.
    """
    console.show_logs(verbose=verbose)
    settings = Settings()
    root = store or settings.store
    llm = _llm(settings, provider)
    refreshing = RefreshConfig(
        clusters=ClusterConfig(clusters=clusters, seed=seed),
        profiles=ProfileConfig(max_users=profile_users, seed=seed),
    )
    overrides: dict[str, dict[str, JsonValue]] = {"train": {"max_epochs": epochs}} if epochs else {}
    retraining = RetrainConfig(
        training=TrainingConfig(preset=preset, overrides=overrides, seed=seed),
        recommendations=RecommendationConfig(per_domain=per_domain),
    )
    title = name or (Path(interactions).resolve().parent.name if interactions else "your data")

    def dump() -> DumpConfig:
        if interactions is None:
            raise typer.BadParameter("give --interactions FILE (try `llm4cdsr demo-dump demo`)")
        return DumpConfig(
            interactions=str(existing_file(interactions).resolve()),
            items=None if items is None else str(existing_file(items).resolve()),
            columns=dict(_pair(text) for text in column or ()),
            domains=tuple(domain) if domain else None,
            max_users=max_users,
            user_core=user_core,
            item_core=item_core,
            seed=seed,
        )

    if flow is FlowName.RETRAIN and (interactions or items):
        raise typer.BadParameter(
            "retrain reads no dump but the latest refresh; leave out the files"
        )
    if flow is not FlowName.RETRAIN:
        dump()  # Refused here, before a server starts for nothing.
    stages: tuple[StageResult, ...]
    with _interruptible(), prefect_api(Store(root).workspace("logs") / "prefect-server.log"):
        if flow is FlowName.REFRESH:
            stages = refresh(dump(), refreshing, llm, root).stages
        elif flow is FlowName.RETRAIN:
            stages = retrain(retraining, title, store=root).stages
        else:
            stages = pipeline(dump(), title, refreshing, retraining, llm, root).stages
    _summarise(Store(root), stages, report)


@app.command(epilog="Example:\n\nllm4cdsr demo-dump demo --seed 8")
def demo_dump(
    directory: Annotated[Path, typer.Argument(help="Where the two files are written.")],
    seed: Annotated[int, typer.Option(min=0, help="A new seed gives new users and items.")] = 7,
    users: Annotated[int, typer.Option(min=10, help="Users.")] = 400,
    items: Annotated[int, typer.Option(min=48, help="Items of both shops.")] = 600,
) -> None:
    """Write the dump of two made-up shops, as a shop would export it."""
    written = write_demo_dump(directory, seed=seed, users=users, items=items)
    console.out.print(
        f"{written.event_count:,} events of {written.user_count:,} users on "
        f"{written.item_count:,} items:\n  {written.interactions}\n  {written.items}"
    )


@app.command(
    epilog="Examples:\n\nllm4cdsr serve\n\nllm4cdsr serve --dummy --port 8300",
)
def serve(
    dummy: Annotated[
        bool, typer.Option("--dummy", help="The dummy endpoint: no model, no install.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port of the dummy endpoint.")] = 8300,
) -> None:
    """Start the local vLLM pair (or the dummy endpoint) and print the URLs, until Ctrl-C."""
    console.show_logs(verbose=False)
    if dummy:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                raise typer.BadParameter(f"port {port} is taken; choose another with --port")
        url = f"http://127.0.0.1:{port}/v1"
        _print_url("chat", url, dummy_endpoint.CHAT_MODEL)
        _print_url("embedding", url, dummy_endpoint.EMBEDDING_MODEL)
        dummy_endpoint.serve("127.0.0.1", port)
        return
    settings = Settings()
    logs = Store(settings.store).workspace("logs")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with local_pair(settings.local_vllm, logs) as pair:
        pair.start()
        for role in ROLES:
            _print_url(role, pair.base_url(role), pair.model_name(role))
        stop.wait()


@app.command()
def setup_local() -> None:
    """Install the local vLLM pair and its models now, not on the first run (3.4 GB)."""
    console.show_logs(verbose=False)
    environment = ensure_local_environment(Settings().local_vllm, report=logger.info)
    console.out.print(f"ready: {environment.directory}")


@app.command()
def show(
    store: Annotated[str | None, typer.Option(help="Artifact store.")] = None,
) -> None:
    """Show what is served now: quality, artifacts, where the report lies."""
    opened = Store(store or Settings().store)
    release = opened.pointed(SERVING)
    if release is None:
        raise typer.BadParameter(f"{opened.root} serves nothing yet; run `llm4cdsr run` first")
    parts = parts_of(opened, release)
    console.out.print(console.metric_table(opened, parts["metrics"]))
    for note in opened.manifest(release).notes:
        console.out.print(f"[bold yellow]Note:[/] {note}.")
    for role, ref in parts.items():
        place = opened.path(ref) / REPORT if role == "report" else opened.path(ref)
        console.out.print(f"{role:16} {place}", soft_wrap=True, highlight=False)


app.command("serve-recs", epilog=SERVE_RECS_EPILOG)(serve_recs)


def run_app() -> None:
    """Runs the app; an expected error is one message, an unexpected one keeps its trace."""
    try:
        app()
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        _fail("Not valid:", "; ".join(faults), 2)
    except OSError as error:
        _fail("Failed:", f"{error}; check the path, its permissions and the disk", 1)
    except PrefectException as error:
        text = (
            f"the Prefect API did not do its part ({type(error).__name__}: {error}). What was "
            "answered is kept; see work/logs/prefect-server.log in the store, or check "
            "PREFECT_API_URL, and run again"
        )
        _fail("Failed:", text, 1)
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ROOMS:
            raise
        _fail("Failed:", _message(error), 1)


def _fail(label: str, text: str, code: int) -> None:
    """Ends with one message; ``text`` may hold anything and is shown as it is."""
    console.err.print(f"[bold red]{label}[/]", end=" ")
    console.err.print(text, markup=False, highlight=False)
    _leave(code)


def _message(error: Exception) -> str:
    """The text as it was written; ``str`` of a KeyError would quote it."""
    return str(error.args[0]) if error.args else type(error).__name__


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM end a run with one line, always.

    Python raises KeyboardInterrupt wherever the main thread happens to be; in a finalizer it is
    swallowed. So a clock runs from the signal on, and what has not ended by then is ended.
    Guarded processes (the local servers, Prefect's) end with us in any case.
    """

    def end(number: int, frame: FrameType | None) -> None:
        stop_asking()
        clock = threading.Timer(GRACE_SECONDS, _leave_interrupted)
        clock.daemon = True
        clock.start()
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    try:
        yield
    except KeyboardInterrupt:
        _leave_interrupted()


def _leave_interrupted() -> None:
    console.err.print("Interrupted. What was answered is kept; run again to go on.")
    _leave(INTERRUPTED)


def _leave(code: int) -> None:
    """Ends at once: worker threads may still wait for answers that nobody wants any more."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _llm(settings: Settings, provider: Provider | None) -> LlmConfig:
    llm = default_llm(settings)
    return llm if provider is None else llm.model_copy(update={"provider": provider})


def _pair(text: str) -> tuple[str, str]:
    theirs, separator, ours = text.partition("=")
    if not (theirs and separator and ours):
        raise typer.BadParameter(f"--column {text}: write THEIRS=OURS, as reviewerID=user_id")
    return theirs, ours


def _summarise(store: Store, stages: tuple[StageResult, ...], report: Path | None) -> None:
    by_name = {stage.stage: stage for stage in stages}
    console.out.print(console.stage_table(stages))
    for line in console.facts_of(stages):
        console.out.print(line)
    if "evaluate" in by_name and by_name["evaluate"].counts:
        console.out.print(console.metric_table(store, by_name["evaluate"].ref))
    if "recommend" in by_name:
        folder = store.path(by_name["recommend"].ref)
        console.out.print(f"Recommendations: {folder / 'recommendations.parquet'}", soft_wrap=True)
    if "report" in by_name:
        page = store.path(by_name["report"].ref) / REPORT
        if report is not None:
            target = report / REPORT if report.is_dir() else report
            target.parent.mkdir(parents=True, exist_ok=True)
            page = Path(shutil.copyfile(page, target))
        console.out.print(f"Report: {page.resolve()}", soft_wrap=True)


def _print_url(role: str, url: str, model: str) -> None:
    variable = f"LLM4CDSR_{role.upper()}"
    line = f"{variable}_BASE_URL={url} {variable}_MODEL={model}"
    console.out.print(line, soft_wrap=True, highlight=False)
