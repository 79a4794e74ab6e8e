"""The data of a script: torchvision's data sets, or a folder per class, and its parts."""

from collections.abc import Mapping
from typing import Any

from models_store.script.code import Lines, Raw, call, flat, statement
from models_store.script.known import BuiltIn, Folder, Known
from models_store.script.transforms import names

_DIGITS = '''\
class Digits(Dataset):
    """The handwritten digits that come with scikit-learn; every fifth one is for the test."""

    def __init__(self, train, transform):
        digits = load_digits()
        pixels = (torch.from_numpy(digits.images) * (255 / 16)).round().to(torch.uint8)
        labels = torch.from_numpy(digits.target)
        wanted = (torch.arange(len(labels)) % 5 != 0) == train
        self.pixels, self.targets, self.transform = pixels[wanted], labels[wanted], transform

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        image = Image.fromarray(self.pixels[index].numpy())
        return self.transform(image), int(self.targets[index])
'''

_LOAD = '''\
def load(path):
    """An image as it is looked at: whole, upright, and on white where it is transparent."""
    with Image.open(path) as image:
{sideways}        box = (image.draft(None, {size}) or (None, None))[1]  # a large JPEG is read small
        image.load()
    if image.mode.startswith("I"):
        image = image.point(lambda value: value / 256)  # of 16 bits the upper 8
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image{convert}.resize({size}, Image.BILINEAR, box=box)
    return ImageOps.exif_transpose(image)
'''
# A picture that is turned has its sides the other way round in the file.
_SIDEWAYS = """\
        turned = image.format != "TIFF" and image.getexif().get(0x0112, 1) > 4
        size = {lying} if turned else {upright}
"""

_FOLDER = '''\
class Folder(datasets.ImageFolder):
    """A folder of images for each class; a label is the place of its class in CLASSES."""

    def find_classes(self, directory):
        return CLASSES, {name: label for label, name in enumerate(CLASSES)}
'''

_READABLE = '''\
def is_image(path):
    """Whether it is a file that can be read, and none that an archive or a thumbnailer left."""
    path = Path(path)
    if path.name.startswith(".") or {"@eaDir", "__MACOSX"} & set(path.parts):
        return False
    try:
        load(path)
    except (OSError, SyntaxError, ValueError):
        return False
    return True
'''

_HOLD_OUT = '''\
def hold_out(positions, labels, count, seed):
    """Positions that stay and positions held out, to the image of each class the same share."""
    chance = np.random.default_rng(seed)
    found, counts = np.unique(labels[positions], return_counts=True)
    shares = counts * (count / len(positions))
    quota = np.minimum(np.floor(shares).astype(int), counts - 1)
    # What rounding left over goes to the classes that lost most by it.
    order = np.lexsort((chance.random(len(found)), -(shares - np.floor(shares))))
    while (missing := count - quota.sum()) > 0 and (room := counts - 1 - quota).any():
        quota[[one for one in order if room[one] > 0][:missing]] += 1
    out = np.zeros(len(positions), dtype=bool)
    for label, number in zip(found, quota, strict=True):
        members = np.flatnonzero(labels[positions] == label)
        out[chance.permutation(members)[:number]] = True
    return positions[~out], positions[out]
'''

_SHUFFLED = '''\
class Shuffled(Sampler):
    """All images in another order in each epoch: the orders that the job had."""

    def __init__(self, data):
        self.count, self.chance = len(data), torch.Generator().manual_seed(SEED)

    def __iter__(self):
        return iter(torch.randperm(self.count, generator=self.chance).tolist())

    def __len__(self):
        return self.count
'''


def constants(known: Known) -> Lines:
    """Where the data lies, and its classes."""
    lines: Lines = []
    if known.is_folder:
        default = "./" + known.recipe.dataset
        lines += statement(
            "DATA = ", Raw(f"Path(sys.argv[1] if sys.argv[1:] else {flat(default)})")
        )
        lines += statement("CLASSES = ", list(known.classes))
        lines.append("NUM_CLASSES = len(CLASSES)")
    else:
        if known.source != BuiltIn(None):
            lines.append('DATA = Path(sys.argv[1] if sys.argv[1:] else "./dataset")')
        lines.append(f"NUM_CLASSES = {len(known.classes)}")
    return lines


def definitions(known: Known) -> list[Lines]:
    """Classes and functions that the data needs, one block of lines each."""
    blocks: list[str] = []
    match known.source:
        case BuiltIn(reader=None):
            blocks.append(_DIGITS)
        case Folder(unusual=unusual):
            blocks.append(_load(known))
            blocks.append(_FOLDER)
            blocks += [_READABLE] if unusual else []
    if _held_out(known):
        blocks.append(_HOLD_OUT)
    if known.recipe.data_loader.shuffle:
        blocks.append(_SHUFFLED)
    return [block.splitlines() for block in blocks]


