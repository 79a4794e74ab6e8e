"""What a server and its inference processes say to each other: JSON, and the bytes of images.

A message is two lengths, a JSON object and bytes that belong to it. Knows nothing of what is said.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic_core import from_json, to_json

_LENGTHS = struct.Struct("<IQ")


def pack(said: Mapping[str, Any], data: Sequence[bytes] = ()) -> list[bytes]:
    """A message in pieces, to be sent one after the other."""
    head = to_json(said, inf_nan_mode="constants")
    return [_LENGTHS.pack(len(head), sum(map(len, data))), head, *data]


class Reader:
    """Messages out of bytes that come in pieces of any size."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, piece: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
        """The messages that are whole now: what is said, and the bytes that belong to it."""
        held = self._held
        held += piece
        start = 0
        while len(held) - start >= _LENGTHS.size:
            head, data = _LENGTHS.unpack_from(held, start)
            begins = start + _LENGTHS.size + head
            if len(held) < begins + data:
                break
            yield (
                from_json(memoryview(held)[begins - head : begins].tobytes()),
                bytes(memoryview(held)[begins : begins + data]),
            )
            start = begins + data
        del held[:start]
