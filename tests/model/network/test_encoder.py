import pytest
import torch

from model.config import ModelConfig
from model.network.encoder import ByteDropout, Encoder

VARIANTS = [
    {"block": "sasrec"},
    {"block": "pre_norm", "heads": 2},
]


def encoder(**changes: object) -> Encoder:
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"hidden": 12, "max_length": 9, **changes})
    return Encoder(config).eval()


def states(thread: Encoder, vectors: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    is_padding = torch.arange(vectors.shape[1]) >= torch.tensor(lengths)[:, None]
    return thread(vectors, is_padding)


@pytest.mark.parametrize("variant", VARIANTS)
def test_changing_a_later_event_changes_no_earlier_state(variant: dict[str, object]) -> None:
    thread, vectors = encoder(**variant), torch.randn(3, 7, 12)
    before = states(thread, vectors, [7, 7, 7])
    changed = vectors.clone()
    changed[:, 4] = torch.randn(3, 12)
    after = states(thread, changed, [7, 7, 7])
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.isclose(before[:, 4:], after[:, 4:]).all(-1).any()


def test_without_the_causal_mask_a_position_sees_its_target() -> None:
    thread, vectors = encoder(causal=False), torch.randn(3, 7, 12)
    changed = vectors.clone()
    changed[:, 4] = torch.randn(3, 12)
    before, after = states(thread, vectors, [7] * 3), states(thread, changed, [7] * 3)
    assert not torch.isclose(before[:, 3], after[:, 3]).all()


@pytest.mark.parametrize("variant", [*VARIANTS, {"causal": False}])
def test_padding_changes_nothing(variant: dict[str, object]) -> None:
    thread, vectors = encoder(**variant), torch.randn(2, 4, 12)
    padded = torch.cat((vectors, torch.randn(2, 3, 12)), dim=1)
    torch.testing.assert_close(
        states(thread, padded, [4, 4])[:, :4], states(thread, vectors, [4, 4])
    )


@pytest.mark.parametrize("variant", [*VARIANTS, {"causal": False}])
def test_training_on_events_alone_gives_the_states_and_gradients_of_padded_rows(
    variant: dict[str, object],
) -> None:
    thread, vectors = encoder(dropout=0.0, **variant), torch.randn(3, 7, 12)
    lengths = [7, 0, 3]
    exists = torch.arange(7) < torch.tensor(lengths)[:, None]

    def with_gradients() -> list[torch.Tensor]:
        thread.zero_grad()
        found = states(thread, vectors, lengths)[exists]
        (found * torch.arange(12)).sum().backward()
        return [found, *(weight.grad for weight in thread.parameters() if weight.grad is not None)]

    padded = with_gradients()
    thread.train()
    assert not states(thread, vectors, lengths)[~exists].any()
    torch.testing.assert_close(with_gradients(), padded, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("causal", [True, False])
def test_a_row_of_padding_alone_is_not_nan(causal: bool) -> None:
    thread = encoder(causal=causal)
    assert torch.isfinite(states(thread, torch.zeros(2, 5, 12), [0, 3])).all()


def test_byte_dropout_keeps_the_mean_and_drops_the_asked_share() -> None:
    torch.manual_seed(1)
    dropped = ByteDropout(0.3)(torch.ones(1000, 321))
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.01)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.005)


def test_byte_dropout_does_nothing_when_evaluating() -> None:
    vectors = torch.randn(3, 5)
    assert torch.equal(ByteDropout(0.9).eval()(vectors), vectors)


def test_the_input_scale_is_what_vectors_are_multiplied_by() -> None:
    """Blocks normalise, but what positions add weighs less beside longer vectors."""
    vectors, nobody = torch.randn(1, 3, 12), torch.zeros(1, 3, dtype=torch.bool)
    usual, doubled = encoder(), encoder(input_scale=2 * 12**0.5)
    doubled.load_state_dict(usual.state_dict())
    torch.testing.assert_close(doubled(vectors / 2, nobody), usual(vectors, nobody))
    assert not torch.allclose(doubled(vectors, nobody), usual(vectors, nobody), atol=1e-3)
