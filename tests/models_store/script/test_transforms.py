from models_store.script.transforms import mixing, names, transforms


def text(known):
    return "\n".join(transforms(known))


def test_without_chance_there_is_one_list(known):
    found = known(transforms={"train": [{"type": "CenterCrop", "size": 24}]})

    assert names(found) == ("transform", "transform")
    assert "v2.CenterCrop(24)" in text(found)


def test_arguments_are_those_that_differ(known):
    flip, crop = {"type": "RandomHorizontalFlip"}, {"type": "RandomCrop", "padding": 2}
    found = text(known(transforms={"train": [flip, crop, {**flip, "p": 0.3}]}))

    assert "v2.RandomHorizontalFlip()," in found
    assert "v2.RandomCrop((28, 28), padding=2)," in found
    assert "v2.RandomHorizontalFlip(p=0.3)," in found


def test_erasing_works_on_numbers_and_so_does_what_follows(known):
    listed = [
        {"type": "RandomErasing", "value": 0.5},
        {"type": "RandomRotation", "degrees": 9, "fill": 51, "interpolation": "bilinear"},
        {"type": "RandomHorizontalFlip"},
    ]
    found = text(known(transforms={"train": listed}))

    assert found.index("v2.ToDtype") < found.index("v2.RandomErasing(value=0.5)")
    assert "fill=0.2" in found
    assert "interpolation=v2.InterpolationMode.BILINEAR" in found


def test_what_is_normalized_and_mixed(known):
    listed = [{"type": "MixUp"}, {"type": "CutMix", "alpha": 0.5}]
    found = known(
        transforms={"train": [{"type": "RandomErasing"}, *listed]},
        normalize={"mean": [0.5], "std": [0.2]},
    )

    assert text(found).index("v2.Normalize(mean=[0.5]") < text(found).index("v2.RandomErasing()")
    assert "v2.CutMix(alpha=0.5, num_classes=NUM_CLASSES)" in "\n".join(mixing(found))
    assert mixing(known()) == []
