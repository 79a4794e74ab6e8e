"""What this machine computes on, and in which precision it does so natively.

Asked in a throw-away child only: CUDA must not be touched in a process that forks.
"""

import torch

from models_store.fields import Device, Precision
from problems import Problem


def found() -> list[str]:
    """One name for each job that can train at once: every GPU, else mps, else the CPU."""
    if torch.cuda.is_available():
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        return ["mps"]
    return ["cpu"]


def choose(wanted: Device, assigned: str) -> torch.device:
    """The assigned device, or the CPU for a recipe that insists on it.

    Raises `Problem` device_unavailable when the recipe wants what this worker does not have.
    """
    if wanted == "cpu":
        return torch.device("cpu")
    device = torch.device(assigned)
    if wanted not in ("auto", device.type):
        raise Problem(
            "device_unavailable",
            f"The recipe wants {wanted}, and this worker has {assigned}.",
            hint='Use device "auto".',
        )
    return device


def computes_bf16(precision: Precision, device: torch.device) -> bool:
    """Whether to train in bf16: when asked to, or when `auto` meets hardware that has it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        has = torch.cpu.get_capabilities()
        return bool(has.get("amx_bf16") or has.get("avx512_bf16"))
    return False
