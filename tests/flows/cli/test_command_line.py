"""The whole product from its command line: real processes, a real Prefect server, real HTTP."""

import json
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from artifacts.bundles import SERVING, parts_of
from artifacts.kinds.dataset import read_dataset
from artifacts.kinds.item_vectors import read_item_embeddings
from artifacts.manifest import ArtifactRef, Kind
from artifacts.store import Store
from flows.cli.command_table import app
from tasks.llm.providers.endpoints import DUMMY_NOTE
from tasks.llm.providers.local_setup import find_local_environment
from tests.fakes import CHAT, EMBEDDINGS, FaultPlan, FaultyServer, faulty_endpoint
from tests.flows.command_shop import LOCAL_VLLM, SECRET, Shop, wait_until


def test_a_dump_becomes_recommendations_and_a_second_run_asks_nothing(
    shop: Shop, stub: FaultyServer
) -> None:
    shop = replace(shop, recorded={})
    first = shop.run("--report", "report.html", "--summary", "run.json", server=stub)

    assert first.returncode == 0, first.stderr
    _assert_tells_all(json.loads((shop.folder / "run.json").read_text("utf-8")), stub)
    release = shop.store.pointed(SERVING)
    assert release is not None
    parts = parts_of(shop.store, release)
    recommended = pl.read_parquet(
        shop.store.path(parts["recommendations"]) / "recommendations.parquet", glob=False
    )
    assert recommended["user_id"].n_unique() == 60
    assert recommended.group_by("user_id", "domain").len()["len"].unique().to_list() == [10]
    assert "<html" in (shop.folder / "report.html").read_text("utf-8")
    assert "popularity" in first.stdout
    asked = stub.requests_to(CHAT) + stub.requests_to(EMBEDDINGS)
    assert asked > 0

    second = shop.run(server=stub)

    assert second.returncode == 0, second.stderr
    assert stub.requests_to(CHAT) + stub.requests_to(EMBEDDINGS) == asked
    assert shop.store.pointed(SERVING) == release
    _assert_nowhere(SECRET, shop.folder, first.stdout + first.stderr)


def test_new_items_cost_exactly_their_own_embedding(shop: Shop, stub: FaultyServer) -> None:
    assert shop.run(name="refresh", server=stub).returncode == 0
    embedded = len(_embedded_texts(stub))
    items = pl.read_parquet(shop.folder / "items.parquet")
    added = items.head(2).with_columns(
        pl.Series("item_id", ["new-1", "new-2"]),
        pl.Series("title", ["Walnut Chess Board", "Brass Telescope"]),
    )
    pl.concat([items, added]).write_parquet(shop.folder / "items.parquet")

    # No profiles: only what items cost is looked at.
    assert shop.run("--profile-users", "0", name="refresh", server=stub).returncode == 0

    new = _embedded_texts(stub)[embedded:]
    assert len(new) == 2
    assert any("Chess" in text for text in new)
    assert any("Telescope" in text for text in new)


def test_an_interrupted_run_stops_soon_and_the_next_one_pays_only_for_the_rest(shop: Shop) -> None:
    with faulty_endpoint(FaultPlan(latency_s=0.3)) as server:
        process = subprocess.Popen(
            shop.command(name="refresh"),
            cwd=shop.folder,
            env=shop.environment(server),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        wait_until(lambda: server.requests_to(CHAT) > 40, process)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)

        assert process.returncode == 130, output
        assert "Repeat the command to resume" in output

        again = shop.run(name="refresh", server=server)
        assert again.returncode == 0, again.stderr
        prompts = {exchange.prompts for exchange in server.answered if exchange.route == CHAT}
        in_flight = 64
        assert server.requests_to(CHAT) <= len(prompts) + in_flight


def test_a_wrong_path_is_one_message_with_the_way_out(shop: Shop, stub: FaultyServer) -> None:
    (shop.folder / "interactions.parquet").unlink()

    failed = shop.run(server=stub)

    assert failed.returncode == 2
    assert "is not a file" in failed.stderr
    assert "Traceback" not in failed.stderr + failed.stdout


