"""How figures, printed and interactive, mark what they show: one mark a kind of trial, one colour a rank."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib import colormaps
from matplotlib.colors import to_hex

from rank_search.core.rivals import FAMILY, KINDS, RETRAINED, SEARCH, UNIFORM

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Okabe & Ito's palette: distinct to colour-blind readers.
BLUE, ORANGE, RED = "#0072B2", "#E69F00", "#D55E00"
_GREEN, _PINK, _SKY = "#009E73", "#CC79A7", "#56B4E9"
PALETTE = (BLUE, RED, _GREEN, _PINK, ORANGE, _SKY)

FAINTEST = 0.4  # opacity of a map that is sure not to stand on the front


@dataclass(frozen=True)
class Mark:
    """How one kind of trial is drawn.

    Attributes:
        symbol: matplotlib's name of its marker.
        web: plotly's name of the same.
        colour: of it.
        label: in the legend.
    """

    symbol: str
    web: str
    colour: str
    label: str


MARKS = {
    SEARCH: Mark("o", "circle", BLUE, "searched map"),
    UNIFORM: Mark("s", "square", ORANGE, "uniform rank"),
    KINDS["svd"]: Mark("v", "triangle-down", _GREEN, "SVD of one large training"),
    RETRAINED: Mark("^", "triangle-up", _GREEN, "SVD's ranks, trained afresh"),
    FAMILY: Mark("p", "pentagon", _PINK, "modules of one kind"),
    KINDS["eva"]: Mark("P", "cross", _PINK, "EVA"),
    KINDS["adalora"]: Mark("X", "x", _SKY, "AdaLoRA"),
}


def rank_colours(ranks: Iterable[int]) -> dict[int, tuple[str, str]]:
    """Rank → (colour, that of text on it), the lighter the higher.

    By log₂(1 + rank), so that 1 and 2 look about as far apart as 8 and 16, on the ladder and off it.
    """
    found = sorted(set(ranks))
    top = math.log2(1 + max(found, default=0)) or 1.0
    shares = {rank: math.log2(1 + rank) / top for rank in found}
    colours = {rank: colormaps["viridis"](share) for rank, share in shares.items()}
    return {rank: (to_hex(colour), _text_on(colour)) for rank, colour in colours.items()}


def _text_on(colour: Sequence[float]) -> str:
    """Black or white, whichever stands out more: WCAG's contrast ratio by relative luminance."""
    linear = [channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4 for channel in colour[:3]]
    luminance = sum(share * channel for share, channel in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return "#000000" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "#ffffff"


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Names without the dotted parts that all of them begin with; each keeps its last part, so that they differ."""
    parts = {name: name.split(".") for name in names}
    shared = 0
    if len(parts) > 1:
        for parts_of_place in zip(*(split[:-1] for split in parts.values()), strict=False):
            if len(set(parts_of_place)) > 1:
                break
            shared += 1
    return {name: ".".join(split[shared:]) for name, split in parts.items()}


def thousands(value: float) -> str:
    """A count as 83k, 1.2M or 7G."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:  # what three digits round up to the next unit
            return f"{value / size:.3g}{unit}"
    return f"{value:g}"
