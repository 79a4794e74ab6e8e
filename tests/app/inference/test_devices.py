"""What predictions are computed with, on machines that this one is not."""

import pytest

from app.inference import devices
from app.inference.devices import Device
from settings import Settings


def device(wanted="auto", *, gpus=0, held=()):
    found = Device(wanted)
    found.gpus = gpus
    found.look(lambda: frozenset(held))
    return found()


@pytest.mark.parametrize(
    ("gpus", "held", "chosen"),
    [
        (0, [], "cpu"),
        (1, [], "cuda:0"),
        (1, ["cuda:0"], "cpu"),
        (1, ["cpu", "cuda:1"], "cuda:0"),
        (4, ["cuda:0", "cuda:1"], "cuda:3"),  # jobs take the first ones
        (2, ["cuda:1"], "cuda:0"),
        (2, ["cuda:0", "cuda:1"], "cpu"),
    ],
)
def test_a_gpu_that_no_job_holds_else_the_cpu(gpus, held, chosen):
    assert device(gpus=gpus, held=held) == chosen


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [("cpu", "cpu"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("mps", "mps")],
)
def test_what_was_asked_for_is_taken_whatever_there_is(wanted, chosen):
    assert device(wanted, gpus=1, held=["cuda:0", "cuda:1"]) == chosen


def test_jobs_come_and_go():
    found, held = Device("auto"), {"cuda:0"}
    found.look(lambda: frozenset(held))  # before it is known what there is
    found.gpus = 1
    assert found() == "cpu"
    held.clear()
    found.look(lambda: frozenset(held))
    assert found() == "cuda:0"


def test_nobody_asks_where_there_is_no_choice():
    def asked() -> frozenset[str]:
        raise AssertionError

    Device("cpu").look(asked)
    without = Device("auto")
    without.gpus = 0
    without.look(asked)


def test_settings_go_before_what_the_machine_has(tmp_path):
    asked = {"predict_processes": 3, "predict_memory_mb": 7, "predict_idle_seconds": 5}
    found = devices.bounds(Settings(home=tmp_path, predict_timeout_seconds=9, **asked))
    assert (found.processes, found.memory_bytes) == (3, 7_000_000)
    assert (found.idle_seconds, found.seconds) == (5, 9)


@pytest.mark.parametrize(("cores", "processes", "threads"), [(1, 1, 1), (2, 2, 1), (16, 4, 4)])
def test_what_the_machine_has(tmp_path, monkeypatch, cores, processes, threads):
    monkeypatch.setattr(devices, "cores", lambda: cores)
    found = devices.bounds(Settings(home=tmp_path))
    assert found.processes == processes
    assert devices.threads(processes) == threads
    assert 100_000_000 < found.memory_bytes < 1 << 50


def test_a_core_is_left_to_the_server(monkeypatch):
    monkeypatch.setattr(devices, "cores", lambda: 4)
    assert [devices.beside_server(count) for count in (1, 3, 4, 9)] == [1, 3, 3, 3]
    monkeypatch.setattr(devices, "cores", lambda: 1)
    assert devices.beside_server(1) == 1


def test_cores_are_counted():
    assert devices.cores() >= 1
