"""The same refresh on threads, on Dask and on Ray: the same bytes, whoever did the work."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING

from artifacts.manifest import Kind
from artifacts.store import Store
from tasks.demo.demo_dump import write_demo_dump

REPOSITORY = Path(__file__).parents[2]
MADE = (
    "dataset",
    "item_embeddings",
    "clusters",
    "user_profiles",
    "cluster_names",
    "item_tables",
    "refresh",
)
REFRESH = """
import sys
from flows.refresh import RefreshConfig, refresh
from tasks.cluster import ClusterConfig
from tasks.llm.settings.llm_config import LlmConfig, Provider

if __name__ == "__main__":
    folder, store = sys.argv[1:]
    config = RefreshConfig(clusters=ClusterConfig(clusters=3))
    # Shards of 20 prompts: every stage has several, for two processes to share.
    llm = LlmConfig(provider=Provider.DUMMY, shard_size=20)
    refresh(None, config, llm, store, folder)
"""


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runners") / "monday"
    write_demo_dump(folder, seed=3, users=30, items=60)
    return folder


@pytest.fixture(scope="module")
def on_threads(dump: Path, prefect_server: str) -> dict[str, dict[str, str]]:
    return refreshed_on("threads", dump, prefect_server)


@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_artifacts_are_byte_identical_on_every_task_runner(
    runner: str, dump: Path, prefect_server: str, on_threads: dict[str, dict[str, str]]
) -> None:
    if importlib.util.find_spec(f"prefect_{runner}") is None:
        pytest.skip(f"prefect-{runner} is not installed: pip install 'llm4cdsr[{runner}]'")
    assert refreshed_on(runner, dump, prefect_server) == on_threads
    assert {name.split("/")[0] for name in on_threads} == set(MADE)


def refreshed_on(runner: str, dump: Path, api: str) -> dict[str, dict[str, str]]:
    """Returns the checksums of all files by artifact, of a refresh into a store of its own."""
    store = dump.parent / f"store-{runner}"
    script = dump.parent / "refresh_once.py"
    script.write_text(REFRESH)
    kept = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
    done = subprocess.run(
        [sys.executable, str(script), str(dump), str(store)],
        cwd=dump.parent,
        env={
            **kept,
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), kept.get("PYTHONPATH", "")]),
            "PREFECT_HOME": str(dump.parent / f"prefect-{runner}"),
            "PREFECT_API_URL": api,
            "PREFECT_API_AUTH_STRING": PREFECT_API_AUTH_STRING.value() or "",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "LLM4CDSR_TASK_RUNNER": runner,
            "RAY_USAGE_STATS_ENABLED": "0",
        },
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    opened = Store(store)
    manifests = [manifest for kind in Kind for manifest in opened.artifacts(kind)]
    return {
        f"{manifest.kind}/{manifest.fingerprint}": {
            name: file.sha256 for name, file in manifest.files.items()
        }
        for manifest in manifests
    }
