"""A picture as a response."""

from app import png
from app.png import Png


def test_it_is_a_png_that_is_asked_for_again() -> None:
    response = Png(b"picture")

    assert response.body == b"picture"
    assert response.headers["content-type"] == "image/png"
    assert response.headers["cache-control"] == "no-cache"


def test_the_documentation_says_so() -> None:
    said = png.described("Curves.")[200]

    assert said["description"] == "Curves."
    assert said["content"]["image/png"]["schema"] == {"type": "string", "format": "binary"}
