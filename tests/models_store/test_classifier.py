"""Files in, probabilities out: the same whatever comes along in the batch."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from models_store import classifier as module
from models_store import preprocess, reduced
from models_store.checkpoints import MANIFEST
from models_store.classifier import Classified, Classifier
from models_store.manifest import Manifest
from problems import Problem

Make = Callable[..., Manifest]
Save = Callable[[Manifest], Path]
Encode = Callable[..., bytes]
Pixels = NDArray[np.uint8]


@pytest.fixture
def digits() -> Pixels:
    """Forty noisy pictures, bright on black."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    pixels[:, :4], pixels[:, -4:], pixels[:, :, :4], pixels[:, :, -4:] = 0, 0, 0, 0
    return pixels


@pytest.fixture
def classifier(manifest: Make, saved: Save) -> Classifier:
    return Classifier.load(saved(manifest(preprocessing={"invert_from_border": 0.0})))


class Decoders(ThreadPoolExecutor):
    """Counts the files that it is given."""

    given = 0

    def submit(self, *called: Any, **options: Any) -> Future[Any]:
        self.given += 1
        return super().submit(*called, **options)


def _one(classifier: Classifier, file: bytes) -> Classified:
    (result,) = classifier.classify([file])
    assert isinstance(result, Classified), result
    return result


