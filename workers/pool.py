"""The devices of a machine: how many a job needs, and which are free.

Knows neither jobs nor processes. On the CPU several processes share one place, and its cores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models_store import misfits


@dataclass(frozen=True, slots=True)
class Need:
    """`places` on devices of their own for so many `processes`."""

    places: int = 1
    processes: int = 1

    def spread(self, devices: Sequence[str]) -> tuple[str, ...]:
        """The device of each process, from those of the places."""
        return tuple(devices) * (self.processes // self.places)


class Pool:
    """A device has as many places as jobs may train on it at once."""

    def __init__(self, devices: Sequence[str], *, cores: int, jobs_per_device: int = 1) -> None:
        self.devices = list(devices)
        self.cores = cores
        self._places = jobs_per_device
        self._free = self.devices * jobs_per_device

    def need(self, recipe: Mapping[str, Any] | None) -> Need:
        """What a job with this recipe needs. One that wants more than there is needs one place: to
        fail on.
        """
        asked = recipe or {}
        wanted, kind = asked.get("devices", 1), asked.get("device", "auto")
        if not 1 < wanted <= misfits.devices_there(kind, self.devices, cores=self.cores):
            return Need()
        on_cpu = kind == "cpu" or self.devices == ["cpu"]
        return Need(1 if on_cpu else wanted, wanted)

    def free(self, places: int = 1) -> tuple[str, ...]:
        """So many free places on as many devices; none if there are fewer."""
        found = list(dict.fromkeys(self._free))[:places]
        return tuple(sorted(found, key=self.devices.index)) if len(found) == places else ()

    def unused(self) -> list[str]:
        """The devices that nothing runs on, the one first that is given next."""
        free = dict.fromkeys(self._free)
        return [device for device in free if self._free.count(device) == self._places]

    def take(self, devices: Sequence[str]) -> None:
        """They are free no more."""
        for device in devices:
            self._free.remove(device)

    def give_back(self, devices: Sequence[str]) -> None:
        """They are free again."""
        self._free.extend(devices)
