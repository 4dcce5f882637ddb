"""What a proposal costs, and how long a search takes to a given front: ours, and what a user would script.

    python benchmarks/search_cost.py            # all of it: about an hour on two cores
    python benchmarks/search_cost.py --rounds 1 --trials 4 --steps 4    # a quick look

On the demo task: (a) PEFT with the Trainer of transformers, one proposal after another; (b) PEFT in a bare torch
loop; (c) ours, one map at a time; (d) ours, packed. All four train the same maps for as many steps of as many
pairs, in bf16, and are scored by the same evaluation in float32. Then (e): the time until a search has the
hypervolume that Optuna's TPE with (a) reaches, for ours plain, with early stopping, and nested.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import matplotlib as mpl
import numpy as np
import optuna
import torch
import transformers
import typer
from optuna._hypervolume import compute_hypervolume
from peft import get_peft_model
from torch import nn
from torch.nn import functional
from transformers import Trainer, TrainingArguments, get_linear_schedule_with_warmup

from rank_search.adapters import lora_config
from rank_search.config import StudyConfig, load_config
from rank_search.executors.local import LocalExecutor
from rank_search.modules import build_space
from rank_search.search.loop import Search, data_seed
from rank_search.search.nested import NestedSearch
from rank_search.search.record import environment
from rank_search.search.storage import BESIDE, StudyFolder, create_study
from rank_search.tasks.batching import model_inputs
from rank_search.tasks.load import load_task
from rank_search.training.cost import matmul_peak
from rank_search.training.result import FineTuned, Job, Rungs
from rank_search.training.trainer import rehearse

if TYPE_CHECKING:
    from rank_search.ranks import RankMap
    from rank_search.space import Space
    from rank_search.tasks.base import Evaluation

mpl.use("Agg")
OUT = Path("reports/benchmarks")
PACK = 4


class Pairs(torch.utils.data.Dataset):
    """Token ids of the training pairs, in the order that the data has."""

    def __init__(self, task: Any) -> None:
        tokens = task._tokens["train"]
        self.items = [(tokens.queries[query], tokens.documents[document]) for query, document in task._pairs]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> tuple[list[int], list[int]]:
        return self.items[i]


def collate(items: list[tuple[list[int], list[int]]]) -> dict[str, torch.Tensor]:
    """Each side padded to its longest text, as tokenizers and sentence-transformers do."""
    cpu = torch.device("cpu")
    queries, documents = (model_inputs([pair[side] for pair in items], 0, cpu) for side in (0, 1))
    return {
        **{f"query_{name}": rows for name, rows in queries.items()},
        **{f"document_{name}": rows for name, rows in documents.items()},
    }


def loss_of(encoder: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Multiple-negatives ranking loss at scale 20, the default of sentence-transformers."""
    vectors = [
        functional.normalize(
            encoder({name: batch[f"{side}_{name}"] for name in ("input_ids", "attention_mask")}), dim=-1
        )
        for side in ("query", "document")
    ]
    similarities = vectors[0] @ vectors[1].T * 20
    return functional.cross_entropy(similarities, torch.arange(len(similarities)))


class RankingTrainer(Trainer):
    """The Trainer of transformers, with the loss that its user writes."""

    def compute_loss(self, model: nn.Module, inputs: dict[str, torch.Tensor], **_: Any) -> torch.Tensor:
        """Called by the Trainer at each step."""
        return loss_of(self.encoder, inputs)


