"""Makes the tables of RankBench from its studies: two that train every map, and one that makes a large training.

    study="python -m rank_search run benchmarks/rankbench/study.yaml"
    $study --set study=rankbench-0 --set seed=0
    $study --set study=rankbench-1 --set seed=1
    $study --set study=rankbench-large --set search.trials=1 --set search.baselines=[svd]
    python benchmarks/rankbench/build.py

The first two run side by side, on one core each (OMP_NUM_THREADS=1), in less time than one after the other.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pandas as pd
import typer
from optuna.trial import TrialState

from rank_search.app.loading import load_study_task
from rank_search.config import recorded
from rank_search.executors.local import LocalExecutor
from rank_search.study.handle import Study

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.trial import FrozenTrial

HERE = Path(__file__).parent
TRAINED = ("rankbench-0", "rankbench-1")
LARGE = "rankbench-large"


def main(studies: Path = Path("studies"), out: Path = HERE) -> None:
    """Writes rankbench.parquet, examples.parquet, energies.json, space.json and studies.json."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    opened = {name: Study.open(str(studies / name)) for name in (*TRAINED, LARGE)}
    space = opened[TRAINED[0]].space
    trained = [_trained(opened[name], str(number)) for number, name in enumerate(TRAINED)]
    table = pd.concat(trained, axis=1, join="inner").reset_index()
    if len(table) != space.size:
        raise SystemExit(f"{len(table)} of {space.size} maps have both scores; run the studies to their end")
    names = list(space.dimensions)
    table = _with_mean(table).sort_values(names).reset_index(drop=True)
    prices = [space.parameters(space.rank_map(row)) for row in table[names].to_dict(orient="records")]
    table.insert(len(names), "parameters", prices)
    table = table.assign(**_expected(table, names))
    examples = [f"values_{number}" for number, _ in enumerate(TRAINED)]
    table[examples].to_parquet(out / "examples.parquet", index=False)
    table.drop(columns=examples).to_parquet(out / "rankbench.parquet", index=False)
    (out / "energies.json").write_text(json.dumps(_energies(opened[LARGE])) + "\n")
    (out / "space.json").write_text(json.dumps(asdict(space), indent=2) + "\n")
    records = [_record(study) for study in opened.values()]
    (out / "studies.json").write_text(json.dumps(records, indent=2) + "\n")
    noise = table["score_se"].iloc[0] * np.sqrt(2)
    print(f"{len(table)} maps score {table['score'].min():.4f} to {table['score'].max():.4f}")
    print(f"standard deviation of the means {table['score'].std():.4f}, of a training around them {noise:.4f}")
    for order in (1, 2, 3):
        off = _left_over(table, names, order)
        print(f"effects of up to {order} layers, of one training, are {off:.5f} off the other")


def _energies(study: Study) -> dict[str, list[float]]:
    """Module → σ² of each component of the study's large training."""
    config = recorded(study.metadata.config)
    task, space = load_study_task(config)
    executor = LocalExecutor(config, task, space)
    large = next(trial.number for trial in study.trials() if trial.rival and trial.rival.recipe == "scratch")
    spectrum = executor.spectrum(study.folder.adapter(large))
    return {name: [sigma**2 for sigma in sigmas] for name, sigmas in spectrum.items()}


def _column(complete: Sequence[FrozenTrial], name: str) -> pd.DataFrame:
    """Scores of complete trials by proposal."""
    proposals = pd.DataFrame([trial.params for trial in complete])
    return proposals.assign(**{name: [trial.values[0] for trial in complete]}).set_index(list(proposals))


def _trained(study: Study, number: str) -> pd.DataFrame:
    """Scores of a study's trainings by proposal, the seed of each, and the score of each example."""
    complete = study.optuna_study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    values = [np.float32(study.folder.read_result(trial.number)["values"]["ndcg@10"]) for trial in complete]
    seeds = [trial.attributes.seed for trial in study.trials() if trial.is_complete]
    return _column(complete, f"score_{number}").assign(**{f"seed_{number}": seeds, f"values_{number}": values})


def _with_mean(table: pd.DataFrame) -> pd.DataFrame:
    """Adds the mean score and its standard error.

    The noise of a training is pooled over all maps: what is left when the map, and the seed with its order of batches,
    are taken out.
    """
    scores = table[["score_0", "score_1"]].to_numpy()
    residuals = scores - scores.mean(axis=1, keepdims=True) - scores.mean(axis=0) + scores.mean()
    sigma = float(np.sqrt((residuals**2).sum() / (len(table) - 1)))
    return table.assign(score=scores.mean(axis=1), score_se=sigma / np.sqrt(2))


def _expected(table: pd.DataFrame, names: list[str]) -> dict[str, np.ndarray]:
    """The score that a training of each map is expected to have, with its standard error.

    Least squares over all trainings, with an effect of each layer's rank, and of each pair of layers' ranks. Of the
    untrained model it is the score itself, which no training makes noisy.
    """
    trained = table["parameters"].to_numpy() > 0
    effects = _effects(table[names].to_numpy(), 2)
    score, sigma = table["score"].to_numpy(), table["score_se"].iloc[0]
    root = np.linalg.qr(effects[trained])[0]
    fitted = root @ (root.T @ score[trained])
    expected, error = score.copy(), np.zeros(len(table))
    expected[trained], error[trained] = fitted, sigma * np.linalg.norm(root, axis=1)
    return {"expected": expected, "expected_se": error}


def _effects(indices: np.ndarray, order: int) -> np.ndarray:
    """A constant, and 0 or 1 for each combination of up to so many layers' ranks, the lowest rank being the norm."""
    single = [(indices[:, [i]] == np.unique(indices[:, i])[1:]).astype(float) for i in range(indices.shape[1])]
    columns = [np.ones((len(indices), 1))]
    for size in range(1, order + 1):
        for chosen in combinations(single, size):
            product = columns[0]
            for of_layer in chosen:
                product = (product[:, :, None] * of_layer[:, None, :]).reshape(len(indices), -1)
            columns.append(product)
    return np.hstack(columns)


def _left_over(table: pd.DataFrame, names: list[str], order: int) -> float:
    """How far effects of one training are from the scores of the other: root mean square, without the mean."""
    trained = table[table["parameters"] > 0]
    effects = _effects(trained[names].to_numpy(), order)
    one, other = trained["score_0"].to_numpy(), trained["score_1"].to_numpy()
    errors = [b - effects @ np.linalg.lstsq(effects, a, rcond=None)[0] for a, b in ((one, other), (other, one))]
    return float(np.mean([error.std() for error in errors]))


def _record(study: Study) -> dict[str, Any]:
    """What a study was, and the seconds that it took."""
    complete = [trial for trial in study.trials() if trial.is_complete]
    record = study.metadata
    return {
        "config": dict(record.config),
        "data_fingerprint": record.data_fingerprint,
        "model_fingerprint": record.model_fingerprint,
        "environment": dict(record.environment),
        "seconds": sum(trial.attributes.seconds or 0.0 for trial in complete),
    }


if __name__ == "__main__":
    typer.run(main)
