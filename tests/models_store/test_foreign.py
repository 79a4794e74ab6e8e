"""Files of weights that others made: read without running any of them, and held to a network."""

import argparse
import contextlib
import io
import json
import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models_store import checkpoints, foreign
from models_store.classifier import network_of
from models_store.manifest import Manifest
from problems import Problem

Notes = Mapping[str, Callable[[], nn.Module]]
_COLOUR = {"channels": 3, "height": 32, "width": 32}
_LINEAR = {"layers": [{"type": "Flatten"}, {"type": "Linear"}]}


def _file(tmp_path: Path, held: Any, **options: Any) -> Path:
    path = tmp_path / "model.pth"
    torch.save(held, path, **options)
    return path


def _problem(tmp_path: Path, held: Any, manifest: Callable[..., Manifest], **given: Any) -> Problem:
    file = held if isinstance(held, Path) else _file(tmp_path, held)
    with pytest.raises(Problem) as caught:
        foreign.arrive(file, manifest(**given), tmp_path / "store")
    assert not list((tmp_path / "store").glob("*"))  # nothing is left behind
    return caught.value


@pytest.mark.parametrize(
    ("name", "pre"), [("mnist_net", {}), ("cifar10_net", _COLOUR), ("lenet5", {})]
)
@pytest.mark.parametrize("safe", [False, True])
def test_what_the_notes_classes_save_gives_the_same_logits(
    name: str,
    pre: dict[str, Any],
    safe: bool,
    notes: Notes,
    manifest: Callable[..., Manifest],
    tmp_path: Path,
) -> None:
    """What their `torch.save(model.state_dict(), "module_9.pth")` (2.13.1) wrote."""
    theirs = notes[name]().eval()
    file = tmp_path / "module_9.pth"
    if safe:
        save_file(theirs.state_dict(), file)
    else:
        torch.save(theirs.state_dict(), file)
    described = manifest(architecture=name, preprocessing=pre, job_id=None)
    folder, left_out = foreign.arrive(file, described, tmp_path / "store")
    assert left_out == []
    sealed = checkpoints.read_manifest(folder)
    images = torch.rand(8, sealed.preprocessing.channels, *sealed.preprocessing.input_size)
    with torch.no_grad():
        expected = theirs(images)
        found = network_of(folder, sealed)(images)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


_ONE = torch.tensor(1.0)


def _wrapped(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {
        "plain": state,
        "legacy": state,
        "parallel": {f"module.{key}": value for key, value in state.items()},
        "compiled": {f"_orig_mod.{key}": value for key, value in state.items()},
        "lightning": {"epoch": 3, "state_dict": state, "callbacks": [1, "a"]},
        "model": {"model": {f"module.{key}": value for key, value in state.items()}},
        "net": {"net": state, "acc": 0.9, "epoch": 3, "names": ["a"], "nothing": {}},
        "deep": {"checkpoint": {"net": state}, "optimizer": {"state": {0: {"step": _ONE}}}},
        "two, one by its name": {"ema": state, "model_state_dict": state},
        "both wrappers": {f"_orig_mod.module.{key}": value for key, value in state.items()},
        "bare": {key.removeprefix("model."): value for key, value in state.items()},
        "half": {key: value.half() for key, value in state.items()},
        "shared": {key: value.expand_as(value) for key, value in state.items()},
    }


@pytest.mark.parametrize("how", list(_wrapped({})))
def test_however_a_state_dict_is_wrapped(
    how: str, notes: Notes, manifest: Callable[..., Manifest], tmp_path: Path
) -> None:
    state = notes["mnist_net"]().state_dict()
    options = {"_use_new_zipfile_serialization": False} if how == "legacy" else {}
    file = _file(tmp_path, _wrapped(state)[how], **options)
    described = manifest(job_id=None)
    folder, _ = foreign.arrive(file, described, tmp_path / "store")
    found = checkpoints.read_state(folder, checkpoints.read_manifest(folder))
    assert found.keys() == state.keys()
    taken = {"lightning": "state_dict", "model": "model", "net": "net", "deep": "checkpoint.net"}
    taken["two, one by its name"] = "model_state_dict"
    made_with = checkpoints.read_manifest(folder).made_with
    assert made_with.get("taken_from") == taken.get(how)
    for key, value in found.items():
        assert value.dtype == torch.float32
        assert torch.allclose(value, state[key], atol=1e-3)


def _tried(problem: Problem, tmp_path: Path, manifest: Callable[..., Manifest]) -> None:
    """Does what the hint says, word for word, and imports what comes of it."""
    lines = [line for line in problem.hint.splitlines() if "(" in line or " = " in line]
    given = {"torch": torch, "np": np, "pickle": pickle, "onnx": onnx}
    with contextlib.chdir(tmp_path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what PyTorch is to drop one day, and of open files
        exec("\n".join(lines), given)
    described = manifest(architecture=_LINEAR, classes=["a"], job_id=None)
    foreign.arrive(tmp_path / "weights.pth", described, tmp_path / "store")


def _linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 1))


