"""A server that stands in for danlu's: knows just enough of the wire for the demo to run.

What it is told to do wrong comes as arguments: wrong=N labels, a job that ends as state=..., or
dying at once; and where the stand-in for the worker notes its pid, as notes=FOLDER.
"""

import io
import json
import os
import socket
import sys
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from PIL import Image

TOLD = dict(word.split("=", 1) for word in sys.argv[1:])
JOB = "job_01K0000000AAAAAAAAAAAAAAAA"
looks = 0


def job() -> dict[str, Any]:
    global looks
    looks += 1
    ended = looks > 2
    return {
        "id": JOB,
        "kind": "train",
        "state": TOLD.get("state", "succeeded") if ended else "running",
        "owner": "lin",
        "dataset": {"name": "digits"},
        "recipe": {"architecture": "mnist_net"},
        "waiting_for": None,
        "progress": {
            "phase": "training",
            "epoch": min(looks, 2),
            "epochs": 2,
            "fraction": min(looks, 2) / 2,
            "images_per_second": 12000.0,
            "eta_seconds": 0.3,
            "bytes": None,
        },
        "metrics": {
            "train_loss": 0.4,
            "train_accuracy": 0.9,
            "best_val_accuracy": 0.97,
            "test_accuracy": None,
        },
        "checkpoints": [{"id": "ckpt_1", "epoch": 2, "val_accuracy": 0.97, "best": True}],
        "warnings": [],
        "error": {"code": "training_failed", "message": "As told."} if "state" in TOLD else None,
    }


def images(query: dict[str, list[str]]) -> dict[str, Any]:
    """Forty images of ten classes, on two pages."""
    start = int(query.pop("cursor", ["0"])[0])
    assert query == {"split": ["test"], "limit": ["200"]}
    items = [
        {"index": 5 * i, "label": str(i % 10), "url": f"/datasets/digits/images/test/{5 * i}"}
        for i in range(start, start + 20)
    ]
    return {"items": items, "next_cursor": None if start else "20"}


def png(index: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), index % 256).save(file, "PNG")
    return file.getvalue()


def predict(query: dict[str, list[str]], body: bytes) -> dict[str, Any]:
    assert query == {"model": [JOB]}
    header = Message()
    predictions: list[dict[str, Any]] = []
    for part in body.split(b"\r\n"):
        if b'name="file"' in part:
            header["content-disposition"] = part.decode().partition(": ")[2]
            name = str(header.get_filename())
            del header["content-disposition"]
            right = int(name.removesuffix(".png")) // 5 % 10
            wrong = len(predictions) < int(TOLD.get("wrong", 0))
            label = str((right + 1) % 10 if wrong else right)
            predictions.append({"filename": name, "label": label, "probability": 0.987})
    if "unreadable" in TOLD:
        predictions[-1] = {"filename": "x", "error": {"code": "not_an_image", "message": ""}}
    return {"checkpoint_id": "ckpt_1", "job_id": JOB, "model": JOB, "predictions": predictions}


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/readyz":
            there = any(Path(TOLD["notes"]).glob("worker.*.pid"))
            self.send({"worker": TOLD.get("worker", "ok" if there else "none")})
        elif url.path == f"/jobs/{JOB}":
            self.send(job())
        elif url.path == f"/jobs/{JOB}/history":
            self.send({"epochs": [], "steps": [], "next": None})
        elif url.path == "/datasets/digits/images":
            self.send(images(parse_qs(url.query)))
        else:
            self.send(png(int(url.path.rpartition("/")[2])))

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers["content-length"]))
        if url.path == "/train":
            assert json.loads(body) == {"dataset": "digits"}
            self.send(job())
        else:
            self.send(predict(parse_qs(url.query), body))

    def send(self, answer: Any) -> None:
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if "dying" in TOLD:
    sys.exit("the stand-in dies as told")
server = ThreadingHTTPServer(("127.0.0.1", 0), Answers, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=int(os.environ["DANLU_LISTEN_FD"]))
server.serve_forever()
