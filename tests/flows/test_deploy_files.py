"""The files of `deploy/` name what there is: flows, parameters, images, variables, modules."""

import inspect
import json
import re
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint

from flows.server.image_deployments import QUEUES, RETRAIN_QUEUE
from flows.server.machine_worker import FLOWS, MachineWorker
from flows.settings import unknown_variables

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
DEPLOYMENTS: dict[str, Any] = yaml.safe_load((DEPLOY / "prefect.yaml").read_text(encoding="utf-8"))
POOL: dict[str, Any] = json.loads((DEPLOY / "kubernetes-pool.json").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def workdir() -> str:
    (found,) = re.findall(r"^WORKDIR (\S+)$", DOCKERFILE, re.MULTILINE)
    return found


def test_every_deployment_is_a_flow_that_a_worker_of_ours_runs() -> None:
    deployments = {each["name"]: each for each in DEPLOYMENTS["deployments"]}
    assert set(deployments) == set(FLOWS)
    for name, deployment in deployments.items():
        entrypoint = f"{ROOT}/{deployment['entrypoint']}"
        assert entrypoint == FLOWS[name]
        known = inspect.signature(load_flow_from_entrypoint(entrypoint).fn).parameters
        for trigger in deployment.get("triggers", []):
            assert set(trigger["parameters"]) <= set(known)


def test_what_trains_and_what_asks_have_queues_apart() -> None:
    queues = {
        each["name"]: each["work_pool"]["work_queue_name"] for each in DEPLOYMENTS["deployments"]
    }
    assert queues["watch"] == queues["refresh"] == "cpu"
    assert queues["retrain"] == queues["pipeline"] == f"{{{{ ${RETRAIN_QUEUE} }}}}"
    asked = {name: service["command"][-1] for name, service in SERVICES.items() if "worker" in name}
    assert set(asked.values()) == set(QUEUES)


def test_runs_start_where_the_image_has_the_code() -> None:
    (step,) = DEPLOYMENTS["pull"]
    assert step == {"prefect.deployments.steps.set_working_directory": {"directory": workdir()}}
    job = POOL["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert job["containers"][0]["workingDir"] == workdir()
    copied = re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE)
    for path in " ".join(copied).split():
        assert (ROOT / path).exists(), path
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert packages <= set(" ".join(copied).split())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    metadata = project["project"]
    needed = [*metadata.get("license-files", []), metadata["readme"]]
    needed += [f"{name}.py" for name in project["tool"]["setuptools"]["py-modules"]]
    assert set(needed) <= set(" ".join(copied).split()), "the package could not be built"
    (extras,) = set(re.findall(r'"\.\[(.+)\]"', DOCKERFILE))
    assert set(extras.split(",")) <= set(metadata["optional-dependencies"])


def test_no_container_runs_as_root_or_may_become_it() -> None:
    targets = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[2:]
    assert [target.split(" AS ")[1].split()[0] for target in targets] == ["cpu", "gpu"]
    assert all("\nUSER 10001\n" in target for target in targets)
    job = POOL["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert job["securityContext"]["runAsUser"] == 10001
    for name, service in SERVICES.items():
        if service["image"].startswith("llm4cdsr:"):
            assert service["cap_drop"] == ["ALL"], name


def test_a_pool_has_no_variables_that_whoever_orders_a_run_could_set() -> None:
    assert POOL["variables"]["properties"] == {}
    assert POOL["variables"]["additionalProperties"] is False
    assert "{{" not in json.dumps(POOL)


def test_services_need_what_there_is_and_images_have_versions() -> None:
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", {})) <= set(SERVICES), name
        repository, _, tag = service["image"].rpartition(":")
        assert repository, name
        assert tag != "latest", name
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in COMPOSE["volumes"]
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} would be open to the network"
    built = {service["image"] for service in SERVICES.values() if "build" in service}
    used = {s["image"] for s in SERVICES.values() if s["image"].startswith("llm4cdsr:")}
    assert used == built == {"llm4cdsr:cpu", "llm4cdsr:gpu"}


def test_modules_variables_and_secrets_are_those_that_something_reads() -> None:
    example = (DEPLOY / "env.example").read_text(encoding="utf-8")
    offered = set(re.findall(r"^([A-Z0-9_]+)=", example, re.MULTILINE))
    whole = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    required = set(re.findall(r"\$\{(\w+):\?", whole))
    assert required <= offered
    assert not re.findall(r"^(?:\w*(?:PASSWORD|LOGIN|KEY|TOKEN))=.+", example, re.MULTILINE)
    assert unknown_variables(offered) == []
    for service in SERVICES.values():
        assert unknown_variables(service.get("environment", {})) == []
        command = service.get("command", [])
        if "-m" in command:
            module = command[command.index("-m") + 1]
            assert find_spec(module) is not None, module


@pytest.mark.parametrize("name", ["deployments", "worker"])
def test_ours_are_started_by_the_modules_that_take_no_orders(name: str) -> None:
    assert MachineWorker.type == "llm4cdsr"
    assert any(part.startswith("flows.server.") for part in SERVICES[name]["command"])
