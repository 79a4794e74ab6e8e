import ast

from models_store import script


def test_a_script_has_only_what_its_job_uses(known):
    plain = script.write(known())
    rich = script.write(
        known(
            optimizer="Muon",
            loss="MSELoss",
            scheduler={"name": "OneCycleLR", "warmup_epochs": 1},
            early_stopping={"patience": 3},
            clip_grad_norm=1.0,
            grad_accumulation=2,
            max_seconds=60,
            compile=True,
        )
    )

    for word in (
        "WarmUp",
        "MuonAndAdamW",
        "one_hot",
        "PATIENCE",
        "CLIP",
        "ACCUMULATION",
        "time",
        ".compile(",
    ):
        assert word not in plain
        assert word in rich
    for text in (plain, rich):
        ast.parse(text)
        assert text.startswith('"""job_1 of danlu as one plain PyTorch file.\n')
        assert text.endswith("\n")


def test_the_batch_of_several_devices_is_one_devices_there(known):
    text = script.write(known(devices=4, batch_size=64))

    assert "BATCH_SIZE = 64  # shared by 4 devices there; here one has all of it" in text


def test_imports_stand_in_order(known):
    text = script.write(known())

    block = text.split('"""')[2].strip().split("\n\n\n")[0].splitlines()
    assert block[:5] == [
        *("import sys", "from pathlib import Path", ""),
        *("import numpy as np", "import torch"),
    ]
    assert "from PIL import Image, ImageOps" in block
    assert "from sklearn.datasets import load_digits" not in block


def test_the_test_part_is_measured_once_at_the_end(known):
    last = script.write(known()).splitlines()[-1]
    chosen = script.write(known(validation="test")).splitlines()[-1]

    assert last == '    test_model(model, device, test_loader, loss_fn, "Test")'
    assert chosen == '    print(f"Best Accuracy:{best[0]:.4f}")'


def test_the_device_of_the_recipe(known):
    assert 'device = torch.device("cpu")' in script.write(known(device="cpu"))
    assert "torch.cuda.is_available()" in script.write(known())
    assert "fp32_precision" in script.write(known({"precision": "tf32"}))
