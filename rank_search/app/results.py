"""A study's results, for notebooks and scripts."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from rank_search.analysis.choice import choose
from rank_search.core.choice import Rule
from rank_search.core.errors import InputError, did_you_mean
from rank_search.core.extras import require_extra
from rank_search.core.ranks import RankMap
from rank_search.report.summary import summarise
from rank_search.study.handle import Study

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from rank_search.report.summary import Summary


@dataclass(frozen=True, repr=False)
class Results:
    """A study, analysed, as it was when it was loaded.

    Attributes:
        summary: all that the report says.
    """

    summary: Summary

    @property
    def trials(self) -> pd.DataFrame:
        """One row a trial; the columns are those of `rank_search.study.table.trials_table`."""
        return self.summary.trials

    @property
    def maps(self) -> pd.DataFrame:
        """One row a map of the space, its trainings taken together: `rank_search.analysis.maps.maps_table`."""
        return self.summary.maps

    @property
    def front(self) -> pd.DataFrame:
        """The rows of `maps` that stand on the front, by ascending parameters."""
        return self.summary.front

    @property
    def verdict(self) -> str:
        """Whether the search won, in words."""
        return self.summary.verdict.headline

    @property
    def chosen(self) -> RankMap:
        """The map that the report is about: that of the study's own rule."""
        return self.choose()

    def choose(self, rule: str | None = None) -> RankMap:
        """The map that a rule chooses.

        Args:
            rule: ``as-good-as-best``, ``within-one-se``, ``best``, ``knee``, ``max-parameters=N`` or ``min-score=X``;
                the study's own by default.

        Raises:
            InputError: that is no rule.
            RankSearchError: no map meets it.
        """
        picked = self.summary.rule if rule is None else Rule.parse(rule)
        return RankMap(choose(self.summary.evidence, picked).ranks)

    def rank_map(self, trial: int) -> RankMap:
        """The map of a trial.

        Raises:
            InputError: there is no such trial, or it has no map.
        """
        ranks = self.trials.set_index("number")["ranks"].get(trial)
        if ranks is None:
            raise InputError(f"{trial} is no trial of {self.summary.name!r} that has a map; see trials")
        return RankMap(ranks)

    def figure(self, name: str = "pareto") -> Figure:
        """One of the report's figures.

        Args:
            name: ``differences``, ``pareto``, ``rank_heatmap``, ``hypervolume``, ``hypervolume_seconds``,
                ``importance``, ``losses``.

        Raises:
            InputError: there is no such figure.
        """
        require_extra("report", "a figure")
        from rank_search.report.figures import drawn, names_of

        if name not in (names := names_of(self.summary)):
            raise InputError(f"{name!r} is no figure; {did_you_mean(name, names)}")
        return drawn(self.summary, [name])[name]

    def __repr__(self) -> str:
        return f"Results of {self.summary.name!r}: {self.verdict}"

    def _repr_html_(self) -> str:
        """Verdict and front, where a notebook shows the object."""
        columns = ["number", "kind", "score", "score_se", "seeds", "trainable_parameters", "front_probability"]
        table: str = self.front[columns].to_html(index=False, float_format="{:.4f}".format)
        return f"<b>{escape(self.summary.name)}</b><p>{escape(self.verdict)}</p>{table}"


def load(study: str, storage: str | None = None) -> Results:
    """See `rank_search.load`; neither model nor data are loaded."""
    return Results(summarise(Study.open(study, storage)))
