"""States at the last event of each history, for ranking and recommending.

`encoder.py` computes the states of all positions for training. This implementation of the same
function is faster in three ways: the members of a thread are one batched matrix product; padding is
added for attention only; and the last block is computed for the last positions only. No gradient,
no dropout.

Dimensions: M members, B histories, T positions, N events of all histories, H width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.network.encoder import Attention, Block, Encoder


class LastStates:
    """A thread evaluated at the last event of each history, with the weights at construction."""

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        """`encoders` are the members of one thread."""
        first = encoders[0]
        self.members, self.scale = len(encoders), first.scale
        self.positions = torch.stack([encoder.positions.weight for encoder in encoders])
        self.blocks = [
            _Block([_block(encoder, number) for encoder in encoders])
            for number in range(len(first.blocks))
        ]
        self.norm = _Norm([encoder.norm for encoder in encoders])

    def __call__(self, vectors: Tensor, is_padding: Tensor) -> Tensor:
        """From item vectors (B, T, M * H), padded on the right, to states (M, B, H).

        Every history must have an event.
        """
        places = _Places(is_padding)
        real = vectors.flatten(0, 1)[places.flat] * self.scale  # (N, M * H)
        states = real.view(len(real), self.members, -1).transpose(0, 1)  # (M, N, H)
        states = states + self.positions[:, places.column]
        for block in self.blocks[:-1]:
            states = block(states, places, places.every)
        return self.norm(self.blocks[-1](states, places, places.last))


class _Places:
    """Indices of the N events in B padded histories."""

    def __init__(self, is_padding: Tensor) -> None:
        self.rows, self.width = is_padding.shape
        self.is_real = ~is_padding
        self.flat = self.is_real.flatten().nonzero()[:, 0]  # (N,) into B * T
        self.column = self.flat % self.width
        self.every = torch.arange(len(self.flat), device=is_padding.device)  # (N,)
        self.last = self.is_real.sum(1).cumsum(0) - 1  # (B,) into N

    def padded(self, packed: Tensor, events: Tensor) -> Tensor:
        """Returns vectors (M, n, H) of some `events` (n,) as (M, B, T, H), padded with zeros."""
        members, _, hidden = packed.shape
        padded = packed.new_zeros(members, self.rows * self.width, hidden)
        padded[:, self.flat[events]] = packed
        return padded.view(members, self.rows, self.width, hidden)


class _Block:
    """`encoder.Block` of all members, evaluated at selected events."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.pre_norm = blocks[0].pre_norm
        self.attention_norm = _Norm([block.attention_norm for block in blocks])
        self.attention = _Attention([block.attention for block in blocks])
        self.feed_forward_norm = _Norm([block.feed_forward_norm for block in blocks])
        self.widen = _linear([block.widen for block in blocks])
        self.narrow = _linear([block.narrow for block in blocks])

    def __call__(self, states: Tensor, places: _Places, asked: Tensor) -> Tensor:
        """From states (M, N, H) to the block's output at the events `asked` (n,), (M, n, H)."""
        normed = self.attention_norm(states)
        if self.pre_norm:
            found = states[:, asked] + self.attention(normed, normed, places, asked)
            return found + self._feed_forward(self.feed_forward_norm(found))
        found = normed[:, asked] + self.attention(normed, states, places, asked)
        found = self.feed_forward_norm(found)
        return found + self._feed_forward(found)

    def _feed_forward(self, states: Tensor) -> Tensor:
        return self.narrow(F.relu(self.widen(states)))


class _Attention:
    """`encoder.Attention` of all members, evaluated at selected events."""

    def __init__(self, attentions: Sequence[Attention]) -> None:
        first = attentions[0]
        self.heads, self.causal = first.heads, first.causal
        self.query = _linear([attention.query for attention in attentions])
        self.key_value = _linear([attention.key_value for attention in attentions])
        self.out = _linear([attention.out for attention in attentions])

    def __call__(self, asking: Tensor, read: Tensor, places: _Places, asked: Tensor) -> Tensor:
        query = self.query(asking[:, asked])  # (M, n, H)
        read = places.padded(self.key_value(read), places.every)  # (M, B, T, 2H)
        if asked is places.last:
            # One query per history, which attends to all of it.
            mixed = self._attend(query.unsqueeze(2), read, self._visible(places))
            return self.out(mixed.squeeze(2))
        visible = None if self.causal else self._visible(places)
        mixed = self._attend(places.padded(query, asked), read, visible)
        return self.out(mixed.flatten(1, 2)[:, places.flat[asked]])

    def _attend(self, query: Tensor, read: Tensor, visible: Tensor | None) -> Tensor:
        """Returns the attention output of queries (M, B, T', H) over `read` (M, B, T, 2H); causal
        without a mask."""
        key, value = (self._split(part) for part in read.chunk(2, dim=-1))
        mixed = F.scaled_dot_product_attention(
            self._split(query), key, value, attn_mask=visible, is_causal=visible is None
        )
        return mixed.transpose(1, 2).reshape(query.shape)

    def _split(self, vectors: Tensor) -> Tensor:
        """Returns (M, B, T, H) split by heads, (M * B, heads, T, H / heads)."""
        return vectors.flatten(0, 1).unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _visible(self, places: _Places) -> Tensor:
        """Returns the mask of keys: all events, (M * B, 1, 1, T)."""
        return places.is_real.repeat(self.out.weight.shape[0], 1)[:, None, None]


@dataclass(frozen=True)
class _Linear:
    weight: Tensor  # (M, H, H')
    bias: Tensor  # (M, 1, H')

    def __call__(self, vectors: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, vectors, self.weight)


class _Norm:
    """Layer norms of all members."""

    def __init__(self, norms: Sequence[nn.LayerNorm]) -> None:
        self.width, self.eps = norms[0].normalized_shape, norms[0].eps
        self.weight = torch.stack([norm.weight for norm in norms])[:, None]  # (M, 1, H)
        self.bias = torch.stack([norm.bias for norm in norms])[:, None]

    def __call__(self, vectors: Tensor) -> Tensor:
        normed = F.layer_norm(vectors, list(self.width), eps=self.eps)
        return torch.addcmul(self.bias, normed, self.weight)


def _linear(layers: Sequence[nn.Linear]) -> _Linear:
    weight = torch.stack([layer.weight.T for layer in layers])
    return _Linear(weight, torch.stack([layer.bias for layer in layers])[:, None])


def _block(encoder: Encoder, number: int) -> Block:
    block = encoder.blocks[number]
    assert isinstance(block, Block)
    return block
