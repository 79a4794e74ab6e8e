"""What a pickle asks for is read off, and nothing of it happens."""

import collections
import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from models_store import pickles

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def _asked(held: Any, protocol: int) -> str | None:
    return pickles.asks_for(io.BytesIO(pickle.dumps(held, protocol=protocol)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_tells_most_is_named(protocol: int, tmp_path: Path) -> None:
    state = collections.OrderedDict(a=1)
    assert _asked({"a": [1, "b.c"]}, protocol) is None
    assert _asked(state, protocol) == "collections.OrderedDict"
    assert _asked([state, _Evil(tmp_path / "a")], protocol) == f"{os.name}.mkdir"
    assert _asked(torch.nn.ReLU(), protocol) == "torch.nn.modules.activation.ReLU"
    # The module's name is on the stack already, and is remembered.
    again = [torch.nn.ReLU.__module__, state, torch.nn.ReLU, torch.nn.GELU]
    assert _asked(again, protocol) == "torch.nn.modules.activation.ReLU"
    assert _asked([collections.OrderedDict, collections.deque], protocol) == "collections.deque"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"\x80\x04hello", b"\x80\x04K", b"(dp0\nVa"])
def test_what_is_no_pickle_raises(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"pickle|opcode|bytes|newline|not enough data"):
        pickles.asks_for(io.BytesIO(data))


def test_the_next_one_of_several_is_read() -> None:
    stream = io.BytesIO(pickle.dumps(1) + pickle.dumps(collections.deque()))
    assert pickles.asks_for(stream) is None
    assert pickles.asks_for(stream) == "collections.deque"
