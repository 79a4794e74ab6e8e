"""What one server holds for as long as it lives, made once and handed to the requests.

Making it touches neither disk nor network. Knows no endpoint.
"""

from dataclasses import dataclass
from typing import Self

import anyio
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from app.feed import Feed
from app.models import Models
from app.predictor import Predictor
from app.warmup import Warmup
from database import engine
from settings import Settings

# Predictions compute; more of them at once than this only take the cores from each other.
_PREDICTIONS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Resources:
    """`reading` makes sessions that never wait for a writer, `writing` those that change rows."""

    settings: Settings
    database: Engine
    reading: sessionmaker[Session]
    writing: sessionmaker[Session]
    warmup: Warmup
    predictor: Predictor
    models: Models
    predicting: anyio.CapacityLimiter
    drawing: anyio.CapacityLimiter
    receiving: anyio.CapacityLimiter
    feed: Feed

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The resources of a server with these settings."""
        database = engine.connect(settings.database)
        reading = engine.session_factory(database, read_only=True)

        return cls(
            settings=settings,
            database=database,
            reading=reading,
            writing=engine.session_factory(database),
            warmup=Warmup(device=settings.predict_device),
            predictor=Predictor(settings.checkpoints, device=settings.predict_device),
            models=Models(reading),
            predicting=anyio.CapacityLimiter(_PREDICTIONS_AT_ONCE),
            # Who waits for a picture holds no thread: one is drawn at a time anyway.
            drawing=anyio.CapacityLimiter(1),
            # Each takes a process with a torch of its own.
            receiving=anyio.CapacityLimiter(1),
            feed=Feed(reading),
        )
