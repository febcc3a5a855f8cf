from collections.abc import Sequence

import pytest
import torch

from model.training.optimizers import Optimizers
from model.training.processes import ProcessGroup
from model.training.table_memory import table_memory
from model.training.training_state import TrainingState
from tests.model.conftest import WIDTH, Shop


def item_bytes(tensors: Sequence[torch.Tensor], rows: int) -> int:
    return sum(t.nbytes for t in tensors if t.dim() == 2 and len(t) == rows)


@pytest.mark.parametrize(
    ("model", "train"),
    [
        ({}, {}),
        ({"global_correction": True}, {"averaging": 0.9}),
        ({"local_tables": "frozen"}, {}),
        ({"global_items": "ids"}, {}),
        ({"global_correction": True}, {"table_update": "lazy"}),
        ({"global_correction": True}, {"table_update": "lazy", "averaging": 0.9}),
        ({"bridge_factors": 4}, {}),
    ],
    ids=str,
)
def test_the_stated_memory_is_what_the_tensors_hold(
    shop: Shop, model: dict[str, object], train: dict[str, object]
) -> None:
    config = shop.config(model, train)
    made = shop.model(model)
    state = TrainingState(made, config.train, "test")
    stated = table_memory(shop.tables.item_count, WIDTH, config)
    rows = shop.tables.item_count + 1
    trained = [p for p in made.parameters() if p.requires_grad]
    frozen = [
        t for t in made.state_dict().values() if all(t.data_ptr() != p.data_ptr() for p in trained)
    ]
    assert stated.frozen + stated.bridge == item_bytes(frozen, rows)
    assert bool(stated.bridge) == bool(config.model.bridge_factors)
    assert stated.trainable == item_bytes(trained, rows)
    kept = [*state.best_weights.values(), *(state._average or {}).values()]
    kept = [tensor for tensor in kept if tensor.untyped_storage().filename is None]  # else on disk
    assert stated.copies == item_bytes(kept, rows)
    step(made, state.optimizers)
    moments = [
        value
        for member in state.optimizers.members
        for values in member.state.values()
        for value in values.values()
        if torch.is_tensor(value)
    ]
    assert stated.moments == item_bytes(moments, rows)


def step(model: torch.nn.Module, optimizers: Optimizers) -> None:
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter).to_sparse(1)
            if not any(parameter is table for table in optimizers._tables):
                parameter.grad = parameter.grad.to_dense()
    optimizers.step(ProcessGroup())


def test_the_line_names_every_part_and_the_sum(shop: Shop) -> None:
    told = str(table_memory(2**18 - 1, 256, shop.config({"hidden": 64})))
    assert told == (
        "256.0 MiB frozen, 64.0 MiB trainable, 128.0 MiB Adam moments, "
        "64.0 MiB gradient buffers, 64.0 MiB kept copies; 576.0 MiB in all"
    )
