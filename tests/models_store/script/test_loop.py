from models_store.script import loop


def test_a_plain_run_has_a_plain_loop(known):
    lines = loop.train_model(known(), frozen_norm=False)

    assert lines[0] == "def train_model(model, device, loader, loss_fn, optimizer, epoch):"
    assert [line.partition("  #")[0].strip() for line in lines[5:12]] == [
        "images = images.to(device, memory_format=torch.channels_last)",
        "labels = labels.to(device)",
        "outputs = model(images)",
        "loss = loss_fn(outputs, labels)",
        "optimizer.zero_grad()",
        "loss.backward()",
        "optimizer.step()",
    ]


def test_what_a_run_uses_is_handed_over(known):
    full = known(
        {"precision": "fp16"},
        scheduler={"name": "OneCycleLR", "warmup_epochs": 1},
        max_seconds=9,
        transforms={"train": [{"type": "MixUp"}]},
    )

    assert loop.arguments(full) == ["mix", "scheduler", "warm_up", "scaler", "ends_at"]
    assert loop.arguments(known()) == []
    assert "scaler.update()" in "\n".join(loop.train_model(full, frozen_norm=False))


def test_a_frozen_backbone_keeps_its_statistics(known):
    assert "        module.eval()" in "\n".join(loop.train_model(known(), frozen_norm=True))
    assert "module.eval()" not in "\n".join(loop.train_model(known(), frozen_norm=False))


def test_images_that_do_not_count(known):
    found = "\n".join(loop.test_model(known(loss={"ignore_index": 1})))

    assert "counted = labels != 1" in found
    assert "counted" not in "\n".join(loop.test_model(known()))
