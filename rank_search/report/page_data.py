"""What the page's script works on: plain data, with the choices of every rule made here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rank_search.analysis.choice import choose
from rank_search.analysis.comparison import uniform_rivals
from rank_search.analysis.trials import scored
from rank_search.core.choice import PLAIN_RULES, Rule
from rank_search.core.module_names import kind_of, layer_of
from rank_search.core.rivals import KINDS
from rank_search.report.curves import shown_differences, thinned
from rank_search.report.marks import rank_colours, short_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rank_search.report.summary import Summary


def page_data(summary: Summary, called: str) -> dict[str, Any]:
    """Everything that can be hovered over, pinned or chosen.

    ``called``: how a command names the study. ``maps``: every scored map and rival, with ``ranks`` in the order of
    ``modules``; ``difference`` to the best uniform map, where it is drawn; ``rival``, the best uniform map of no more
    parameters; ``weights``, whether they are there to export. ``grid``: row and column of each module. ``front``:
    numbers by ascending parameters, and so by score, from which a bound chooses. ``choices`` of the other rules.
    ``compared``: trials of the verdict. ``losses``: step and mean loss until there, of
    what was trained.
    """
    modules = list(summary.metadata.space.shapes)
    shown = scored(summary.maps)
    names = dict(zip(summary.trials["number"], summary.trials["label"], strict=True))
    rivals = uniform_rivals(summary.maps, shown.values())
    known = shown_differences(summary)
    differences = dict(zip(known["number"].tolist(), known["difference"].tolist(), strict=True))
    found = [
        {
            "number": trial.number,
            "name": names[trial.number] if trial.kind in KINDS.values() else trial.kind,
            "score": trial.score,
            "se": trial.score_se,
            "difference": differences.get(trial.number),
            "seeds": trial.seeds,
            "parameters": trial.trainable_parameters,
            "probability": trial.front_probability,
            "ranks": [trial.ranks[module] for module in modules],
            "settings": dict(trial.settings),
            "rival": rivals.get(trial.number),
            "weights": "kept" if trial.number in summary.kept else "retrain" if trial.trainable_parameters else "none",
        }
        for trial in shown.values()
    ]
    return {
        "called": called,
        "maps": found,
        "front": summary.front["number"].tolist(),
        "choices": {name: choose(summary.evidence, Rule(name)).number for name in PLAIN_RULES},
        "rule": str(summary.rule),
        "compared": [trial.trial for trial in summary.compared],
        "grid": _grid(modules),
        "colours": rank_colours(rank for trial in shown.values() for rank in trial.ranks.values()),
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
