"""The inference processes of a server, and which checkpoints each has loaded.

A checkpoint is loaded once, however many ask for it at the same time; in a second process where the
first has more to do than it can; and it is let go where nobody uses it or the memory is wanted.
Lives in the server's event loop. Knows nothing of requests.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.inference.entry import Plan
from app.inference.link import Link, Method
from app.inference.peer import Held, Loaded, Lost, Process, loaded
from app.inference.space import Space
from problems import Problem

log = logging.getLogger(__name__)

_GRACE_SECONDS = 10.0  # after which a process that should have answered is taken to hang
_START_SECONDS = 20.0
_LONGEST_START_SECONDS = 120.0  # with torch on a disk that nobody has read yet


@dataclass(frozen=True, slots=True)
class Bounds:
    """What predictions may take."""

    processes: int
    memory_bytes: int  # of the weights that are loaded, all processes together
    idle_seconds: float
    seconds: float  # of one request


class Pool:
    """`heard` is given what processes say of requests, `ended` a process that is no more."""

    def __init__(
        self, plan: Plan, bounds: Bounds, *, method: Method, device: Callable[[], str]
    ) -> None:
        self._plan = plan
        self._bounds = bounds
        self._method = method
        self._device = device
        self._processes: list[Process] = []
        self._space = Space(plan.root, bounds.memory_bytes, self._processes)
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._spreads: dict[str, asyncio.Task[None]] = {}
        self._starting = asyncio.Lock()
        self._once_more = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False
        self.lost = 0  # processes that ended, or were ended because they hung
        self.heard: Callable[[Process, dict[str, Any], bytes], None] = lambda *_: None
        self.ended: Callable[[Process], None] = lambda _: None
        self.loaded: Callable[[str], None] = lambda _: None

    @property
    def most(self) -> int:
        """Processes that there may be on the CPU."""
        return self._bounds.processes

    async def start(self) -> int:
        """The first process, once it can load; returns the GPUs that it sees."""
        return await asyncio.shield((await self._one()).started)

    async def load(self, checkpoint_id: str) -> None:
        """Returns once a process has it. Raises `Problem` checkpoint_not_found, checkpoint_damaged,
        not_ready where no process can be had, and internal where one ends over it.
        """
        while not self.having(checkpoint_id):
            load = self._loads.get(checkpoint_id)
            if load is None or load.done():  # done, and let go of again before anybody saw it
                load = self._loads[checkpoint_id] = asyncio.create_task(self._load(checkpoint_id))
                load.add_done_callback(partial(self._has_loaded, checkpoint_id))
            await asyncio.shield(load)

    def _has_loaded(self, checkpoint_id: str, load: asyncio.Task[None]) -> None:
        if self._loads.get(checkpoint_id) is load:
            del self._loads[checkpoint_id]

    def having(self, checkpoint_id: str) -> list[Process]:
        """The processes that have a checkpoint loaded, on the device that is to be used now."""
        device = self._device()
        return [
            one for one in self._processes if checkpoint_id in one.warm and one.device == device
        ]

    @property
    def is_idle(self) -> bool:
        """Whether no process has anything to compute."""
        return not any(one.images or one.loading for one in self._processes)

    def spread(self, checkpoint_id: str) -> None:
        """Loads a checkpoint in one more process, soon, if there is one that has less to do."""
        if checkpoint_id not in self._spreads and self._room_beside(checkpoint_id):
            task = asyncio.create_task(self._spread(checkpoint_id))
            self._spreads[checkpoint_id] = task
            task.add_done_callback(lambda _: self._spreads.pop(checkpoint_id, None))

    def forget(self, checkpoint_id: str) -> None:
        """Lets go of a checkpoint; requests that use it now still end well. From any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the server has stopped meanwhile
                self._loop.call_soon_threadsafe(self._forget, checkpoint_id)

    def warm(self) -> list[Loaded]:
        """What is loaded now, by checkpoint. From any thread."""
        return loaded(tuple(self._processes))

    def has_room(self, checkpoint_id: str) -> bool:
        """Whether it can be loaded without letting go of another."""
        return self._space.has(self._space.size(checkpoint_id))

    def pids(self) -> list[tuple[int, str]]:
        """Of the processes, with their devices. From any thread."""
        return [(process.link.pid, process.device) for process in tuple(self._processes)]

    def tidy(self) -> None:
        """Lets go of what is idle, and ends processes that hang: to be called now and then."""
        now = time.monotonic()
        for process in tuple(self._processes):
            patience = self._bounds.seconds + _GRACE_SECONDS
            if process.is_starting:
                patience = max(patience, _LONGEST_START_SECONDS)
            if process.owes and now - process.heard > patience:
                log.error("inference process %s hangs and is ended", process.link.pid)
                process.link.kill()
            for checkpoint_id, held in tuple(process.warm.items()):
                idle = now - held.used > self._bounds.idle_seconds
                if idle and not process.uses(checkpoint_id):
                    process.unload(checkpoint_id)
        self._space.make(0)  # what was in use when another was loaded

    async def close(self) -> None:
        """Ends the processes; what they have not answered is not answered any more."""
        self._closing = True
        for task in (*self._loads.values(), *self._spreads.values()):
            task.cancel()
        async with self._starting:
            for process in tuple(self._processes):
                await process.link.close()

    # -- processes ------------------------------------------------------------------------------

    def _usable(self) -> list[Process]:
        device = self._device()
        return [one for one in self._processes if one.device == device]

    async def _one(self, *, more: bool = False) -> Process:
        """The process with the least to do, of those on the device; with `more` another one, as
        long as there may be one. Raises `Problem` not_ready.
        """
        async with self._starting:
            usable = self._usable()
            most = self._bounds.processes if self._device() == "cpu" else 1
            if usable and not (more and len(usable) < most):
                return min(usable, key=lambda one: (one.images, len(one.loading), len(one.warm)))
            return await self._start(self._device())

    async def _start(self, device: str) -> Process:
        if self._closing:
            raise Problem("not_ready", "The server is stopping.")
        self._loop = asyncio.get_running_loop()
        process = Process(device, is_starting=True)
        process.started = asyncio.get_running_loop().create_future()
        plan = self._plan.on(device)
        try:
            process.link = await Link.start(
                plan,
                self._method,
                heard=lambda said, data: self._hear(process, said, data),
                ended=lambda: self._end(process),
            )
        except (OSError, EOFError) as error:
            raise Problem("not_ready", f"No process can be started: {error}.") from error
        if process.is_gone:
            raise Problem("not_ready", "A process has ended as soon as it was started.")
        self._processes.append(process)
        return process

    def _hear(self, process: Process, said: dict[str, Any], data: bytes) -> None:
        process.heard = time.monotonic()
        match said["did"]:
            case "start":
                process.is_starting = False
                process.started.set_result(said["gpus"])
            case "load":
                self._heard_of_load(process, said)
            case "working":
                pass  # it was heard of
            case _:
                self.heard(process, said, data)

    def _end(self, process: Process) -> None:
        """It died, or was ended."""
        process.is_gone = True
        if process in self._processes:
            self._processes.remove(process)
            if not self._closing:
                self.lost += 1
                log.error("inference process %s has ended", process.link.pid)
        lost = Lost()
        for load in process.loading.values():
            _fail(load, lost)
        _fail(process.started, lost)
        self.ended(process)

    # -- checkpoints ----------------------------------------------------------------------------

    async def _load(self, checkpoint_id: str) -> None:
        """Once more where the process ends meanwhile, which another model may be to blame for: one
        after the other then, so that the second time it is this one.
        """
        try:
            await self._load_in(await self._one(), checkpoint_id)
        except Lost:
            async with self._once_more:
                await self._load_in(await self._one(), checkpoint_id)

    async def _load_in(self, process: Process, checkpoint_id: str) -> None:
        await self._begun(process)
        if process.is_gone:  # while we waited: its end failed the loads that it had by then
            raise Lost
        if (present := process.loading.get(checkpoint_id)) is not None:
            await asyncio.shield(present)
            return
        self._space.make(self._space.size(checkpoint_id))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        process.expect()
        process.loading[checkpoint_id] = future
        process.link.say({"do": "load", "checkpoint": checkpoint_id})
        try:
            await future
        except Problem as problem:  # nobody else knows how much room there is on a GPU
            if problem.code != "overloaded" or not self._space.empty(process):
                raise
            await self._load_in(process, checkpoint_id)

    async def _begun(self, process: Process) -> None:
        """Raises `Problem` not_ready for one that takes long, as where torch is not cached."""
        try:
            await asyncio.wait_for(asyncio.shield(process.started), _START_SECONDS)
        except TimeoutError:
            raise Problem("not_ready", "What computes predictions is still starting.") from None

    def _heard_of_load(self, process: Process, said: dict[str, Any]) -> None:
        checkpoint_id = said["checkpoint"]
        future = process.loading.pop(checkpoint_id)
        is_wanted = checkpoint_id not in process.unwanted
        process.unwanted.discard(checkpoint_id)
        if "problem" in said:
            _fail(future, Problem(**said["problem"]))
            return
        if not is_wanted:
            process.link.say({"do": "unload", "checkpoint": checkpoint_id})
            gone = f"{checkpoint_id} was deleted while it was being loaded."
            _fail(future, Problem("checkpoint_not_found", gone))
            return
        held = Held(said["bytes"], said["precision"], time.monotonic())
        process.warm[checkpoint_id] = held
        future.set_result(None)
        log.info("%s is loaded in %.2f s, %s", checkpoint_id, said["seconds"], held.precision)
        self.loaded(checkpoint_id)
        self._space.make(0, beside=checkpoint_id)  # where several were loaded at the same time

    def _room_beside(self, checkpoint_id: str) -> bool:
        """Whether there is, or may be, a process without this checkpoint that has less to do."""
        usable = self._usable()
        most = self._bounds.processes if self._device() == "cpu" else 1
        busy = min((one.images for one in usable if checkpoint_id in one.warm), default=0)
        return len(usable) < most or any(
            2 * one.images < busy and checkpoint_id not in one.warm for one in usable
        )

    async def _spread(self, checkpoint_id: str) -> None:
        with contextlib.suppress(Problem):  # who asks next hears of it
            process = await self._one(more=True)
            if checkpoint_id not in process.warm:
                await self._load_in(process, checkpoint_id)

    def _forget(self, checkpoint_id: str) -> None:
        for process in self._processes:
            if checkpoint_id in process.warm:
                process.unload(checkpoint_id)
            elif checkpoint_id in process.loading:
                process.unwanted.add(checkpoint_id)


def _fail(future: asyncio.Future[Any], problem: Problem) -> None:
    if not future.done():
        future.set_exception(problem)
        future.exception()  # nobody may be waiting for it
