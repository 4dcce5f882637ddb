"""The memory that a training step takes beside the model: how much, and from where."""

from __future__ import annotations

import ctypes
import platform
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Lets this process keep the memory that it frees, for the next step to take.

    By default glibc gives a step's activations back to the system, and the next step takes them anew, page by
    page: 34,000 page faults and a tenth of the step's time, for four maps of the demo. Its mallopt(3)
    switches that off. Other C libraries are left as they are, and GPU memory is kept by PyTorch anyway.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)
        libc.mallopt(_M_MMAP_MAX, 0)


def give_back_memory() -> None:
    """Gives the memory that is free now back to the system, between packs.

    Packs of other maps and texts leave other holes in the heap, so what is kept would grow: from 3.6 to 5.6 GB over
    thirty packs of nine maps of the demo.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def counting_activations(model: nn.Module) -> Iterator[Callable[[], int]]:
    """Counts the bytes that forward passes keep for their backward pass, each storage once.

    The frozen weights, which are kept as well but are there anyway, are not counted.
    """
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield lambda: sum(kept.values())


_ASKED = re.compile(r"allocate ([\d.]+) (bytes|[KMGT]iB)")
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def memory_needed(error: BaseException, device: torch.device) -> int:
    """Bytes that would not have been enough short of: what was taken at most, and what was asked for beside it.

    On a CPU the whole process is counted, which keeps what it frees (see `keep_freed_memory`).
    """
    on_cuda = device.type == "cuda"
    taken = torch.cuda.max_memory_allocated(device) if on_cuda else psutil.Process().memory_info().rss
    asked = _ASKED.search(str(error))
    return int(taken + (float(asked[1]) * _UNITS[asked[2]] if asked else 0))


def forget_peak(device: torch.device) -> None:
    """Lets `memory_needed` count from here."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def memory_left(device: torch.device) -> int:
    """Bytes that may still be taken on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