class TestLoad:
    @pytest.mark.parametrize(
        ("architecture", "channels", "normalize"),
        [
            ("mnist_net", 1, None),
            ("cifar10_net", 3, {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}),
            ("lenet5", 1, {"mean": [0.13], "std": [0.3]}),
        ],
    )
    def test_computes_what_the_saved_network_computes(
        self,
        architecture: str,
        channels: int,
        normalize: Any,
        manifest: Make,
        saved: Save,
        network: Callable[[Manifest], nn.Module],
    ) -> None:
        described = manifest(
            architecture=architecture,
            preprocessing={"channels": channels, "normalize": normalize},
        )
        classifier = Classifier.load(saved(described))
        assert classifier.manifest.model_copy(update={"files": {}}) == described
        pixels = np.random.default_rng(1).integers(0, 256, (9, 28, 28, channels), dtype=np.uint8)
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        if normalize:
            mean, std = (torch.tensor(normalize[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
            images = (images - mean) / std
        with torch.no_grad():
            expected = network(described)(images).softmax(1).numpy()
        np.testing.assert_allclose(classifier.probabilities(pixels), expected, atol=1e-6)

    def test_any_size_and_classes(self, manifest: Make, saved: Save, encode: Encode) -> None:
        described = manifest(
            classes=["猫", "dog", "fox"],
            preprocessing={"height": 20, "width": 33, "channels": 3},
        )
        result = _one(Classifier.load(saved(described)), encode(np.zeros((90, 80), np.uint8)))
        assert result.probabilities.shape == (3,)

    def test_the_network_gets_what_the_transforms_make(
        self,
        manifest: Make,
        saved: Save,
        network: Callable[[Manifest], nn.Module],
    ) -> None:
        transforms = [{"type": "Resize", "size": 32}, {"type": "CenterCrop", "size": [24, 20]}]
        described = manifest(preprocessing={"transforms": transforms})
        pre = described.preprocessing
        pixels = np.random.default_rng(1).integers(0, 256, (9, 28, 28, 1), dtype=np.uint8)
        inputs = preprocess.to_input(torch.from_numpy(pixels), None, pre.transforms)
        assert inputs.shape == (9, 1, 24, 20)

        found = Classifier.load(saved(described)).probabilities(pixels)

        with torch.inference_mode():
            expected = network(described).to(memory_format=torch.channels_last)(inputs)
        np.testing.assert_array_equal(found, expected.double().softmax(1).numpy())

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(Problem) as caught:
            Classifier.load(tmp_path / "ckpt_9")
        assert caught.value.code == "checkpoint_not_found"

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ('"0",', '"0", "one more",'),
            ('"mnist_net"', '"lenet5"'),
            ('"height": 28', '"height": 30'),
        ],
    )
    def test_a_manifest_that_does_not_fit_the_weights(
        self, before: str, after: str, manifest: Make, saved: Save
    ) -> None:
        folder = saved(manifest())
        text = (folder / MANIFEST).read_text()
        assert before in text
        (folder / MANIFEST).write_text(text.replace(before, after, 1))
        with pytest.raises(Problem) as caught:
            Classifier.load(folder)
        assert caught.value.code == "checkpoint_damaged"
        assert caught.value.detail.endswith("its weights do not fit its manifest.")

    def test_a_kind_of_layer_that_only_a_newer_danlu_knows(
        self, manifest: Make, saved: Save
    ) -> None:
        folder = saved(manifest())
        text = (folder / MANIFEST).read_text()
        newer = '{"layers": [{"type": "Attention"}]}'
        (folder / MANIFEST).write_text(text.replace('"mnist_net"', newer, 1))
        with pytest.raises(Problem) as caught:
            Classifier.load(folder)
        assert caught.value.code == "checkpoint_damaged"
        assert caught.value.detail.endswith("its network cannot be read.")


class TestClassify:
    def test_probabilities_add_up_to_one(
        self, classifier: Classifier, digits: Pixels, encode: Encode
    ) -> None:
        result = _one(classifier, encode(digits[0]))
        assert result.probabilities.dtype == np.float64
        assert result.probabilities.shape == (10,)
        assert result.probabilities.sum() == pytest.approx(1, abs=1e-5)
        assert result.warnings == ()

    def test_no_file_gives_no_result(self, classifier: Classifier) -> None:
        assert classifier.classify([]) == []

    def test_the_batch_makes_no_difference(
        self, classifier: Classifier, digits: Pixels, encode: Encode
    ) -> None:
        files = [encode(image) for image in digits]
        alone = np.stack([_one(classifier, file).probabilities for file in files])
        for size in (2, 7, 40):
            batches = [files[start : start + size] for start in range(0, 40, size)]
            results = [one for batch in batches for one in classifier.classify(batch)]
            together = [one.probabilities for one in results if isinstance(one, Classified)]
            np.testing.assert_allclose(together, alone, atol=1e-3)
            assert (np.argmax(together, 1) == alone.argmax(1)).all()

    def test_bad_files_leave_the_others_in_their_place(
        self, classifier: Classifier, digits: Pixels, encode: Encode
    ) -> None:
        first, second = encode(digits[0]), encode(digits[1])
        good = [_one(classifier, file).probabilities for file in (first, second)]
        results = classifier.classify([b"", first, b"no image", second[:200], second, first[:50]])
        codes = [one.code if isinstance(one, Problem) else "fine" for one in results]
        assert codes == [
            "empty_file", "fine", "not_an_image", "truncated_image", "fine", "truncated_image",
        ]  # fmt: skip
        found = [one.probabilities for one in results if isinstance(one, Classified)]
        np.testing.assert_allclose(found, good, atol=1e-3)

    def test_nothing_but_bad_files(self, classifier: Classifier) -> None:
        results = classifier.classify([b"", b"GIF89a"])
        assert all(isinstance(one, Problem) for one in results)

    def test_threads_may_share_it(
        self, classifier: Classifier, digits: Pixels, encode: Encode
    ) -> None:
        files = [encode(image) for image in digits[:8]]
        alone = [_one(classifier, file).probabilities for file in files]
        with ThreadPoolExecutor(4) as threads:
            shared = list(threads.map(lambda file: _one(classifier, file).probabilities, files))
        np.testing.assert_allclose(shared, alone, atol=1e-6)

    def test_large_files_are_decoded_beside_each_other_and_stay_in_order(
        self, classifier: Classifier, encode: Encode
    ) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (6, 90, 90), dtype=np.uint8)
        large = [*map(encode, noise), b"no image" * 2000]
        small = [encode(image[:28, :28]) for image in noise]
        with Decoders(3) as decoders:
            for files, given in ((large, len(large)), (small, 0)):
                decoders.given = 0
                beside = classifier.classify(files, decoders=decoders)
                assert decoders.given == given
                for one, other in zip(beside, classifier.classify(files), strict=True):
                    assert type(one) is type(other)
                    if isinstance(one, Classified) and isinstance(other, Classified):
                        assert (one.probabilities == other.probabilities).all()

    def test_no_more_is_decoded_than_is_enough(
        self, classifier: Classifier, digits: Pixels, encode: Encode
    ) -> None:
        files = [encode(image) for image in digits[:4]]
        told: list[int] = []

        def is_enough(decoded: int) -> bool:
            told.append(decoded)
            return decoded == 2

        results = classifier.classify(files, is_enough=is_enough)
        assert told == [1, 2]
        for one, file in zip(results, files[:2], strict=True):
            assert isinstance(one, Classified)
            alone = _one(classifier, file).probabilities
            np.testing.assert_allclose(one.probabilities, alone, atol=1e-3)

    def test_a_negative_is_read_as_its_positive(
        self, classifier: Classifier, digits: Pixels, encode: Encode
    ) -> None:
        upright = _one(classifier, encode(digits[0]))
        negative = _one(classifier, encode(255 - digits[0]))
        np.testing.assert_allclose(negative.probabilities, upright.probabilities, atol=1e-6)
        assert (upright.warnings, negative.warnings) == ((), ("inverted",))

    def test_a_negative_stays_one_where_there_is_no_rule(
        self, manifest: Make, saved: Save, digits: Pixels, encode: Encode
    ) -> None:
        classifier = Classifier.load(saved(manifest()))
        assert _one(classifier, encode(255 - digits[0])).warnings == ()


