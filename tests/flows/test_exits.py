"""Exit statuses that scripts rely on."""

from importlib import import_module

import pytest

from flows.endings import BAD_INPUT, FAILED, INPUT_ERRORS, status_of
from tasks.dump import events as dump_events
from tasks.serving import catalogue
from tasks.serving.embed_new_items import OtherEmbedder
from tasks.serving.export_model import OnnxMissing, ParityError
from tasks.serving.export_recs import NotAnExport
from tasks.serving.release import NothingServed


@pytest.mark.parametrize(
    "kind",
    [
        NothingServed,
        NotAnExport,
        OnnxMissing,
        OtherEmbedder,
        catalogue.InvalidItems,
        catalogue.UnknownDomain,
        dump_events.UnknownDomain,
    ],
)
def test_what_trying_again_does_not_help_is_bad_input(kind: type[Exception]) -> None:
    assert status_of(kind("why")) == BAD_INPUT


def test_a_fault_of_our_own_is_a_failure() -> None:
    assert status_of(ParityError("why")) == FAILED


@pytest.mark.parametrize("name", sorted(INPUT_ERRORS))
def test_every_input_error_that_is_named_exists(name: str) -> None:
    module, _, kind = name.rpartition(".")
    assert issubclass(getattr(import_module(module), kind), Exception)
