import resource
import subprocess
import sys
from typing import Any

import pytest

from app.admin.checks import machine
from app.admin.findings import Level
from settings import Settings

CPU: dict[str, Any] = {"threads": 2, "cuda_version": None, "cuda": [], "mps": False}
GPU = {"name": "H200", "free": 100_000_000_000, "total": 140_000_000_000}


def judge(settings: Settings, *, nvidia: bool = False, **seen: Any) -> list[tuple[Level, str]]:
    return [(one.level, one.message) for one in machine.judge(CPU | seen, settings, nvidia=nvidia)]


def test_versions() -> None:
    [found] = machine.packages()

    assert found.level is Level.ok
    assert found.message.startswith("danlu ")
    assert ", torch " in found.message


def test_limits_in_a_process_that_has_few() -> None:
    program = "from app.admin.checks import machine; print(*machine.limits(), sep='\\n')"

    def allow(count: int) -> str:
        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))

        done = subprocess.run(
            [sys.executable, "-c", program],
            preexec_fn=limit, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        return done.stdout

    assert "Only 256 files" in allow(256)
    assert "files may be open" not in allow(1024)


def test_pytorch_is_asked_in_a_process_of_its_own(settings: Settings) -> None:
    with machine.Probe() as probe:
        found = list(probe.devices(settings))

    assert found[0].level is Level.ok
    assert found[0].message.startswith("cpu (")


def test_a_probe_that_nobody_waits_for_is_ended() -> None:
    with machine.Probe() as probe:
        pass

    assert probe._process.returncode is not None


def test_a_pytorch_that_cannot_be_loaded(settings: Settings) -> None:
    with machine.Probe([sys.executable, "-c", "raise ImportError('undefined symbol')"]) as probe:
        [found] = probe.devices(settings)

    assert found.level is Level.problem
    assert found.message == "PyTorch cannot be loaded: ImportError: undefined symbol"


def test_gpus_are_told_with_their_memory(settings: Settings) -> None:
    [(level, said)] = judge(settings, cuda=[GPU], nvidia=True)

    assert level is Level.ok
    assert said == "cpu (2 threads), cuda:0 (H200, 100.0 GB of 140.0 GB free)"
    assert judge(settings, mps=True) == [(Level.ok, "cpu (2 threads), mps")]


def test_a_gpu_that_cannot_be_used(settings: Settings) -> None:
    busy = {"name": "H200", "error": "CUDA error: all devices are busy"}

    found = judge(settings, cuda=[busy], nvidia=True)

    assert [level for level, _ in found] == [Level.problem, Level.ok]
    assert "all devices are busy" in found[0][1]


@pytest.mark.parametrize(("version", "hint"), [(None, "without CUDA"), ("13.0", "nvidia-smi")])
def test_a_gpu_that_pytorch_does_not_see(
    settings: Settings, version: str | None, hint: str
) -> None:
    found = list(machine.judge(CPU | {"cuda_version": version}, settings, nvidia=True))

    assert [one.level for one in found] == [Level.ok, Level.warning]
    assert hint in found[1].hint


@pytest.mark.parametrize(
    ("device", "there"),
    [
        ("auto", True),
        ("cpu", True),
        ("cuda", True),
        ("cuda:0", True),
        ("cuda:1", False),
        ("mps", False),
    ],
)
def test_the_device_for_predictions(settings: Settings, device: str, there: bool) -> None:
    asked = Settings(home=settings.home, predict_device=device)

    found = judge(asked, cuda=[GPU])

    assert (len(found) == 1) == there
    assert there or found[1][0] is Level.problem
