"""What is served, to whom, and what is promised of it.

Knows nothing of how it is measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.serving import networks, pictures

CONNECTIONS = [1, 8, 32, 128]
# What each is, in the order of the table.
CONTENDERS = {
    "danlu": "`danlu serve` with one checkpoint, as it comes",
    "plain (def)": "FastAPI, PyTorch and Pillow as people write them: a `def` endpoint, which "
    "runs in a pool of threads",
    "plain (async def)": "the same as an `async def` endpoint, which blocks the event loop",
    "litserve": "LitServe with batches: at most 32, a wait of 2 ms, decoding in its worker, two "
    "processes that listen, ZeroMQ; the best of the settings tried",
    "echo": "FastAPI with an endpoint that takes the upload and does nothing: the ceiling",
    "bare": "no server: plain PyTorch in a loop, at its best batch size and layout of memory",
}


@dataclass(frozen=True, slots=True)
class Case:
    """A network and an image; `ours` are danlu's servers with their settings, by name. `bare`: the
    network alone in a loop is measured too. Measured for `seconds` after `warm_seconds`.
    """

    network: str
    picture: str
    ours: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: {"danlu": {}})
    bare: bool = False
    seconds: int = 3
    warm_seconds: int = 1


CASES = {
    "small": Case(networks.CIFAR10, pictures.SMALL),
    "large": Case(networks.CIFAR10, pictures.LARGE),
    "resnet18": Case(
        networks.RESNET18,
        pictures.PHOTO,
        {
            "danlu bf16": {"PREDICT_PRECISION": "bf16"},
            "danlu fp32": {"PREDICT_PRECISION": "fp32"},
        },
        bare=True,
        seconds=5,
        warm_seconds=2,
    ),
}


@dataclass(frozen=True, slots=True)
class Promise:
    """Of a case at so many connections: the quantity of `first`, divided by that of `second`, is at
    least, or at most, `bound`; None: it is only shown. A network alone has no connections.
    """

    case: str
    connections: int
    first: tuple[str, str]  # contender and quantity
    second: tuple[str, str]
    bound: float | None = None
    least: bool = True

    def kept(self, ratio: float) -> bool | None:
        """None where nothing is promised."""
        if self.bound is None:
            return None
        return ratio >= self.bound if self.least else ratio <= self.bound

    def limit(self) -> str:
        """In words."""
        return f"at {'least' if self.least else 'most'} {self.bound:.2f}" if self.bound else ""


PROMISES = [
    Promise("small", 32, ("danlu", "rate"), ("plain (def)", "rate"), 5.0),
    Promise("small", 32, ("danlu", "rate"), ("litserve", "rate"), 5.0),
    Promise("small", 32, ("danlu", "rate"), ("echo", "rate"), 0.5),
    Promise("small", 32, ("danlu", "p99_ms"), ("plain (def)", "p50_ms"), 1.0, least=False),
    Promise("small", 32, ("danlu", "p99_ms"), ("litserve", "p50_ms"), 1.0, least=False),
    Promise("small", 32, ("danlu", "p99_ms"), ("plain (async def)", "p50_ms")),
    Promise("small", 1, ("danlu", "p50_ms"), ("plain (def)", "p50_ms"), 1.0, least=False),
    Promise("small", 1, ("danlu", "p50_ms"), ("plain (async def)", "p50_ms")),
    Promise("large", 32, ("danlu", "rate"), ("plain (def)", "rate"), 2.2),
    Promise("large", 32, ("danlu", "rate"), ("litserve", "rate"), 2.2),
    Promise("large", 1, ("danlu", "p50_ms"), ("plain (def)", "p50_ms"), 1.0, least=False),
    Promise("large", 1, ("danlu", "p50_ms"), ("plain (async def)", "p50_ms")),
    Promise("resnet18", 32, ("danlu bf16", "rate"), ("bare bf16", "rate"), 0.75),
    Promise("resnet18", 32, ("danlu fp32", "rate"), ("bare fp32", "rate"), 0.88),
]
