"""The ready-made recipes that `POST /train` takes by name."""

from typing import Any

from fastapi import APIRouter
from pydantic import Field

from app import examples
from app.dependencies import Cursor, Limit
from app.errors import responses
from app.schemas import Page, Read, shown
from database import pages
from models_store.ready_made import READY_MADE, SUMMARIES

router = APIRouter(prefix="/recipes", tags=["Catalogue"])


class RecipeItem(Read):
    """A recipe by name."""

    model_config = shown(examples.RECIPE_ITEM)

    name: str
    summary: str = Field(description="What it is for, and what it has reached where measured.")
    recipe: dict[str, Any] = Field(description="What it says; other fields of a body override it.")


@router.get("", summary="List ready-made recipes", responses=responses())
def list_recipes(limit: Limit = 200, cursor: Cursor = None) -> Page[RecipeItem]:
    """Use one with `{"recipe": "notes-mnist"}`."""
    page = pages.part([*READY_MADE], "recipes", limit=limit, cursor=cursor)
    items = [
        RecipeItem(name=name, summary=SUMMARIES[name], recipe=READY_MADE[name])
        for name in page.items
    ]
    return Page(items=items, next_cursor=page.next_cursor)
