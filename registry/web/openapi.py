"""OpenAPI documents from which generators make whole clients, which can read what fails, too."""

from __future__ import annotations

from typing import Any, ClassVar

from ninja import NinjaAPI
from ninja.openapi.schema import OpenAPISchema
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

_CORRELATION = {
    "in": "header",
    "name": "X-Correlation-ID",
    "required": False,
    "description": "Your own ID for this request: in the answer's headers, the logs and the rows made",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"},
}


class Described(NinjaAPI):
    """Every operation takes a correlation ID and answers any error with the JSON of `failure`."""

    failure: ClassVar[type[BaseModel]]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._documents: dict[str, OpenAPISchema] = {}

    def get_openapi_schema(
        self, *, path_prefix: str | None = None, path_params: dict[str, Any] | None = None
    ) -> OpenAPISchema:
        """The document, which is made once: that takes longer than all that it describes."""
        if path_prefix is None:
            path_prefix = self.get_root_path(path_params or {})
        if path_prefix not in self._documents:
            self._documents[path_prefix] = self._describe(path_prefix)
        return self._documents[path_prefix]

    def _describe(self, path_prefix: str) -> OpenAPISchema:
        document = super().get_openapi_schema(path_prefix=path_prefix)
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
                operation.setdefault("parameters", []).append(_CORRELATION)
        _drop_defaults_of_objects(document["components"]["schemas"])
        return document


def _drop_defaults_of_objects(node: Any) -> None:
    """An object's fields have defaults of their own; given as a whole beside its reference as well,
    generators leave out every operation that reads it."""
    if isinstance(node, dict):
        if "$ref" in node or "allOf" in node:
            node.pop("default", None)
        for value in node.values():
            _drop_defaults_of_objects(value)
    elif isinstance(node, list):
        for value in node:
            _drop_defaults_of_objects(value)
