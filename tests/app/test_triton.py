"""What is left out is not there for who would import it."""

import importlib
import logging
import sys

import pytest

from app import triton


def test_it_is_as_if_it_were_not_installed(monkeypatch):
    monkeypatch.setitem(
        sys.modules, "triton", sys
    )  # what is there before is there again afterwards
    log = logging.getLogger("torch.utils.flop_counter")
    monkeypatch.setattr(log, "level", log.level)
    triton.leave_out()
    with pytest.raises(ImportError):
        importlib.import_module("triton")
