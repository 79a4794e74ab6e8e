"""The data sets there are, what is known about each, and images of them. `imports` adds some."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import anyio.to_thread
from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParameter
from pydantic import Field

from app import examples, png, removal, root_path, samples, sheets
from app.dependencies import Cursor, Held, Limit, Setup, Warm
from app.errors import responses
from app.png import Png
from app.schemas import Page, Read, shown
from data_store import catalog, origin
from data_store.catalog import Facts
from database import pages
from problems import Problem

router = APIRouter(prefix="/datasets", tags=["Data sets"])

Name = Annotated[
    str, PathParameter(description="Case, `-` and `_` do not matter.", examples=["digits"])
]
# Said in the documentation only: a part of another name is not found, rather than not valid.
_PARTS = {"enum": ["train", "val", "test"]}


class DataSetItem(Read):
    """A data set in a list: what is known without decoding it."""

    model_config = shown(examples.DATA_SET_ITEM)

    name: str
    origin: Literal["built_in", "folder"]
    classes: list[str] = Field(description="In the order of the labels.")
    counts: dict[str, int] = Field(description="Images of each part: train, perhaps val and test.")
    height: int = Field(description="In pixels; of a folder, the median of a sample.")
    width: int
    channels: int
    available: bool = Field(
        description="On this disk; others are downloaded by the first training."
    )
    version: str | None = Field(
        description="Hash of the content, once it has been imported or decoded."
    )
    defaults: dict[str, Any] = Field(description="What a recipe takes from the data set.")


class DataSetRead(DataSetItem):
    """A data set. What imports know is null for sets that none made."""

    model_config = shown(examples.DATA_SET)

    job_id: str | None = Field(description="The import that made it.")
    archive_sha256: str | None = Field(
        description="Of the archive that it is made of; null after a merge, or a change by hand."
    )
    report: dict[str, Any] | None = Field(
        description="What the doctor found at the import: counts, damaged and double files."
    )


class DataSetImageRead(Read):
    """One image; its file is at `url`."""

    model_config = shown(examples.DATA_SET_IMAGE)

    index: int
    label: str
    url: str


@router.get("", summary="List data sets", responses=responses())
def list_datasets(settings: Setup, limit: Limit = 200, cursor: Cursor = None) -> Page[DataSetItem]:
    """The built-in ones, then every folder with a folder per class in `DANLU_DATASETS_DIR`."""
    root = settings.datasets
    page = pages.part(catalog.names(root), "datasets", limit=limit, cursor=cursor)
    found = _all_facts(page.items, root, settings.cache)
    items = [DataSetItem.model_validate(facts) for facts in found]
    return Page(items=items, next_cursor=page.next_cursor)


@router.get(
    "/{name}", summary="One data set", responses=responses("dataset_unknown", "dataset_invalid")
)
def get_dataset(name: Name, settings: Setup) -> DataSetRead:
    """Classes, counts, sizes, the defaults that a recipe takes from it, and for an imported set
    what its import found.
    """
    facts = catalog.facts(name, settings.datasets, cache=settings.cache)
    return _read(facts, settings.datasets)


@router.delete(
    "/{name}",
    status_code=204,
    summary="Delete a data set",
    responses=responses("dataset_unknown", "dataset_in_use"),
)
def delete_dataset(name: Name, held: Held) -> None:
    """Its images, and what was decoded of them. Jobs and checkpoints that came of it stay. A
    built-in set cannot be deleted, nor one that an active job uses. It is gone at once; its
    space is free a little later, if it has very many files.
    """
    removal.remove(held, name)


@router.get(
    "/{name}/samples.png",
    summary="Some images of a data set as a picture",
    response_class=Response,
    responses={
        **png.described("A few images of each class."),
        **responses(
            *("dataset_unknown", "not_found", "dataset_invalid"),
            *("dataset_not_downloaded", "not_ready"),
        ),
    },
    dependencies=[Warm],
)
async def get_dataset_samples(
    name: Name,
    held: Held,
    split: Annotated[
        str, Query(description="Part of the data set.", json_schema_extra=_PARTS)
    ] = "train",
) -> Png:
    """Some images of each class, taken evenly from all of it, with the name of the class. Of very
    many classes the first are shown. A name that no font of the server can write is shown by its
    number.
    """

    def draw() -> bytes:
        return sheets.drawn(name, held.settings.datasets, split)

    return Png(await anyio.to_thread.run_sync(draw, limiter=held.drawing))


@router.get(
    "/{name}/images",
    summary="List the images of a data set",
    responses=responses(
        *("dataset_unknown", "not_found", "dataset_invalid"),
        *("dataset_not_downloaded", "not_ready"),
    ),
    dependencies=[Warm],
)
def list_dataset_images(  # noqa: PLR0913 - the parameters of the list
    request: Request,
    name: Name,
    settings: Setup,
    split: Annotated[
        str, Query(description="Part of the data set.", json_schema_extra=_PARTS)
    ] = "train",
    class_: Annotated[str | None, Query(alias="class", description="Only of this class.")] = None,
    limit: Limit = 50,
    cursor: Annotated[
        str | None, Query(pattern=r"^\d{1,12}$", description="`next_cursor` of the page before.")
    ] = None,
) -> Page[DataSetImageRead]:
    """In the order of the data set, with the address of each image's file."""
    facts = samples.local(name, settings.datasets)
    wanted = None if class_ is None else samples.class_index(facts, class_)
    labels = samples.labels(facts, settings.datasets, split)
    matching = (
        (index, labels[index])
        for index in range(int(cursor or 0), len(labels))
        if wanted is None or labels[index] == wanted
    )
    page = list(islice(matching, limit + 1))
    below = root_path.of(request.scope)
    place = f"{below}/datasets/{quote(facts.name, safe='')}/images/{split}"
    items = [
        DataSetImageRead(index=index, label=facts.classes[label], url=f"{place}/{index}")
        for index, label in page[:limit]
    ]
    more = len(page) > limit
    return Page(items=items, next_cursor=str(page[limit][0]) if more else None)


