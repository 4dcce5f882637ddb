"""RankBench: every rank map of a small space, trained; an objective that answers at once, with the true front known.

    from rankbench import RankBench

    bench = RankBench.load()
    score, parameters = bench.objective(trial)   # of an Optuna trial
    bench.share(proposals)                       # of the true hypervolume, that these maps have

See README.md beside this file for what was trained.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from optuna._hypervolume import compute_hypervolume

from rank_search.core.space import Space
from rank_search.search.proposals.samplers import suggest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from optuna import Trial

HERE = Path(__file__).parent


class RankBench:
    """The table.

    Attributes:
        space: what was searched.
        table: one row a map: a column of ladder indices for each dimension, ``parameters``, ``score_0`` and
            ``score_1`` by study, each with the ``seed_…`` of its adapter, ``score``, their mean, and ``score_se``,
            its standard error; ``expected``, what a training is expected to score, and ``expected_se``.
        examples: ``[2, maps, examples]``: the score of each validation example, by study and row of the table.
        energies: module → σ² of each component of one large training.
    """

    def __init__(
        self,
        space: Space,
        table: pd.DataFrame,
        examples: np.ndarray,
        energies: Mapping[str, Sequence[float]],
    ) -> None:
        self.space = space
        self.table = table
        self.examples = examples
        self.energies = energies
        self._whole: dict[str, float] = {}  # hypervolume by column
        keys = map(tuple, table[list(space.dimensions)].to_numpy().tolist())
        self._places = {key: place for place, key in enumerate(keys)}
        untrained = table["expected"].iloc[self.place(space.proposal(space.uniform(0)))]  # the same in all trainings
        self._corner = np.array([-untrained, space.reference_parameters])

    @classmethod
    def load(cls, folder: Path = HERE) -> RankBench:
        """The table as published."""
        space = Space.from_json(json.loads((folder / "space.json").read_text()))
        energies = json.loads((folder / "energies.json").read_text())
        values = pd.read_parquet(folder / "examples.parquet")
        examples = np.array([np.stack(values[column]) for column in values])
        return cls(space, pd.read_parquet(folder / "rankbench.parquet"), examples, energies)

    def place(self, proposal: Mapping[str, float]) -> int:
        """Row of a map."""
        return self._places[tuple(int(proposal[name]) for name in self.space.dimensions)]

    def objective(self, trial: Trial, seed: int | None = None) -> tuple[float, int]:
        """Score and parameters of a trial's map: of the training with this seed, as a study sees it, or the mean."""
        suggest(trial, self.space)
        row = self.table.iloc[self.place(trial.params)]
        return float(row["score" if seed is None else f"score_{seed}"]), int(row["parameters"])

    def share(self, proposals: Iterable[Mapping[str, float]], column: str = "expected") -> float:
        """The part of the true hypervolume that some maps have, by this column of the table."""
        points = np.column_stack([-self.table[column], self.table["parameters"]]).astype(float)
        if column not in self._whole:
            self._whole[column] = self._volume(points)
        rows = [self.place(proposal) for proposal in proposals]
        return self._volume(points[rows]) / self._whole[column]

    def front(self, column: str = "expected") -> pd.DataFrame:
        """The true front by this column, by ascending parameters."""
        ordered = self.table.sort_values(["parameters", column], ascending=[True, False])
        return ordered[ordered[column] > ordered[column].cummax().shift(fill_value=-np.inf)]

    def _volume(self, points: np.ndarray) -> float:
        inside = points[(points < self._corner).all(axis=1)]
        return float(compute_hypervolume(inside, self._corner)) if len(inside) else 0.0
