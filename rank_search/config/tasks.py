"""Sections of the study file for data and tasks: one class a kind of task."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from rank_search.config.fields import Fraction, PositiveInt, PositiveNumber, Section, Seed
from rank_search.config.models import ModelSource

STDLIB = "builtin:python-stdlib"


class DataConfig(Section):
    """Where examples come from; written as text, it is the source alone."""

    source: str = Field(
        description="file (JSONL, CSV, TSV, Parquet, SQuAD JSON), folder of such files, BEIR folder, hub id, "
        f"or {STDLIB} (retrieval alone: code search over the running interpreter's library)"
    )
    config: str | None = Field(None, description="configuration of a hub data set")
    revision: str | None = Field(None, description="branch, tag or commit of a hub data set")
    train: str = Field(
        "train", description="split of a hub data set, file in a folder, or qrels of a BEIR folder, to train on"
    )
    validation: str | None = Field(None, description="the same, to choose on. Default: split off from train")
    test: str | None = Field(None, description="the same, to report on. Default: split off from train")
    held_out: Fraction = Field(
        0.125, gt=0, le=0.4, description="share of train that is split off for validation, and again for test"
    )
    seed: Seed = Field(0, description="draws what is split off, and what is left out beyond the sizes below")


def _source_alone(value: Any) -> Any:
    return {"source": value} if isinstance(value, str) else value


Data = Annotated[DataConfig, BeforeValidator(_source_alone, json_schema_input_type=DataConfig | str)]


class TaskConfig(Section):
    """What every task has."""

    data: Data = Field(description="where examples come from")
    validation_size: PositiveInt = Field(500, description="at most this many examples to choose on")
    test_size: PositiveInt = Field(500, description="at most this many examples to report on")


class RetrievalColumns(Section):
    """Column names of retrieval data; a BEIR folder needs none."""

    query: str = Field("query", description="the query's text")
    document: str = Field("document", description="a document that answers it")


class RetrievalConfig(TaskConfig):
    """Sentence embedding for search: a query must find its documents."""

    kind: Literal["retrieval"]
    data: Data = Field(DataConfig(source=STDLIB), description="where queries and documents come from")
    columns: RetrievalColumns = Field(RetrievalColumns(), description="names of the columns")
    metric: Literal["ndcg@10", "mrr@10", "recall@1", "recall@5", "recall@10"] = Field(
        "ndcg@10", description="the score that the search maximises"
    )
    query_length: PositiveInt | None = Field(
        None, description="tokens; longer queries are cut. Default: the model's own limit"
    )
    document_length: PositiveInt | None = Field(
        None, description="tokens; longer documents are cut. Default: the model's own limit"
    )
    similarity_scale: PositiveNumber = Field(
        20.0, description="factor on cosine similarities in the loss (1 / temperature)"
    )


class ClassificationColumns(Section):
    """Column names of classification data."""

    text: str = Field("text", description="the text")
    label: str = Field("label", description="its class")


class ClassificationConfig(TaskConfig):
    """Text classification: a fresh head on the base model, trained along with the adapters."""

    kind: Literal["classification"]
    columns: ClassificationColumns = Field(ClassificationColumns(), description="names of the columns")
    metric: Literal["accuracy", "macro-f1", "mcc"] = Field(
        "accuracy", description="the score that the search maximises"
    )
    length: PositiveInt | None = Field(None, description="tokens; longer texts are cut. Default: the model's own limit")


class AnswerColumns(Section):
    """Column names of question-answering data; these are SQuAD's."""

    question: str = Field("question", description="the question")
    answers: str = Field("answers", description="the right answer, or a list of right answers")
    context: str = Field("context", description="the passage that holds the answer")


class AnswerConfig(TaskConfig):
    """What generation and RAG share: a question, passages, an answer."""

    columns: AnswerColumns = Field(AnswerColumns(), description="names of the columns")
    template: str | None = Field(
        None,
        description="Jinja template of the whole prompt, from question, passages (a list) and context (the passages "
        "as one text). Default: the tokenizer's chat template around a short request",
    )
    passages: PositiveInt = Field(2, description="how many passages a retriever gives to the generator")
    passage_length: PositiveInt = Field(256, description="tokens; longer passages are cut in the prompt")
    max_new_tokens: PositiveInt = Field(32, description="longest answer that is decoded")


class GenerationConfig(AnswerConfig):
    """A causal LM answers a question from a passage."""

    kind: Literal["generation"]
    metric: Literal["log-likelihood", "f1", "exact-match"] = Field(
        "log-likelihood",
        description="the score that the search maximises: mean log-likelihood of the answer's tokens (cheap), or "
        "SQuAD's token-F1 or exact match of greedy decoding, which are measured on the test split in any case",
    )
    retriever: ModelSource | None = Field(
        None, description="sentence embedder that finds the passages, unadapted. Default: the passage of the data"
    )


class RagConfig(AnswerConfig):
    """A retriever finds passages, a generator answers from them, and both are adapted."""

    kind: Literal["rag"]
    metric: Literal["f1", "exact-match", "log-likelihood"] = Field(
        "f1", description="the score that the search maximises, of answers from the passages that are found"
    )
    retriever: ModelSource = Field(description="the sentence embedder; model is the generator")
    similarity_scale: PositiveNumber = Field(
        20.0, description="factor on cosine similarities in the retriever's loss (1 / temperature)"
    )


AnyTask = Annotated[RetrievalConfig | ClassificationConfig | GenerationConfig | RagConfig, Field(discriminator="kind")]
