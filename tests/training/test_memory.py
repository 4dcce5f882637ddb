"""The memory of training steps."""

import platform
import subprocess
import sys
import types

import pytest
import torch
from torch import nn

from rank_search.training.memory import available_memory, count_activations, memory_needed, reset_peak_memory

pytestmark = pytest.mark.training

FAULTS = """
import resource, sys, torch
from rank_search.training.memory import retain_freed_memory

def step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept = [torch.ones(mebibytes << 18) for mebibytes in (12, 2, 12, 4, 6, 12, 3, 12) * 4]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "keep":
    retain_freed_memory()
step()
print(step())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_freed_memory_is_taken_again_with_few_page_faults() -> None:
    """Few, not none: freed places do not fit every tensor of the next step."""

    def faults(how: str) -> int:
        line = [sys.executable, "-c", FAULTS, how]
        return int(subprocess.run(line, capture_output=True, text=True, check=True).stdout)

    assert faults("keep") < faults("as it is") / 4


def test_activations_are_counted_once_and_weights_not_at_all() -> None:
    layer = nn.Linear(8, 8, bias=False)
    x = torch.ones(4, 8, requires_grad=True)
    with count_activations(layer) as counted:
        y = layer(x)  # keeps x
        (y * y).sum()  # keeps y, twice the same
    assert counted() == 2 * 4 * 8 * 4


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_what_is_kept_is_given_back_between_packs() -> None:
    """In a process of its own, since the heap of this one is full of other tests' memory."""
    script = (
        "import psutil, torch\n"
        "from rank_search.training.memory import release_memory, retain_freed_memory\n"
        "def resident(): return psutil.Process().memory_info().rss / 2**20\n"
        "retain_freed_memory()\n"
        "before = resident()\n"
        "tensors = [torch.ones(2**16) for _ in range(1000)]\n"  # 250 MB, with something behind them
        "last = torch.ones(2**16)\n"
        "del tensors\n"
        "kept = resident()\n"
        "release_memory()\n"
        "print(kept - before, resident() - before)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    kept, left = map(float, result.stdout.split())
    assert kept > 200
    assert left < 50


@pytest.mark.parametrize(
    ("message", "requested"),
    [
        ("Tried to allocate 1.50 GiB. GPU 0 has", 1.5 * 2**30),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes.", 4096),
        ("Tried to allocate 20.00 MiB", 20 * 2**20),
        ("no memory", 0),
    ],
)
def test_memory_needed_is_what_is_taken_and_what_was_requested(monkeypatch, message, requested) -> None:
    class Process:
        def memory_info(self):
            return types.SimpleNamespace(rss=1000)

    monkeypatch.setattr("psutil.Process", Process)
    cpu = torch.device("cpu")
    reset_peak_memory(cpu)
    assert memory_needed(RuntimeError(message), cpu) == 1000 + requested


def test_available_memory_is_the_systems(monkeypatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: types.SimpleNamespace(available=12345))
    assert available_memory(torch.device("cpu")) == 12345
