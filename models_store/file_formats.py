"""What a file that is to hold weights is, by its first bytes or by the names in a zip: what danlu
reads, and in words what it does not.

Torch-free, and nothing here is unpickled.
"""

import re
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Literal

from problems import FieldError, Problem

Format = Literal["safetensors", "torch", "pickle"]

_HEAD_BYTES = 512
_ZIP = b"PK\x03\x04"
# What torch.save wrote first until it wrote zips: a pickle of this number.
_MAGIC_NUMBER = b"l\xfc\x9cF\xf9 j\xa8P\x19."
# Protocols 0 and 1 have no mark of their own: a class by name, or the begin of a container.
_OLD_PICKLE = re.compile(rb"c[\w.]+\n[\w.]+\n|\((?:[dl]p\d|i|c)|[\]}]q")
# A protocol buffer has no mark: its field 1, the version of its form, then another of `ModelProto`.
_ONNX_HEAD = re.compile(rb"\x08[\x01-\x1f][\x12\x1a:B]")

_TORCHSCRIPT = """model = torch.jit.load("model.pt", map_location="cpu")
torch.save(model.state_dict(), "weights.pth")"""
_EXPORTED = """program = torch.export.load("model.pt2")
torch.save(dict(program.state_dict), "weights.pth")"""
_ARRAYS = """Where its names are the keys of the network's state_dict:
arrays = np.load("weights.npz")
torch.save({key: torch.from_numpy(arrays[key]) for key in arrays}, "weights.pth")"""
_ONNX = """Where its names are the keys of the network's state_dict:
held = onnx.load("model.onnx").graph.initializer
state = {one.name: torch.from_numpy(onnx.numpy_helper.to_array(one).copy()) for one in held}
torch.save(state, "weights.pth")"""
_KERAS = (
    "Copy its arrays into a PyTorch network of the same layers, whose axes are in another order, "
    'and send what torch.save(network.state_dict(), "weights.pth") writes.'
)
_UNPACK = "Unpack it, and send the file of weights that is in it."
_AGAIN = "Get the file again; what was saved is not what its address promised."

# Where, which bytes, what such a file is, and what to do; None: what the registry says.
_OTHERS: tuple[tuple[int, bytes, str, str | None], ...] = (
    (0, b"\x89HDF\r\n", "an HDF5 file, as Keras and others write it", _KERAS),
    (0, b"\x93NUMPY", "one array of numpy; a state_dict has one for each of its keys", None),
    (4, b"TFL3", "a model of TensorFlow Lite", _KERAS),
    (0, b"GGUF", "a GGUF file, as language models are kept", None),
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the file", "git lfs pull gets it."),
    (0, b"<!", "a web page", _AGAIN),
    (0, b"<html", "a web page", _AGAIN),
    (0, b"\x1f\x8b", "packed with gzip", _UNPACK),
    (0, b"BZh", "packed with bzip2", _UNPACK),
    (0, b"\xfd7zXZ", "packed with xz", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "packed with zstd", _UNPACK),
    (0, b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (0, b"Rar!", "a rar archive", _UNPACK),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"\x89PNG", "an image", None),
    (0, b"\xff\xd8\xff", "an image", None),
)


def of(file: Path) -> Format:
    """By its first bytes; a pickle is told from what torch.save writes. Raises `Problem`
    model_file_invalid for all else, for which no process need be started.
    """
    with file.open("rb") as opened:
        head = opened.read(_HEAD_BYTES)
    if head[8:9] == b"{":  # its header is JSON, after eight bytes of its length
        return "safetensors"
    if head.startswith(_ZIP) or _MAGIC_NUMBER in head[:32]:
        return "torch"
    if head.startswith(b"\x80") or _OLD_PICKLE.match(head):
        return "pickle"
    for start, bytes_, what, hint in _OTHERS:
        if head.startswith(bytes_, start):
            raise _other(what, hint)
    if _ONNX_HEAD.match(head):
        raise _other("an ONNX file: a computation, whose weights have names of their own", _ONNX)
    raise invalid("It is neither a file of torch.save nor of safetensors.")


def check_zip(file: Path) -> None:
    """Raises `Problem` model_file_invalid for a zip that is not one of torch.save. One that is
    damaged is none of this function's business.
    """
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as opened:
        names = opened.namelist()
    for is_one, what, hint in _ZIPS:
        if is_one(names):
            raise _other(what, hint)


def invalid(why: str, hint: str | None = None) -> Problem:
    """The problem of a file that holds no weights for danlu."""
    errors: list[FieldError] = [{"loc": ["body", "file"], "msg": "no state_dict"}]
    return Problem("model_file_invalid", why, hint=hint, errors=errors)


def _other(what: str, hint: str | None) -> Problem:
    return invalid(f"It is {what}. danlu takes a state_dict.", hint)


def _has(*endings: str) -> Callable[[Collection[str]], bool]:
    """Whether a name ends so, for each ending."""
    return lambda names: all(any(name.endswith(one) for name in names) for one in endings)


_ZIPS: tuple[tuple[Callable[[Collection[str]], bool], str, str | None], ...] = (
    (_has("/constants.pkl"), "a TorchScript archive, as torch.jit.save writes it", _TORCHSCRIPT),
    (_has("/archive_format"), "a program of torch.export", _EXPORTED),
    (_has("model.weights.h5"), "a model of Keras", _KERAS),
    (_has("model.onnx", "predict.py"), "a bundle of danlu", "Download the checkpoint as pt."),
    (
        lambda names: all(name.endswith(".npy") for name in names),
        "a zip of arrays of numpy",
        _ARRAYS,
    ),
    (lambda names: not _has("/data.pkl")(names), "a zip archive of other things", _UNPACK),
)