class Bench:
    """The demo task, and a fine-tune of one map by each of the four."""

    def __init__(self, config: StudyConfig) -> None:
        self.config = config
        self.task: Any = load_task(config)
        self.space = build_space(self.task.backbone, config)
        self.encoder = self.task._retriever.encoder
        self.pairs = Pairs(self.task)
        self.executor = LocalExecutor(config, self.task, self.space)

    def with_trainer(self, rank_map: RankMap, seed: int) -> tuple[float, float, Evaluation]:
        """(a): seconds of training, seconds of evaluation, result."""
        training = self.config.training
        started = time.perf_counter()
        torch.manual_seed(seed)
        model = get_peft_model(self.task.backbone, lora_config(rank_map, self.config.adapter))
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder,
                max_steps=training.steps,
                per_device_train_batch_size=training.batch_size,
                learning_rate=training.learning_rate,
                warmup_steps=round(training.warmup * training.steps),
                weight_decay=training.weight_decay,
                max_grad_norm=training.max_grad_norm,
                bf16=True,
                use_cpu=True,
                save_strategy="no",
                report_to="none",
                remove_unused_columns=False,
                disable_tqdm=True,
                logging_strategy="no",
                dataloader_pin_memory=False,
                seed=seed,
            )
            trainer = RankingTrainer(model, arguments, data_collator=collate, train_dataset=self.pairs)
            trainer.encoder = self.encoder
            self.encoder.eval()
            trainer.train()
        return self._scored(model, started)

    def with_loop(self, rank_map: RankMap, seed: int) -> tuple[float, float, Evaluation]:
        """(b): seconds of training, seconds of evaluation, result."""
        training = self.config.training
        started = time.perf_counter()
        torch.manual_seed(seed)
        model = get_peft_model(self.task.backbone, lora_config(rank_map, self.config.adapter))
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=training.weight_decay)
        schedule = get_linear_schedule_with_warmup(optimiser, round(training.warmup * training.steps), training.steps)
        loader = torch.utils.data.DataLoader(
            self.pairs, training.batch_size, shuffle=True, collate_fn=collate, drop_last=True
        )
        self.encoder.train()
        for _, batch in zip(range(training.steps), loader, strict=False):
            optimiser.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = loss_of(self.encoder, batch)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, training.max_grad_norm)
            optimiser.step()
            schedule.step()
        return self._scored(model, started)

    def _scored(self, model: Any, started: float) -> tuple[float, float, Evaluation]:
        trained = time.perf_counter()
        self.encoder.eval()
        (evaluation,) = self.task.evaluate("validation")
        finished = time.perf_counter()
        model.unload()
        self.encoder.requires_grad_(False)
        return trained - started, finished - trained, evaluation

    def ours(self, maps: list[RankMap], seed: int) -> tuple[float, float]:
        """(c) and (d): seconds of training and of evaluation, a map."""
        moments: list[float] = []
        jobs = [Job(rank_map, seed + k, data_seed=seed) for k, rank_map in enumerate(maps)]
        started = time.perf_counter()
        outcomes = self.executor.train(jobs, lambda _steps: moments.append(time.perf_counter()), Rungs())
        finished = time.perf_counter()
        if not all(isinstance(outcome, FineTuned) for outcome in outcomes):
            raise RuntimeError(f"a fine-tune failed: {outcomes}")
        return (moments[-1] - started) / len(maps), (finished - moments[-1]) / len(maps)


def drawn(space: Space, seed: int) -> RankMap:
    """A map as a sampler draws its first ones: each layer's rank by chance."""
    draw = random.Random(seed)
    return space.rank_map({name: draw.randrange(len(space.ladder)) for name in space.dimensions})


def throughput(bench: Bench, rounds: int) -> dict[str, Any]:
    """Seconds a proposal of (a) to (d), in turns, so that a slow minute of the machine meets them all."""
    seconds: dict[str, list[tuple[float, float]]] = {"a": [], "b": [], "c": [], "d": []}
    for i in range(rounds):
        maps = [drawn(bench.space, PACK * i + k) for k in range(PACK)]
        seconds["a"].append(bench.with_trainer(maps[0], i)[:2])
        seconds["b"].append(bench.with_loop(maps[0], i)[:2])
        seconds["c"].append(bench.ours(maps[:1], i))
        seconds["d"].append(bench.ours(maps, i))
        print(i, {name: [round(value, 2) for value in of[-1]] for name, of in seconds.items()}, flush=True)
    train = {name: statistics.median(of[0] for of in found) for name, found in seconds.items()}
    whole = {name: statistics.median(sum(of) for of in found) for name, found in seconds.items()}
    peak = matmul_peak(torch.device("cpu"), torch.bfloat16)
    reached = {}
    for pack in (1, PACK):
        jobs = [Job(bench.space.uniform(bench.space.ladder[-1]), k, 0) for k in range(pack)]
        rehearsal = rehearse(bench.task, jobs, bench.config, 12)
        reached[f"pack {pack}"] = {
            "flops_rate": sum(rehearsal.flops) / sum(rehearsal.seconds),
            "share_of_peak": sum(rehearsal.flops) / sum(rehearsal.seconds) / peak,
            "activation_bytes": rehearsal.activations,
        }
    return {
        "seconds": seconds,
        "training_speed_against_b": {name: train["b"] / of for name, of in train.items()},
        "proposal_speed_against_b": {name: whole["b"] / of for name, of in whole.items()},
        "matmul_peak": peak,
        "reached": reached,
    }


