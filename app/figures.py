"""What was asked of each checkpoint since the server started, and what predicting with it takes."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Self

from app.inference.peer import Loaded

_HEED = 0.1  # of the latest batch, in the mean


@dataclass(slots=True)
class Figures:
    """What was asked of a checkpoint since the server started."""

    requests: int = 0
    images: int = 0
    seconds: float = 0.0  # of computing
    seconds_per_image: float = 0.0  # lately
    batches: Counter[int] = field(default_factory=Counter)  # by the number of their images

    def add(self, requests: int, images: int, seconds: float) -> None:
        """Notes a batch."""
        self.requests += requests
        self.images += images
        self.seconds += seconds
        self.seconds_per_image += _HEED * (seconds / max(1, images) - self.seconds_per_image)
        self.batches[images] += 1


@dataclass(frozen=True, slots=True)
class Serving:
    """A checkpoint that is loaded, or was asked for: what it takes, and its figures."""

    checkpoint_id: str
    processes: int
    device: str | None
    precision: str | None
    memory_bytes: int
    requests: int
    images: int
    seconds: float
    batches: dict[int, int]

    @classmethod
    def of(cls, checkpoint_id: str, loaded: Loaded | None, figures: Figures) -> Self:
        """Of a checkpoint that may not be loaded any more."""
        return cls(
            checkpoint_id,
            processes=loaded.processes if loaded else 0,
            device=loaded.device if loaded else None,
            precision=loaded.precision if loaded else None,
            memory_bytes=loaded.memory_bytes if loaded else 0,
            requests=figures.requests,
            images=figures.images,
            seconds=figures.seconds,
            batches=dict(figures.batches),
        )
