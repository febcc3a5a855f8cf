"""What one step does beside following the gradient: decay, averaging, half precision."""

import pytest
import torch

from model.config import TrainConfig
from model.training.optimizers import Optimizers
from model.training.processes import ProcessGroup
from model.training.trainer import fit
from model.training.training_state import TrainingState
from tests.model.conftest import Shop


def test_decay_shrinks_matrices_by_its_share_and_leaves_biases_and_norms(shop: Shop) -> None:
    """Decoupled: without a gradient to follow, a step multiplies by 1 - rate * decay, no more."""
    model = shop.model()
    train = shop.config(train={"weight_decay": 0.3, "learning_rate": 0.1}).train
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(2.0)
    optimizers = Optimizers(model, train)
    tables = {id(table.weight) for table in model.item_tables()}
    network = [p for p in model.parameters() if p.requires_grad and id(p) not in tables]
    for parameter in network:
        parameter.grad = torch.zeros_like(parameter)
    optimizers.step(ProcessGroup())
    for parameter in network:
        wanted = 2.0 * (1 - 0.1 * 0.3) if parameter.dim() > 1 else 2.0
        torch.testing.assert_close(parameter, torch.full_like(parameter, wanted))


def test_the_average_keeps_its_share_of_every_step(shop: Shop) -> None:
    model = shop.model()
    state = TrainingState(model, TrainConfig.model_validate({"averaging": 0.75}), "of this test")
    weight = model.adapter.first.weight
    start = weight.detach().clone()
    wanted = start.clone()
    for step in (1.0, -3.0):
        with torch.no_grad():
            weight.add_(step)
        state.follow()
        wanted = 0.75 * wanted + 0.25 * weight.detach()
    with state.validated_weights():
        torch.testing.assert_close(weight.detach(), wanted)
    torch.testing.assert_close(weight.detach(), start - 2.0)


@pytest.mark.parametrize(
    ("precision", "half"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_matrices_are_multiplied_in_the_precision_asked_for(
    shop: Shop, precision: str, half: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    multiplied: set[torch.dtype] = set()
    linear = torch.nn.Linear.forward

    def watched(layer: torch.nn.Linear, given: torch.Tensor) -> torch.Tensor:
        made = linear(layer, given)
        if torch.is_grad_enabled() and layer.training:
            multiplied.add(made.dtype)
        return made

    monkeypatch.setattr(torch.nn.Linear, "forward", watched)
    config = shop.config(train={"precision": precision, "max_epochs": 1})
    fitted = fit(shop.sequences, shop.tables, config)
    assert multiplied == {half}
    assert {parameter.dtype for parameter in fitted.model.parameters()} == {torch.float32}
