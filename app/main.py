"""`create_app`: the routes, the errors and what surrounds them, made into one ASGI application.

Imports nothing that needs torch, so that the server listens within a second.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from threading import Thread
from typing import Any

import anyio.to_thread
from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute
from sqlalchemy.exc import SQLAlchemyError

from app import errors, removal, upkeep, validation
from app import imports as imports_of_datasets
from app.documentation import DocumentedApp
from app.door import Door
from app.heads import Heads
from app.middleware import BodyLimit, Cors, Counted, LastResort, RequestIds, SafeHeaders
from app.resources import Resources
from app.root_path import RootPath
from app.routes import (
    architectures,
    checkpoints,
    datasets,
    exports,
    foreign,
    imports,
    jobs,
    models,
    predict,
    recipes,
    system,
    train,
)
from database import engine
from database.leases import Watch
from settings import Settings

log = logging.getLogger(__name__)

_DESCRIPTION = """
Train image classifiers and classify images with them, on your own machine.

```sh
curl --json '{"dataset": "digits"}' localhost:8000/train      # train on handwritten digits
curl 'localhost:8000/jobs?active=true'                        # how far is it?
curl -F file=@7.png localhost:8000/predict                    # what does it see?
```

Errors are [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problem documents with a stable `code`
([all of them](docs/errors)) and a `hint`. Unknown fields and parameters are refused by name. Every
response has an `X-Request-Id`. Lists come in pages: pass `next_cursor` on as `cursor`.
"""

_TAGS: list[dict[str, Any]] = [
    {"name": "Training", "description": "From a recipe to a job."},
    {"name": "Jobs", "description": "What is trained, was trained, and how it went."},
    {"name": "Prediction", "description": "Classify images."},
    {"name": "Models", "description": "Names for the checkpoints that an app predicts with."},
    {"name": "Checkpoints", "description": "Trained weights."},
    {"name": "Data sets", "description": "What can be trained on."},
    {"name": "Catalogue", "description": "Networks and ready-made recipes."},
    {"name": "System", "description": "The server itself."},
]


def create_app(settings: Settings | None = None) -> FastAPI:
    """The server's application. Touches nothing until its lifespan begins.

    Without settings those of the environment: `uvicorn app.main:create_app --factory --workers 4`.
    """
    settings = settings or Settings()
    app = DocumentedApp(
        title="danlu",
        summary="Train and serve image classifiers",
        description=_DESCRIPTION,
        version=version("danlu"),
        openapi_tags=_TAGS,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        dependencies=[Depends(validation.refuse_unknown_parameters)],
        generate_unique_id_function=_operation_id,
    )
    app.state.resources = Resources.of(settings)
    for module in (
        *(train, jobs, predict, models, checkpoints, exports, foreign, datasets, imports),
        *(architectures, recipes, system),
    ):
        app.include_router(module.router)
    app.install_documentation()
    errors.install(app)
    # The last one added is the outermost.
    app.add_middleware(predict.Direct, handlers=app.exception_handlers)
    app.add_middleware(BodyLimit, settings=settings)
    app.add_middleware(Door, settings=settings)
    app.add_middleware(LastResort, stops=lambda: app.state.resources.feed.is_closed)
    app.add_middleware(Counted, requests=app.state.resources.requests)
    app.add_middleware(Heads)
    if settings.cors_origins:
        app.add_middleware(Cors, settings=settings)
    app.add_middleware(SafeHeaders, settings=settings)
    app.add_middleware(RequestIds)
    app.add_middleware(RootPath, root_path=settings.root_path)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Raises `Problem` database_newer when a newer danlu made the database."""
    held: Resources = app.state.resources
    held.settings.home.mkdir(parents=True, exist_ok=True)
    await anyio.to_thread.run_sync(engine.migrate, held.settings.database)
    await anyio.to_thread.run_sync(_sweep, held)
    held.warmup.start(app.openapi)  # not in the loop, at the first request that needs it
    loading = asyncio.create_task(held.preloading.run())
    async with upkeep.running(held, Watch(held.reading, held.writing)):
        yield
    held.feed.close()
    loading.cancel()
    await held.predictor.pool.close()
    held.database.dispose()


def _sweep(held: Resources) -> None:
    """What killed servers left behind of data sets that came or went."""
    try:
        imports_of_datasets.sweep(held)
    except SQLAlchemyError as error:  # damaged, say: models may still be asked
        reason = getattr(error, "orig", None) or error
        log.error("the database cannot be used: %s. danlu doctor looks for what is wrong.", reason)
    Thread(target=removal.sweep, args=(held.settings.datasets,), daemon=True).start()


def _operation_id(route: APIRoute) -> str:
    return route.name
