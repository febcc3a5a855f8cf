"""What a machine decides: how often an outage is met with patience."""

import subprocess
import sys

import pytest
from prefect.states import Completed, Failed

from flows.operating import (
    ended,
    is_outage,
    patient,
    refuse_budget_elsewhere,
)
from tasks.embed import embed_items
from tasks.llm.client.failures.refusals import EndpointRefusedError
from tasks.llm.client.stop import EndpointDownError
from tasks.llm.settings.budget import Budget, UnusableBudgetError
from tasks.llm.settings.engine import Engine, EngineSettings


def test_only_an_outage_is_worth_another_try() -> None:
    for error, again in ((EndpointDownError("gone"), True), (EndpointRefusedError("key"), False)):
        state = Failed(message=str(error), data=error)
        assert is_outage(embed_items, None, state) is again  # pyright: ignore[reportArgumentType]


def test_a_stage_of_the_command_line_fails_at_once() -> None:
    assert patient(embed_items).retries == 0


def test_an_end_with_words_of_its_own_keeps_its_value() -> None:
    state = ended({"a": 1}, "all is well", name="Held")
    assert isinstance(state, type(Completed()))
    assert (state.name, state.message, state.type.value) == ("Held", "all is well", "COMPLETED")


@pytest.mark.parametrize("flow", ["flows.watch", "flows.refresh"])
def test_what_trains_no_model_does_not_wait_for_torch_to_load(flow: str) -> None:
    loaded = f"import sys, {flow}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], timeout=300, check=False)
    assert done.returncode == 0


def test_a_budget_that_nobody_would_keep_is_refused() -> None:
    on_ray = EngineSettings(engine=Engine.RAY)
    with pytest.raises(UnusableBudgetError, match="LLM4CDSR_ENGINE=threads"):
        refuse_budget_elsewhere(on_ray, Budget(max_requests=5))
    refuse_budget_elsewhere(on_ray, Budget())
    refuse_budget_elsewhere(EngineSettings(), Budget(max_requests=5))
