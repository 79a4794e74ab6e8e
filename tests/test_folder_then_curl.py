"""From a folder of photos to a right answer: each line as a person types it, or as it is printed.

The server asks for a key, so that the lines have to carry it.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

KEY = "plum-7"

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing"),
]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes, told apart by their brightness, with names that need quotes."""
    chance = np.random.default_rng(0)
    root = tmp_path / "my photos; 照片"
    for label, shade in (("黑猫", 50), ("white cat", 200)):
        for part, count in (("train", 150), ("test", 5)):
            folder = root / part / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = chance.normal(shade, 20, (24, 20, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.jpg")
    (root / "train" / "黑猫" / "broken.jpg").write_bytes(b"no image")
    (root / "train" / ".DS_Store").write_bytes(b"junk")
    return root


def in_shell(line: str, folder: Path, address: str) -> str:
    """What a person's shell prints, with danlu on its path."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ran = subprocess.run(
        line,
        shell=True,
        cwd=folder,
        env={**os.environ, "PATH": path, "DANLU_URL": address, "DANLU_API_KEY": KEY},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, (line, ran.stdout, ran.stderr)
    return ran.stdout


def test_a_folder_then_curl(
    photos: Path, serving: Callable[..., AbstractContextManager[Any]], tmp_path: Path
) -> None:
    settings = {"DANLU_API_KEY": KEY}
    with serving(tmp_path / "home", tmp_path / "datasets", **settings) as service:
        address = service.client.base_url
        typed = "danlu train './my photos; 照片' epochs=1 batch_size=8"
        said = in_shell(typed, tmp_path, address)
        assert "1 file cannot be read and is left out (train/黑猫/broken.jpg)" in said
        *_, curl, _, script = [line.strip() for line in said.splitlines() if line]

        answer = json.loads(in_shell(curl, tmp_path, address))
        assert answer["predictions"][0]["label"] == "white cat"  # sorts before the other
        assert KEY not in said

        in_shell(script, tmp_path, address)
        written = next(tmp_path.glob("*.py"))
        assert written.stem == photos.name
        compile(written.read_text(encoding="utf-8"), written.name, "exec")

        again = in_shell(f"{typed} --no-follow", tmp_path, address)
        assert "unchanged: nothing was sent" in again
        assert len(service.client.jobs(kind="import")["items"]) == 1
