"""What is exported: a trial of a study, and what it changes in each base model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rank_search.config import ClassificationConfig, RagConfig, RetrievalConfig, recorded, refuse_model_code
from rank_search.core.errors import RankSearchError
from rank_search.core.ranks import RankMap

if TYPE_CHECKING:
    from rank_search.analysis.trials import ScoredTrial
    from rank_search.config import ModelSource, StudyConfig
    from rank_search.export.manifest import AutoClass
    from rank_search.study.folder import StudyFolder
    from rank_search.study.metadata import StudyMetadata


@dataclass(frozen=True)
class ExportedTrial:
    """The trial to export, and the study it comes from.

    Attributes:
        study: the study's name.
        metadata: what all its trials share.
        folder: its files.
        trial: the trial.
        trust_code: the user said just now that Python code that the study's record names may run.
    """

    study: str
    metadata: StudyMetadata
    folder: StudyFolder
    trial: ScoredTrial
    trust_code: bool = False

    @cached_property
    def config(self) -> StudyConfig:
        """The study file, at the settings that were searched for this trial."""
        return recorded(self.metadata.config, trust_code=self.trust_code).tuned(self.trial.settings)

    def refuse_untrusted_code(self) -> None:
        """Checks that the base models can be loaded without code that nobody trusts.

        Raises:
            InputError: a model runs Python code that comes with it, and the user does not trust it.
        """
        refuse_model_code(self.metadata.config, trust_code=self.trust_code)

    @property
    def rank_map(self) -> RankMap:
        """The trial's map."""
        return RankMap(self.trial.ranks)

    @property
    def has_adapter(self) -> bool:
        """Whether the study kept its trained weights."""
        return self.folder.adapter(self.trial.number).is_dir()

    @property
    def retrained(self) -> float | None:
        """The score of these weights, if they were trained again after the search."""
        score: float | None = self.folder.read_result(self.trial.number).get("retrained")
        return score

    @property
    def parts(self) -> list[ModelPart]:
        """Those of the base models that the map, or a head, changes."""
        parts = [ModelPart(self, prefix, model) for prefix, model in self.config.base_models.items()]
        return [part for part in parts if part.rank_map.adapted or self.metadata.head]


@dataclass(frozen=True)
class ModelPart:
    """What an exported trial changes in one base model.

    Attributes:
        exported: the trial.
        prefix: what the study puts before the names of this base model's modules.
        model: where the base model is.
    """

    exported: ExportedTrial
    prefix: str
    model: ModelSource

    @property
    def rank_map(self) -> RankMap:
        """The ranks of its modules, under its own names."""
        return self.exported.rank_map.under(self.prefix)

    @property
    def source(self) -> str:
        """The base model's source; of a folder its absolute path, so that it is found from any folder."""
        return str(Path(self.model.source).resolve()) if Path(self.model.source).exists() else self.model.source

    @property
    def trainable_parameters(self) -> int:
        """Trainable parameters of this base model's adapter."""
        space = self.exported.metadata.space
        return space.parameters(RankMap({self.prefix + name: rank for name, rank in self.rank_map.ranks.items()}))

    @cached_property
    def auto_class(self) -> AutoClass:
        """The class of transformers that was trained, and whose module names the map has.

        Raises:
            InputError: the base model can't be found.
        """
        task = self.exported.config.task
        if isinstance(task, ClassificationConfig):
            return "AutoModelForSequenceClassification"
        retriever = isinstance(task, RetrievalConfig) or (isinstance(task, RagConfig) and self.prefix == "retriever.")
        if not retriever:
            return "AutoModelForCausalLM"
        from rank_search.models.load import embedder_class  # loads torch

        return embedder_class(self.model)

    @property
    def transposed(self) -> bool:
        """Whether its modules are GPT-2 ``Conv1D``."""
        return any(self.prefix + name in self.exported.metadata.space.transposed for name in self.rank_map.adapted)

    @property
    def adapter(self) -> Path:
        """The folder of its trained adapter.

        Raises:
            RankSearchError: the trial's adapter was not kept.
            InputError: it is not what was trained.
        """
        from rank_search.adapters import adapter_folder

        number, folder = self.exported.trial.number, self.exported.folder
        if not self.exported.has_adapter:
            kept = ", ".join(map(str, sorted(folder.adapters()))) or "none"
            raise RankSearchError(
                f"trial {number} has no saved adapter: only maps that may stand on the front, and baselines, keep "
                f"theirs (trials {kept}); add --retrain to train it again, or choose one of these"
            )
        folder.check_adapter(number)
        return adapter_folder(folder.adapter(number), self.prefix)
