"""Answers as the documentation shows them. Plain data: a test holds each against its schema."""

from typing import Any

JOB_ID = "job_01K9ZC3V9QH5N7X1B8TDA4RWEM"
CHECKPOINT_ID = "ckpt_01K9ZC4B2M8Y6S0FJQ3KXGT7PD"
_RECIPE: dict[str, Any] = {
    "dataset": "digits", "architecture": "mnist_net", "epochs": 15, "batch_size": 32,
    "image_size": 28, "channels": 1, "seed": 7,
}  # fmt: skip
_LAYER: dict[str, Any] = {
    "index": 0, "name": "model.0", "type": "Conv2d",
    "arguments": {"in_channels": 1, "out_channels": 10, "kernel_size": 5},
    "output_shape": [10, 24, 24], "parameters": 260,
}  # fmt: skip

PROBLEM: dict[str, Any] = {
    "type": "/docs/errors/dataset_unknown",
    "title": "No data set of that name",
    "status": 404,
    "detail": "There is no data set named 'mnits'.",
    "code": "dataset_unknown",
    "hint": "Did you mean 'mnist'?",
    "errors": [{"loc": ["body", "dataset"], "msg": "No data set of that name"}],
    "request_id": "req_5f2d9c0e7ab14c36",
}

JOB_ITEM: dict[str, Any] = {
    "id": JOB_ID, "kind": "train", "name": "first try", "tags": [], "owner": "lin",
    "state": "running", "priority": 0, "attempt": 1, "queue_position": None, "waiting_for": None,
    "finishing": False,
    "device": "cpu", "worker": {"id": "atlas-3f2a", "host": "atlas", "pid": 812},
    "dataset": {"name": "digits", "version": "5c1d0a2b9e7f4c33"}, "recipe": _RECIPE,
    "progress": {
        "phase": "training", "epoch": 3, "epochs": 15, "step": 140, "steps": 615,
        "fraction": 0.2276, "images_per_second": 9100.0, "eta_seconds": 1.7, "bytes": None,
        "bytes_per_second": None,
    },
    "metrics": {
        "train_loss": 0.21, "train_accuracy": 0.93, "val_loss": 0.2, "val_accuracy": 0.944,
        "best_val_accuracy": 0.944, "test_loss": None, "test_accuracy": None, "val_count": 144,
    },
    "best_checkpoint_id": CHECKPOINT_ID, "warnings": [], "stop_reason": None, "error": None,
    "disk_bytes": None, "created_at": "2026-11-23T08:00:00Z",
    "started_at": "2026-11-23T08:00:01Z", "finished_at": None,
}  # fmt: skip

JOB: dict[str, Any] = {
    **JOB_ITEM,
    "checkpoints": [{"id": CHECKPOINT_ID, "epoch": 3, "val_accuracy": 0.944, "best": True}],
}

HISTORY: dict[str, Any] = {
    "epochs": [
        {
            "epoch": 1, "attempt": 1, "train_loss": 1.94, "train_accuracy": 0.41,
            "val_loss": 0.91, "val_accuracy": 0.8, "test_loss": None, "test_accuracy": None,
            "lr": 0.0012, "images_per_second": 9100.0, "seconds": 0.14,
        }
    ],
    "steps": [{"step": 20, "epoch": 1, "train_loss": 2.21, "lr": 0.0003}],
    "next": "1.1.1.20",
}  # fmt: skip

EVENTS = """\
event: state
data: {"at": "2026-11-23T08:00:01Z", "state": "running", "attempt": 1}
id: 17

event: end
data: {"at": "2026-11-23T08:00:09Z", "state": "succeeded", "attempt": 1, "stop_reason": "completed"}
id: 58

"""

SCRIPT = """\
import torch
from torch import nn

EPOCHS = 15
"""

PLAN: dict[str, Any] = {
    "recipe": _RECIPE, "layers": [_LAYER], "parameters": 1012330, "flops": 4432000, "steps": 615,
    "estimated_seconds": 2.1,
}  # fmt: skip

CHECKPOINT_ITEM: dict[str, Any] = {
    "id": CHECKPOINT_ID, "job_id": JOB_ID, "epoch": 3, "val_accuracy": 0.944, "val_loss": 0.2,
    "best": True, "disk_bytes": 4051240, "created_at": "2026-11-23T08:00:02Z",
}  # fmt: skip

MANIFEST: dict[str, Any] = {
    "format": 1, "id": CHECKPOINT_ID, "job_id": JOB_ID, "architecture": "mnist_net",
    "classes": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    "preprocessing": {
        "height": 28, "width": 28, "channels": 1, "normalize": None, "invert_from_border": 0.01,
        "trained_height": 8, "trained_width": 8, "transforms": [],
    },
    "recipe": _RECIPE, "dataset": {"name": "digits", "version": "5c1d0a2b9e7f4c33"}, "epoch": 3,
    "metrics": {"val_accuracy": 0.944, "val_loss": 0.2}, "made_with": {"torch": "2.15.0"},
    "created_at": "2026-11-23T08:00:02Z", "files": {"model.safetensors": "9f86d081884c7d65…"},
}  # fmt: skip