def _whole(folder: Path) -> None:
    torch.save(_linear(), folder / "model.pth")


def _whole_legacy(folder: Path) -> None:
    torch.save(_linear(), folder / "model.pth", _use_new_zipfile_serialization=False)


def _script(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(_linear()), folder / "model.pt")


def _exported(folder: Path) -> None:
    program = torch.export.export(_linear(), (torch.zeros(1, 1, 28, 28),))
    torch.export.save(program, folder / "model.pt2")


def _arrays(folder: Path) -> None:
    np.savez(folder / "weights.npz", **{k: v.numpy() for k, v in _linear().state_dict().items()})


def _onnx(folder: Path) -> None:
    weights = [
        onnx.numpy_helper.from_array(v.numpy(), k) for k, v in _linear().state_dict().items()
    ]
    model = onnx.helper.make_model(onnx.helper.make_graph([], "a", [], [], weights))
    onnx.save(model, folder / "model.onnx")


def _pickled(held: Callable[[], Any], protocol: int) -> Callable[[Path], None]:
    return lambda folder: (folder / "model.pkl").write_bytes(pickle.dumps(held(), protocol))


def _new_protocol(folder: Path) -> None:
    torch.save(_linear().state_dict(), folder / "model.pth", pickle_protocol=4)


def _whole_of_new_protocol(folder: Path) -> None:
    torch.save(_linear(), folder / "model.pth", pickle_protocol=4)


def _several(folder: Path) -> None:
    state = _linear().state_dict()
    torch.save({"a": {"net": state}, "ema": state, "lr": 0.1}, folder / "model.pth")


def _with_arguments(folder: Path) -> None:
    held = {"state_dict": _linear().state_dict(), "args": argparse.Namespace(lr=1)}
    torch.save(held, folder / "model.pth")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_whole, "asks for torch.nn.modules.container.Sequential"),
        (_whole_legacy, "asks for torch.nn.modules.container.Sequential"),
        (_whole_of_new_protocol, "asks for torch.nn.modules.container.Sequential"),
        (_with_arguments, "asks for argparse.Namespace"),
        (_new_protocol, "of a protocol that cannot be read safely"),
        (_script, "TorchScript"),
        (_exported, "torch.export"),
        (_arrays, "arrays of numpy"),
        (_onnx, "an ONNX file"),
        (_several, "It holds 2 state_dicts: held['a']['net'], held['ema']."),
        *(
            (
                _pickled(_linear, protocol),
                "pickle.dump wrote, not torch.save, and asks for torch.nn",
            )
            for protocol in (0, 2, 5)
        ),
        (_pickled(lambda: _linear().state_dict(), 4), "asks for collections.OrderedDict"),
        (_pickled(lambda: {k: v.numpy() for k, v in _linear().state_dict().items()}, 1), "numpy"),
        (_pickled(lambda: {"lr": 0.1}, 5), "a pickle that pickle.dump wrote, not torch.save. It"),
    ],
)
def test_what_is_told_of_other_files_makes_them_weights(
    make: Callable[[Path], None], told: str, manifest: Callable[..., Manifest], tmp_path: Path
) -> None:
    make(tmp_path)
    (file,) = tmp_path.iterdir()
    found = _problem(tmp_path, file, manifest)
    assert found.code == "model_file_invalid"
    assert told in found.detail
    if "pickle.dump wrote, not torch.save. It" not in told:  # that one holds no weights at all
        _tried(found, tmp_path, manifest)


