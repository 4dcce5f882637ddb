"""The study file: every setting of a study, typed, and the one place where it is checked."""

from rank_search.config.fields import Section
from rank_search.config.load import load_config, source_of
from rank_search.config.models import ModelConfig, ModelSource
from rank_search.config.study import (
    AdapterConfig,
    ExecutorConfig,
    InitConfig,
    NestedConfig,
    SearchConfig,
    SpaceConfig,
    StudyConfig,
    TrainingConfig,
)
from rank_search.config.tasks import (
    AnswerColumns,
    AnswerConfig,
    ClassificationConfig,
    DataConfig,
    GenerationConfig,
    RagConfig,
    RetrievalConfig,
    TaskConfig,
)

__all__ = [
    "AdapterConfig",
    "AnswerColumns",
    "AnswerConfig",
    "ClassificationConfig",
    "DataConfig",
    "ExecutorConfig",
    "GenerationConfig",
    "InitConfig",
    "ModelConfig",
    "ModelSource",
    "NestedConfig",
    "RagConfig",
    "RetrievalConfig",
    "SearchConfig",
    "Section",
    "SpaceConfig",
    "StudyConfig",
    "TaskConfig",
    "TrainingConfig",
    "load_config",
    "source_of",
]