@router.get(
    "/{name}/images/{split}/{index}",
    summary="One image of a data set",
    response_class=Response,
    responses={
        200: {
            "description": "The image's file; a PNG of a built-in set.",
            "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
        },
        **responses(
            *("dataset_unknown", "not_found", "dataset_invalid"),
            *("dataset_not_downloaded", "not_ready"),
        ),
    },
    dependencies=[Warm],
)
def get_dataset_image(
    name: Name,
    settings: Setup,
    split: Annotated[
        str,
        PathParameter(
            description="Part of the data set.", examples=["test"], json_schema_extra=_PARTS
        ),
    ],
    index: Annotated[
        int, PathParameter(ge=0, lt=2**53, description="Of the image, from 0.", examples=[0])
    ],
) -> Response:
    """As it lies on disk: what is seen here is what the network is trained on."""
    facts = samples.local(name, settings.datasets)
    data, media_type = samples.image(facts, settings.datasets, split=split, index=index)
    # What lies in a folder of images may be anything; a browser must not guess.
    return Response(data, media_type=media_type, headers={"X-Content-Type-Options": "nosniff"})


def _read(facts: Facts, root: Path) -> DataSetRead:
    known = {field: getattr(facts, field) for field in DataSetItem.model_fields}
    found = origin.read(root / facts.name)
    unchanged = found is not None and catalog.is_as_imported(facts.name, root)
    if found is not None and unchanged and facts.version is None:
        known["version"] = found.version
    return DataSetRead(
        **known,
        job_id=None if found is None else found.job,
        archive_sha256=found.sha256 if found is not None and unchanged else None,
        report=origin.report(root / facts.name),
    )


def _all_facts(names: list[str], root: Path, cache: Path) -> Iterator[Facts]:
    for name in names:
        try:
            yield catalog.facts(name, root, cache=cache)
        except Problem:  # a folder that went or broke since it was listed
            continue
