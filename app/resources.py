"""What one server holds for as long as it lives, made once and handed to the requests.

Making it touches neither disk nor network. Knows no endpoint.
"""

from dataclasses import dataclass
from typing import Self

import anyio
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from app.bodies import Bodies
from app.feed import Feed
from app.inference import devices
from app.inference.devices import Device
from app.inference.entry import Plan
from app.inference.link import start_method
from app.inference.pool import Pool
from app.models import Models
from app.predictor import Bounds, Predictor
from app.preloading import Preloading
from app.tallies import Requests
from app.warmup import Warmup
from database import engine
from settings import Settings

# Of images that wait to be classified.
_WAITING_BYTES = 512_000_000


@dataclass(frozen=True, slots=True)
class Resources:
    """`reading` makes sessions that never wait for a writer, `writing` those that change rows."""

    settings: Settings
    database: Engine
    reading: sessionmaker[Session]
    writing: sessionmaker[Session]
    warmup: Warmup
    predictor: Predictor
    predict_device: Device
    preloading: Preloading
    models: Models
    bodies: Bodies  # of images
    drawing: anyio.CapacityLimiter
    receiving: anyio.CapacityLimiter
    feed: Feed
    requests: Requests
    measuring: anyio.CapacityLimiter

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The resources of a server with these settings."""
        database = engine.connect(settings.database)
        reading = engine.session_factory(database, read_only=True)
        device = Device(settings.predict_device)
        pool = _pool(settings, device)
        return cls(
            settings=settings,
            database=database,
            reading=reading,
            writing=engine.session_factory(database),
            warmup=Warmup(),
            predictor=Predictor(
                pool,
                Bounds(
                    requests=settings.predict_queue,
                    request_bytes=_WAITING_BYTES,
                    seconds=settings.predict_timeout_seconds,
                    processes=pool.most,
                    processes_beside=devices.beside_server(pool.most),
                ),
            ),
            predict_device=device,
            preloading=Preloading(pool, device, reading, settings.predict_preload),
            models=Models(reading),
            bodies=Bodies(_WAITING_BYTES),
            # Who waits for a picture holds no thread: one is drawn at a time anyway.
            drawing=anyio.CapacityLimiter(1),
            # Each takes a process with a torch of its own.
            receiving=anyio.CapacityLimiter(1),
            feed=Feed(reading),
            requests=Requests(),
            # However many look at once; and not behind those that wait for the database.
            measuring=anyio.CapacityLimiter(1),
        )


def _pool(settings: Settings, device: Device) -> Pool:
    bounds = devices.bounds(settings)
    plan = Plan(
        settings.checkpoints,
        device="cpu",
        precision=settings.predict_precision,
        threads=devices.threads(bounds.processes),
        cores=devices.cores(),
        log_level=settings.log_level,
        gpu_share=settings.predict_gpu_share or 1.0,
    )
    return Pool(plan, bounds, method=start_method(settings.start_method), device=device)
