"""Writes a study's report: one folder that opens offline."""

from __future__ import annotations

import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import yaml

from rank_search.analysis.comparison import BEST_UNIFORM, SVD_RIVAL, UNIFORM_RIVAL
from rank_search.analysis.maps import named
from rank_search.analysis.trials import complete, in_space
from rank_search.core.batch_order import fit_map_means
from rank_search.report.figures import write_figures
from rank_search.report.folder import PAGE, ReportFolder
from rank_search.report.html import as_json, page
from rank_search.report.interactive import figures
from rank_search.report.page_data import page_data
from rank_search.report.paper import write_paper
from rank_search.report.summary import plain, summarise, summary_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rank_search.report.summary import Summary
    from rank_search.study.handle import Study

ROLES = {
    "untrained": "before fine-tuning",
    "chosen": "chosen map",
    BEST_UNIFORM: "best uniform map",
    UNIFORM_RIVAL: "uniform map of no more parameters, or the smallest",
    SVD_RIVAL: "SVD map of no more parameters",
}


def write_report(study: Study, out: Path, *, paper: bool = False) -> Summary:
    """Analyses a study and writes its report into ``out``, in place of an older one; other files there stay.

    Args:
        study: the study.
        out: the folder to write.
        paper: figures and a table for a paper are wanted beside the page.

    Raises:
        InputError: the folder is no place for this study's report; see `rank_search.report.folder.ReportFolder`.
        RankSearchError: the study has no scored trial yet.
    """
    folder = ReportFolder.of_study(out, study.name, study.metadata)
    folder.check()
    summary = summarise(study)
    with folder.replaced() as partial:
        pictures = write_figures(summary, partial)
        (partial / "summary.json").write_text(summary_json(summary), encoding="utf-8")
        table = summary.trials.assign(
            **{column: summary.trials[column].map(json.dumps) for column in ("ranks", "requested_ranks", "settings")}
        )
        table.to_csv(partial / "trials.csv", index=False)
        page_text = _page(summary, pictures, study.name_in_commands, None)
        (partial / PAGE).write_text(page_text, encoding="utf-8")
        if paper:
            write_paper(summary, partial)
    return summary


def write_page(summary: Summary, folder: ReportFolder, study: str, refresh: int | None) -> None:
    """Writes the page alone into a folder, in one step; it needs no other file but for its links.

    Args:
        summary: what it shows.
        folder: the folder.
        study: how a command names it.
        refresh: seconds after which it reloads; None where it does not.

    Raises:
        InputError: the folder is no place for this study's report.
    """
    with TemporaryDirectory() as place:
        text = _page(summary, write_figures(summary, Path(place)), study, refresh)
    folder.write_page(text)


def _page(summary: Summary, pictures: Sequence[Path], study: str, refresh: int | None) -> str:
    return page(
        "index.html.j2",
        summary.name,
        pictures,
        figures(summary),
        ["plots.js", "page.js"],
        summary=summary,
        chosen=summary.chosen,
        layers=_by_dimension(summary, summary.chosen.ranks),
        roles=ROLES,
        seeds_sigma=_noise(summary),
        refresh=refresh,
        called=study,
        data=as_json({**page_data(summary, study), "refresh": refresh}),
        metrics=summary.test.get("metrics", {}),
        cut={kind: counts for kind, counts in summary.metadata.cut.items() if counts[0]},
        examples=summary.test.get("examples", []),
        trials=plain(summary.trials.to_dict(orient="records")),
        on_front=set(summary.front["number"]),
        config=yaml.safe_dump(dict(summary.metadata.config), sort_keys=False, allow_unicode=True),
        environment=yaml.safe_dump(dict(summary.metadata.environment), sort_keys=False),
    )


def _noise(summary: Summary) -> float | None:
    """Standard deviation of a single training's score around its map's mean; None where nothing was repeated."""
    sigma = fit_map_means(named(in_space(complete(summary.trials)))).sigma
    return sigma if math.isfinite(sigma) else None


def _by_dimension(summary: Summary, ranks: Mapping[str, int]) -> list[tuple[str, int, int, int]]:
    """(dimension, modules, rank, parameters) of a map."""
    rows = []
    for name, modules in summary.metadata.space.dimensions.items():
        rank = ranks[modules[0]]
        parameters = rank * sum(sum(summary.metadata.space.shapes[module]) for module in modules)
        rows.append((name, len(modules), rank, parameters))
    return rows
