"""Which images are copies of one another, and which look so much alike that they may as well be.

Works on fingerprints of any number of images in a time that grows with their number, not with its
square. Knows nothing of files.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# Of 64 bits. Four bands of 16 bits: hashes that differ in three bits agree in one band at least
# (Norouzi, Punjani and Fleet 2012, "Fast Search in Hamming Space with Multi-Index Hashing").
_MOST_BITS = 3
_BAND_BITS = 16
# Of 255, of the colours of two thumbs: on average, and of one value. Set on CIFAR-10, whose 22
# pairs below this are all of one picture, and on MNIST, of which there are none.
_MOST_MEAN, _MOST_VALUE = 6.0, 30
# An image is flat when less of its thumb than this share differs by so much from its median: the
# shape hash of a thin line, or of noise, is that of many others.
_LEAST_DETAIL, _DIFFERENCE = 0.4, 16
# An image is compared with so many others of each band, in the order of their hashes.
_NEIGHBOURS = 24
_CHUNK = 1 << 13

Integers = NDArray[np.int64]


def copies(digests: NDArray[np.uint64]) -> list[Integers]:
    """Groups of equal rows of `digests` (N, k), each two rows or more, in order."""
    if not len(digests):
        return []
    order = np.lexsort((np.arange(len(digests)), *digests.T))
    begins = np.flatnonzero((digests[order[1:]] != digests[order[:-1]]).any(1)) + 1
    groups = [group for group in np.split(order, begins) if len(group) > 1]
    return sorted(groups, key=lambda group: int(group[0]))


def alike(shapes: NDArray[np.uint64], thumbs: NDArray[np.uint8]) -> list[Integers]:
    """Groups of images that look alike, and of those that look like one of these.

    `shapes` (N,) and `thumbs` (N, places, colours) are those of N `fingerprints`. Flat images are
    alike to none. Of many images that are all alike some pairs are not compared: they are found in
    one group still, as each is like its neighbours.
    """
    detailed = np.flatnonzero(_detail(thumbs) >= _LEAST_DETAIL)
    joined = _Joined(len(shapes))
    for band in range(64 // _BAND_BITS):
        for one, other in _candidates(shapes[detailed], band):
            _join(joined, thumbs, detailed[one], detailed[other])
    return joined.groups()


def _detail(thumbs: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The share of each thumb that stands out from the rest of it."""
    shares = np.empty(len(thumbs))
    for start in range(0, len(thumbs), _CHUNK):
        some = thumbs[start : start + _CHUNK].astype(np.int16)
        apart = np.abs(some - np.median(some, axis=1, keepdims=True)).max(axis=2)
        shares[start : start + _CHUNK] = (apart > _DIFFERENCE).mean(axis=1)
    return shares


def _candidates(shapes: NDArray[np.uint64], band: int) -> Iterator[tuple[Integers, Integers]]:
    """Pairs that agree in this band of bits and nearly in the others, as two columns of places."""
    turn = np.uint64(band * _BAND_BITS)
    turned = (shapes << turn) | (shapes >> (np.uint64(64) - turn)) if band else shapes
    order = np.argsort(turned, kind="stable")
    turned = turned[order]
    tops = turned >> np.uint64(64 - _BAND_BITS)
    for step in range(1, _NEIGHBOURS + 1):
        near = tops[step:] == tops[:-step]
        near &= np.bitwise_count(turned[step:] ^ turned[:-step]) <= _MOST_BITS
        first = np.flatnonzero(near)
        if len(first):
            yield order[first], order[first + step]


def _join(joined: "_Joined", thumbs: NDArray[np.uint8], one: Integers, other: Integers) -> None:
    """Those of the pairs whose colours are alike too."""
    for start in range(0, len(one), _CHUNK):
        some, others = one[start : start + _CHUNK], other[start : start + _CHUNK]
        apart = np.abs(thumbs[some].astype(np.int16) - thumbs[others])
        close = (apart.mean(axis=(1, 2)) <= _MOST_MEAN) & (apart.max(axis=(1, 2)) <= _MOST_VALUE)
        for a, b in zip(some[close].tolist(), others[close].tolist(), strict=True):
            joined.join(a, b)


class _Joined:
    """Numbers in groups that grow together (union-find)."""

    def __init__(self, count: int) -> None:
        self._above = list(range(count))

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self._top(one), self._top(other)))
        self._above[high] = low

    def groups(self) -> list[Integers]:
        """Those of two or more, by their first number."""
        found: dict[int, list[int]] = {}
        for number in range(len(self._above)):
            found.setdefault(self._top(number), []).append(number)
        return [np.array(group) for group in found.values() if len(group) > 1]

    def _top(self, number: int) -> int:
        while self._above[number] != number:
            self._above[number] = self._above[self._above[number]]
            number = self._above[number]
        return number
