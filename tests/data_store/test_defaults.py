"""Default recipes of a person's own images."""

import pytest

from data_store import defaults


@pytest.mark.parametrize(
    ("height", "width", "side"), [(8, 8, 32), (40, 32, 32), (41, 20, 64), (64, 64, 64)]
)
def test_small_images_keep_about_their_size(height: int, width: int, side: int) -> None:
    recipe = defaults.for_folder(height=height, width=width, images=5000)
    assert (recipe["image_size"], recipe["epochs"]) == (side, 15)
    assert recipe["scheduler"]["max_lr"] == recipe["optimizer"]["lr"]
    assert [each["type"] for each in recipe["transforms"]["train"]] == [
        "RandomCrop",
        "RandomHorizontalFlip",
    ]


@pytest.mark.parametrize(
    ("images", "epochs"), [(1, 100), (40, 100), (1000, 100), (6400, 30), (60_000, 10)]
)
def test_large_images_get_about_1500_steps(images: int, epochs: int) -> None:
    recipe = defaults.for_folder(height=480, width=640, images=images)
    assert (recipe["image_size"], recipe["epochs"]) == (224, epochs)
    assert (recipe["architecture"], recipe["pretrained"]) == ("mobilenet_v3_small", "auto")
    assert recipe["transforms"]["train"][0] == {"type": "RandomResizedCrop"}


@pytest.mark.parametrize(("imbalance", "weights"), [(1.0, None), (3.0, None), (3.1, "balanced")])
def test_rare_classes_of_large_images_count_more(imbalance: float, weights: str | None) -> None:
    recipe = defaults.for_folder(height=480, width=640, images=1000, imbalance=imbalance)
    assert recipe["class_weights"] == weights
    assert recipe["early_stopping"] == {"metric": "val_loss", "patience": 10}
