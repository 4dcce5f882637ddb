"""What the page's script works on: plain data, with the choices of every rule made here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rank_search.analysis.choice import PLAIN_RULES, Rule, choose
from rank_search.analysis.comparison import uniform_rivals
from rank_search.analysis.trials import complete, scored
from rank_search.core.module_names import kind_of, layer_of
from rank_search.report.curves import thinned
from rank_search.report.marks import rank_colours, short_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rank_search.report.summary import Summary


def page_data(summary: Summary, called: str) -> dict[str, Any]:
    """Everything that can be hovered over, pinned or chosen.

    ``called``: how a command names the study. ``maps``: every map of the space and every scored baseline outside it,
    with ``ranks`` in the order of ``modules``; ``rival``, the best uniform map of no more parameters; ``weights``,
    whether they are there to export. ``grid``: row and column of each module. ``front``: numbers by ascending
    parameters, and so by score, from which a bound chooses. ``choices`` of the other rules. ``contenders`` of the
    verdict. ``losses``: step and mean loss until there, of what was trained.
    """
    modules = list(summary.record.space.shapes)
    outside = scored(complete(summary.trials[summary.trials["baseline"].notna()]))
    shown = {**scored(summary.maps), **outside}
    names = dict(zip(summary.trials["number"], summary.trials["baseline"], strict=True))
    rivals = uniform_rivals(summary.maps, shown.values())
    found = [
        {
            "number": of.number,
            "name": names[of.number] if of.number in outside else of.kind,
            "score": of.score,
            "se": of.score_se,
            "seeds": of.seeds,
            "parameters": of.trainable_parameters,
            "probability": None if of.number in outside else of.front_probability,
            "ranks": [of.ranks[module] for module in modules],
            "settings": dict(of.settings),
            "rival": rivals.get(of.number),
            "weights": "kept" if of.number in summary.kept else "retrain" if of.trainable_parameters else "none",
        }
        for of in shown.values()
    ]
    return {
        "called": called,
        "maps": found,
        "front": summary.front["number"].tolist(),
        "choices": {name: choose(summary.maps, Rule(name)).number for name in PLAIN_RULES},
        "rule": str(summary.rule),
        "contenders": [of.trial for of in summary.contenders],
        "grid": _grid(modules),
        "colours": rank_colours(rank for of in shown.values() for rank in of.ranks.values()),
        "losses": {number: thinned(losses) for number, losses in summary.losses.items() if len(losses)},
    }


def _grid(modules: Sequence[str]) -> dict[str, Any]:
    """Layers and kinds of module, and each module's place among them."""
    layers = list(dict.fromkeys(layer_of(name) for name in modules))
    kinds = list(dict.fromkeys(kind_of(name) for name in modules))
    short = short_names(layers)
    return {
        "layers": [short[layer] for layer in layers],
        "kinds": kinds,
        "places": [[layers.index(layer_of(name)), kinds.index(kind_of(name))] for name in modules],
    }
