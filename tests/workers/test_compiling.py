"""A network is compiled for a step where the recipe asks for it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._inductor import config
from torch._inductor.runtime.cache_dir_utils import cache_dir

from models_store.fields import Recipe
from workers.compiling import Compiled, keep_in, ready
from workers.steps import Run


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """What was compiled is no other test's."""
    yield
    torch.compiler.reset()


@pytest.fixture
def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def failing(*_: Any) -> Callable[..., Any]:
    """A backend without a compiler."""
    raise RuntimeError("No working C++ compiler found\nand much more")


def test_batches_like_the_first_are_compiled_and_others_are_not(network: nn.Module) -> None:
    compiled_for: list[int] = []

    def backend(module: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        compiled_for.extend(len(one) for one in inputs if one.shape[1:] == (1, 4, 4))
        return module.forward

    said: list[str] = []
    compute = Compiled(network, warn=lambda code, _: said.append(code), backend=backend)
    images = torch.rand(8, 1, 4, 4)

    for count in (8, 8, 5, 8):
        assert torch.allclose(compute(images[:count]), network(images[:count]))

    assert compiled_for == [8]
    assert said == []


def test_what_cannot_be_compiled_is_trained_without(
    network: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[tuple[str, str]] = []
    compute = Compiled(network, warn=lambda *told: said.append(told), backend=failing)
    images = torch.rand(8, 1, 4, 4)

    for _ in range(2):
        compute(images).sum().backward()

    [(code, message)] = said
    assert code == "compile_unavailable"
    assert "No working C++ compiler found" in message
    assert "much more" not in message
    assert network[1].weight.grad is not None


def test_a_network_whose_way_back_cannot_be_compiled_is_trained_without(network: nn.Module) -> None:
    said: list[str] = []
    backend = aot_autograd(fw_compiler=lambda module, _: module.forward, bw_compiler=failing)
    compute = Compiled(network, warn=lambda code, _: said.append(code), backend=backend)
    images = torch.rand(8, 1, 4, 4)

    for _ in range(2):
        compute(images).sum().backward()

    assert said == ["compile_unavailable"]
    assert network[1].weight.grad is not None


def test_a_lack_of_memory_is_no_fault_of_the_compiler(network: nn.Module) -> None:
    def backend(*_: Any) -> Callable[..., Any]:
        def run(*_: Any) -> Any:
            raise MemoryError

        return run

    compute = Compiled(network, warn=pytest.fail, backend=backend)

    for _ in range(2):
        with pytest.raises(MemoryError):
            compute(torch.rand(8, 1, 4, 4))


@pytest.mark.parametrize("asked", [True, False])
def test_a_network_is_compiled_or_made_ready_for_the_cpu(asked: bool) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    run = Run(torch.device("cpu"), "fp32", None, stopped=lambda: False)

    compute = ready(network, Recipe.model_construct(compile=asked), run)

    assert isinstance(compute, Compiled) is asked
    assert (type(network[2]) is nn.MaxPool2d) is asked


def test_what_is_compiled_is_kept_where_the_job_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # what is set is gone afterwards

    with config.patch(compile_threads=2):
        keep_in(tmp_path)

        assert (cache_dir(), config.compile_threads) == (str(tmp_path), 1)
