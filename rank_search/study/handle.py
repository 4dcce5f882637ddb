"""The handle of a study: what all other parts read a study by, and what the search writes to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from optuna.trial import TrialState
from pydantic import PositiveInt, TypeAdapter

from rank_search.config import recorded
from rank_search.core.choice import Rule
from rank_search.core.errors import InputError, did_you_mean, first_line
from rank_search.core.rates import LearningRates
from rank_search.study.folder import StudyFolder
from rank_search.study.leases import is_live, part_leases
from rank_search.study.lock import ExclusiveLock
from rank_search.study.metadata import StudyMetadata, study_attribute
from rank_search.study.migration import migrate
from rank_search.study.optuna_compat import readable
from rank_search.study.record import TrialRecord, damaged, read_now
from rank_search.study.storage import explained, find_study, is_shared, study_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    import optuna
    import pandas as pd
    from optuna.trial import Trial

    from rank_search.config import StudyConfig
    from rank_search.core.space import Space
    from rank_search.study.record import TrialRequest

_PACK = "pack"
_RATES = "rates"
_Pack = TypeAdapter(PositiveInt)
_Rates = TypeAdapter(LearningRates)


@dataclass(frozen=True)
class Study:
    """One study.

    Attributes:
        optuna_study: Optuna's handle of it, which asks and tells.
        metadata: the settings, space, data and model that all its trials share.
        folder: its files beside the database.
        storage: URL of the storage that ``--storage`` names; None for the study's own SQLite file.
    """

    optuna_study: optuna.Study
    metadata: StudyMetadata
    folder: StudyFolder
    storage: str | None = None
    _finished: dict[int, TrialRecord] = field(default_factory=dict, repr=False)  # these change no more

    @classmethod
    def open(cls, study: str, storage: str | None = None) -> Study:
        """A study that exists, by its name under ``studies/`` or by the path of its folder.

        Raises:
            InputError: there is none, its files belong to another study, or another version of this package keeps it
                in a form that can't be migrated.
        """
        if "://" in study:  # and may hold a password, so it is not repeated
            raise InputError("is a storage's URL; name the study, and give the URL as --storage", field="STUDY")
        folder = StudyFolder.named(study)
        if (found := cls.find(folder, storage)) is not None:
            return found
        if storage is None and folder.database.is_file():
            raise InputError(
                "holds no study yet: restore it from a copy, or run the study again if it was stopped as it started",
                file=str(folder.database),
            )
        siblings = [path.parent.name for path in folder.path.parent.glob("*/study.db")]
        others = set(study_names(folder, storage) if storage else siblings) - {folder.name}
        raise InputError(f"no study {folder.name!r}; {did_you_mean(folder.name, others)}", field="STUDY")

    @classmethod
    def find(cls, folder: StudyFolder, storage: str | None = None) -> Study | None:
        """The study of a folder, or None where none was started. A study of an older schema is migrated.

        Raises:
            InputError: as `open`, but for a study that does not exist.
        """
        if (found := find_study(folder, storage)) is None:
            return None
        with explained(folder, storage):
            found = migrate(found, folder, storage)
            metadata = StudyMetadata.read(found)
        if metadata is None:
            return None
        folder.check_owner(metadata.identity)
        return cls(found, metadata, folder, storage)

    @classmethod
    def start(
        cls, optuna_study: optuna.Study, metadata: StudyMetadata, folder: StudyFolder, storage: str | None
    ) -> Study:
        """A study that has no trial yet."""
        metadata.write(optuna_study)
        return cls(optuna_study, metadata, folder, storage)

    @property
    def name(self) -> str:
        """Its name in the storage."""
        name: str = self.optuna_study.study_name
        return name

    @property
    def space(self) -> Space:
        """What is searched."""
        return self.metadata.space

    @cached_property
    def config(self) -> StudyConfig:
        """The study file that it was started with. It can't have code run: see `rank_search.config.recorded`."""
        return recorded(self.metadata.config)

    @property
    def rule(self) -> Rule:
        """The rule of its study file, by which a map is chosen."""
        return Rule.parse(self.config.choice.rule)

    @property
    def metric(self) -> str:
        """The metric that is the score."""
        metric: str = self.metadata.config["task"]["metric"]
        return metric

    @property
    def is_shared(self) -> bool:
        """Whether several drivers may be at work on it at once."""
        return is_shared(self.storage)

    @property
    def name_in_commands(self) -> str:
        """How a command names it; a storage's URL, which may hold a password, is left to fill in."""
        return self.folder.name_in_commands + (" --storage URL" if self.storage is not None else "")

    @property
    def lock(self) -> ExclusiveLock:
        """The lock by which its drivers exclude each other."""
        return ExclusiveLock(self.storage or self.folder.url, self.name)

    def trials(self) -> list[TrialRecord]:
        """The records of all its trials, in order of their number.

        Raises:
            InputError: one is damaged.
        """
        records, problems = self.readable_trials()
        for problem in problems.values():
            raise problem
        return records

    def readable_trials(self) -> tuple[list[TrialRecord], dict[int, InputError]]:
        """The records of the trials whose record is sound; and number of each other trial → what is wrong with it."""
        trials, broken = readable(self.optuna_study)
        problems = {number: damaged(number, f"can't be read ({first_line(broken[number])})") for number in broken}
        records = []
        for trial in trials:
            if (record := self._finished.get(trial.number)) is None:
                try:
                    record = TrialRecord.read(trial, self.space)
                except InputError as error:
                    problems[trial.number] = error
                    continue
                if record.state.is_finished():
                    self._finished[trial.number] = record
            records.append(record)
        return records, {number: problems[number].in_file(self.database) for number in sorted(problems)}

    @property
    def database(self) -> str:
        """Where its trials are kept, as messages name it."""
        return str(self.folder.database) if self.storage is None else "--storage"

    def trial(self, number: int) -> TrialRecord:
        """The record of one trial.

        Raises:
            IndexError: there is none of this number.
        """
        return self.trials()[number]

    def read_now(self, trial: Trial) -> TrialRecord:
        """The record of a trial that this driver works on, as it is in the storage now."""
        return read_now(trial, self.space)

    def table(self) -> pd.DataFrame:
        """All trials as a table: see `rank_search.study.table.trials_table`."""
        from rank_search.study.table import trials_table  # pandas takes its time

        return trials_table(self.trials(), self.space)

    def example_scores(self, number: int) -> Sequence[float]:
        """What a trial scored for each example of the search; empty if that is not on this machine."""
        scores: Sequence[float] = self.folder.read_result(number).get("values", {}).get(self.metric, ())
        return scores

    def selection_scores(self, number: int) -> Sequence[float]:
        """What a trial scored for each example that is for the choice alone; empty if the study has none."""
        scores: Sequence[float] = self.folder.read_result(number).get("selection", {}).get(self.metric, ())
        return scores

    def enqueue(self, request: TrialRequest) -> None:
        """Lets the next trial be this one."""
        self.optuna_study.enqueue_trial(request.proposal(self.space), user_attrs=request.attributes)

    def is_running(self) -> bool:
        """Whether some living driver is at work on a trial, or on another part of the study, now."""
        records, _ = self.readable_trials()
        running = (record for record in records if record.state == TrialState.RUNNING)
        leases = [*part_leases(self.optuna_study).values(), *(record.attributes.lease for record in running)]
        return any(is_live(lease) for lease in leases)

    @property
    def pack(self) -> int | None:
        """How many maps are trained at once, where ``search.pack: auto`` has found it."""
        return study_attribute(self.optuna_study, _PACK, _Pack)

    def keep_pack(self, pack: int) -> None:
        """Keeps what ``search.pack: auto`` has found, as proposals depend on it."""
        self.optuna_study.set_user_attr(_PACK, pack)

    @property
    def rates(self) -> LearningRates | None:
        """The learning rates by the size of a map, where they were searched before the trials."""
        return study_attribute(self.optuna_study, _RATES, _Rates)

    def keep_rates(self, rates: LearningRates) -> None:
        """Keeps the learning rates, as all trials depend on them."""
        self.optuna_study.set_user_attr(_RATES, {"points": rates.points, "head": rates.head, "notes": rates.notes})
