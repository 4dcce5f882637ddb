"""Makes the table of RankBench from its two studies.

for seed in 0 1; do
    python -m rank_search run benchmarks/rankbench/study.yaml --set seed=$seed --set study=rankbench-$seed
done
python benchmarks/rankbench/build.py
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import typer

from rank_search.search.storage import StudyFolder, load_study

HERE = Path(__file__).parent
STUDIES = ("rankbench-0", "rankbench-1")


def main(studies: Path = Path("studies"), out: Path = HERE) -> None:
    """Writes rankbench.parquet, space.json and studies.json."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    columns, records = [], []
    for number, name in enumerate(STUDIES):
        study, record = load_study(StudyFolder(studies / name), None)
        names = list(record.space.dimensions)
        complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        rows = [
            {**trial.params, "parameters": int(trial.values[1]), f"score_{number}": trial.values[0]}
            for trial in complete
        ]
        seeds = [{f"seed_{number}": trial.user_attrs["seed"]} for trial in complete]
        columns.append(
            pd.DataFrame([{**row, **seed} for row, seed in zip(rows, seeds, strict=True)]).set_index(
                [*names, "parameters"]
            )
        )
        seconds = sum(trial.user_attrs["seconds"] for trial in complete)
        records.append({"config": dict(record.config), "environment": dict(record.environment), "seconds": seconds})
    table = columns[0].join(columns[1], how="inner", validate="one_to_one").reset_index()
    if len(table) != record.space.size:
        raise SystemExit(f"{len(table)} of {record.space.size} maps have both scores; run the studies to their end")
    scores = table[["score_0", "score_1"]].to_numpy()
    # The noise of a training, pooled: what is left when the map, and the seed with its batches, are taken out.
    residuals = scores - scores.mean(axis=1, keepdims=True) - scores.mean(axis=0) + scores.mean()
    sigma = float(np.sqrt((residuals**2).sum() / (len(table) - 1)))
    table = table.assign(score=scores.mean(axis=1), score_se=sigma / np.sqrt(2))
    table = table.sort_values(names).reset_index(drop=True)
    table.to_parquet(out / "rankbench.parquet", index=False)
    (out / "space.json").write_text(json.dumps(asdict(record.space), indent=2) + "\n")
    (out / "studies.json").write_text(json.dumps(records, indent=2) + "\n")
    lowest, highest = table["score"].min(), table["score"].max()
    print(f"{len(table)} maps score {lowest:.4f} to {highest:.4f}; the noise of a training is {sigma:.4f}")


if __name__ == "__main__":
    typer.run(main)
