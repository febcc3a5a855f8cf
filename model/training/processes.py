"""Several processes that fit one model together, each on its share of every batch.

What is unusual here: nothing is averaged. Every process divides its loss by the counts of the whole
batch, so that plain sums of gradients are exactly those of one process with the whole batch.
`DistributedDataParallel` would take the mean of the processes' means, and it clears and sends whole
item tables where a step touches a few thousand of their rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from model.config import ModelInputError
from model.launch import is_torchrun

PATIENCE = timedelta(hours=2)
"""How long a process waits for the others: the first one may load or save for long."""


class NoSuchDeviceError(ModelInputError):
    """The device that was asked for is not there; the message says which can be."""


@dataclass(frozen=True)
class Team:
    """The processes that fit one model; `rank` 0 leads: it saves and reports."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - a value, not a shared object

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share_of(self, count: int) -> range:
        """The rows, of `count`, that are this process's to work on."""
        return range(self.rank, count, self.size)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes; every one must call, with a tensor of the same shape."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def from_lead(self, values: Sequence[float]) -> list[float]:
        """What the leading process says, in every process."""
        if self.size == 1:
            return list(values)
        said = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.broadcast(said, 0)
        return said.tolist()

    def bytes_from_lead(self, content: bytes) -> bytes:
        """What the leading process has, in every process."""
        if self.size == 1:
            return content
        (length,) = self.from_lead([len(content)])
        letters = np.frombuffer(content.ljust(int(length))[: int(length)], np.uint8).copy()
        said = torch.from_numpy(letters).to(self.device)
        dist.broadcast(said, 0)
        return said.cpu().numpy().tobytes()

    def tensors_from_lead(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The leading process's tensors, on the CPU, in every process; one travels at a time."""
        if self.size == 1:
            return tensors
        form = {n: (str(t.dtype).removeprefix("torch."), list(t.shape)) for n, t in tensors.items()}
        form = json.loads(self.bytes_from_lead(json.dumps(form).encode()))
        found = {}
        for name, (dtype, shape) in form.items():
            sent = tensors[name] if self.leads else torch.empty(shape, dtype=getattr(torch, dtype))
            sent = sent.to(self.device).contiguous()
            dist.broadcast(sent, 0)
            found[name] = sent.cpu()
        return found

    def any(self, is_so: bool) -> bool:
        """Whether something is so in at least one process; every one must call."""
        return bool(self.sum(torch.tensor(float(is_so), device=self.device)))

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace dense gradients by their sums, in one message.

        A parameter that no process's share has reached keeps no gradient: Adam must not move it.
        """
        if self.size == 1:
            return
        members = list(parameters)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in members]
        reached = torch.tensor([float(p.grad is not None) for p in members], device=self.device)
        whole = self.sum(torch.cat([*(grad.flatten().float() for grad in grads), reached]))
        parts = whole.split([*(grad.numel() for grad in grads), len(members)])
        for member, part, count in zip(members, parts, parts[-1].tolist(), strict=False):
            member.grad = part.view_as(member) if count else None

    def sum_sparse_gradient(self, table: Tensor) -> None:
        """Replace a table's sparse gradient by the sum: only rows that somebody used travel."""
        if self.size == 1:
            return
        if table.grad is None:
            rows = torch.zeros(0, dtype=torch.int64, device=table.device)
            values = table.new_zeros(0, table.shape[1])
        else:
            own = table.grad.coalesce()
            rows, values = own.indices()[0], own.values()
        rows, values = (torch.cat(parts) for parts in self._gather(rows, values))
        if len(rows):  # Else nobody used a row, and one process would have no gradient either.
            table.grad = torch.sparse_coo_tensor(
                rows[None], values, table.shape, check_invariants=False
            )

    def gather(self, vectors: Tensor) -> Tensor:
        """Rows of all processes, (n, H), in the order of ranks; gradients reach one's own alone.

        A loss of these rows, computed by everyone, has the right gradient once all are summed.
        """
        if self.size == 1:
            return vectors
        (parts,) = self._gather(vectors.detach())
        parts[self.rank] = vectors
        return torch.cat(parts)

    def _gather(self, *own: Tensor) -> list[list[Tensor]]:
        """Everyone's rows of each of `own`, which have as many rows as each other here, but not
        as many as elsewhere."""
        device, length = own[0].device, len(own[0])
        counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(self.size)]
        dist.all_gather(counts, torch.tensor([length], device=device))
        lengths = [int(count) for count in counts]
        return [self._gather_padded(rows, lengths) for rows in own]

    def _gather_padded(self, own: Tensor, lengths: Sequence[int]) -> list[Tensor]:
        padded = own.new_zeros(max(lengths), *own.shape[1:])
        padded[: len(own)] = own
        received = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(received, padded)
        return [part[:length] for part, length in zip(received, lengths, strict=True)]


def alone(device: str = "auto") -> Team:
    """One process. `auto` takes the first GPU where there is one. Raises NoSuchDeviceError."""
    return Team(device=_device(device, 0))


@contextmanager
def team(device: str = "auto") -> Iterator[Team]:
    """The processes that `torchrun` started, this one among them; without it, this one alone.

    With GPUs each process takes the one of its local rank and they speak by NCCL, else by gloo.
    """
    if not is_torchrun():
        yield alone(device)
        return
    place = _device(device, int(os.environ["LOCAL_RANK"]))
    if place.type == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Team(dist.get_rank(), dist.get_world_size(), place)
    finally:
        dist.destroy_process_group()


def _device(name: str, local_rank: int) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise NoSuchDeviceError(f"device {name!r} is none of auto, cpu, cuda, cuda:1") from error
    if device.type != "cuda":
        return device
    count = torch.cuda.device_count()
    index = local_rank if device.index is None else device.index
    if index >= count:
        way_out = (
            "name another, or start no more processes than there are GPUs"
            if count
            else "use --device auto or cpu, or install a build of torch for your GPU"
        )
        raise NoSuchDeviceError(
            f"device {name!r} needs GPU {index}, and torch {torch.__version__} sees {count}; "
            f"{way_out}"
        )
    return torch.device("cuda", index)
