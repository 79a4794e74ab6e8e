import os

import pytest
import torch

from problems import Problem
from workers import devices


def test_a_machine_without_accelerator_has_its_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    assert devices.found() == ["cpu"]


def test_each_gpu_is_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)

    assert devices.found() == ["cuda:0", "cuda:1", "cuda:2"]


def test_apples_gpu_is_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)

    assert devices.found() == ["mps"]


@pytest.mark.parametrize(
    ("wanted", "assigned", "chosen"),
    [
        ("auto", "cpu", "cpu"),
        ("auto", "cuda:1", "cuda:1"),
        ("auto", "mps", "mps"),
        ("cuda", "cuda:1", "cuda:1"),
        ("mps", "mps", "mps"),
        ("cpu", "cpu", "cpu"),
        ("cpu", "cuda:1", "cpu"),
    ],
)
def test_the_assigned_device_is_taken_unless_the_recipe_insists_on_the_cpu(
    wanted: devices.Device, assigned: str, chosen: str
) -> None:
    assert devices.choose(wanted, assigned) == torch.device(chosen)


@pytest.mark.parametrize(("wanted", "assigned"), [("cuda", "cpu"), ("mps", "cuda:0")])
def test_a_device_that_is_not_here_is_refused(wanted: devices.Device, assigned: str) -> None:
    with pytest.raises(Problem, match=f"wants {wanted}, and the worker has {assigned}") as raised:
        devices.choose(wanted, assigned)

    assert raised.value.code == "device_unavailable"


@pytest.mark.parametrize("device", ["cpu", "cuda:0", "mps"])
def test_a_precision_that_is_asked_for_is_taken(device: str) -> None:
    assert devices.precision("bf16", torch.device(device)) == "bf16"
    assert devices.precision("fp32", torch.device(device)) == "fp32"


@pytest.mark.parametrize("wanted", ["tf32", "fp16"])
def test_some_precisions_need_cuda(wanted: devices.Precision) -> None:
    assert devices.precision(wanted, torch.device("cuda:0")) == wanted
    with pytest.raises(Problem, match=f"wants {wanted}, which needs a CUDA GPU") as raised:
        devices.precision(wanted, torch.device("cpu"))

    assert raised.value.code == "device_unavailable"


def test_a_cpu_is_not_set_up() -> None:
    before = torch.backends.cuda.matmul.fp32_precision
    devices.set_up("tf32", torch.device("cpu"))

    assert torch.backends.cuda.matmul.fp32_precision == before


@pytest.mark.usefixtures("undone")
def test_what_is_to_be_repeated_is_told_to_pytorch_and_cublas() -> None:
    devices.repeat_to_the_bit()

    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.deterministic
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.is_deterministic_algorithms_warn_only_enabled()


@pytest.mark.usefixtures("undone")
@pytest.mark.parametrize(
    ("device", "deterministic", "tries"),
    [("cuda:0", False, True), ("cuda:0", True, False), ("cpu", False, False)],
)
def test_cudnn_looks_for_its_fastest_way_unless_it_must_repeat_itself(
    device: str, deterministic: bool, tries: bool
) -> None:
    devices.set_up("bf16", torch.device(device), deterministic=deterministic)

    assert torch.backends.cudnn.benchmark is tries


@pytest.mark.parametrize(
    ("capabilities", "bf16"),
    [
        ({"amx_bf16": True, "avx512_bf16": False}, True),
        ({"avx512_bf16": True}, True),
        ({"avx2": True}, False),
        ({}, False),
    ],
)
def test_auto_takes_bf16_where_the_cpu_has_it(
    capabilities: dict[str, bool], bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)

    expected = "bf16" if bf16 else "fp32"
    assert devices.precision("auto", torch.device("cpu")) == expected


@pytest.mark.parametrize("native", [True, False])
def test_auto_takes_bf16_where_the_gpu_has_it_natively(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda *, including_emulation: native or including_emulation,
    )

    expected = "bf16" if native else "fp32"
    assert devices.precision("auto", torch.device("cuda")) == expected


def test_auto_is_fp32_elsewhere() -> None:
    assert devices.precision("auto", torch.device("mps")) == "fp32"


@pytest.mark.parametrize("gpu", [torch.device("cuda:1"), torch.device("cuda")])
def test_of_a_gpu_no_more_is_free_than_the_share_of_this_process(
    gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: dict[int, float] = {}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (600, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 100)
    monkeypatch.setattr(
        torch.cuda,
        "set_per_process_memory_fraction",
        lambda share, device: shares.update({device: share}),
    )
    monkeypatch.setattr(
        torch.cuda, "get_per_process_memory_fraction", lambda device: shares[device]
    )
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    devices.bound(torch.device("cpu"), 0.5)
    assert shares == {}

    devices.bound(gpu, 0.5)
    assert devices.free(gpu) == 400  # of the 500 that are its own
    devices.bound(gpu, 1.0)
    assert devices.free(gpu) == 600
    assert set(shares) == {1}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
@pytest.mark.parametrize("gpu", [torch.device("cuda:0"), torch.device("cuda")])
def test_a_process_runs_out_of_its_share_of_a_real_gpu(gpu: torch.device) -> None:
    total = torch.cuda.mem_get_info(gpu)[1]
    devices.bound(gpu, 0.05)
    try:
        assert devices.free(gpu) <= 0.05 * total
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(int(0.06 * total), dtype=torch.uint8, device=gpu)
    finally:
        devices.bound(gpu, 1.0)


@pytest.mark.gpu
def test_the_real_gpus_are_found() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA here")

    assert devices.found()[0] == "cuda:0"
    assert devices.choose("auto", "cuda:0").type == "cuda"
