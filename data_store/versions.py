"""The version of a folder of images: a hash of its content.

Each file goes in as the hash of its bytes, so that many can be hashed at once.
"""

from collections.abc import Iterable
from hashlib import sha256

_DIGITS = 16


class Content:
    """Takes the files of a set, part by part, in the order of `folder.scan`."""

    def __init__(self, classes: Iterable[str]) -> None:
        self._digest = sha256("\0".join(classes).encode())

    def add(self, path: str, digest: bytes) -> None:
        """The next file: its path as `folder.shown` writes it, and the SHA-256 of its bytes."""
        self._digest.update(f"\0{path}\0".encode())
        self._digest.update(digest)

    def version(self) -> str:
        """Of all files so far."""
        return self._digest.hexdigest()[:_DIGITS]
