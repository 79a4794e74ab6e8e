"""Writers of image files that Pillow cannot write itself, made from the formats' specifications."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

_TIFF_TYPES = {3: "H", 4: "I"}


class Writers:
    """Each turns an array of samples into the bytes of a file."""

    @staticmethod
    def pillow(image: Image.Image | np.ndarray, format: str, **options: Any) -> bytes:
        out = io.BytesIO()
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        image.save(out, format, **options)
        return out.getvalue()

    @staticmethod
    def chunk(name: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(name + body)
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", crc)

    @classmethod
    def png(
        cls,
        samples: np.ndarray,
        *,
        colour: int,
        depth: int,
        before: bytes = b"",
        after: bytes = b"",
        claimed: tuple[int, int] | None = None,
    ) -> bytes:
        """`samples` (H, W[, C]) unpacked; `colour` is PNG's type 0, 2, 3, 4 or 6."""
        height, width = samples.shape[:2]
        rows = samples.reshape(height, -1)
        if depth == 16:
            lines = [row.astype(">u2").tobytes() for row in rows]
        else:
            bits = np.unpackbits(rows.astype(np.uint8)[:, :, None], axis=2)[:, :, 8 - depth :]
            lines = [np.packbits(row.reshape(-1)).tobytes() for row in bits]
        w, h = claimed or (width, height)
        return (
            b"\x89PNG\r\n\x1a\n"
            + cls.chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, 0))
            + before
            + cls.chunk(b"IDAT", zlib.compress(b"".join(b"\0" + line for line in lines)))
            + after
            + cls.chunk(b"IEND", b"")
        )

    @staticmethod
    def tiff(
        samples: np.ndarray,
        *,
        photometric: int,
        order: str = "<",
        tags: dict[int, tuple[int, ...]] | None = None,
    ) -> bytes:
        """One uncompressed strip of (H, W[, C]) samples of 8, 16 or 32 bits."""
        height, width = samples.shape[:2]
        count = samples.shape[2] if samples.ndim == 3 else 1
        kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
        body = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
        fields: dict[int, tuple[int, ...]] = {
            256: (width,),
            257: (height,),
            258: (samples.dtype.itemsize * 8,) * count,
            259: (1,),
            262: (photometric,),
            273: (8,),
            277: (count,),
            278: (height,),
            279: (len(body),),
            339: (kind,) * count,
            **(tags or {}),
        }
        return Writers.ifd(body, fields, order=order)

    @staticmethod
    def ifd(body: bytes, fields: dict[int, tuple[int, ...]], *, order: str = "<") -> bytes:
        """A TIFF file: its pixels from byte 8 on, then the directory, then long values."""
        body += b"\0" * (len(body) % 2)
        at = 8 + len(body)
        tail_at = at + 2 + 12 * len(fields) + 4
        directory, tail = struct.pack(order + "H", len(fields)), b""
        for tag, values in sorted(fields.items()):
            kind = 4 if max(values) > 0xFFFF or tag in (273, 279) else 3
            packed = struct.pack(f"{order}{len(values)}{_TIFF_TYPES[kind]}", *values)
            if len(packed) > 4:
                packed, tail = struct.pack(order + "I", tail_at + len(tail)), tail + packed
            directory += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
        magic = {"<": b"II*\0", ">": b"MM\0*"}[order]
        return magic + struct.pack(order + "I", at) + body + directory + b"\0\0\0\0" + tail

    @staticmethod
    def bmp(
        rows: bytes,
        size: tuple[int, int],
        *,
        bits: int,
        compression: int = 0,
        palette: bytes = b"",
        masks: bytes = b"",
    ) -> bytes:
        """`size` is (width, height), the height negative for a picture stored top-down."""
        offset = 54 + len(masks) + len(palette)
        return (
            b"BM"
            + struct.pack("<IHHI", offset + len(rows), 0, 0, offset)
            + struct.pack("<IiiHHIIiiII", 40, *size, 1, bits, compression, len(rows), 0, 0, 0, 0)
            + masks
            + palette
            + rows
        )


@pytest.fixture(scope="session")
def write() -> type[Writers]:
    return Writers
