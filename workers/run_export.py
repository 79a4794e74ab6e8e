"""One export from its request to a file in the checkpoint's folder, inside a child of its own.

The one place where checkpoint, data set, ONNX and bundle meet; onnx and onnxruntime are imported
here and nowhere else. Knows nothing of processes.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session, sessionmaker

import images
from data_store import arrays, catalog
from database import checkpoints as rows
from models_store import bundle, checkpoints, export, exports, report
from models_store.classifier import network_of
from models_store.exports import Check, Export, Format
from models_store.manifest import Manifest
from problems import Problem
from workers.reporter import Reporter, Stop, Stopped
from workers.task import Task

log = logging.getLogger(__name__)

CHECKED = 100
"""Images, at most, that ONNX and PyTorch are compared on."""

_PARTS = ("test", "val", "train")  # where images are taken from, the first that there is
_PHASE = "exporting"


def work(
    task: Task,
    sessions: sessionmaker[Session],
    reporter: Reporter,
    stop: Stop,
    request: dict[str, Any],
) -> str:
    """Makes the file that `request` asks for. Returns the job's `stop_reason`.

    Raises `Problem` checkpoint_not_found, checkpoint_damaged, export_failed, and `Stopped`.
    """
    folder, wanted = task.checkpoints / request["checkpoint"], request["format"]
    manifest = checkpoints.read_manifest(folder)
    tell = _teller(reporter, stop)
    with exports.unfinished(task.checkpoints, task.fence.job_id, task.fence.claim) as draft:
        made = _Exporting(task, folder, manifest, draft, tell)
        onnx = exports.find(folder, "onnx")
        if wanted == "onnx" or onnx is None:
            onnx = made.onnx()
        if wanted == "bundle":
            made.bundle(onnx)
    with sessions.begin() as session:
        rows.weigh(session, manifest.id, disk_bytes=checkpoints.disk_bytes(folder))
    reporter.tell({"phase": _PHASE, "fraction": 1.0})
    return "completed"


Tell = Callable[[float], None]


def _teller(reporter: Reporter, stop: Stop) -> Tell:
    """Carries on how far it is, a fraction; raises `Stopped` when told to stop."""

    def tell(fraction: float) -> None:
        if stop():
            raise Stopped
        reporter.tell({"phase": _PHASE, "fraction": fraction})

    return tell


@dataclass(frozen=True, slots=True)
class _Exporting:
    """One checkpoint on its way out; files are made in `draft`."""

    task: Task
    folder: Path
    manifest: Manifest
    draft: Path
    tell: Tell

    def onnx(self) -> Export:
        """Writes, checks and publishes the ONNX file."""
        target = self.draft / exports.FILES["onnx"]
        temperature = report.read_temperature(self.folder) or 1.0
        self.tell(0.0)
        network = network_of(self.folder, self.manifest)
        made_with = export.write_onnx(
            network, self.manifest, temperature=temperature, target=target
        )
        self.tell(0.5)
        pre = self.manifest.preprocessing
        pixels = _real(self.manifest, self.task.datasets, count=CHECKED)
        checked = export.check(
            target,
            network,
            pre,
            export.noise(pre, CHECKED) if pixels is None else export.shaped(pixels, pre),
            of="noise" if pixels is None else "dataset",
        )
        log.info(
            "onnx: logits of %d images (%s) differ by %.2g at most, the largest is %.2g",
            *(checked.images, checked.of, checked.largest_difference, checked.largest_logit),
        )
        self.tell(0.9)
        return self._publish("onnx", target, temperature, checked, made_with)

    def bundle(self, onnx: Export) -> Export:
        """Writes and publishes the bundle around the published ONNX file."""
        self.tell(0.9)
        target = self.draft / exports.FILES["bundle"]
        real = _real(self.manifest, self.task.datasets, count=1)
        pre = self.manifest.preprocessing
        made_with = bundle.write(
            target,
            onnx=exports.path(self.folder, "onnx"),
            manifest=self.manifest,
            sample=export.noise(pre, 1)[0] if real is None else real[0],
            real=real is not None,
        )
        return self._publish("bundle", target, onnx.temperature, onnx.check, made_with)

    def _publish(
        self,
        format_: Format,
        made: Path,
        temperature: float,
        checked: Check,
        made_with: dict[str, str],
    ) -> Export:
        record = Export(
            format=format_,
            checkpoint_id=self.manifest.id,
            job_id=self.task.fence.job_id,
            file=exports.FILES[format_],
            bytes=made.stat().st_size,
            temperature=temperature,
            check=checked,
            made_with=made_with,
            created_at=datetime.now(UTC),
        )
        exports.publish(self.folder, made, record)
        return record


def _real(manifest: Manifest, root: Path, *, count: int) -> NDArray[np.uint8] | None:
    """Images of the checkpoint's data set, as (N, H, W, C) before the manifest's transforms; None
    where it is not on this disk, or not readable any more.
    """
    name = manifest.dataset.get("name")
    pre = manifest.preprocessing
    try:
        if name is None or not arrays.is_local(name, root):
            return None
        counts = catalog.facts(name, root).counts
        part = next(one for one in _PARTS if counts.get(one))
        places = np.unique(np.linspace(0, counts[part] - 1, count).astype(int)).tolist()
        files = arrays.some_bytes(name, root, part, places)
    except (Problem, OSError, StopIteration, KeyError):
        return None
    decoded = []
    for file in files:
        try:
            if file is not None:
                size = (pre.height, pre.width)
                decoded.append(images.decode(file, size=size, channels=pre.channels).pixels)
        except Problem:
            continue
    return np.stack(decoded) if decoded else None
