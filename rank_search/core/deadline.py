"""A time limit for Jinja templates, whose loops may never end."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_TEMPLATE = "<template>"  # Jinja's file name of templates that come from a text


class TemplateTimeout(Exception):
    """A template was not done in time."""


@contextmanager
def template_deadline(seconds: float) -> Iterator[None]:
    """Stops templates that run in this thread after a while.

    It looks at the clock at each line of a template. A single operation, such as a large power, is not interrupted.

    Args:
        seconds: how long the code in this context may take until a line of a template is refused.

    Raises:
        TemplateTimeout: in the template.
    """
    end, before = time.monotonic() + seconds, sys.gettrace()

    def on_line(_frame: FrameType, _event: str, _value: Any) -> Any:
        if time.monotonic() > end:
            raise TemplateTimeout
        return on_line

    def on_call(frame: FrameType, _event: str, _value: Any) -> Any:
        return on_line if frame.f_code.co_filename == _TEMPLATE else None

    sys.settrace(on_call)
    try:
        yield
    finally:
        sys.settrace(before)
