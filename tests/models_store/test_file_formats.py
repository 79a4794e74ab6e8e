"""Files that hold no state_dict are told by name, each with what to do."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models_store import file_formats
from problems import Problem

STATE = {"0.weight": torch.zeros(2)}


def _write(folder: Path, data: bytes) -> Path:
    path = folder / "model.pth"
    path.write_bytes(data)
    return path


def test_what_is_read(tmp_path: Path) -> None:
    file = tmp_path / "x"
    save_file(STATE, file)
    assert file_formats.of(file) == "safetensors"
    for is_zip in (True, False):
        torch.save(STATE, file, _use_new_zipfile_serialization=is_zip)
        assert file_formats.of(file) == "torch"
        file_formats.check_zip(file)


def _array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


@pytest.mark.parametrize(
    ("head", "told", "hint"),
    [
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras", "PyTorch network of the same layers"),
        (b"\x1c\0\0\0TFL3", "TensorFlow Lite", "PyTorch network of the same layers"),
        (_array(), "one array of numpy", "torch.save"),
        (b"\x08\x0a\x12\x07pytorch", "an ONNX file", "numpy_helper.to_array"),
        (b"\x08\x07:\x0c", "an ONNX file", "numpy_helper.to_array"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page", "Get the file again"),
        (b"\x1f\x8b\x08", "gzip", "Unpack it"),
        (b"\0" * 257 + b"ustar\0", "a tar archive", "Unpack it"),
        (b"\xff\xd8\xff\xe0", "an image", "torch.save"),
        (b"", "neither a file of torch.save nor of safetensors", "torch.save"),
        (b"a letter", "neither a file of torch.save nor of safetensors", "torch.save"),
        (b"\x08", "neither a file of torch.save nor of safetensors", "torch.save"),
    ],
)
def test_others_are_told_by_their_first_bytes(
    head: bytes, told: str, hint: str, tmp_path: Path
) -> None:
    with pytest.raises(Problem) as caught:
        file_formats.of(_write(tmp_path, head))
    assert caught.value.code == "model_file_invalid"
    assert told in caught.value.detail
    assert hint in caught.value.hint
    assert caught.value.errors[0]["loc"] == ["body", "file"]


@pytest.mark.parametrize(
    ("names", "told", "hint"),
    [
        (["m/data.pkl", "m/code/a.py", "m/constants.pkl"], "TorchScript", "torch.jit.load"),
        (["m/archive_format", "m/models/model.json"], "torch.export", "torch.export.load"),
        (["config.json", "model.weights.h5"], "Keras", "PyTorch network of the same layers"),
        (["a.npy", "b.npy"], "arrays of numpy", "np.load"),
        (["model.onnx", "predict.py", "labels.txt"], "a bundle of danlu", "as pt"),
        (["weights.pth"], "a zip archive of other things", "Unpack it"),
    ],
)
def test_zips_are_told_by_the_names_in_them(
    names: list[str], told: str, hint: str, tmp_path: Path
) -> None:
    file = tmp_path / "model.pth"
    with zipfile.ZipFile(file, "w") as made:
        for name in names:
            made.writestr(name, b"")
    assert file_formats.of(file) == "torch"
    with pytest.raises(Problem, match=told) as caught:
        file_formats.check_zip(file)
    assert hint in caught.value.hint


def test_a_zip_that_is_cut_off_is_left_to_who_reads_it(tmp_path: Path) -> None:
    file_formats.check_zip(_write(tmp_path, b"PK\x03\x04 and more"))
