"""The same under LitServe, which collects requests into batches.

    PYTHON -m benchmarks.serving.lit CHECKPOINT --port 8002

PYTHON is one that has litserve. On two cores the settings below were the best of those tried at 32
connections (waits of 0, 1, 2 and 5 ms, one and two processes that listen): one worker computes with
all cores, and gets its requests over ZeroMQ (`fast_queue`), which LitServe advises for more than a
hundred a second.
"""

import argparse
from pathlib import Path
from typing import Any

import litserve
import torch
from fastapi import Request

from benchmarks.serving.plain import Model

# At most so many are taken at once, and waited for so long.
BATCH_SIZE, BATCH_SECONDS = 32, 0.002
LISTENING = 2


class Classifier(litserve.LitAPI):  # type: ignore[misc]  # it has no types
    """The plain server's steps, in the places that LitServe has for them."""

    def __init__(self, folder: Path, **named: Any) -> None:
        super().__init__(**named)
        self._folder = folder

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe gives it
        """Once, in the worker."""
        self.model = Model(self._folder)

    def decode_request(self, request: Request) -> Any:
        """Of one request: its form comes over from the server's process."""
        return self.model.decode(request["file"].file.read())

    def predict(self, x: Any) -> Any:
        """A batch."""
        with torch.inference_mode():
            return self.model.network(x).softmax(dim=1)

    def encode_response(self, output: Any) -> dict[str, Any]:
        """One answer."""
        return self.model.told(output)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    api = Classifier(given.checkpoint, max_batch_size=BATCH_SIZE, batch_timeout=BATCH_SECONDS)
    server = litserve.LitServer(api, accelerator="cpu", fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=given.port,
        num_api_servers=LISTENING,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
