"""The files of a data set, looked at by several processes."""

from collections.abc import Callable, Iterator, Sequence

from data_store import crew, inspection, reading
from data_store.crew import Crew
from data_store.inspection import Seen, Unreadable

_SECONDS = 1e-3  # that a file takes, about


def look_at(
    paths: Sequence[str], tick: Callable[[], object], *, processes: int | None = None
) -> Iterator[tuple[int, Seen | Unreadable]]:
    """What is seen in each file, with its place in `paths`, in order.

    `tick` is called several times a second; what it raises ends the work and all processes, as does
    closing the iterator. A file that ends the process which decodes it is unreadable. `processes`:
    0: none but the caller's, None: as many as pays. Raises `RuntimeError` when they do not work.
    """
    if processes is None:
        processes = crew.worth(len(paths) * _SECONDS)
    with Crew(inspection.look_at, _lost, processes=processes) as inspectors:
        batch = crew.BATCH if processes else 1
        for places, found in inspectors.run(paths, tick, batch=batch):
            yield from zip(places, found, strict=True)


def _lost(_path: str) -> list[Seen | Unreadable]:
    return [inspection.unreadable(reading.LOST)]
