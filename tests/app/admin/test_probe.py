import json
import subprocess
import sys

import torch

from app.admin import probe


def test_what_pytorch_sees() -> None:
    seen = probe.look()

    assert seen["threads"] == torch.get_num_threads()
    assert len(seen["cuda"]) == torch.cuda.device_count()
    assert seen["mps"] == torch.backends.mps.is_available()


def test_it_prints_json_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "app.admin.probe"],
        capture_output=True,
        timeout=100,
        check=True,
    )

    assert set(json.loads(done.stdout)) == {"threads", "cuda_version", "cuda", "mps"}
