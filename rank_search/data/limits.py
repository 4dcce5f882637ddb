"""Bounds on what is read, so that a crafted or mistaken file is refused instead of filling the memory."""

from __future__ import annotations

import psutil

from rank_search.core.errors import InputError

LONGEST_TEXT = 2_000_000  # characters, of which a tokenizer may need 300 bytes each
_SHARE = 4  # rows in memory take several times what their file takes


def memory_limit() -> int:
    """The most bytes that one file may hold when it is decompressed: a quarter of the free memory."""
    return int(psutil.virtual_memory().available) // _SHARE


def check_size(size: int, file: str) -> None:
    """Checks that a file fits into memory.

    Args:
        size: bytes that it holds when it is decompressed, or a part of them.
        file: for the message.

    Raises:
        InputError: it is too large.
    """
    limit = memory_limit()
    if size > limit:
        raise InputError(
            f"holds more than {limit / 1e9:.1f} GB, a quarter of this machine's free memory; take fewer rows",
            file=file,
        )
