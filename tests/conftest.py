"""What every test shares: quiet threads, and data sets that exist without internet."""

import os
from pathlib import Path

import pytest

# Several test processes share the cores: threads that spin for each other would stall them all.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture
def real_data() -> Path:
    """Real MNIST and CIFAR-10 as `DANLU_TEST_DATA` names their folder; skips without it."""
    folder = os.environ.get("DANLU_TEST_DATA")
    if not folder:
        pytest.skip("set DANLU_TEST_DATA to a folder with MNIST/raw and cifar10-jpeg")
    return Path(folder)
