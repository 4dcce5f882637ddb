"""The sections of the study file that name a base model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, StrictBool

from rank_search.config.fields import Section


class ModelSource(Section):
    """The source of a frozen base model, and its type in memory."""

    source: str = Field(
        description="hub id, folder or package:NAME/SUBDIR; each may end in /FILE.gguf, except for sentence embedders"
    )
    revision: str | None = Field(None, description="branch, tag or commit of a hub id")
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="checksum that model.safetensors, or the GGUF file, must have"
    )
    trust_remote_code: StrictBool = Field(False, description="whether to run Python code that comes with the model")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="type of the frozen weights")
    quantization: Literal["none", "4bit"] = Field(
        "none", description="compression of the frozen weights; 4bit: NF4 by bitsandbytes, needs CUDA"
    )
    query_prompt: str | None = Field(
        None, description="text before each query of a sentence embedder. Default: as the model's files say"
    )
    document_prompt: str | None = Field(
        None, description="text before each document of a sentence embedder. Default: as the model's files say"
    )


class ModelConfig(ModelSource):
    """The frozen base model."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="device to train on; auto: the first available of CUDA, MPS, CPU"
    )
