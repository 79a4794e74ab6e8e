"""An inference process as its server's pool sees it: what it has loaded, does, and owes."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.inference.entry import MOST
from app.inference.link import Link
from problems import Problem

# What a process is given before it has answered; what waits in the server can still be dropped, or
# be given to another process. Of large images fewer: what nobody waits for any more would lie in
# front of the others, in memory that nothing else bounds, until the process has read past it.
_WINDOW = 2 * MOST
_WINDOW_BYTES = 64_000_000


class Lost(Problem):
    """The process has ended that was to load a model."""

    def __init__(self) -> None:
        super().__init__("internal", "The process that was to load the model has ended.")


@dataclass(slots=True)
class Held:
    """A checkpoint in a process."""

    memory_bytes: int
    precision: str
    used: float


@dataclass(frozen=True, slots=True)
class Given:
    """A request, as far as a process has to do with it."""

    checkpoint_id: str
    images: int
    image_bytes: int


@dataclass(eq=False, slots=True)
class Process:
    """One process, and what it has and does."""

    device: str
    link: Link = field(init=False)
    started: asyncio.Future[int] = field(init=False)  # GPUs that it sees
    heard: float = field(default_factory=time.monotonic)
    warm: dict[str, Held] = field(default_factory=dict)
    loading: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    unwanted: set[str] = field(default_factory=set)  # to be let go of once it is loaded
    requests: dict[int, Given] = field(default_factory=dict)
    dropped: dict[int, Given] = field(default_factory=dict)  # what it has not acknowledged yet
    images: int = 0  # of both
    image_bytes: int = 0
    is_starting: bool = False
    is_gone: bool = False

    @property
    def owes(self) -> bool:
        """Whether something is to be heard of it."""
        return bool(self.requests or self.dropped or self.loading or self.is_starting)

    def expect(self) -> None:
        """Notes that something is asked of it now."""
        if not self.owes:
            self.heard = time.monotonic()

    @property
    def is_full(self) -> bool:
        """Whether it is to be given no more for now."""
        return self.images >= _WINDOW or self.image_bytes >= _WINDOW_BYTES

    def take(self, number: int, given: Given) -> None:
        """Notes a request that it is given now."""
        self.expect()
        self.warm[given.checkpoint_id].used = time.monotonic()
        self.requests[number] = given
        self.images += given.images
        self.image_bytes += given.image_bytes

    def give_back(self, number: int) -> None:
        """Notes that it has answered a request, or knows that it need not."""
        given = self.requests.pop(number, None) or self.dropped.pop(number, None)
        if given is not None:
            self.images -= given.images
            self.image_bytes -= given.image_bytes

    def drop(self, number: int) -> None:
        """Tells it that a request is to be answered no more; what hangs does not hear that."""
        self.dropped[number] = self.requests.pop(number)
        self.link.say({"do": "drop", "number": number})

    def uses(self, checkpoint_id: str) -> bool:
        """Whether it has something to do with it just now."""
        return checkpoint_id in self.loading or any(
            given.checkpoint_id == checkpoint_id for given in self.requests.values()
        )

    def unload(self, checkpoint_id: str) -> None:
        """Tells it to let go of a checkpoint, after what it was asked before."""
        del self.warm[checkpoint_id]
        self.link.say({"do": "unload", "checkpoint": checkpoint_id})


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checkpoint that is warm, in so many processes."""

    checkpoint_id: str
    processes: int
    device: str
    precision: str
    memory_bytes: int


def loaded(processes: Sequence[Process]) -> list[Loaded]:
    """What they have, by checkpoint. From any thread."""
    found: dict[str, list[tuple[str, Held]]] = {}
    for process in processes:
        for checkpoint_id, held in tuple(process.warm.items()):
            found.setdefault(checkpoint_id, []).append((process.device, held))
    return [
        Loaded(
            checkpoint_id,
            processes=len(at),
            device=at[0][0],
            precision=at[0][1].precision,
            memory_bytes=sum(held.memory_bytes for _, held in at),
        )
        for checkpoint_id, at in sorted(found.items())
    ]
