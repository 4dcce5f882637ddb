"""The study file: the typed settings of a study. All user input is checked here."""

from rank_search.config.fields import Section
from rank_search.config.load import load_config, source_of
from rank_search.config.models import ModelConfig, ModelSource
from rank_search.config.recorded import recorded, refuse_code, refuse_model_code
from rank_search.config.search import SearchConfig, SpaceConfig
from rank_search.config.study import ExecutorConfig, StudyConfig
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
from rank_search.config.training import AdapterConfig, InitConfig, TrainingConfig

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
    "RagConfig",
    "RetrievalConfig",
    "SearchConfig",
    "Section",
    "SpaceConfig",
    "StudyConfig",
    "TaskConfig",
    "TrainingConfig",
    "load_config",
    "recorded",
    "refuse_code",
    "refuse_model_code",
    "source_of",
]
