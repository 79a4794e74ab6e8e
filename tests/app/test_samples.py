"""Single images and their kinds; what is asked for over HTTP is in routes/test_datasets."""

import io

import pytest
from PIL import Image

from app import samples
from tests import heic

KINDS = [
    ("PNG", "image/png"),
    ("JPEG", "image/jpeg"),
    ("GIF", "image/gif"),
    ("BMP", "image/bmp"),
    ("TIFF", "image/tiff"),
    ("WEBP", "image/webp"),
    ("AVIF", "image/avif"),
    ("HEIF", "image/heic"),
    ("PPM", "image/x-portable-graymap"),
]


@pytest.mark.parametrize(("format_", "media_type"), KINDS)
def test_the_media_type_is_that_of_the_bytes(tmp_path, format_, media_type):
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "1.png").write_bytes(_saved(format_))
    facts = samples.local("set", tmp_path)
    assert samples.labels(facts, tmp_path, "train") == [0, 1]
    _, kind = samples.image(facts, tmp_path, split="train", index=1)
    assert kind == media_type


def _saved(format_):
    image = Image.new("L", (8, 8), 100)
    if format_ == "HEIF":
        return heic.encoded(image)
    file = io.BytesIO()
    image.save(file, format_)
    return file.getvalue()
