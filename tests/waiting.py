"""Waiting for a condition, and not for a time that a slow machine outlasts."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], limit: float = 120.0) -> None:
    """Waits until something is so; fails after ``limit`` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
