"""Optimizers, schedulers and losses as they are submitted: a name, and arguments by name.

Takes any argument: which ones a name has is `arguments.complete`'s to say.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models_store import arguments
from models_store.signatures import Arguments


def _from_name(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and "type" in value and "name" not in value:
        return {"name": value["type"]} | {k: v for k, v in value.items() if k != "type"}
    return value


def _describe(schema: dict[str, Any], known: Mapping[str, type[Arguments]]) -> None:
    """Lists the arguments of all kinds together: which of them go together, the name decides."""
    ways: dict[str, list[Any]] = {}
    for kind in known.values():
        described = kind.model_json_schema()
        for name, argument in described["properties"].items():
            said = _without_defaults(argument, described.get("$defs", {}))
            if said not in ways.setdefault(name, []):
                ways[name].append(said)
    schema["additionalProperties"] = False
    schema["properties"]["name"] = {"type": ["string", "null"], "enum": [*known, None]}
    for name, said_of in ways.items():
        schema["properties"][name] = said_of[0] if len(said_of) == 1 else {"anyOf": said_of}


def _without_defaults(argument: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """An argument as it is described, and what it refers to in its place."""
    said = {key: value for key, value in argument.items() if key not in ("default", "$ref")}
    if "$ref" in argument:
        said |= definitions[argument["$ref"].rpartition("/")[2]]
    return said


def _describe_optimizer(schema: dict[str, Any]) -> None:
    _describe(schema, arguments.OPTIMIZERS)
    schema["examples"] = [{"name": "AdamW", "lr": 0.001, "weight_decay": 0.05}]


def _describe_scheduler(schema: dict[str, Any]) -> None:
    _describe(schema, arguments.SCHEDULERS)
    schema["examples"] = [{"name": "OneCycleLR", "max_lr": 0.01}]


def _describe_loss(schema: dict[str, Any]) -> None:
    _describe(schema, arguments.LOSSES)
    schema["examples"] = [{"name": "CrossEntropyLoss", "label_smoothing": 0.1}]


def or_the_name(known: Iterable[str]) -> Callable[[dict[str, Any]], None]:
    """Tells an OpenAPI document that a bare name is taken too, though the model has fields."""
    return lambda schema: schema["anyOf"].append({"type": "string", "enum": list(known)})


class Named(BaseModel):
    """An optimizer, scheduler or loss: its name and PyTorch's arguments. A bare string is the name.

    `type`, the word that layers and transforms use, is taken for `name` too.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return _from_name(value)

    def arguments(self) -> dict[str, Any]:
        """Everything given but the name."""
        return dict(self.__pydantic_extra__ or {})


class SubmittedOptimizer(Named):
    """`{"name": "SGD", "lr": 0.1}`; without a name the default optimizer's arguments change."""

    model_config = ConfigDict(json_schema_extra=_describe_optimizer)


class SubmittedScheduler(Named):
    """`{"name": "OneCycleLR", "max_lr": 0.01}`; without a name the default's arguments change."""

    model_config = ConfigDict(json_schema_extra=_describe_scheduler)


class SubmittedLoss(Named):
    """`{"name": "CrossEntropyLoss", "label_smoothing": 0.1}`; without a name the default's
    arguments change.
    """

    model_config = ConfigDict(json_schema_extra=_describe_loss)
