"""The named networks are lists that anybody could submit."""

import pytest
import torch

from models_store import architectures
from models_store.catalogue import ARCHITECTURES, says


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_named_network_is_its_list(name: str) -> None:
    known = ARCHITECTURES[name]
    shape = {"channels": known.channels, "size": (known.input_size,) * 2, "classes": 10}
    named = architectures.plan(name, **shape)
    own = architectures.plan(known.network.canonical(), **shape)
    assert [(row.type, row.output_shape, row.parameters) for row in named.layers] == [
        (row.type, row.output_shape, row.parameters) for row in own.layers
    ]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_is_known_by_its_name_and_by_its_list(name: str) -> None:
    assert says(name.replace("_", "-").upper(), name)
    assert says(ARCHITECTURES[name].network.canonical(), name)
    other = next(one for one in ARCHITECTURES if one != name)
    assert not says(other, name)
    assert not says(ARCHITECTURES[other].network.canonical(), name)
    assert not says(ARCHITECTURES[name].network.canonical(), "resnet18")


class TestResNetSmall:
    def test_is_compact(self) -> None:
        planned = architectures.plan("resnet_small", channels=3, size=(32, 32), classes=10)
        assert 200_000 < planned.parameters < 310_000
        assert 30e6 < architectures.flops(planned) < 60e6
        assert planned.normalises_batches

    @pytest.mark.parametrize(
        ("channels", "height", "width"), [(1, 16, 16), (3, 28, 64), (1, 64, 33)]
    )
    def test_takes_any_size(self, channels: int, height: int, width: int) -> None:
        planned = architectures.plan(
            "resnet_small", channels=channels, size=(height, width), classes=7
        )
        network = architectures.build(planned).eval()
        with torch.no_grad():
            assert network(torch.rand((2, channels, height, width))).shape == (2, 7)
