"""A thread: causal transformer over a user's item vectors (SASRec, Kang & McAuley 2018).

What is unusual here:

- Sequences are padded on the right, so the causal mask hides padding from every real position, and
  attention needs no mask tensor.
- The `sasrec` block normalises the query only and adds the attention to it; `pre_norm` is the
  standard residual block.
- In training on a CPU all but attention runs on the events alone, without padding: histories of one
  domain in a batch are almost half padding.
- Dropout takes one random byte per activation (`ByteDropout`), also that of attention there. Both
  together save a quarter of a step of `large` (docs/log.md).

Dimensions: B users, T positions, H width, N events of all users.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import ModelConfig


class Encoder(nn.Module):
    """From item vectors (B, T, H) to states (B, T, H); the state at `t` depends on positions
    `0..t`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.scale = config.input_scale or math.sqrt(config.hidden)
        self.max_length = config.max_length
        self.positions = nn.Embedding(config.max_length, config.hidden)
        self.dropout = ByteDropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.hidden, eps=1e-8)

    def forward(self, vectors: Tensor, is_padding: Tensor) -> Tensor:
        states = vectors * self.scale + self.positions.weight[: vectors.shape[1]]  # (B, T, H)
        events = self._events(is_padding)
        if events is not None:
            states = states.flatten(0, 1).index_select(0, events)  # (N, H)
        states = self.dropout(states)
        for block in self.blocks:
            states = block(states, is_padding, events)
        states = self.norm(states)
        return states if events is None else _padded(states, events, is_padding.shape)

    def _events(self, is_padding: Tensor) -> Tensor | None:
        """Returns the flat positions of the events, (N,); None to compute on padded rows.

        Elsewhere than in training on a CPU, shapes that depend on values would cost more (a GPU
        waits for them) or could not be compiled.
        """
        if not self.training or is_padding.device.type != "cpu" or torch.compiler.is_compiling():
            return None
        return (~is_padding).flatten().nonzero().squeeze(1)


class Block(nn.Module):
    """Self-attention and a position-wise feed-forward network, each with a residual connection."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pre_norm = config.block == "pre_norm"
        self.attention_norm = nn.LayerNorm(config.hidden, eps=1e-8)
        self.attention = Attention(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden, eps=1e-8)
        self.widen = nn.Linear(config.hidden, config.hidden)
        self.narrow = nn.Linear(config.hidden, config.hidden)
        self.dropout = ByteDropout(config.dropout)

    def forward(self, states: Tensor, is_padding: Tensor, events: Tensor | None = None) -> Tensor:
        normed = self.attention_norm(states)
        if self.pre_norm:
            states = states + self.dropout(self.attention(normed, normed, is_padding, events))
            return states + self._feed_forward(self.feed_forward_norm(states))
        attended = self.attention(normed, states, is_padding, events)
        states = self.feed_forward_norm(normed + attended)
        return states + self._feed_forward(states)

    def _feed_forward(self, states: Tensor) -> Tensor:
        return self.dropout(self.narrow(self.dropout(F.relu(self.widen(states)))))


class Attention(nn.Module):
    """Multi-head attention with queries from `asking` and keys from `read`; causal by default."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.causal = config.heads, config.causal
        self.dropout = ByteDropout(config.dropout)
        self.query = nn.Linear(config.hidden, config.hidden)
        self.key_value = nn.Linear(config.hidden, 2 * config.hidden)
        self.out = nn.Linear(config.hidden, config.hidden)

    def forward(
        self, asking: Tensor, read: Tensor, is_padding: Tensor, events: Tensor | None
    ) -> Tensor:
        projected = torch.cat((self.query(asking), self.key_value(read)), dim=-1)
        if events is not None:
            projected = _padded(projected, events, is_padding.shape)
        query, key, value = map(self._split, projected.chunk(3, dim=-1))  # (B, heads, T, H / heads)
        mixed = self._mixed(query, key, value, is_padding, events)
        mixed = mixed.transpose(1, 2).flatten(2)  # (B, T, H)
        if events is not None:
            mixed = mixed.flatten(0, 1).index_select(0, events)
        return self.out(mixed)

    def _mixed(
        self, query: Tensor, key: Tensor, value: Tensor, is_padding: Tensor, events: Tensor | None
    ) -> Tensor:
        """Returns the attended values, (B, heads, T, H / heads)."""
        mask = None if self.causal else _visible(is_padding)
        if events is None:
            drop = self.dropout.p if self.training else 0.0
            return F.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, is_causal=self.causal, dropout_p=drop
            )
        # PyTorch's attention draws its dropout number by number on a CPU (7 % of a step).
        if mask is None:
            length = query.shape[2]
            mask = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
        scores = (query * query.shape[-1] ** -0.5) @ key.mT
        weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
        return self.dropout(weights) @ value

    def _split(self, vectors: Tensor) -> Tensor:
        return vectors.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _padded(rows: Tensor, events: Tensor, shape: torch.Size) -> Tensor:
    """Returns rows (N, W) at their flat positions `events` (N,), zeros elsewhere, (B, T, W)."""
    table = rows.new_zeros(shape.numel(), rows.shape[1])
    return table.index_copy(0, events, rows).unflatten(0, shape)


def _visible(is_padding: Tensor) -> Tensor:
    """Returns the attention mask of bidirectional attention, (B, 1, T, T): True for events and for
    the position itself.

    The position itself prevents NaN in rows of padding only.
    """
    itself = torch.eye(is_padding.shape[1], dtype=torch.bool, device=is_padding.device)
    return (~is_padding[:, None, None, :]) | itself


LEVELS = 256


class ByteDropout(nn.Module):
    """Dropout with probability `p` rounded to 1/256, scaled by the actual keep probability.

    `torch.nn.Dropout` on a CPU draws one number per activation, a fifth of a training step here.
    This takes one byte per activation: each 64-bit draw serves eight. On a GPU, where drawing is
    fast, and under torch.compile, PyTorch's own dropout is used.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p, self.threshold = p, round(p * LEVELS)
        if not 0 <= self.threshold < LEVELS:
            raise ValueError(f"dropout of {p} must be at least 0 and below 1")

    def forward(self, activations: Tensor) -> Tensor:
        if not self.training or self.threshold == 0:
            return activations
        if torch.compiler.is_compiling() or activations.device.type != "cpu":
            return F.dropout(activations, self.threshold / LEVELS)
        words = torch.empty(
            -(-activations.numel() // 8), dtype=torch.int64, device=activations.device
        )
        drawn = words.random_(-(2**63), None).view(torch.uint8)[: activations.numel()]
        kept = (drawn >= self.threshold).view(activations.shape).to(activations.dtype)
        # One multiplication forward and one backward: half the time of `torch.where` on two cores.
        return activations * kept.mul_(LEVELS / (LEVELS - self.threshold))