def peak_memory(pack: int, overrides: list[str]) -> dict[str, int]:
    """Peak resident memory of a process of its own that trains a pack, and what its arithmetic says, in bytes."""
    code = (
        "import json, resource, sys; sys.path.insert(0, sys.argv[1]); import search_cost as this;"
        "print(json.dumps(this.rehearsed(int(sys.argv[2]), sys.argv[3:])))"
    )
    line = [sys.executable, "-c", code, str(Path(__file__).parent), str(pack), *overrides]
    found: dict[str, int] = json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)  # noqa: S603  # our own code
    return found


def rehearsed(pack: int, overrides: list[str]) -> dict[str, int]:
    """Takes a few steps of a pack of the largest map."""
    transformers.logging.set_verbosity_error()
    bench = Bench(load_config(Path("configs/demo.yaml"), overrides))
    jobs = [Job(bench.space.uniform(bench.space.ladder[-1]), k, 0) for k in range(pack)]
    rehearsal = rehearse(bench.task, jobs, bench.config, 4)
    return {
        "peak": high_water(),
        "activations": rehearsal.activations,
        # Weights, gradients and AdamW's two moments, all float32.
        "optimiser": 4 * 4 * bench.space.most_parameters * pack,
    }


def high_water() -> int:
    """Peak resident memory of this process; ru_maxrss would begin with that of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def memory(overrides: list[str]) -> dict[str, Any]:
    """Whether eight maps take no more than one, and eight times a map's activations and optimiser state."""
    one, eight = peak_memory(1, overrides), peak_memory(8, overrides)
    allowed = one["peak"] + 8 * (one["activations"] + one["optimiser"])
    return {"pack 1": one, "pack 8": eight, "allowed": allowed, "within": eight["peak"] <= allowed}


Curve = list[tuple[float, float]]  # (seconds since the start, hypervolume)


def corner_of(bench: Bench) -> np.ndarray:
    """The reference point: the untrained score, and 1.1 times the largest map."""
    (untrained,) = bench.task.evaluate("validation")
    return np.array([-untrained.score, 1.1 * bench.space.most_parameters])


def volume(points: list[tuple[float, float]], corner: np.ndarray) -> float:
    """Hypervolume of (score, parameters)."""
    values = np.array([[-score, parameters] for score, parameters in points])
    inside = values[(values < corner).all(axis=1)]
    return float(compute_hypervolume(inside, corner)) if len(inside) else 0.0


def scripted(bench: Bench, trials: int, corner: np.ndarray, seed: int) -> Curve:
    """Plain Optuna TPE with (a): what a user would script."""
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.TPESampler(seed=seed))
    points: list[tuple[float, float]] = []
    curve: Curve = []
    started = time.perf_counter()
    for number in range(trials):
        trial = study.ask()
        top = len(bench.space.ladder) - 1
        rank_map = bench.space.rank_map({name: trial.suggest_int(name, 0, top) for name in bench.space.dimensions})
        parameters = bench.space.parameters(rank_map)
        score = bench.with_trainer(rank_map, seed + number)[2].score if parameters else -corner[0]
        study.tell(trial, [score, parameters])
        points.append((score, parameters))
        curve.append((time.perf_counter() - started, volume(points, corner)))
        print("scripted", number, curve[-1], flush=True)
    return curve


class Watch:
    """Notes the hypervolume after each trial, and ends a search that has what it was to reach."""

    def __init__(self, name: str, corner: np.ndarray, goal: float) -> None:
        self._name = name
        self._corner = corner
        self._goal = goal
        self._started = time.perf_counter()
        self.curve: Curve = []

    def stage(self, what: str, done: int, of: int) -> None:
        """Not of interest here."""

    def pack_started(self, numbers: Any, parameters: int) -> None:
        """Not of interest here."""

    def step(self, steps: int) -> None:
        """Not of interest here."""

    def trial_finished(self, study: optuna.Study, number: int) -> None:
        """Looks at the front."""
        complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        found = volume([(trial.values[0], trial.values[1]) for trial in complete], self._corner)
        self.curve.append((time.perf_counter() - self._started, found))
        print(self._name, number, self.curve[-1], flush=True)
        if found >= self._goal:
            raise Reached


