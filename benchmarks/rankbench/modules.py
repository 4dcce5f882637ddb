"""Module-level RankBench: maps with a rank for every module, trained, to learn what a module is worth.

    python benchmarks/rankbench/modules.py configs/retriever-hpo.yaml --maps 800 --seeds 2

Structured maps first (uniform ranks, families, each module alone, all but one module), then random ones whose size is
drawn first, so that small maps are as frequent as large ones. All trainings of a seed see the same batches; their
learning rate is the study file's. Each training is a line of ``modules-STUDY.jsonl`` as soon as it is done, so that the
same command goes on where it ended; at the end all of them are written as ``modules-STUDY.parquet``: a column of ranks
for each module, ``seed``, ``parameters``, ``score``, and ``values``, the score of each validation example.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
import typer

from rank_search.app.loading import load_study_task
from rank_search.config import load_config
from rank_search.core.candidate import Candidate
from rank_search.core.job import FineTuned, Job, no_callback
from rank_search.core.ranks import RankMap
from rank_search.core.seeds import adapter_seed, batch_seed
from rank_search.executors.local import LocalExecutor
from rank_search.search.proposals.encoder import Encoder
from rank_search.search.rivals.families import families

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rank_search.core.space import Space

HERE = Path(__file__).parent


def main(
    study_file: Annotated[Path, typer.Argument(help="Model, task and training.")],
    maps: Annotated[int, typer.Option(help="Maps to train.")] = 800,
    seeds: Annotated[int, typer.Option(help="Trainings of each.")] = 2,
    settings: Annotated[list[str] | None, typer.Option("--set", help="As `run` takes them.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the table.")] = HERE,
) -> None:
    """Trains what is missing, and writes the table."""
    config = load_config(study_file, settings or [])
    task, space = load_study_task(config)
    executor = LocalExecutor(config, task, space)
    lines = out / f"modules-{config.study}.jsonl"
    known = [json.loads(line) for line in lines.read_text().splitlines()] if lines.is_file() else []
    done = {(row["key"], row["seed"]) for row in known}
    # One seed of all maps before the next, so that a table of fewer is a table of all maps.
    left = [
        (rank_map, seed) for seed in range(seeds) for rank_map in drawn(space, maps) if (rank_map.key, seed) not in done
    ]
    for count, (rank_map, seed) in enumerate(left, start=1):
        (outcome,) = executor.train(
            [Job(Candidate(rank_map), adapter_seed(config.seed, seed), batch_seed(config.seed, seed))], no_callback
        )
        if not isinstance(outcome, FineTuned):
            raise SystemExit(f"{rank_map.key}: {outcome}")
        row = _row(rank_map, seed, outcome, space)
        known.append(row)
        with lines.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(
            f"{count} of {len(left)}: {row['parameters']:,} parameters, {row['score']:.4f}", file=sys.stderr, flush=True
        )
    _table(known, space).to_parquet(out / f"modules-{config.study}.parquet", index=False)


def drawn(space: Space, count: int) -> list[RankMap]:
    """The first so many maps, no map twice."""
    found: dict[RankMap, None] = {}
    for rank_map in _endless(space):
        found[rank_map] = None
        if len(found) >= min(count, space.size):
            return list(found)
    return list(found)


def _endless(space: Space) -> Iterator[RankMap]:
    names = list(space.shapes)
    yield from (space.uniform(rank) for rank in space.ladder)
    yield from families(space)
    yield from (RankMap({name: 4 * (name == one) for name in names}) for one in names)
    yield from (RankMap({name: int(name != one) for name in names}) for one in names)
    encoder, draw = Encoder(space), np.random.default_rng(0)
    while True:
        yield space.rank_map(encoder.drawn(draw))


def _row(rank_map: RankMap, seed: int, outcome: FineTuned, space: Space) -> dict[str, Any]:
    evaluation = outcome.evaluation
    return {
        "key": rank_map.key,
        "seed": seed,
        "ranks": [rank_map.ranks[name] for name in space.shapes],
        "parameters": space.parameters(rank_map),
        "score": evaluation.score,
        "values": [round(value, 5) for value in evaluation.values[evaluation.metric]],
    }


def _table(rows: list[dict[str, Any]], space: Space) -> pd.DataFrame:
    ranks = pd.DataFrame([row["ranks"] for row in rows], columns=list(space.shapes), dtype="int8")
    rest = pd.DataFrame(rows)[["seed", "parameters", "score", "values"]]
    return pd.concat([ranks, rest], axis=1)


if __name__ == "__main__":
    typer.run(main)