def test_a_whole_model_is_refused_with_the_two_lines(
    notes: Notes, manifest: Callable[..., Manifest], tmp_path: Path
) -> None:
    """The notes, 2.12.1, way 1."""
    found = _problem(tmp_path, notes["mnist_net"](), manifest)
    assert found.code == "model_file_invalid"
    assert "NET" in found.detail
    assert 'model = torch.load("model.pth", weights_only=False)' in found.hint
    assert 'torch.save(model.state_dict(), "weights.pth")' in found.hint


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("protocol", [None, *range(pickle.HIGHEST_PROTOCOL + 1)])
def test_code_in_a_pickle_is_never_run(
    protocol: int | None, manifest: Callable[..., Manifest], tmp_path: Path
) -> None:
    """Neither in a file of torch.save nor in a bare one."""
    mark = tmp_path / "run"
    held = {"model.0.weight": _Evil(mark)}
    file = tmp_path / "model.pth"
    if protocol is None:
        torch.save(held, file)
    else:
        file.write_bytes(pickle.dumps(held, protocol))
    found = _problem(tmp_path, file, manifest)
    assert found.code == "model_file_invalid"
    assert f"asks for {open.__module__}.open" in found.detail  # _io from Python 3.13 on
    assert "danlu does not run it" in found.detail
    assert not mark.exists()


def _cut(tmp_path: Path, **options: Any) -> Path:
    file = _file(tmp_path, {"a": torch.rand(1000)}, **options)
    file.write_bytes(file.read_bytes()[:2000])
    return file


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: _cut(folder), "damaged or cut off"),
        (
            lambda folder: _cut(folder, _use_new_zipfile_serialization=False),
            "damaged or cut off",
        ),
        (lambda folder: _write(folder, b""), "neither a file of torch.save nor of safetensors"),
        (lambda folder: _write(folder, b"\x89PNG"), "It is an image"),
        (lambda folder: _write(folder, b"PK\x03\x04 and more"), "damaged or cut off"),
        (lambda folder: _write(folder, b"\x80\x04hello"), "damaged or cut off"),
        (lambda folder: _write(folder, b"\x80\x02"), "damaged or cut off"),
        (lambda folder: _write(folder, b"\x80\x02G@"), "damaged or cut off"),
        (lambda folder: _write(folder, b"\x40\0\0\0\0\0\0\0{\"a\": 1"), "damaged or cut off"),
        (lambda folder: _file(folder, [1, 2]), "no state_dict, but a list"),
        (lambda folder: _file(folder, {}), "an empty dictionary"),
        (lambda folder: _file(folder, {"epoch": 3, "lr": 0.1}), "'epoch' is a number"),
        (lambda folder: _file(folder, torch.rand(3)), "but a Tensor"),
        (lambda folder: _file(folder, {"a": torch.rand(3).to_sparse()}), "'a' is a Tensor"),
    ],
)  # fmt: skip
def test_what_holds_no_weights_is_refused(
    make: Callable[[Path], Path], said: str, manifest: Callable[..., Manifest], tmp_path: Path
) -> None:
    found = _problem(tmp_path, make(tmp_path), manifest)
    assert found.code == "model_file_invalid"
    assert said in found.detail
    assert found.errors[0]["loc"] == ["body", "file"]


def _write(folder: Path, data: bytes) -> Path:
    path = folder / "model.pth"
    path.write_bytes(data)
    return path