def test_a_server_that_is_not_there_is_named_at_once(shop: Shop) -> None:
    with faulty_endpoint(FaultPlan()) as server:
        environment = shop.environment(server)  # Its port is free again when the block has ended.
    failed = subprocess.run(
        shop.command(name="refresh"),
        cwd=shop.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert failed.returncode == 1
    assert f"nothing answers at {server.base_url}" in " ".join(failed.stderr.split())
    assert "Traceback" not in failed.stderr


def test_a_wrong_preset_is_refused_before_anything_runs(shop: Shop, stub: FaultyServer) -> None:
    failed = shop.run("--preset", "bets", server=stub)

    assert failed.returncode != 0
    assert "best" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not shop.store.artifacts(Kind.DATASET)


@pytest.mark.parametrize(
    "command", ["run", "refresh", "retrain", "serve", "demo-dump", "setup-local", "show"]
)
def test_every_command_has_help(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"])

    assert shown.exit_code == 0
    assert "Usage" in shown.stdout


@pytest.mark.local_vllm
@pytest.mark.skipif(
    find_local_environment(LOCAL_VLLM) is None,
    reason="no local vLLM environment: run `llm4cdsr setup-local`",
)
def test_the_pipeline_runs_on_the_real_local_pair(shop: Shop) -> None:
    ran = shop.run("--provider", "local", "--profile-users", "12")

    assert ran.returncode == 0, ran.stderr[-3000:]
    parts = parts_of(shop.store, _served(shop))
    folder = shop.store.path(parts["profiles"])
    profiles = pl.read_parquet(folder / "profiles.parquet", glob=False)
    assert profiles.height == 12
    assert profiles["profile"].str.len_chars().min() > 10  # pyright: ignore[reportOptionalOperand, reportOperatorIssue]
    assert not profiles["profile"].str.contains("<|im", literal=True).any()
    assert shop.store.manifest(parts["embeddings"]).counts["width"] == 384
    same, other = _cosines_by_category(shop.store, parts)
    assert same > other + 0.1  # Vectors follow meaning.
    assert DUMMY_NOTE not in shop.store.manifest(parts["recommendations"]).notes


def _cosines_by_category(store: Store, parts: dict[str, ArtifactRef]) -> tuple[float, float]:
    """Mean cosine of pairs of items of one first category, and of pairs of different ones."""
    vectors = read_item_embeddings(store, parts["embeddings"]).vectors[1:]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    first = read_dataset(store, parts["dataset"]).items["categories"].list.first().fill_null("")
    alike = first.to_numpy()[:, None] == first.to_numpy()[None, :]
    np.fill_diagonal(alike, False)
    cosines = vectors @ vectors.T
    return float(cosines[alike].mean()), float(cosines[~alike].mean())


def _assert_tells_all(summary: dict[str, Any], server: FaultyServer) -> None:
    """The document that others script against."""
    dataset = summary["dataset"]
    assert (dataset["users"], dataset["items"], dataset["quarantined"]) == (60, 82, 0)
    assert sum(domain["items"] for domain in dataset["domains"].values()) == 82
    assert sum(domain["users"] for domain in dataset["domains"].values()) == 60 + dataset["overlap"]
    assert dataset["items_without_text"] == 2
    asked = server.requests_to(CHAT) + len(_embedded_texts(server))
    assert summary["llm"]["requests"] == asked
    assert summary["llm"]["prompt_tokens"] > 0
    assert set(summary["metrics"]) >= {"llm4cdsr", "popularity"}
    for by_domain in summary["metrics"]["llm4cdsr"].values():
        assert set(by_domain) == {"overall", *dataset["domains"]}
        assert all(
            0 <= by_domain[place]["NDCG@10"] <= by_domain[place]["HR@10"] for place in by_domain
        )
    assert set(summary["metrics"]["llm4cdsr"]) == {"full", "sampled"}
    written = Path(summary["artifacts"]["metrics"]) / "metrics.json"
    assert json.loads(written.read_text("utf-8")) == summary["metrics"]
    assert set(summary["seconds"]) >= {"ingest", "embed items", "train", "report"}
    assert (Path(summary["artifacts"]["recommendations"]) / "recommendations.parquet").exists()


def _served(shop: Shop) -> ArtifactRef:
    release = shop.store.pointed(SERVING)
    assert release is not None
    return release


def _embedded_texts(server: FaultyServer) -> list[str]:
    return [
        text
        for exchange in server.answered
        if exchange.route == EMBEDDINGS
        for text in exchange.prompts
    ]


def _assert_nowhere(secret: str, folder: Path, output: str) -> None:
    assert secret not in output
    for path in folder.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), f"the key is in {path}"
