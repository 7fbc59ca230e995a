"""One training run by several processes, on one machine or many: what each does, and how they agree.

``torchrun`` starts the same command several times (``torchrun --nproc-per-node 2 -m ase_mlcalc train train.toml``).
Each process holds all structures, computes the gradient of its share of a batch, and adds up gradients with the others,
so that all take the same step: the run is that of one process, but for the order in which numbers are added.  The first
process alone writes files and looks at the clock.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ase_mlcalc.errors import ConfigError

Item = TypeVar("Item")


class Processes(NamedTuple):
    """The processes of a run, seen by one of them; by default there is only this one."""

    rank: int = 0
    """Number of this process, from 0."""
    size: int = 1
    """How many there are."""

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """What this process does of something; nothing if there is less to do than there are processes."""
        return items[self.rank :: self.size]

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Sum each tensor over the processes, in place; all have the same shapes everywhere."""
        if self.size == 1:
            return
        by_type: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for tensor in tensors:
            by_type.setdefault((tensor.dtype, tensor.device), []).append(tensor)
        for alike in by_type.values():  # one message for all: many small ones would be all latency
            flat = torch.cat([tensor.reshape(-1) for tensor in alike])
            dist.all_reduce(flat)
            for tensor, summed in zip(alike, flat.split([tensor.numel() for tensor in alike]), strict=True):
                tensor.copy_(summed.view_as(tensor))

    def from_first(self, value: float) -> float:
        """What the first process says, for what depends on the clock."""
        if self.size == 1:
            return value
        said = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(said, src=0)
        return float(said)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Nobody goes on behind this before all have come to its end."""
        yield
        self.wait()

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            dist.barrier()


ALONE = Processes()


def here() -> Processes:
    """The processes of this run, as `joined` found them."""
    if dist.is_available() and dist.is_initialized():
        return Processes(dist.get_rank(), dist.get_world_size())
    return ALONE


@contextmanager
def joined() -> Iterator[Processes]:
    """Meet the other processes that ``torchrun`` has started, if it has, and part from them at the end.

    Raises
    ------
    ConfigError
        ``torchrun`` has started several processes and PyTorch was built without support for that.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or here().size > 1:
        yield here()
        return
    if not dist.is_available():
        raise ConfigError("this PyTorch knows no distributed training; install one that does, or start one process")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    # tensors on GPUs travel by NCCL, those of the clock and of validation by Gloo
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield here()
    finally:
        dist.destroy_process_group()
