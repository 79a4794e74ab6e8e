"""A file that TensorBoard reads: events as protobuf messages, framed as TFRecord has it.

Each event reaches the file in one write. Written here and not by TensorBoard's own writer, whose
import loads sixty modules, and TensorFlow where it is installed, and whose thread keeps errors.
"""

import struct
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto import event_pb2, summary_pb2

# TensorBoard takes every file whose name has this in it, in the order of the names.
PREFIX = "events.out.tfevents"
_VERSION = "brain.Event:2"
# The checksum of TFRecord: CRC-32C (Castagnoli, RFC 3720), here with its reversed polynomial,
# rotated by 15 bits and moved by a constant.
_POLYNOMIAL = 0x82F63B78
_MASK_DELTA = 0xA282EAD8
_BUCKETS = 30

Value = Any  # a summary_pb2.Summary.Value: the generated modules have no types


class EventFile:
    """A file of events that grows. Every method raises `OSError` when the disk is full or away."""

    def __init__(self, folder: Path, *, number: int, step: int) -> None:
        """A new file in `folder`. What files of lower numbers say of `step` and later steps was
        taken back, and TensorBoard forgets it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{PREFIX}.{number:06}.{time.time_ns() // 1_000_000:013}"
        self._write(event_pb2.Event(wall_time=time.time(), file_version=_VERSION))
        began = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(event_pb2.Event(wall_time=time.time(), step=step, session_log=began))

    def add(self, step: int, values: Iterable[Value]) -> None:
        """Writes what was measured at a step."""
        summary = summary_pb2.Summary(value=values)
        self._write(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))

    def _write(self, event: Any) -> None:
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        record = length + _checksum(length) + data + _checksum(data)
        # Opened for each event, a few a second: nothing is left open, whatever becomes of the job.
        with self._path.open("ab", buffering=0) as file:
            written = file.write(record)
            if written != len(record):  # the disk is about to be full: now it says so
                file.write(record[written:])


def scalar(tag: str, value: float) -> Value:
    """A point of a curve."""
    return summary_pb2.Summary.Value(tag=tag, simple_value=value)


def image(tag: str, png: bytes, *, size: tuple[int, int], channels: int) -> Value:
    """A picture: the file, its (height, width) and channels."""
    picture = summary_pb2.Summary.Image(
        height=size[0], width=size[1], colorspace=channels, encoded_image_string=png
    )
    return summary_pb2.Summary.Value(tag=tag, image=picture)


def histogram(tag: str, values: NDArray[np.floating[Any]]) -> Value:
    """How numbers are distributed; those that are not finite are left out."""
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        finite = np.zeros(1)
    counts, edges = np.histogram(finite, bins=_BUCKETS)
    counted = summary_pb2.HistogramProto(
        min=finite.min(),
        max=finite.max(),
        num=finite.size,
        sum=finite.sum(),
        sum_squares=np.square(finite).sum(),
        bucket_limit=edges[1:].tolist(),
        bucket=counts.tolist(),
    )
    return summary_pb2.Summary.Value(tag=tag, histo=counted)


def _table() -> Sequence[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE = _table()


def _checksum(data: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    masked = ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF
    return struct.pack("<I", masked)
