from models_store import script
from models_store.script import data


def text(lines):
    return "\n".join(lines)


def test_a_folder_without_parts(known):
    flat = known({"source": script.Folder({"train": "."}), "counts": {"train": 60}})

    found = text(data.loading(flat, normalises_batches=False))

    assert "train_data = Folder(DATA, transform=transform, loader=load, allow_empty=True)" in found
    assert "count = max(1, round(len(labels) * 0.2))" in found
    assert "hold_out(kept, labels, count, SEED)" in found
    assert "test" not in found


def test_a_name_is_data_and_not_code(known):
    evil = '"); import os; os.system("x'
    found = known(
        {"classes": (evil, "b"), "source": script.Folder({"train": evil, "test": "test"})}
    )

    lines = [*data.constants(found), *data.loading(found, normalises_batches=False)]

    compiled = compile(text(lines), "x", "exec")
    assert "os" not in compiled.co_names
    assert any(evil in str(constant) for constant in compiled.co_consts)


def test_digits_need_no_folder(known):
    digits = known({"source": script.BuiltIn(None)})

    assert data.constants(digits) == ["NUM_CLASSES = 3"]
    assert "class Digits(Dataset):" in data.definitions(digits)[0]


def test_svhn_names_its_parts_in_another_way(known):
    svhn = known({"source": script.BuiltIn("SVHN")})

    found = text(data.loading(svhn, normalises_batches=False))

    assert 'datasets.SVHN(DATA, split="train", transform=transform, download=True)' in found
    assert "np.asarray(train_data.labels)" in found


def test_what_is_said_of_batches(known):
    built_in = {"source": script.BuiltIn("MNIST")}
    single = known({**built_in, "counts": {"train": 61, "test": 1}}, batch_size=12, validation=0.2)

    def loader(of, *, normalises):
        found = text(data.loading(of, normalises_batches=normalises))
        return found.partition("train_loader = ")[2].partition("val_loader")[0]

    assert "drop_last=len(train_data) % BATCH_SIZE == 1" in loader(single, normalises=True)
    assert "drop_last" not in loader(single, normalises=False)
    assert "drop_last" not in loader(known(built_in, batch_size=12), normalises=True)
    steady = known(data_loader={"shuffle": False, "drop_last": True})
    assert loader(steady, normalises=True).startswith(
        "DataLoader(train_data, batch_size=BATCH_SIZE, drop_last=True)"
    )