_BIN: dict[str, Any] = {
    "lower": 0.9333333333333333, "upper": 1.0, "count": 340, "confidence": 0.993,
    "accuracy": 0.994,
}  # fmt: skip
REPORT: dict[str, Any] = {
    "format": 1, "checkpoint_id": CHECKPOINT_ID,
    "dataset": {"name": "digits", "version": "5c1d0a2b9e7f4c33"}, "judged_on": "test",
    "count": 360, "accuracy": 0.9806, "top5_accuracy": 1.0,
    "averages": {"precision": 0.981, "recall": 0.9805, "f1": 0.9806},
    "classes": [
        {"index": 0, "label": "0", "precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 36}
    ],
    "confusion": [[36]],
    "calibration": {
        "temperature": 1.3, "fitted_on": "validation", "fitted_count": 144, "ece_before": 0.012,
        "ece_after": 0.008, "nll_before": 0.071, "nll_after": 0.066, "bins_before": [_BIN],
        "bins_after": [_BIN],
    },
    "mistakes": [
        {"part": "test", "index": 183, "label": "8", "predicted": "1", "probability": 0.97}
    ],
    "parity": {
        "passed": True, "count": 144, "different": 0, "allowed": 1, "largest_margin": None,
    },
}  # fmt: skip

ANSWER: dict[str, Any] = {
    "checkpoint_id": CHECKPOINT_ID, "job_id": JOB_ID, "model": None,
    "predictions": [
        {
            "filename": "7.png", "label": "7", "index": 7, "probability": 0.998214,
            "unknown": False,
            "top": [
                {"label": "7", "index": 7, "probability": 0.998214},
                {"label": "9", "index": 9, "probability": 0.001052},
            ],
            "warnings": [],
            "explanation": {"method": "gradcam", "png_base64": "iVBORw0KGgoAAAANSUhEUgAAABwAAAAc…"},
        }
    ],
}  # fmt: skip

MODEL: dict[str, Any] = {
    "alias": "production", "checkpoint_id": CHECKPOINT_ID, "job_id": JOB_ID,
    "classes": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"], "input": "1x28x28",
    "accuracy": 0.944, "warm": True,
    "serving": {
        "processes": 1, "device": "cpu", "precision": "bf16", "memory_bytes": 2025604,
        "requests": 5120, "images": 5632, "seconds": 3.41,
        "batches": {"1": 212, "8": 301, "16": 172},
    },
    "updated_at": "2026-11-23T08:00:10Z", "updated_by": "lin",
    "history": [
        {
            "checkpoint_id": CHECKPOINT_ID, "job_id": JOB_ID,
            "updated_at": "2026-11-23T08:00:10Z", "updated_by": "lin",
        },
        {
            "checkpoint_id": "ckpt_01K9YT7Q5N0W2C4E6R8A1B3DFH",
            "job_id": "job_01K9YT6M3J5K7P9S1V3X5Z7BCD",
            "updated_at": "2026-11-22T15:30:00Z", "updated_by": "wei",
        },
    ],
}  # fmt: skip

DATA_SET_ITEM: dict[str, Any] = {
    "name": "digits", "origin": "built_in",
    "classes": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    "counts": {"train": 1437, "test": 360}, "height": 8, "width": 8, "channels": 1,
    "available": True, "version": "5c1d0a2b9e7f4c33",
    "defaults": {"architecture": "mnist_net", "image_size": 28, "batch_size": 32, "epochs": 15},
}  # fmt: skip

DATA_SET: dict[str, Any] = {
    **DATA_SET_ITEM, "job_id": None, "archive_sha256": None, "report": None,
}  # fmt: skip

DATA_SET_IMAGE: dict[str, Any] = {
    "index": 0, "label": "0", "url": "/datasets/digits/images/test/0",
}  # fmt: skip

ARCHITECTURE_ITEM: dict[str, Any] = {
    "name": "mnist_net", "summary": "Two convolutions, two linear layers.", "input": "1x28x28",
}  # fmt: skip

ARCHITECTURE: dict[str, Any] = {
    **ARCHITECTURE_ITEM, "classes": 10, "layers": [_LAYER], "parameters": 1012330,
    "flops": 4432000,
}  # fmt: skip

RECIPE_ITEM: dict[str, Any] = {
    "name": "notes-mnist", "summary": "A course's notes, 2.13.1.1, number by number.",
    "recipe": {"dataset": "mnist", "architecture": "mnist_net"},
}  # fmt: skip

READINESS: dict[str, Any] = {
    "status": "ready", "database": "ok", "worker": "ok", "models": "ok",
}  # fmt: skip

SYSTEM: dict[str, Any] = {
    "home": "/home/lin/.local/share/danlu", "datasets_dir": "/home/lin/.local/share/danlu/datasets",
    "versions": {"danlu": "0.1.0", "python": "3.11.7", "torch": "2.15.0"}, "cpus": 8,
    "devices": ["cpu", "cuda:0"], "predict_device": "cpu",
    "memory": {"total": 33567436800, "free": 21474836480},
    "disk": {"total": 270553174016, "free": 78791106560},
    "queue": {"queued": 2, "running": 1},
    "processes": [
        {"role": "child", "pid": 812, "host": "atlas", "job_id": JOB_ID, "device": "cuda:0"}
    ],
    "warm_models": [CHECKPOINT_ID],
}  # fmt: skip

METRICS = """\
# HELP danlu_warm_models Checkpoints that are loaded.
# TYPE danlu_warm_models gauge
danlu_warm_models 1.0
"""