def _load(known: Known) -> str:
    height, width = known.size
    square, upright, lying = height == width, (width, height), (height, width)
    return _LOAD.format(
        sideways="" if square else _SIDEWAYS.format(upright=upright, lying=lying),
        size=upright if square else "size",
        # From colour to grey in two steps, as danlu does.
        convert='.convert("RGB")' + ('.convert("L")' if known.recipe.channels == 1 else ""),
    )


def loading(known: Known, *, normalises_batches: bool) -> Lines:
    """Statements after which `train_loader`, `val_loader` and `test_loader` are there, those that
    are needed; `labels` are those of the images that are trained on.
    """
    training, judging = names(known)
    lines = _opened("train_data", "train", training, known)
    if _needs_labels(known):
        of = "labels" if known.source == BuiltIn("SVHN") else "targets"
        lines.append(f"labels = np.asarray(train_data.{of})")
    if _held_out(known):
        lines += _parted(known, training, judging)
    if known.recipe.validation == "val":
        lines += _opened("val_data", "val", judging, known)
    if known.counts.get("test"):
        lines += _opened("test_data", "test", judging, known)
    lines += _loader("train", known, **_batches(known, normalises_batches=normalises_batches))
    if known.recipe.validation != "test":
        lines += _loader("val", known)
    if known.recipe.validation == "test" or known.judged_at_the_end:
        lines += _loader("test", known)
    return lines


def _needs_labels(known: Known) -> bool:
    return _held_out(known) or known.recipe.class_weights == "balanced"


def _held_out(known: Known) -> bool:
    """Whether some of the training images are not trained on."""
    return isinstance(known.recipe.validation, float) or known.recipe.test is not None


def _opened(name: str, part: str, transform: str, known: Known) -> Lines:
    return statement(f"{name} = ", _part(part, transform, known))


def _part(part: str, transform: str, known: Known) -> Any:
    is_train = part == "train"
    match known.source:
        case BuiltIn(reader=None):
            return call("Digits", train=is_train, transform=Raw(transform))
        case BuiltIn(reader=reader):
            which: Mapping[str, Any] = {"split": part} if reader == "SVHN" else {"train": is_train}
            where = call(f"datasets.{reader}", Raw("DATA"), **which, transform=Raw(transform))
            return call(where.function, *where.positional, **dict(where.named), download=True)
        case Folder(parts=parts, unusual=unusual):
            place = "DATA" if parts[part] == "." else f"DATA / {flat(parts[part])}"
            extra = {"is_valid_file": Raw("is_image")} if unusual else {}
            return call(
                "Folder",
                Raw(place),
                transform=Raw(transform),
                loader=Raw("load"),
                **extra,
                allow_empty=True,
            )


def _parted(known: Known, training: str, judging: str) -> Lines:
    """Of the training part: what is trained on, what chooses the best, what judges it."""
    recipe = known.recipe
    source = _part("train", judging, known)
    lines = ["kept = np.arange(len(labels))"]
    if judging == training:
        lines.append("judged_data = train_data")
    else:
        lines += ["# The same images without chance.", *statement("judged_data = ", source)]
    if recipe.test is not None:
        lines += [
            f"count = max(1, round(len(labels) * {recipe.test}))",
            "kept, out = hold_out(kept, labels, count, (SEED, 1))",
            "test_data = Subset(judged_data, out.tolist())",
        ]
    if isinstance(recipe.validation, float):
        lines += [
            f"count = max(1, round(len(labels) * {recipe.validation}))",
            "kept, out = hold_out(kept, labels, count, SEED)",
            "val_data = Subset(judged_data, out.tolist())",
        ]
    lines.append("train_data = Subset(train_data, kept.tolist())")
    if recipe.class_weights == "balanced":
        lines.append("labels = labels[kept]")
    return lines


def _batches(known: Known, *, normalises_batches: bool) -> dict[str, Any]:
    loader = known.recipe.data_loader
    said: dict[str, Any] = {"sampler": Raw("Shuffled(train_data)")} if loader.shuffle else {}
    if loader.drop_last:
        return {**said, "drop_last": True}
    single = known.trained % known.recipe.batch_size == 1
    if normalises_batches and (single or known.is_folder):
        # BatchNorm cannot normalise a single image.
        return {**said, "drop_last": Raw("len(train_data) % BATCH_SIZE == 1")}
    return said


def _loader(name: str, known: Known, **said: Any) -> Lines:
    if known.loaders:
        said |= {"num_workers": known.loaders, "persistent_workers": True}
    made = call("DataLoader", Raw(f"{name}_data"), batch_size=Raw("BATCH_SIZE"), **said)
    return statement(f"{name}_loader = ", made, depth=0)
