"""The memory that a training step needs beside the model: how much it is, and how the process holds it."""

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

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # constants of glibc's malloc.h
_REQUESTED = re.compile(r"allocate ([\d.]+) (bytes|[KMGT]iB)")
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def retain_freed_memory() -> None:
    """Makes this process keep the memory that it frees, so that the next step can use it again.

    By default glibc returns a step's activations to the system, and the next step takes them again, page by page.
    That costs 34,000 page faults and a tenth of the step's time, for four maps of the demo. glibc's mallopt(3)
    switches it off. Other C libraries are left as they are. PyTorch retains GPU memory anyway.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)
        libc.mallopt(_M_MMAP_MAX, 0)


def release_memory() -> None:
    """Returns this process's free memory to the system; called between packs.

    Packs of different maps and texts leave different holes in the heap, so retained memory would grow: from 3.6 to
    5.6 GB over thirty packs of nine maps of the demo.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def count_activations(model: nn.Module) -> Iterator[Callable[[], int]]:
    """Counts the bytes that forward passes keep for their backward pass; each storage counts once.

    Autograd keeps the model's weights as well. They are not counted, because they take no extra memory.

    Yields:
        A function that returns the bytes so far.
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


def memory_needed(error: BaseException, device: torch.device) -> int:
    """A lower bound, in bytes, on the memory that a failed allocation needed.

    It is the peak memory (on a CPU: the process's memory now, freed memory included, see `retain_freed_memory`)
    plus the bytes that the error message names.
    """
    on_cuda = device.type == "cuda"
    taken = torch.cuda.max_memory_allocated(device) if on_cuda else psutil.Process().memory_info().rss
    requested = _REQUESTED.search(str(error))
    return int(taken + (float(requested[1]) * _UNITS[requested[2]] if requested else 0))


def reset_peak_memory(device: torch.device) -> None:
    """Resets the peak that `memory_needed` reports on a GPU; does nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def available_memory(device: torch.device) -> int:
    """Free memory of a device, in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
