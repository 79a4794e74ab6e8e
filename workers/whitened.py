"""Networks that begin with what the training images are like."""

from torch import nn

from models_store import architectures, whitening
from models_store.architectures import Plan
from models_store.preprocess import to_input
from workers.batches import Samples
from workers.steps import Run

_IMAGES = 2000


def begin(network: nn.Module, planned: Plan, train: Samples, run: Run) -> None:
    """Whitens a network whose architecture asks for it, by some of the training images, evenly
    taken; others are left as they are.
    """
    if not architectures.is_whitened(planned):
        return
    index = train.index[:: max(1, len(train) // _IMAGES)][:_IMAGES]
    pixels = train.take(index).cpu()  # the same filters on every device
    whitening.begin(network, to_input(pixels, run.normalize, run.transforms))
