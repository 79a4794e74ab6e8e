"""What this machine computes on, and in which precision it does so natively.

Asked in a throw-away child only: CUDA must not be touched in a process that forks.
"""

import os

import torch

from models_store import misfits, reduced
from models_store.fields import Computed, Device, Precision
from workers import heap

_VARIABLES = os.environ  # noqa: TID251 - cuBLAS reads it there, it is no setting


def found() -> list[str]:
    """One name for each job that can train at once: every GPU, else mps, else the CPU."""
    if torch.cuda.is_available():
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        return ["mps"]
    return ["cpu"]


def cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose(wanted: Device, assigned: str) -> torch.device:
    """The assigned device, or the CPU for a recipe that insists on it.

    Raises `Problem` device_unavailable when the recipe wants what this worker does not have.
    """
    if wanted == "cpu":
        return torch.device("cpu")
    device = torch.device(assigned)
    if wanted not in ("auto", device.type):
        raise misfits.no_device(wanted, assigned)
    return device


def precision(wanted: Precision, device: torch.device) -> Computed:
    """What to train in: what was asked for, or for `auto` bf16 where the hardware has it.

    Raises `Problem` device_unavailable for tf32 and fp16 on anything but CUDA.
    """
    if wanted in misfits.NEED_CUDA and device.type != "cuda":
        raise misfits.no_precision(wanted, str(device))
    if wanted != "auto":
        return wanted
    return "bf16" if reduced.is_native(device) else "fp32"


def bound(device: torch.device, share: float) -> None:
    """This process takes no more than a share of a GPU's memory, and runs out of it then."""
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(share, _number(device))


def free(device: torch.device) -> int:
    """Bytes of a GPU that this process may still take, which may be less than are free there."""
    left, total = torch.cuda.mem_get_info(device)
    share = torch.cuda.get_per_process_memory_fraction(_number(device))
    return min(left, int(share * total) - torch.cuda.memory_reserved(device))


def _number(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


def make_ready(device: str) -> None:
    """Has the device do what every training begins with: on a GPU its context is made, kernels are
    loaded, and so are the libraries of matrix products and convolutions. No random number is drawn.
    """
    image = torch.ones(1, 1, 8, 8, device=device)
    seen = torch.nn.functional.conv2d(image, image)
    (image[0, 0] @ image[0, 0] + seen[0, 0]).sum().item()  # waits until it is done


def repeat_to_the_bit() -> None:
    """For the whole process: one machine gives the same bits again. Before CUDA is touched, since
    cuBLAS reads its variable then. What cannot be computed so raises RuntimeError.
    """
    _VARIABLES["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True


def set_up(computed: Computed, device: torch.device, *, deterministic: bool = False) -> None:
    """For the whole process: products of float32 are rounded to TensorFloat-32, or they are not,
    where PyTorch alone would round those of convolutions; cuDNN tries which of its ways is the
    fastest, unless each run must take the same; on the CPU memory is kept for the next step.
    """
    if device.type == "cpu":
        heap.keep()
    torch.backends.cudnn.benchmark = device.type == "cuda" and not deterministic
    if device.type == "cuda" and computed in ("fp32", "tf32"):
        rounding = "tf32" if computed == "tf32" else "ieee"
        torch.backends.cuda.matmul.fp32_precision = rounding
        torch.backends.cudnn.conv.fp32_precision = rounding  # type: ignore[attr-defined]
