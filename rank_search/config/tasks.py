"""The sections of the study file for data and tasks: one class per kind of task."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictInt

from rank_search.config.fields import Fraction, PositiveInt, PositiveNumber, Section, Seed
from rank_search.config.models import ModelSource

STDLIB = "builtin:python-stdlib"


class DataConfig(Section):
    """The source of the examples; a plain text is short for ``source``."""

    source: str = Field(
        description="file (JSONL, CSV, TSV, Parquet, SQuAD JSON), folder of such files, BEIR folder, folder that "
        f"save_to_disk wrote, hub id, or {STDLIB} (only for retrieval: code search over the running interpreter's "
        "library)"
    )
    config: str | None = Field(None, description="configuration of a hub data set")
    revision: str | None = Field(None, description="branch, tag or commit of a hub data set")
    train: str = Field(
        "train",
        description="training data: split of a hub data set, file in a folder, name before the shards' numbers, or "
        "qrels of a BEIR folder",
    )
    validation: str | None = Field(
        None, description="validation data, named in the same way. Default: split off from train"
    )
    test: str | None = Field(None, description="test data, named in the same way. Default: split off from train")
    held_out: Fraction = Field(
        0.125,
        gt=0,
        le=0.4,
        description="share of train that is split off for validation, and the same share for test; for the choice of "
        "a map once more, if task.selection_size asks for it",
    )
    seed: Seed = Field(
        0, description="seed that decides which examples are split off, and which are dropped beyond the sizes below"
    )


def _expand_source(value: Any) -> Any:
    return {"source": value} if isinstance(value, str) else value


Data = Annotated[DataConfig, BeforeValidator(_expand_source, json_schema_input_type=DataConfig | str)]


class TaskConfig(Section):
    """The fields that all tasks share."""

    data: Data = Field(description="source of the examples")
    validation_size: PositiveInt = Field(500, description="maximum number of validation examples for the search")
    selection_size: Annotated[StrictInt, Field(ge=0)] | None = Field(
        None,
        description="maximum number of further validation examples, on which the map is chosen and which the search "
        "never sees. Where there would be fewer than 300, and with 0, the choice is made on the two halves of "
        "validation instead, each with maps that the other half proposes. Default: as many as validation_size",
    )
    test_size: PositiveInt = Field(500, description="maximum number of test examples")

    @property
    def selection_wanted(self) -> int:
        """How many examples are to be for the choice alone."""
        return self.validation_size if self.selection_size is None else self.selection_size


class RetrievalColumns(Section):
    """Column names of retrieval data; not used for a BEIR folder."""

    query: str = Field("query", description="text of the query")
    document: str = Field("document", description="a relevant document")


class RetrievalConfig(TaskConfig):
    """Sentence embedding for search: a query must find its relevant documents."""

    kind: Literal["retrieval"]
    data: Data = Field(DataConfig(source=STDLIB), description="source of the queries and documents")
    columns: RetrievalColumns = Field(RetrievalColumns(), description="names of the columns")
    metric: Literal["ndcg@10", "mrr@10", "recall@1", "recall@5", "recall@10"] = Field(
        "ndcg@10", description="the score that the search maximises"
    )
    query_length: PositiveInt | None = Field(
        None, description="maximum tokens of a query; longer ones are truncated. Default: the model's limit"
    )
    document_length: PositiveInt | None = Field(
        None, description="maximum tokens of a document; longer ones are truncated. Default: the model's limit"
    )
    similarity_scale: PositiveNumber = Field(
        20.0, description="factor of the cosine similarities in the loss (1 / temperature)"
    )


class ClassificationColumns(Section):
    """Column names of classification data."""

    text: str = Field("text", description="the text")
    label: str = Field("label", description="class of the text")


class ClassificationConfig(TaskConfig):
    """Text classification: a new head on the base model is trained together with the adapters."""

    kind: Literal["classification"]
    columns: ClassificationColumns = Field(ClassificationColumns(), description="names of the columns")
    metric: Literal["accuracy", "macro-f1", "mcc"] = Field(
        "accuracy", description="the score that the search maximises"
    )
    length: PositiveInt | None = Field(
        None, description="maximum tokens of a text; longer ones are truncated. Default: the model's limit"
    )


class AnswerColumns(Section):
    """Column names of question-answering data; the defaults are SQuAD's."""

    question: str = Field("question", description="the question")
    answers: str = Field("answers", description="the right answer, or a list of right answers")
    context: str = Field("context", description="the passage that holds the answer")


class AnswerConfig(TaskConfig):
    """The fields that generation and RAG share: both answer a question from passages."""

    columns: AnswerColumns = Field(AnswerColumns(), description="names of the columns")
    template: str | None = Field(
        None,
        description="Jinja template of the whole prompt, with the variables question, passages (a list) and context "
        "(the passages as one text). Default: a short request in the tokenizer's chat template",
    )
    passages: PositiveInt = Field(2, description="number of passages that the retriever gives to the generator")
    passage_length: PositiveInt = Field(
        256, description="maximum tokens of a passage in the prompt; longer ones are truncated"
    )
    max_new_tokens: PositiveInt = Field(32, description="maximum tokens of a decoded answer")


class GenerationConfig(AnswerConfig):
    """A causal LM answers a question from a passage."""

    kind: Literal["generation"]
    metric: Literal["log-likelihood", "f1", "exact-match"] = Field(
        "log-likelihood",
        description="the score that the search maximises: the mean log-likelihood of the answer's tokens (fast), or "
        "SQuAD's token-F1 or exact match of greedy decoding. The test split is always scored by all three",
    )
    retriever: ModelSource | None = Field(
        None,
        description="sentence embedder that finds the passages; it gets no adapter. Default: use the passage of the "
        "data",
    )


class RagConfig(AnswerConfig):
    """A retriever finds passages, a generator answers from them, and both are adapted."""

    kind: Literal["rag"]
    metric: Literal["f1", "exact-match", "log-likelihood"] = Field(
        "f1", description="the score that the search maximises, for answers from the retrieved passages"
    )
    retriever: ModelSource = Field(description="the sentence embedder; the section model names the generator")
    similarity_scale: PositiveNumber = Field(
        20.0, description="factor of the cosine similarities in the retriever's loss (1 / temperature)"
    )


AnyTask = Annotated[RetrievalConfig | ClassificationConfig | GenerationConfig | RagConfig, Field(discriminator="kind")]
