"""Pages that are one file: styles, scripts, pictures and data within, and no request to anywhere."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from plotly.offline import get_plotlyjs

from rank_search.report.summary import plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import plotly.graph_objects as go

_TEMPLATES = Path(__file__).with_name("templates")


def page(
    template: str,
    title: str,
    pictures: Sequence[Path],
    figures: Mapping[str, go.Figure],
    scripts: Sequence[str],
    **content: Any,
) -> str:
    """Renders a page.

    Args:
        template: its file's name.
        title: of the page.
        pictures: PNG files, which the template knows by their names without ``.png``.
        figures: what takes the place of pictures of the same names where scripts run.
        scripts: names of scripts, which run after plotly's in this order.
        content: what the template fills in beside these.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        title=title,
        style=_asset("page.css"),
        pictures={path.stem: _inlined(path) for path in pictures},
        figures=as_json({name: figure.to_plotly_json() for name, figure in figures.items()}),
        plotly=get_plotlyjs(),
        script="\n".join(_asset(name) for name in scripts),
        **content,
    )


def as_json(data: Mapping[str, Any]) -> str:
    """JSON that may stand inside a ``script`` element, with null for what is no number."""
    return json.dumps(plain(data), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _asset(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _inlined(picture: Path) -> str:
    """A picture as part of a page."""
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
