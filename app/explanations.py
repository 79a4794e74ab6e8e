"""The pictures that go with answers: what the network saw, and what spoke for its label.

How they look on the wire; an inference process makes them.
"""

from typing import Literal

from app.schemas import Read
from problems import Problem

Method = Literal["input", "gradcam"]

MOST = 8
"""Images of a request: each costs several times what its answer does."""


class ExplanationRead(Read):
    """A picture at the size of the network's input."""

    method: Method
    png_base64: str


def check_count(method: Method | None, images: int) -> None:
    """Raises `Problem` too_many_files."""
    if method is not None and images > MOST:
        raise Problem(
            "too_many_files",
            f"There are {images} files, and at most {MOST} are explained in one request.",
            hint=f"Send at most {MOST}, or leave explain out.",
            errors=[{"loc": ["query", "explain"], "msg": f"of at most {MOST} images"}],
        )
