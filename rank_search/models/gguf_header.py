"""Walks through the header of a GGUF file, whose counts may be wrong or crafted, before a library believes them.

The library ``gguf`` reads an array element by element, past the end of the file: an array of 10^18 bytes, which a
header of 40 bytes can promise, keeps it busy for ever. The layout is llama.cpp's (``ggml/include/gguf.h``).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

# Bytes of a value by its type: 8-, 16- and 32-bit integers, float, bool, 64-bit integers and double.
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9
_DEEPEST = 2  # arrays in arrays; no file that llama.cpp writes has one


def check_gguf_header(path: Path) -> None:
    """Checks that all values that a header promises are in the file.

    Raises:
        OSError: the file can't be read.
        ValueError: they are not, or the file is no GGUF file.
    """
    with path.open("rb") as file:
        try:
            _Header(file, path.stat().st_size).walk()
        except struct.error:
            raise ValueError("the file ends within its header") from None


class _Header:
    """The header of an open file.

    Args:
        file: at its start.
        size: its bytes.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def walk(self) -> None:
        magic, version, _tensors, values = self._read("<4sIQQ")
        if magic != b"GGUF" or version not in (2, 3):
            raise ValueError("its first bytes are not those of GGUF 2 or 3")
        for _ in range(values):
            self._skip_string()
            self._skip_value(self._read("<I")[0], 0)

    def _skip_value(self, kind: int, depth: int) -> None:
        if kind == _STRING:
            self._skip_string()
        elif kind == _ARRAY:
            self._skip_array(depth)
        elif kind in _SIZES:
            self._skip(_SIZES[kind])
        else:
            raise ValueError(f"it has a value of unknown type {kind}")

    def _skip_array(self, depth: int) -> None:
        kind, length = self._read("<IQ")
        if depth == _DEEPEST:
            raise ValueError("it has arrays within arrays")
        if kind in _SIZES:
            self._skip(length * _SIZES[kind])
            return
        for _ in range(length):  # each takes bytes, so a crafted length ends with the file
            self._skip_value(kind, depth + 1)

    def _skip_string(self) -> None:
        self._skip(self._read("<Q")[0])

    def _skip(self, count: int) -> None:
        place = self._file.tell() + count
        if place > self._size:
            raise ValueError(f"a value of {count:,} bytes ends after the file's {self._size:,}")
        self._file.seek(place)

    def _read(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(layout, self._file.read(struct.calcsize(layout)))
