"""What the app's OpenAPI document says of the operation that a request is for.

The document is the contract: what it does not list is refused. Knows nothing of pydantic.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from fastapi import FastAPI
from starlette.requests import Request


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: its own part of the document, and the schemas that it refers to."""

    document: Mapping[str, Any]
    schemas: Mapping[str, Any]

    @classmethod
    def of(cls, request: Request) -> Self:
        """Of an address outside the API (the documentation pages), an operation without parts."""
        app: FastAPI = request.app
        path = getattr(request.scope.get("route"), "path_format", "")
        api = app.openapi()
        document = api["paths"].get(path, {}).get(request.method.lower(), {})
        return cls(document, api["components"]["schemas"])

    @staticmethod
    def methods(request: Request) -> list[str]:
        """What the address takes; none for an address outside the API."""
        path = getattr(request.scope.get("route"), "path_format", "")
        found = {method.upper() for method in request.app.openapi()["paths"].get(path, {})}
        return sorted(found | {"HEAD"} if "GET" in found else found)

    @property
    def is_documented(self) -> bool:
        """Whether the address belongs to the API."""
        return bool(self.document)

    def query_parameters(self) -> list[str]:
        """Names of the query parameters."""
        return [p["name"] for p in self.document.get("parameters", ()) if p["in"] == "query"]

    def field(
        self, loc: Sequence[str | int], *, unknown: bool
    ) -> tuple[list[str | int], list[str]]:
        """A place as people wrote it, and the names that its last step could have had.

        pydantic also names the branch of a union that it tried (`["body", "normalize", "Normalize",
        "mean"]`): nobody wrote that step, so it is left out. `unknown`: the schema lacks the last
        step.
        """
        place: list[str | int] = [loc[0]]
        schemas = self._bodies() if loc[0] == "body" else []
        names: list[str] = []
        for number, step in enumerate(loc[1:], 2):
            objects = list(self._plain(schemas))
            names = list(dict.fromkeys(name for o in objects for name in o.get("properties", ())))
            inner = list(_below(objects, step))
            if inner or not objects or (unknown and number == len(loc)):
                place.append(step)
                schemas = inner
            else:
                schemas = [o for o in objects if o.get("title") == step] or objects
        return place, names

    def _bodies(self) -> list[dict[str, Any]]:
        content = self.document.get("requestBody", {}).get("content", {})
        return [kind["schema"] for kind in content.values() if "schema" in kind]

    def _plain(self, schemas: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The schemas behind references and unions."""
        for schema in schemas:
            branches = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
            if "$ref" in schema:
                yield from self._plain([self.schemas[schema["$ref"].rpartition("/")[2]]])
            elif branches:
                yield from self._plain(branches)
            else:
                yield schema


def _below(objects: Sequence[dict[str, Any]], step: str | int) -> Iterator[dict[str, Any]]:
    """The schemas of a field, or of the items of a list."""
    for schema in objects:
        if isinstance(step, int) and "items" in schema:
            yield schema["items"]
        elif step in schema.get("properties", ()):
            yield schema["properties"][step]
