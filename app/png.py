"""A picture as a response, and what OpenAPI says of it. Draws nothing."""

from typing import Any

from fastapi import Response


class Png(Response):
    """The bytes of a PNG. What it shows may change, so nobody keeps it without asking again."""

    media_type = "image/png"

    def __init__(self, picture: bytes) -> None:
        super().__init__(picture, headers={"Cache-Control": "no-cache"})


def described(what: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation that answers with a picture of this."""
    schema = {"type": "string", "format": "binary"}
    return {200: {"description": what, "content": {"image/png": {"schema": schema}}}}