def _float(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L"), np.float32) / 255)


def _deep(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


def _integers(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.int32))


class TestOddImages:
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize(
        ("turn", "format"),
        [
            (lambda image: image.convert("L"), "PNG"),
            (lambda image: image.convert("RGB"), "WEBP"),
            (lambda image: image.convert("RGBA"), "PNG"),
            (lambda image: image.convert("LA"), "PNG"),
            (lambda image: image.convert("P"), "GIF"),
            (lambda image: image.convert("1"), "BMP"),
            (lambda image: image.convert("CMYK"), "JPEG"),
            (lambda image: image.convert("CMYK"), "TIFF"),
            (lambda image: image.convert("YCbCr"), "JPEG"),
            (_deep, "PNG"),
            (_float, "TIFF"),
            (_integers, "TIFF"),
        ],
    )
    def test_are_classified_as_the_plain_one(
        self,
        turn: Callable[[Image.Image], Image.Image],
        format: str,
        channels: int,
        manifest: Make,
        saved: Save,
        encode: Encode,
    ) -> None:
        classifier = Classifier.load(saved(manifest(preprocessing={"channels": channels})))
        smooth = np.tile(np.linspace(0, 255, 56).astype(np.uint8), (56, 1))
        plain = Image.fromarray(np.where(smooth > 127, 255, 0).astype(np.uint8))  # as one bit has
        expected = _one(classifier, encode(plain)).probabilities
        result = _one(classifier, encode(turn(plain), format=format))
        np.testing.assert_allclose(result.probabilities, expected, atol=0.02)
        assert result.warnings == ()

    def test_turned_by_exif(self, classifier: Classifier, digits: Pixels, encode: Encode) -> None:
        upright = Image.fromarray(digits[0])
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90 degrees clockwise
        turned = encode(upright.transpose(Image.Transpose.ROTATE_90), exif=exif)
        expected = _one(classifier, encode(upright)).probabilities
        np.testing.assert_allclose(_one(classifier, turned).probabilities, expected, atol=1e-6)

    def test_animated(self, classifier: Classifier, digits: Pixels, encode: Encode) -> None:
        frames = [Image.fromarray(image) for image in digits[:3]]
        animated = encode(frames[0], format="GIF", save_all=True, append_images=frames[1:])
        result = _one(classifier, animated)
        expected = _one(classifier, encode(digits[0])).probabilities
        np.testing.assert_allclose(result.probabilities, expected, atol=1e-3)
        assert result.warnings == ("first_frame_only",)


class TestWarnings:
    @pytest.mark.parametrize(
        ("trained", "shape", "warnings"),
        [
            ((28, 28), (28, 28), ()),
            ((28, 28), (300, 300), ()),
            ((28, 28), (27, 28), ("upscaled",)),
            ((28, 28), (28, 27), ("upscaled",)),
            ((8, 8), (8, 8), ()),  # digits: trained on images that were scaled up themselves
            ((8, 8), (7, 8), ("upscaled",)),
            ((28, 28), (28, 84), ()),
            ((28, 28), (28, 85), ("extreme_aspect_ratio",)),
            ((28, 28), (85, 28), ("extreme_aspect_ratio",)),
            ((28, 112), (28, 112), ()),  # wide images are what it was trained on
            ((28, 112), (40, 40), ("extreme_aspect_ratio",)),
            ((28, 28), (1, 1), ("upscaled",)),
            ((28, 28), (1, 100), ("upscaled", "extreme_aspect_ratio")),
        ],
    )
    def test_sizes(
        self,
        trained: tuple[int, int],
        shape: tuple[int, int],
        warnings: tuple[str, ...],
        manifest: Make,
        saved: Save,
        encode: Encode,
    ) -> None:
        height, width = trained
        described = manifest(preprocessing={"trained_height": height, "trained_width": width})
        image = encode(np.zeros(shape, np.uint8))
        assert _one(Classifier.load(saved(described)), image).warnings == warnings

    def test_all_at_once(self, classifier: Classifier, encode: Encode) -> None:
        frames = [Image.new("L", (100, 5), shade) for shade in (255, 250)]
        file = encode(frames[0], format="GIF", save_all=True, append_images=frames[1:])
        assert _one(classifier, file).warnings == (
            "inverted",
            "upscaled",
            "extreme_aspect_ratio",
            "first_frame_only",
        )


class TestCalibration:
    def test_logits_are_divided_by_the_temperature_and_no_class_passes_another(
        self, manifest: Make, saved: Save, digits: Pixels
    ) -> None:
        folder = saved(manifest())
        plain = Classifier.load(folder).probabilities(digits[..., None])
        calibrate(folder, '{"temperature": 0.02}')

        calibrated = Classifier.load(folder).probabilities(digits[..., None])

        expected = torch.from_numpy(plain).double().log().div(0.02).softmax(1)
        np.testing.assert_allclose(calibrated, expected, atol=1e-4)
        assert np.abs(calibrated - plain).max() > 0.1
        np.testing.assert_array_equal(np.argsort(-calibrated), np.argsort(-plain))

    def test_a_checkpoint_that_is_judged_while_in_use_is_calibrated_from_then_on(
        self, classifier: Classifier, tmp_path: Path, digits: Pixels
    ) -> None:
        before = classifier.probabilities(digits[..., None])
        calibrate(tmp_path / "ckpt_1", '{"temperature": 0.5}')

        after = classifier.probabilities(digits[..., None])

        assert np.abs(after - before).max() > 1e-3

    def test_one_without_calibration_stays_as_it_is(
        self, classifier: Classifier, tmp_path: Path, digits: Pixels
    ) -> None:
        before = classifier.probabilities(digits[..., None])
        calibrate(tmp_path / "ckpt_1", "null")

        np.testing.assert_array_equal(classifier.probabilities(digits[..., None]), before)

    def test_a_damaged_report_is_a_damaged_checkpoint(self, manifest: Make, saved: Save) -> None:
        folder = saved(manifest())
        calibrate(folder, "")

        with pytest.raises(Problem, match=r"evaluation\.json") as caught:
            Classifier.load(folder)
        assert caught.value.code == "checkpoint_damaged"


class TestPrecision:
    @pytest.mark.parametrize(
        ("native", "proof", "precision"),
        [
            (True, '{"passed": true}', "bf16"),
            (True, '{"passed": false}', "fp32"),
            (True, "null", "fp32"),
            (False, '{"passed": true}', "fp32"),
        ],
    )
    def test_half_the_bits_where_that_was_proved_and_is_fast(
        self,
        native: bool,
        proof: str,
        precision: str,
        manifest: Make,
        saved: Save,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(reduced, "is_native", lambda _: native)
        folder = saved(manifest())
        report = f'{{"calibration": null, "parity_bf16": {proof}}}'
        (folder / "evaluation.json").write_text(report)
        assert Classifier.load(folder, precision="auto").precision == precision
        assert Classifier.load(folder).precision == "fp32"

    def test_one_that_was_not_judged_computes_in_float32(self, manifest: Make, saved: Save) -> None:
        assert Classifier.load(saved(manifest()), precision="auto").precision == "fp32"

    def test_it_takes_half_the_memory_and_agrees(
        self, manifest: Make, saved: Save, digits: Pixels, encode: Encode
    ) -> None:
        folder = saved(manifest())
        whole = Classifier.load(folder)
        half = Classifier.load(folder, precision="bf16")
        assert half.weight_bytes < 0.55 * whole.weight_bytes
        exact, found = (one.probabilities(digits[..., None]) for one in (whole, half))
        np.testing.assert_allclose(found, exact, atol=0.01)
        assert found.dtype == np.float64
        picture = half.explain([encode(digits[0])], [3], "gradcam")[0]
        assert picture.startswith(b"\x89PNG")

    @pytest.mark.skipif(not reduced.is_native(torch.device("cpu")), reason="slow there")
    def test_the_batch_makes_no_difference_in_it_either(
        self, manifest: Make, saved: Save, digits: Pixels
    ) -> None:
        half = Classifier.load(saved(manifest()), precision="bf16")
        alone = np.concatenate([half.probabilities(one[None, ..., None]) for one in digits])
        for size in (2, 7, 40):
            pieces = [digits[start : start + size, ..., None] for start in range(0, 40, size)]
            together = np.concatenate([half.probabilities(one) for one in pieces])
            np.testing.assert_allclose(together, alone, atol=1e-3)


class TestWarmUp:
    def test_it_ends_at_the_most_or_before_what_takes_too_long(
        self, classifier: Classifier
    ) -> None:
        assert classifier.warm_up(most=64, seconds=1000) == 64
        assert classifier.warm_up(most=50, seconds=1000) == 32
        assert classifier.warm_up(most=64, seconds=0) == 1

    def test_what_was_slow_once_is_tried_again(
        self, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The machine was busy with something else, or PyTorch prepared itself."""
        now, slow = 0.0, {1, 16}

        def run(pixels: Pixels) -> None:
            nonlocal now
            now += 9.0 if len(pixels) in slow else 0.1
            slow.discard(len(pixels))

        monkeypatch.setattr(classifier, "probabilities", run)
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now))
        assert classifier.warm_up(most=64, seconds=1) == 64

    def test_it_ends_where_there_is_no_memory_for_more(
        self, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        room = 8

        def tight(pixels: Pixels) -> None:
            if len(pixels) > room:
                raise torch.OutOfMemoryError

        monkeypatch.setattr(classifier, "probabilities", tight)
        assert classifier.warm_up(most=64, seconds=100) == 8
        room = 0
        with pytest.raises(torch.OutOfMemoryError):
            classifier.warm_up(most=64, seconds=100)

    def test_batches_are_filled_up_to_powers_of_two(
        self, classifier: Classifier, digits: Pixels, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sizes: list[int] = []
        plain = preprocess.to_input

        def noted(batch: torch.Tensor, *rest: Any) -> torch.Tensor:
            sizes.append(len(batch))
            return plain(batch, *rest)

        monkeypatch.setattr(preprocess, "to_input", noted)
        for count in (1, 2, 3, 5, 40):
            assert len(classifier.probabilities(digits[:count, ..., None])) == count
        assert sizes == [1, 2, 4, 8, 64]


def calibrate(folder: Path, calibration: str) -> None:
    (folder / "evaluation.json").write_text(f'{{"calibration": {calibration}}}')
