"""The networks there are, and each one's layers for images of a given shape."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from app import examples
from app.dependencies import Cursor, Limit, Warm
from app.errors import responses
from app.schemas import LayerRead, Page, Read, shown
from database import pages
from problems import FieldError, Problem

router = APIRouter(prefix="/architectures", tags=["Catalogue"], dependencies=[Warm])


class ArchitectureItem(Read):
    """A network by name; it takes other sizes and channels too."""

    model_config = shown(examples.ARCHITECTURE_ITEM)

    name: str
    summary: str
    input: str = Field(description="Channels x height x width that it was made for.")


class ArchitectureRead(ArchitectureItem):
    """A network and its layers for `input` and `classes`; `flops` are of one image's pass."""

    model_config = shown(examples.ARCHITECTURE)

    classes: int
    layers: list[LayerRead]
    parameters: int
    flops: int


@router.get("", summary="List architectures", responses=responses("not_ready"))
def list_architectures(limit: Limit = 200, cursor: Cursor = None) -> Page[ArchitectureItem]:
    """Every network that a recipe can name: danlu's own, then those of torchvision."""
    from models_store import architectures, zoo  # torch

    known = [*architectures.ARCHITECTURES, *zoo.names()]
    page = pages.part(known, "architectures", limit=limit, cursor=cursor)
    items = [ArchitectureItem(**_item(name)) for name in page.items]
    return Page(items=items, next_cursor=page.next_cursor)


@router.get(
    "/{name}",
    summary="The layers of an architecture",
    responses=responses("architecture_unknown", "network_misfit", "network_too_large", "not_ready"),
)
def get_architecture(
    name: Annotated[str, Path(examples=["mnist_net"])],
    input_: Annotated[
        str | None,
        Query(
            alias="input",
            pattern=r"^[1-9]\d?x[1-9]\d{0,3}x[1-9]\d{0,3}$",
            description="Channels x height x width of the images.",
            examples=["1x28x28"],
        ),
    ] = None,
    classes: Annotated[int, Query(ge=1, le=100_000, description="Of the last layer.")] = 10,
) -> ArchitectureRead:
    """Shape and number of parameters after each layer, for images of any shape."""
    from models_store import architectures  # torch

    try:
        known = architectures.canonical(name)
        item = _item(known)
        shape = input_ or item["input"]
        channels, height, width = map(int, shape.split("x"))
        plan = architectures.plan(known, channels=channels, size=(height, width), classes=classes)
    except Problem as problem:
        raise _located(problem) from None
    return ArchitectureRead(
        **item | {"input": shape},
        classes=classes,
        layers=[LayerRead.model_validate(layer) for layer in plan.layers],
        parameters=plan.parameters,
        flops=architectures.flops(plan),
    )


def _item(name: str) -> dict[str, str]:
    """Name, summary and input that it was made for, of danlu's own or torchvision's."""
    from models_store import zoo
    from models_store.architectures import ARCHITECTURES

    one = ARCHITECTURES.get(name)
    channels, side = (one.channels, one.input_size) if one else (3, zoo.native_size(name))
    summary = one.summary if one else zoo.summary(name)
    return {"name": name, "summary": summary, "input": f"{channels}x{side}x{side}"}


def _located(problem: Problem) -> Problem:
    """The same problem, about this address instead of about a recipe."""
    places: dict[str, list[str | int]] = {
        "architecture_unknown": ["path", "name"],
        "network_misfit": ["query", "input"],
        "network_too_large": ["query", "input"],
    }
    place = places[problem.code]
    errors: list[FieldError] = [{"loc": place, "msg": error["msg"]} for error in problem.errors]
    return Problem(problem.code, problem.detail, hint=problem.hint, errors=errors)
