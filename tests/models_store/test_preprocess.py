"""Pixels to inputs, bit for bit as torchvision makes them, and what is measured on a data set."""

from collections.abc import Callable
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision import transforms
from torchvision.transforms import ToTensor, v2

from data_store.parts import Sums
from models_store import preprocess
from models_store.fields import Normalize
from models_store.manifest import Preprocessing
from models_store.pipeline import Transforms

Encode = Callable[..., bytes]


@pytest.fixture
def chance() -> np.random.Generator:
    return np.random.default_rng(0)


def _pixels(chance: np.random.Generator, *shape: int) -> NDArray[np.uint8]:
    return chance.integers(0, 256, shape, dtype=np.uint8)


def _preprocessing(channels: int = 1, side: int = 8, **given: Any) -> Preprocessing:
    return Preprocessing.model_validate(
        {"height": side, "width": side, "channels": channels}
        | {"trained_height": side, "trained_width": side, **given}
    )


def _as_torchvision(pixels: NDArray[np.uint8]) -> torch.Tensor:
    return torch.stack([ToTensor()(image) for image in pixels])


class TestToInput:
    def test_every_value_is_totensors_to_the_bit(self) -> None:
        pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
        ours = preprocess.to_input(torch.from_numpy(pixels), None)
        assert torch.equal(ours, _as_torchvision(pixels))

    @pytest.mark.parametrize("channels", [1, 3])
    def test_images_are_totensors_to_the_bit(
        self, channels: int, chance: np.random.Generator
    ) -> None:
        pixels = _pixels(chance, 5, 7, 9, channels)
        ours = preprocess.to_input(torch.from_numpy(pixels), None)
        assert ours.shape == (5, channels, 7, 9)
        assert ours.dtype == torch.float32
        assert torch.equal(ours, _as_torchvision(pixels))
        assert ours.is_contiguous(memory_format=torch.channels_last)

    @pytest.mark.parametrize(
        ("mean", "std"),
        [([0.1307], [0.3081]), ([0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616])],
    )
    def test_normalizes_as_torchvision_to_the_bit(
        self, mean: list[float], std: list[float], chance: np.random.Generator
    ) -> None:
        pixels = _pixels(chance, 3, 6, 5, len(mean))
        ours = preprocess.to_input(torch.from_numpy(pixels), Normalize(mean=mean, std=std))
        assert torch.equal(ours, transforms.Normalize(mean, std)(_as_torchvision(pixels)))

    def test_leaves_the_pixels_alone(self, chance: np.random.Generator) -> None:
        pixels = torch.from_numpy(_pixels(chance, 2, 4, 4, 3))
        before = pixels.clone()
        preprocess.to_input(pixels, Normalize(mean=[0.5] * 3, std=[0.5] * 3))
        assert torch.equal(pixels, before)

    def test_transforms_come_before_as_in_torchvision(self, chance: np.random.Generator) -> None:
        pixels = _pixels(chance, 4, 20, 30, 3)
        shaping = Transforms.model_validate(
            {"eval": [{"type": "Resize", "size": 12}, {"type": "CenterCrop", "size": 10}]}
        ).shaping
        normalize = Normalize(mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.4])
        ours = preprocess.to_input(torch.from_numpy(pixels), normalize, shaping)
        theirs = v2.Compose(
            [
                v2.Resize(12),
                v2.CenterCrop(10),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(normalize.mean, normalize.std),
            ]
        )
        expected = theirs(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        assert torch.allclose(ours, expected, atol=1e-6)


class TestMeasureNormalize:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_mean_and_deviation_of_each_channel(
        self, channels: int, chance: np.random.Generator
    ) -> None:
        pixels = _pixels(chance, 5000, 3, 4, channels)  # more than are taken at a time
        pixels[..., 0] //= 2
        scaled = pixels.astype(np.float64) / 255
        measured = preprocess.measure_normalize(*astuple(Sums.of(pixels)))
        np.testing.assert_allclose(measured.mean, scaled.mean(axis=(0, 1, 2)), atol=1e-6)
        np.testing.assert_allclose(measured.std, scaled.std(axis=(0, 1, 2)), atol=1e-6)

    @pytest.mark.parametrize("value", [0, 137, 255])
    def test_a_channel_of_one_value_is_only_centred(self, value: int) -> None:
        pixels = np.full((3, 4, 4, 1), value, np.uint8)
        measured = preprocess.measure_normalize(*astuple(Sums.of(pixels)))
        assert measured.std == [1.0]
        centred = preprocess.to_input(torch.from_numpy(pixels), measured)
        assert centred.abs().max() < 1e-6


class TestMeasureBorder:
    @pytest.mark.parametrize("background", [0.0, 0.02, 0.2, 0.8, 1.0])
    def test_a_background_that_all_images_share_is_a_rule(
        self, background: float, chance: np.random.Generator
    ) -> None:
        borders = background + chance.normal(0, 0.01, 500).astype(np.float32)
        measured = preprocess.measure_border(borders)
        assert measured == pytest.approx(background, abs=0.01)

    def test_mnists_borders_are_a_rule(self) -> None:
        borders = np.zeros(1000, np.float32)
        borders[:50] = np.linspace(0, 0.033, 50)  # the brightest that MNIST has
        assert preprocess.measure_border(borders) == pytest.approx(0, abs=0.01)

    @pytest.mark.parametrize("background", [0.3, 0.5, 0.7])
    def test_a_background_near_the_middle_is_none(self, background: float) -> None:
        assert preprocess.measure_border(np.full(500, background, np.float32)) is None

    def test_photos_have_none(self, chance: np.random.Generator) -> None:
        for low, high in ((0.0, 1.0), (0.0, 0.6), (0.5, 1.0)):
            borders = chance.uniform(low, high, 500).astype(np.float32)
            assert preprocess.measure_border(borders) is None

    @pytest.mark.parametrize("bright", [0.02, 0.1, 0.5, 0.9, 0.98])
    def test_a_set_of_both_kinds_has_none(self, bright: float) -> None:
        count = 500
        borders = (np.arange(count) < bright * count).astype(np.float32)
        assert preprocess.measure_border(borders) is None

    def test_negatives_are_more_than_half_away(self) -> None:
        borders = np.array([0.0, 0.5, 0.62, 1.0], np.float32)
        assert preprocess.negatives(borders, 0.1).tolist() == [False, False, True, True]

    @pytest.mark.parametrize(("background", "odd_one"), [(0.0, 0.6), (1.0, 0.4)])
    def test_a_rule_would_leave_every_training_image_as_it_is(
        self, background: float, odd_one: float
    ) -> None:
        borders = np.full(1000, background, np.float32)
        assert preprocess.measure_border(borders) == background
        borders[500] = odd_one
        assert preprocess.measure_border(borders) is None


class TestDecode:
    @pytest.mark.parametrize(("channels", "shape"), [(1, (8, 8, 1)), (3, (8, 8, 3))])
    def test_size_and_channels_are_the_manifests(
        self, channels: int, shape: tuple[int, ...], encode: Encode, chance: np.random.Generator
    ) -> None:
        decoded = preprocess.decode(encode(_pixels(chance, 20, 30)), _preprocessing(channels))
        assert decoded.pixels.shape == shape
        assert not decoded.inverted

    def test_pixels_are_those_that_the_notes_feed(
        self, encode: Encode, chance: np.random.Generator
    ) -> None:
        photo = Image.fromarray(_pixels(chance, 40, 50, 3))
        decoded = preprocess.decode(encode(photo), _preprocessing(3))
        ours = preprocess.to_input(torch.from_numpy(decoded.pixels[None]), None)
        assert torch.equal(
            ours[0], transforms.Compose([transforms.Resize((8, 8)), ToTensor()])(photo)
        )

    @pytest.mark.parametrize(
        ("border", "background", "inverted"),
        [(0.0, 255, True), (0.0, 0, False), (1.0, 0, True), (1.0, 255, False), (None, 255, False)],
    )
    def test_the_wrong_background_is_turned(
        self, border: float | None, background: int, inverted: bool, encode: Encode
    ) -> None:
        pixels = np.full((8, 8), background, np.uint8)
        pixels[3:5, 3:5] = 100
        decoded = preprocess.decode(encode(pixels), _preprocessing(invert_from_border=border))
        assert decoded.inverted is inverted
        expected = 255 - pixels if inverted else pixels
        np.testing.assert_array_equal(decoded.pixels[..., 0], expected)
