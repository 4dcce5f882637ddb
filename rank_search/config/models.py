"""Sections of the study file that name a base model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, StrictBool

from rank_search.config.fields import Section


class ModelSource(Section):
    """Where a frozen base model comes from, and how it is held in memory."""

    source: str = Field(
        description="hub id, folder or package:NAME/SUBDIR; but for sentence embedders also any of them with /FILE.gguf"
    )
    revision: str | None = Field(None, description="branch, tag or commit of a hub id")
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="checksum that model.safetensors, or the GGUF file, must have"
    )
    trust_remote_code: StrictBool = Field(False, description="run Python code that the model ships")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="type of the frozen weights")
    quantization: Literal["none", "4bit"] = Field(
        "none", description="how the frozen weights are compressed; 4bit: NF4 by bitsandbytes, needs CUDA"
    )


class ModelConfig(ModelSource):
    """The frozen base model."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to train; auto: CUDA, MPS, CPU")
