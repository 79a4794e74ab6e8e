"""ONNX files: PyTorch's numbers, in any batch, and all that is needed to use them."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from models_store import export
from models_store.manifest import Manifest
from models_store.preprocess import to_input
from problems import Problem

pytestmark = pytest.mark.xdist_group("export")  # what they share is made once
_NORMALIZE = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
# A network of one's own with each kind of layer that the others have not.
_OWN = {
    "layers": [
        {"type": "Conv2d", "out_channels": 6, "kernel_size": 3, "padding": "same",
         "padding_mode": "reflect"},
        {"type": "BatchNorm2d"},
        {"type": "GELU", "approximate": "tanh"},
        {"type": "Residual", "layers": [
            {"type": "Conv2d", "out_channels": 6, "kernel_size": 1}, {"type": "Tanh"}]},
        {"type": "AvgPool2d", "kernel_size": 3, "stride": 2, "ceil_mode": True},
        {"type": "AdaptiveAvgPool2d", "output_size": [4, 4]},
        {"type": "Dropout"}, {"type": "Flatten"},
        {"type": "Linear", "out_features": 9}, {"type": "Sigmoid"}, {"type": "Linear"},
    ]
}  # fmt: skip


def _session(target: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])


class Case(NamedTuple):
    """A network, and its file as ONNX."""

    described: Manifest
    network: nn.Module
    target: Path
    made_with: dict[str, str]


@pytest.fixture(scope="module")
def case(
    request: pytest.FixtureRequest,
    manifest: Callable[..., Manifest],
    network: Callable[[Manifest], nn.Module],
    tmp_path_factory: pytest.TempPathFactory,
) -> Case:
    architecture, pre = request.param
    described = manifest(
        architecture=architecture, preprocessing=pre, classes=["猫\n", *"bcdefghij"]
    )
    net, target = network(described), tmp_path_factory.mktemp("onnx") / "model.onnx"
    made_with = export.write_onnx(net, described, temperature=1.7, target=target)
    return Case(described, net, target, made_with)


_OWN_AT_30 = (_OWN, {"channels": 3, "height": 30, "width": 22, "normalize": _NORMALIZE})
_OF_TORCHVISION = ("squeezenet1_1", {"channels": 3, "height": 32, "width": 32})


@pytest.mark.parametrize("case", [_OWN_AT_30, _OF_TORCHVISION], indirect=True, scope="module")
def test_the_logits_are_pytorchs(case: Case) -> None:
    described, net, target, made_with = case
    assert made_with["torch"] == torch.__version__.partition("+")[0]

    pixels = export.noise(described.preprocessing, 25)
    checked = export.check(target, net, described.preprocessing, pixels, of="noise")
    assert checked.images == 25
    session = _session(target)
    for count in (1, 7):
        logits, probabilities = session.run(None, {"image": pixels[:count]})
        images = to_input(torch.from_numpy(pixels[:count]), described.preprocessing.normalize)
        expected = net(images).detach()
        np.testing.assert_allclose(logits, expected.numpy(), atol=1e-5, rtol=1e-4)
        np.testing.assert_allclose(probabilities, (expected / 1.7).softmax(1).numpy(), atol=1e-5)
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == described.classes
    assert json.loads(told["preprocessing"]) == described.preprocessing.model_dump(mode="json")
    assert float(told["temperature"]) == 1.7


@pytest.mark.parametrize("case", [_OWN_AT_30], indirect=True, scope="module")
def test_a_file_of_other_numbers_is_refused(case: Case, tmp_path: Path) -> None:
    other, pre = copy.deepcopy(case.network), case.described.preprocessing
    with torch.no_grad():
        list(other.parameters())[-1].add_(0.01)
    pixels = export.noise(pre, 3)
    with pytest.raises(Problem, match=r"differ from PyTorch's by 0\.01") as caught:
        export.check(case.target, other, pre, pixels, of="noise")
    assert caught.value.code == "export_failed"
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(Problem, match="onnxruntime cannot run the file"):
        export.check(tmp_path / "model.onnx", other, pre, pixels, of="noise")


class _Untraceable(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) if images.sum() > 0 else -images.flatten(1)


def test_what_onnx_cannot_take_is_said(
    manifest: Callable[..., Manifest], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    described = manifest()
    with pytest.raises(Problem, match="PyTorch cannot write the network as ONNX") as caught:
        export.write_onnx(
            _Untraceable(), described, temperature=1.0, target=tmp_path / "model.onnx"
        )
    assert caught.value.code == "export_failed"
    assert "safetensors" in caught.value.hint
    assert capfd.readouterr() == ("", "")


def test_more_than_a_file_of_onnx_holds_is_refused_at_once(
    manifest: Callable[..., Manifest], tmp_path: Path
) -> None:
    with torch.device("meta"):
        huge = nn.Linear(30_000, 20_000)
    with pytest.raises(Problem, match="2,400,080,000 bytes"):
        export.write_onnx(huge, manifest(), temperature=1.0, target=tmp_path / "model.onnx")


def test_shaped_as_the_manifest_says(manifest: Callable[..., Manifest], encode: Any) -> None:
    shaping = [{"type": "CenterCrop", "size": [20, 24]}]
    pre = manifest(preprocessing={"transforms": shaping}).preprocessing
    pixels = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)
    found = export.prepared([encode(pixels)], pre)
    assert np.array_equal(found[0, :, :, 0], pixels[4:24, 2:26])
