"""How commands print: tables, JSON and numbers. Rich is imported by the first table only."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table on stdout; each row has one text for each column."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def print_json(content: Mapping[str, Any]) -> None:
    """Prints one JSON object on one line of stdout."""
    print(json.dumps(content))


def finite_or_none(value: float) -> float | None:
    """The value, or None for NaN and infinity, which JSON does not have."""
    return value if math.isfinite(value) else None


def format_billions(value: float) -> str:
    """A large number in billions, such as ``12 G`` or ``1.2 G``; a unit can follow."""
    return f"{value / 1e9:,.0f} G" if value >= 1e10 else f"{value / 1e9:.2g} G"


def progress_console() -> Console:
    """The console for progress: stderr, so that stdout holds results only."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)
