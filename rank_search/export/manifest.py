"""``rank_search.json``: where a bundle comes from, and which consumers compute the right outputs with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, ValidationError, model_validator

from rank_search.config import ModelSource
from rank_search.core.errors import InputError
from rank_search.core.files import sha256, write_text

if TYPE_CHECKING:
    from pathlib import Path

FILE = "rank_search.json"

AutoClass = Literal[
    "AutoModel", "AutoModelForTextEncoding", "AutoModelForSequenceClassification", "AutoModelForCausalLM"
]


class Strict(BaseModel):
    """Refuses unknown fields, and can't be changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def weight_digests(folder: Path) -> dict[str, str]:
    """SHA-256 by path of the files that hold tensors in a bundle, the reference outputs included."""
    files = (path for path in sorted(folder.rglob("*")) if path.suffix in {".safetensors", ".gguf", ".bin"})
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def _check_files(folder: Path) -> None:
    """Checks that a bundle holds files and folders alone: to read a device, or a link to one, may never end.

    Raises:
        InputError: it holds something else.
    """
    for path in folder.rglob("*"):
        if not path.is_file() and not path.is_dir():
            raise InputError("is neither a file nor a folder; remove it", file=str(path))


class Base(Strict):
    """The base model that a bundle belongs to.

    Whether to run Python code that the base model ships is the user's decision, so a bundle does not store it.
    """

    source: str = Field(description="as in the study file")
    revision: str | None
    auto_class: AutoClass = Field(description="the class of transformers whose module names the adapter has")
    classes: int = Field(ge=0, description="outputs of a classification head; 0 where there is none")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(description="type of the weights that were trained on")
    fingerprint: str = Field(description="of the weights")
    query_prompt: str | None = Field(None, description="that the study file puts before each query of an embedder")
    document_prompt: str | None = Field(None, description="that it puts before each document")

    @model_validator(mode="after")
    def _classes_of_classifiers(self) -> Base:
        if (self.classes > 0) != (self.auto_class == "AutoModelForSequenceClassification"):
            raise ValueError(f"{self.auto_class} with {self.classes} classes")
        return self

    def located(self, *, trust_remote_code: bool) -> ModelSource:
        """Where to load it from, in float32, in which a certificate is computed."""
        return ModelSource(
            source=self.source,
            revision=self.revision,
            trust_remote_code=trust_remote_code,
            query_prompt=self.query_prompt,
            document_prompt=self.document_prompt,
        )


class Finding(Strict):
    """What one consumer computes with a bundle.

    Attributes:
        label: the consumer's name in commands.
        difference: the largest difference from the trained adapter under PEFT, as a part of the largest change that
            the adapter makes to the base model's outputs; None where the consumer would not load the bundle.
        of_output: the same difference, as a part of the largest output.
    """

    label: str
    consumer: str
    version: str
    real: bool = Field(description="the consumer's own code computed it; otherwise a model of its rules")
    passed: bool | None = Field(description="None where it takes no adapters for this kind of model")
    difference: float | None = None
    of_output: float | None = None
    note: str = ""

    @property
    def reason(self) -> str:
        """Why it passed or not."""
        if self.difference is None:
            return self.note
        return f"off by {self.difference:.1e} of the adapter's effect"


class Manifest(Strict):
    """A bundle's origin and certificate."""

    format: str
    study: str
    trial: int = Field(ge=0)
    metric: str
    score: FiniteFloat
    score_se: FiniteFloat | None
    trainable_parameters: int = Field(ge=0)
    settings: dict[str, FiniteFloat]
    ranks: dict[str, NonNegativeInt]
    base: Base
    versions: dict[str, str]
    weights: dict[str, str] = Field(description="SHA-256 of the files that hold tensors, by path")
    certificate: tuple[Finding, ...] = ()

    def check_weights(self, folder: Path) -> None:
        """Checks that a bundle's weights are those that were exported.

        Raises:
            InputError: they were edited, damaged or removed, or there are others.
        """
        found = weight_digests(folder)
        if strangers := sorted(found.keys() - self.weights.keys()):
            raise InputError("is no part of what was exported; remove it", file=str(folder / strangers[0]))
        for name, digest in self.weights.items():
            if found.get(name) != digest:
                raise InputError(
                    "is not what was exported: it was edited, damaged or removed; export again", file=str(folder / name)
                )

    def write(self, folder: Path) -> None:
        """Writes it into a bundle's folder."""
        write_text(folder / FILE, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Reads what `write` wrote.

        Raises:
            InputError: there is none, or it is damaged.
        """
        path = folder / FILE
        _check_files(folder)
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError:
            raise InputError(f"has no {FILE}; name a folder that export wrote", file=str(folder)) from None
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or None
            raise InputError(f"{first['msg']}; export again", file=str(path), field=field) from None
