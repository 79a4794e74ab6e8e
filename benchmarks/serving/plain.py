"""Servers as people write them: FastAPI, PyTorch and Pillow in one file, under uvicorn.

    python -m benchmarks.serving.plain {def,async,echo} CHECKPOINT --port 8001

`def` lets FastAPI call the endpoint in a thread of its pool, `async` blocks its loop: both are
found everywhere. `echo` takes the upload and does nothing with it. Knows a checkpoint's two files,
and nothing else of danlu's.
"""

import argparse
import io
import json
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, UploadFile

TOP = 5


class Model:
    """The network of a checkpoint as plain PyTorch has it, with what is around it."""

    def __init__(self, folder: Path) -> None:
        import torch
        from safetensors.torch import load_file

        manifest = json.loads((folder / "manifest.json").read_text())
        pre = manifest["preprocessing"]
        normalize = pre["normalize"] or {"mean": [0.0], "std": [1.0]}
        self.classes: list[str] = manifest["classes"]
        self.size = pre["width"], pre["height"]
        self.mean = torch.tensor(normalize["mean"]).view(-1, 1, 1)
        self.std = torch.tensor(normalize["std"]).view(-1, 1, 1)
        self.network = network(manifest["architecture"], len(self.classes))
        state = load_file(folder / "model.safetensors")
        self.network.load_state_dict(
            {key.removeprefix("model."): value for key, value in state.items()}
        )
        self.network.eval()

    def decode(self, data: bytes) -> Any:
        """(C, H, W) float32: what ToTensor and Normalize make of the resized image."""
        import numpy as np
        import torch
        from PIL import Image

        image = Image.open(io.BytesIO(data)).convert("RGB")
        image = image.resize(self.size, Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1)
        return (pixels - self.mean) / self.std

    def classify(self, data: bytes) -> dict[str, Any]:
        """One image by itself."""
        import torch

        with torch.inference_mode():
            return self.told(self.network(self.decode(data).unsqueeze(0)).softmax(dim=1)[0])

    def told(self, probabilities: Any) -> dict[str, Any]:
        """The most probable classes of one image."""
        best = probabilities.topk(min(TOP, len(self.classes)))
        top = [
            {"label": self.classes[place], "probability": probability}
            for probability, place in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
        return {"label": top[0]["label"], "top": top}


def network(architecture: str, classes: int) -> Any:
    """A module without danlu's code, whose weights a checkpoint of danlu's holds."""
    from benchmarks.training import cases

    if architecture == "cifar10_net":
        return cases.network(architecture)
    from torchvision import models

    return models.get_model(architecture, num_classes=classes)


def app(form: str, folder: Path) -> FastAPI:
    """The server of that form."""
    made = FastAPI()
    if form == "echo":

        @made.post("/predict")
        async def echo(file: UploadFile) -> dict[str, str]:
            return {"label": file.filename or ""}

        return made
    model = Model(folder)
    if form == "def":

        @made.post("/predict")
        def predict(file: UploadFile) -> dict[str, Any]:
            return model.classify(file.file.read())

    else:

        @made.post("/predict")
        async def predict_in_loop(file: UploadFile) -> dict[str, Any]:
            return model.classify(await file.read())

    return made


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("form", choices=["def", "async", "echo"])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    served = app(given.form, given.checkpoint)
    uvicorn.run(served, port=given.port, log_level="warning", access_log=False)
