"""What is exported: a trial of a study, and its part of each base model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rank_search.config import ClassificationConfig, RagConfig, RetrievalConfig, StudyConfig
from rank_search.core.errors import RankSearchError
from rank_search.core.ranks import RankMap

if TYPE_CHECKING:
    from rank_search.analysis.trials import ScoredTrial
    from rank_search.config import ModelSource
    from rank_search.export.manifest import AutoClass
    from rank_search.study.metadata import StudyRecord
    from rank_search.study.storage import StudyFolder


@dataclass(frozen=True)
class Choice:
    """The trial to export, and the study it comes from.

    Attributes:
        study: the study's name.
        record: what all its trials share.
        folder: its files.
        trial: the trial.
    """

    study: str
    record: StudyRecord
    folder: StudyFolder
    trial: ScoredTrial

    @cached_property
    def config(self) -> StudyConfig:
        """The study file, at the settings that were searched for this trial."""
        return StudyConfig.model_validate(self.record.config).tuned(self.trial.settings)

    @property
    def rank_map(self) -> RankMap:
        """The trial's map."""
        return RankMap(self.trial.ranks)

    @property
    def has_adapter(self) -> bool:
        """Whether its trained weights are there."""
        return self.folder.adapter(self.trial.number).is_dir()

    @property
    def retrained(self) -> float | None:
        """The score of these weights, if they were trained again after the search."""
        score: float | None = self.folder.read_result(self.trial.number).get("retrained")
        return score

    @property
    def parts(self) -> list[Part]:
        """The parts of the base models that the map, or a head, changes."""
        parts = [Part(self, prefix, model) for prefix, model in self.config.base_models.items()]
        return [part for part in parts if part.rank_map.adapted or self.record.head]


@dataclass(frozen=True)
class Part:
    """What a choice does to one base model.

    Attributes:
        choice: the whole.
        prefix: what the study puts before the names of this base model's modules.
        model: where it is.
    """

    choice: Choice
    prefix: str
    model: ModelSource

    @property
    def rank_map(self) -> RankMap:
        """The ranks of its modules, under its own names."""
        return self.choice.rank_map.under(self.prefix)

    @property
    def source(self) -> str:
        """The base model's source, from whichever folder it is looked for."""
        return str(Path(self.model.source).resolve()) if Path(self.model.source).exists() else self.model.source

    @property
    def trainable_parameters(self) -> int:
        """Of this base model's adapter."""
        space = self.choice.record.space
        return space.parameters(RankMap({self.prefix + name: rank for name, rank in self.rank_map.ranks.items()}))

    @property
    def auto_class(self) -> AutoClass:
        """The class of transformers whose module names the map has."""
        task = self.choice.config.task
        if isinstance(task, ClassificationConfig):
            return "AutoModelForSequenceClassification"
        retriever = isinstance(task, RetrievalConfig) or (isinstance(task, RagConfig) and self.prefix == "retriever.")
        return "AutoModel" if retriever else "AutoModelForCausalLM"

    @property
    def transposed(self) -> bool:
        """Whether its modules are GPT-2 ``Conv1D``."""
        return any(self.prefix + name in self.choice.record.space.transposed for name in self.rank_map.adapted)

    @property
    def adapter(self) -> Path:
        """The folder of its trained adapter.

        Raises:
            RankSearchError: the trial's adapter was not kept.
            InputError: it is not what was trained.
        """
        from rank_search.adapters import adapter_folder

        number, folder = self.choice.trial.number, self.choice.folder
        if not self.choice.has_adapter:
            kept = ", ".join(map(str, sorted(folder.adapters()))) or "none"
            raise RankSearchError(
                f"trial {number} has no saved adapter: only maps that may stand on the front, and baselines, keep "
                f"theirs (trials {kept}); add --retrain to train it again, or choose one of these"
            )
        folder.check_adapter(number)
        return adapter_folder(folder.adapter(number), self.prefix)
