"""What one server holds for as long as it lives, made once and handed to the requests.

Making it touches neither disk nor network. Knows no endpoint.
"""

from dataclasses import dataclass
from typing import Self

import anyio
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from app.predictor import Predictor
from app.waiting import Waiting
from app.warmup import Warmup
from database import engine, jobs
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
    predicting: anyio.CapacityLimiter
    waiting: Waiting

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The resources of a server with these settings."""
        database = engine.connect(settings.database)
        reading = engine.session_factory(database, read_only=True)

        def ended(job_ids: set[str]) -> set[str]:
            with reading() as session:
                return jobs.ended(session, job_ids)

        return cls(
            settings=settings,
            database=database,
            reading=reading,
            writing=engine.session_factory(database),
            warmup=Warmup(device=settings.predict_device),
            predictor=Predictor(settings.checkpoints, device=settings.predict_device),
            predicting=anyio.CapacityLimiter(_PREDICTIONS_AT_ONCE),
            waiting=Waiting(ended),
        )
