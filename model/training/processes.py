"""Distributed training: each process computes a part of every batch.

What is unusual here: gradients are summed, not averaged. Every process divides its loss by the
counts of the whole batch, so sums of gradients equal those of one process.
`DistributedDataParallel` would average the means of processes, and would send whole item tables
although a step uses a few thousand rows.
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
"""Timeout of collective operations; rank 0 may load or save for long."""


class NoSuchDeviceError(ModelInputError):
    """The requested device does not exist; the message lists the available ones."""


@dataclass(frozen=True)
class ProcessGroup:
    """Process group of one training; `rank` 0 saves and reports."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - a value, not a shared object

    @property
    def is_leader(self) -> bool:
        return self.rank == 0

    def share_of(self, count: int) -> range:
        """Returns this process's rows of `count`."""
        return range(self.rank, count, self.size)

    def sum(self, tensor: Tensor) -> Tensor:
        """Returns the sum over all processes. Collective: all must call it, with tensors of the
        same shape."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def from_rank_0(self, values: Sequence[float]) -> list[float]:
        """Broadcasts a value of rank 0."""
        if self.size == 1:
            return list(values)
        said = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.broadcast(said, 0)
        return said.tolist()

    def bytes_from_rank_0(self, content: bytes) -> bytes:
        """Broadcasts bytes of rank 0."""
        if self.size == 1:
            return content
        (length,) = self.from_rank_0([len(content)])
        letters = np.frombuffer(content.ljust(int(length))[: int(length)], np.uint8).copy()
        said = torch.from_numpy(letters).to(self.device)
        dist.broadcast(said, 0)
        return said.cpu().numpy().tobytes()

    def tensors_from_rank_0(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Broadcasts tensors of rank 0 to the CPU of all processes, one at a time."""
        if self.size == 1:
            return tensors
        form = {n: (str(t.dtype).removeprefix("torch."), list(t.shape)) for n, t in tensors.items()}
        form = json.loads(self.bytes_from_rank_0(json.dumps(form).encode()))
        found = {}
        for name, (dtype, shape) in form.items():
            sent = (
                tensors[name] if self.is_leader else torch.empty(shape, dtype=getattr(torch, dtype))
            )
            sent = sent.to(self.device).contiguous()
            dist.broadcast(sent, 0)
            found[name] = sent.cpu()
        return found

    def any(self, is_so: bool) -> bool:
        """Returns whether a flag is True in any process. Collective."""
        return bool(self.sum(torch.tensor(float(is_so), device=self.device)))

    def wait(self) -> None:
        """Waits for all processes."""
        if self.size > 1:
            dist.barrier()

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replaces dense gradients by their sums, in one message.

        A parameter without a gradient in all processes keeps none, so that Adam does not move it.
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
        """Replaces a table's sparse gradient by the sum; only used rows are sent."""
        if self.size == 1:
            return
        if table.grad is None:
            rows = torch.zeros(0, dtype=torch.int64, device=table.device)
            values = table.new_zeros(0, table.shape[1])
        else:
            own = table.grad.coalesce()
            rows, values = own.indices()[0], own.values()
        rows, values = (torch.cat(parts) for parts in self._gather(rows, values))
        if len(rows):  # No process used a row; a single process would have no gradient either.
            table.grad = torch.sparse_coo_tensor(
                rows[None], values, table.shape, check_invariants=False
            )

    def gather(self, vectors: Tensor) -> Tensor:
        """Returns the rows of all processes, (n, H), in the order of ranks; gradients flow to the
        own rows only.

        A loss of these rows, computed by all processes, has the correct gradient after summation.
        """
        if self.size == 1:
            return vectors
        (parts,) = self._gather(vectors.detach())
        parts[self.rank] = vectors
        return torch.cat(parts)

    def _gather(self, *own: Tensor) -> list[list[Tensor]]:
        """Returns all processes' rows of each tensor in `own`; these have equal numbers of rows
        within a process, but not across processes."""
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


def alone(device: str = "auto") -> ProcessGroup:
    """Returns a group of one process. `auto` selects the first GPU if present. Raises
    NoSuchDeviceError."""
    return ProcessGroup(device=_device(device, 0))


@contextmanager
def open_process_group(device: str = "auto") -> Iterator[ProcessGroup]:
    """Returns the process group of `torchrun`; without it, a group of one process.

    With GPUs each process uses the one of its local rank and NCCL, else gloo.
    """
    if not is_torchrun():
        yield alone(device)
        return
    place = _device(device, int(os.environ["LOCAL_RANK"]))
    if place.type == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield ProcessGroup(dist.get_rank(), dist.get_world_size(), place)
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
