"""OpenAPI documents that describe what fails, too, so that generated clients can read it."""

from __future__ import annotations

from typing import Any, ClassVar

from ninja import NinjaAPI
from ninja.openapi.schema import OpenAPISchema
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema


class Described(NinjaAPI):
    """Every operation answers any error with the JSON of `failure`."""

    failure: ClassVar[type[BaseModel]]

    def get_openapi_schema(self, **options: Any) -> OpenAPISchema:
        document = super().get_openapi_schema(**options)
        name = self.failure.__name__
        _, found = models_json_schema(
            [(self.failure, "serialization")], ref_template="#/components/schemas/{model}"
        )
        document["components"]["schemas"].update(found["$defs"])
        answer = {"schema": {"$ref": f"#/components/schemas/{name}"}}
        response = {"description": "It failed", "content": {"application/json": answer}}
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"].setdefault("default", response)
        return document