def test_other_things_of_numpy_have_lines_of_their_own(
    manifest: Callable[..., Manifest], tmp_path: Path
) -> None:
    held = {"state_dict": {}, "best": np.float64(0.9)}
    assert 'torch.save(held["state_dict"]' in _problem(tmp_path, held, manifest).hint


def test_other_shapes_are_said_key_by_key(
    notes: Notes, manifest: Callable[..., Manifest], tmp_path: Path
) -> None:
    state = notes["mnist_net"]().state_dict()
    del state["model.3.bias"]
    state["model.9.weight"] = torch.zeros(1)
    # A view of one number: to copy it would take 4 TB.
    state["model.0.weight"] = torch.zeros(1).expand(10**6, 10**6)
    found = _problem(tmp_path, state, manifest, classes=["a", "b", "c"])
    assert found.code == "weights_misfit"
    told = {one["loc"][-1]: one["msg"] for one in found.errors}
    assert told == {
        "model.3.bias": "missing; 20 in this network",
        "model.9.weight": "not of this network; 1",
        "model.0.weight": "1000000x1000000 there, 10x1x5x5 in this network",
        "model.8.weight": "10x500 there, 3x500 in this network",
        "model.8.bias": "10 there, 3 in this network",
    }


def test_weights_that_are_no_numbers_are_refused(
    notes: Notes, manifest: Callable[..., Manifest], tmp_path: Path
) -> None:
    state = notes["mnist_net"]().state_dict()
    state["model.0.bias"][3] = torch.nan
    assert "model.0.bias holds what is no number" in _problem(tmp_path, state, manifest).detail


def test_counters_of_old_files_and_auxiliary_outputs_may_differ(
    manifest: Callable[..., Manifest], tmp_path: Path
) -> None:
    from torchvision import models

    with torch.device("meta"):  # a file of one number, expanded: the network has millions
        theirs = models.googlenet(weights=None, num_classes=2, init_weights=False).state_dict()
    state = {
        key: torch.zeros(1).expand(value.shape)
        for key, value in theirs.items()
        if not key.endswith("batches_tracked")
    }
    file = _file(tmp_path, state)
    described = manifest(
        architecture="googlenet",
        classes=["a", "b"],
        preprocessing={"channels": 3, "height": 64, "width": 64},
    )
    _, left_out = foreign.arrive(file, described, tmp_path / "store")
    assert left_out
    assert all(key.startswith(("aux1.", "aux2.")) for key in left_out)


def test_the_process_says_what_became_of_it(
    notes: Notes,
    manifest: Callable[..., Manifest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`main` as the process runs it, but for its limits."""
    monkeypatch.setattr(foreign, "confine", lambda _: None)
    file = _file(tmp_path, notes["mnist_net"]().state_dict())

    def told(**given: Any) -> dict[str, Any]:
        described = manifest(**given).model_dump(mode="json")
        asked = {"file": str(file), "manifest": described, "root": str(tmp_path / "store")}
        stdin = io.TextIOWrapper(io.BytesIO(json.dumps(asked).encode()))
        monkeypatch.setattr("sys.stdin", stdin)
        foreign.main()
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    assert told()["left_out"] == []
    assert told(id="ckpt_2", classes=["a"])["problem"]["code"] == "weights_misfit"
    for error in (
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] not enough memory"),
    ):
        monkeypatch.setattr(foreign, "arrive", _raising(error))
        assert told()["problem"]["message"] == "It takes too much memory to be read."
    monkeypatch.setattr(foreign, "arrive", _raising(OSError(28, "No space left on device")))
    assert told()["problem"]["code"] == "disk_full"
    monkeypatch.setattr(foreign, "arrive", _raising(PermissionError(13, "Permission denied")))
    with pytest.raises(PermissionError):
        told()


def _raising(error: Exception) -> Callable[..., None]:
    def arrive(*_: Any) -> None:
        raise error

    return arrive
