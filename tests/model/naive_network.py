"""The network and its contrastive loss as loops over float64 numbers, one event at a time."""

import math
from typing import Literal

import numpy as np

Vector = np.ndarray
Weights = dict[str, np.ndarray]
Targets = Literal["soft", "identity"]


def naive_norm(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    centred = x - x.mean()
    return centred / math.sqrt((centred**2).mean() + 1e-8) * w[name + ".weight"] + w[name + ".bias"]


def naive_linear(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    return w[name + ".weight"] @ x + w[name + ".bias"]


def naive_last_state(vectors: list[np.ndarray], w: Weights, thread: str) -> np.ndarray:
    """SASRec for one user, one event at a time, in float64: the state after the last event."""
    hidden = len(vectors[0])
    states = [
        v * math.sqrt(hidden) + w[f"{thread}.positions.weight"][t] for t, v in enumerate(vectors)
    ]
    for number in range(2):
        block = f"{thread}.blocks.{number}"
        asking = [naive_norm(s, w, f"{block}.attention_norm") for s in states]
        queries = [naive_linear(a, w, f"{block}.attention.query") for a in asking]
        both = [naive_linear(s, w, f"{block}.attention.key_value") for s in states]
        following = []
        for t in range(len(states)):
            logits = [queries[t] @ both[s][:hidden] / math.sqrt(hidden) for s in range(t + 1)]
            weights = np.exp(logits) / np.exp(logits).sum()
            mixed = sum(weights[s] * both[s][hidden:] for s in range(t + 1))
            summed = asking[t] + naive_linear(np.asarray(mixed), w, f"{block}.attention.out")
            x = naive_norm(summed, w, f"{block}.feed_forward_norm")
            wide = np.maximum(naive_linear(x, w, f"{block}.widen"), 0)
            following.append(x + naive_linear(wide, w, f"{block}.narrow"))
        states = following
    return naive_norm(states[-1], w, f"{thread}.norm")


def naive_contrastive(left: list[Vector], right: list[Vector], targets: Targets) -> float:
    everyone = range(len(left))
    logits = [[x @ y for y in right] for x in left]
    wanted = [[float(i == j) for j in everyone] for i in everyone]
    if targets == "soft":
        for i in everyone:
            alike = [left[i] @ left[j] + right[i] @ right[j] for j in everyone]
            weights = [math.exp(value / 2) for value in alike]
            wanted[i] = [weight / sum(weights) for weight in weights]
    total = 0.0
    for i in everyone:
        for j in everyone:
            share = math.exp(logits[i][j])
            among_right = share / sum(math.exp(logits[i][k]) for k in everyone)
            among_left = share / sum(math.exp(logits[k][j]) for k in everyone)
            total -= wanted[i][j] * (math.log(among_right) + math.log(among_left))
    return total / len(left) / 2