class Reached(BaseException):
    """A search has the hypervolume that it was to reach."""


def searched(bench: Bench, name: str, corner: np.ndarray, goal: float, **search: Any) -> Curve:
    """Our own search, until it has the goal's hypervolume."""
    settings = bench.config.model_dump()
    settings["search"] = {**settings["search"], **search}
    config = StudyConfig.model_validate(settings)
    executor = LocalExecutor(config, bench.task, bench.space)
    with tempfile.TemporaryDirectory() as place:
        folder = StudyFolder(Path(place) / "study")
        folder.path.mkdir()
        watch = Watch(name, corner, goal)
        nested = None
        if config.search.strategy == "nested":
            scorer = executor.nested(folder.super_adapter)
            beside = create_study(folder, None, BESIDE)
            nested = NestedSearch(beside, config, bench.space, scorer, watch, data_seed(config.seed), PACK)
            nested.run()
        study = create_study(folder, None)
        pack = int(config.search.pack)
        with suppress(Reached):
            Search(study, folder, config, bench.space, executor, watch, nested, pack, sole_driver=True).run()
    return watch.curve


def reached_after(curve: Curve, goal: float) -> float | None:
    """Seconds until a curve has the goal; None where it never has."""
    return next((seconds for seconds, found in curve if found >= goal), None)


def draw(curves: dict[str, Curve], goal: float, path: Path) -> None:
    """Hypervolume over time."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name, curve in curves.items():
        axes.step([0, *(s for s, _ in curve)], [0, *(v for _, v in curve)], where="post", label=name)
    axes.axhline(goal, color="grey", linestyle=":", linewidth=1)
    axes.set(xlabel="seconds, everything included", ylabel="hypervolume (score × parameters)")
    axes.legend()
    figure.savefig(path, dpi=150)


def main(
    rounds: Annotated[int, typer.Option(help="Turns of (a) to (d).")] = 3,
    trials: Annotated[int, typer.Option(help="Proposals of (a), whose hypervolume is the goal.")] = 24,
    steps: Annotated[int | None, typer.Option(help="Training steps; by default the demo's.")] = None,
    small: Annotated[bool, typer.Option("--small", help="A sixth of the validation split, for a quick look.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = OUT,
) -> None:
    """Runs it all, and writes search_cost.json and search_cost.png."""
    transformers.logging.set_verbosity_error()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    overrides = [f"training.steps={steps}"] if steps else []
    overrides += ["task.validation_size=80"] if small else []
    bench = Bench(load_config(Path("configs/demo.yaml"), [*overrides, f"search.trials={trials}"]))
    result: dict[str, Any] = {
        "command": f"python benchmarks/search_cost.py --rounds {rounds} --trials {trials}"
        + (f" --steps {steps}" if steps else "")
        + (" --small" if small else ""),
        "environment": environment("cpu"),
        "steps": bench.config.training.steps,
        "throughput": throughput(bench, rounds),
        "memory": memory(overrides),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "search_cost.json").write_text(json.dumps(result, indent=2) + "\n")
    corner = corner_of(bench)
    curves = {"a: Optuna TPE and Trainer": scripted(bench, trials, corner, seed=0)}
    goal = curves["a: Optuna TPE and Trainer"][-1][1]
    ours = {
        "nested": {"strategy": "nested", "nested": {"evaluations": trials}},
        "early stopping": {"early_stopping": True},
        "plain": {},
    }
    for name, search in ours.items():
        curves[name] = searched(bench, name, corner, goal, **search)
        result["hypervolume"] = {"goal": goal, "curves": curves}
        (out / "search_cost.json").write_text(json.dumps(result, indent=2) + "\n")
    times = {name: reached_after(curve, goal) for name, curve in curves.items()}
    whole = times["a: Optuna TPE and Trainer"] or float("nan")
    result["hypervolume"] = {
        "reference_point": [-corner[0], corner[1]],
        "goal": goal,
        "seconds": times,
        "times_faster": {name: whole / seconds if seconds else None for name, seconds in times.items()},
        "curves": curves,
    }
    (out / "search_cost.json").write_text(json.dumps(result, indent=2) + "\n")
    draw(curves, goal, out / "search_cost.png")
    print(json.dumps({key: result["hypervolume"][key] for key in ("seconds", "times_faster")}, indent=2))


if __name__ == "__main__":
    typer.run(main)
