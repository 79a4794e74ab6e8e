from models_store.script.transforms import definitions, mixing, names, transforms


def text(known):
    return "\n".join(transforms(known))


def test_without_chance_there_is_one_list(known):
    found = known(transforms={"train": [{"type": "CenterCrop", "size": 24}]})

    assert names(found) == ("transform", "transform")
    assert "v2.CenterCrop(24)" in text(found)


def test_arguments_are_those_that_differ(known):
    flip, crop = {"type": "RandomHorizontalFlip"}, {"type": "RandomCrop", "padding": 2}
    others = [flip, crop, {**flip, "p": 0.3}, {"type": "RandomErasing"}]
    found = text(known(transforms={"train": others}))

    assert "v2.RandomHorizontalFlip()," in found
    assert "v2.RandomCrop((28, 28), padding=2)," in found
    assert "v2.RandomHorizontalFlip(p=0.3)," in found


def test_crops_and_flips_alone_are_done_to_whole_batches_as_in_the_job(known):
    flip, crop = {"type": "RandomHorizontalFlip"}, {"type": "RandomCrop", "padding": 2, "fill": 9}
    found = known(transforms={"train": [crop, flip]})

    augment = "\n".join(definitions(found)[-1])
    assert "v2.functional.pad(images, [2, 2, 2, 2], fill=[9])" in augment
    assert "crop(images, (28, 28), chance)" in augment
    assert "flip(images, 3, 0.5, chance)" in augment
    assert "Random" not in text(found)
    assert definitions(known()) == []


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
