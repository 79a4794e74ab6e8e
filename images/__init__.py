"""Bytes of an image file in, 8-bit pixels out: the only place in danlu that opens an image.

The cache, the validation and `/predict` all read through here and so see the same pixels. Knows
nothing of data sets, models or HTTP, and is safe to call from many threads at once.
"""

from images.decoding import Decoded, InvertRule, border, decode, resize
from images.opening import MAX_PIXELS

__all__ = ["MAX_PIXELS", "Decoded", "InvertRule", "border", "decode", "resize"]
