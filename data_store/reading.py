"""Files of a data set, read and decoded: what the processes of a `crew` do for a training.

Knows nothing of classes and parts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import images
from data_store.parts import Pixels, Sums
from problems import Problem

LOST = "Decoding it ended the process."


@dataclass(frozen=True, slots=True)
class Block:
    """What some files hold. `pixels` uint8 (n, H, W, C), `borders`, `spreads` and `sums` are of
    those that can be read, in order; `bad` has, by place, code and message of the others.
    `digests` are the SHA-256 of all. Those of `bad` that are `refused`, by the system, may be read
    another time.
    """

    pixels: NDArray[np.uint8]
    borders: NDArray[np.float32]
    spreads: NDArray[np.float32]
    sums: Sums
    digests: Sequence[bytes]
    bad: Mapping[int, tuple[str, str]]
    refused: frozenset[int] = frozenset()

    def retried(self, place: int, one: "Block") -> "Block":
        """With what another try at the bad file in `place`, alone, has come to."""
        at = place - sum(each < place for each in self.bad)
        digests, bad = list(self.digests), dict(self.bad)
        digests[place] = one.digests[0]
        del bad[place]
        if one.bad:
            bad[place] = one.bad[0]
        return Block(
            np.concatenate([self.pixels[:at], one.pixels, self.pixels[at:]]),
            np.concatenate([self.borders[:at], one.borders, self.borders[at:]]),
            np.concatenate([self.spreads[:at], one.spreads, self.spreads[at:]]),
            self.sums + one.sums,
            digests,
            bad,
            self.refused if one.refused else self.refused - {place},
        )


def read(
    paths: Sequence[str], *, size: tuple[int, int], channels: int, keeps_pixels: bool = True
) -> Block:
    """The images in some files at `size` (height, width) and `channels`."""
    pixels = np.empty((len(paths), *size, channels), np.uint8)
    borders: list[tuple[float, float]] = []
    digests: list[bytes] = []
    bad: dict[int, tuple[str, str]] = {}
    refused: set[int] = set()
    for place, path in enumerate(paths):
        data, decoded = _decoded(path, size, channels)
        digests.append(sha256(data).digest())
        if isinstance(decoded, Problem):
            bad[place] = (decoded.code, decoded.detail)
            if isinstance(decoded, _Refused):
                refused.add(place)
        else:
            pixels[len(borders)] = decoded.pixels
            borders.append((decoded.border, decoded.border_spread))
    found = pixels[: len(borders)]
    table = np.array(borders, np.float32).reshape(-1, 2)
    kept = found if keeps_pixels else found[:0]
    return Block(kept, table[:, 0], table[:, 1], Sums.of(found), digests, bad, frozenset(refused))


def lost(_path: str, *, size: tuple[int, int], channels: int, again: bool = False) -> Block:
    """What is known of a file that ends the process which decodes it. The system may have ended it,
    for want of memory; `again`, with nothing beside it, it is the file's own doing.
    """
    none = np.empty((0, *size, channels), np.uint8)
    nothing = np.empty(0, np.float32)
    bad = {0: ("not_an_image", LOST)}
    refused = frozenset[int]() if again else frozenset({0})
    return Block(none, nothing, nothing, Sums.of(none), [sha256().digest()], bad, refused)


def pixels(paths: Sequence[str], *, size: tuple[int, int], channels: int) -> Pixels:
    """The images alone."""
    found = np.zeros((len(paths), *size, channels), np.uint8)
    bad: dict[int, str] = {}
    for place, path in enumerate(paths):
        _, decoded = _decoded(path, size, channels)
        if isinstance(decoded, Problem):
            bad[place] = decoded.detail
        else:
            found[place] = decoded.pixels
    return Pixels(found, bad)


def rows(places: Sequence[tuple[str, int]], *, size: tuple[int, int], channels: int) -> Pixels:
    """Images that are decoded already, each by its file, in numpy's format, and its row there.

    They are read and not mapped, as what is mapped counts as the memory of the process.
    """
    found = np.empty((len(places), *size, channels), np.uint8)
    for place, (path, row) in enumerate(places):
        start, shape = _layout(path)
        image = np.empty(shape, np.uint8)
        with Path(path).open("rb", buffering=0) as file:
            file.seek(start + row * image.nbytes)
            file.readinto(image.data)
        same = shape == found.shape[1:]
        found[place] = image if same else images.resize(image, size, channels)
    return Pixels(found, {})


@lru_cache(maxsize=4)  # the parts of one set
def _layout(path: str) -> tuple[int, tuple[int, ...]]:
    """Where the images of a file begin, and the shape (H, W, C) of one."""
    with Path(path).open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, _ = np.lib.format.read_array_header_1_0(file)
        return file.tell(), shape[1:]


def _decoded(
    path: str, size: tuple[int, int], channels: int
) -> tuple[bytes, images.Decoded | Problem]:
    """The bytes of a file, as far as it can be read, and what is in it."""
    data = b""
    try:
        data = Path(path).read_bytes()
        return data, images.decode(data, size=size, channels=channels)
    except Problem as problem:
        return data, problem
    except OSError as error:
        return data, _Refused("not_an_image", f"It cannot be read: {error.strerror}.")


class _Refused(Problem):
    """The system does not give a file, which says nothing of what is in it."""
