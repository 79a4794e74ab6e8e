"""What danlu runs on: packages, devices as PyTorch sees them, shared memory, open files."""

import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from app.admin import screen
from app.admin.findings import Finding, fine, problem, warning
from settings import Settings

PROBE = (sys.executable, "-P", "-m", "app.admin.probe")
_SHOWN = ("torch", "torchvision", "fastapi", "numpy", "pillow", "sqlalchemy")
_FEW_FILES = 1024
_SHARED, _SMALL_BYTES = Path("/dev/shm"), 512_000_000
_NVIDIA = Path("/proc/driver/nvidia/version")
_PROBE_SECONDS = 120.0


def packages() -> Iterator[Finding]:
    """The versions, and what should be installed and is not."""
    missing = [name for name in _required() if _version(name) is None]
    if missing:
        hint = "Install danlu again with all that it needs: make setup."
        yield problem("packages", f"Not installed: {', '.join(missing)}.", hint)
    shown = [f"{name} {_version(name)}" for name in _SHOWN if _version(name)]
    python = f"Python {platform.python_version()}"
    yield fine("packages", ", ".join([f"danlu {_version('danlu')}", python, *shown]))


def limits() -> Iterator[Finding]:
    """Open files, and shared memory, of which Docker gives 64 MB unless it is asked for more."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _FEW_FILES:
        hint = "Raise it: ulimit -n 4096, LimitNOFILE= of systemd, docker run --ulimit nofile=4096."
        yield warning("limits", f"Only {soft} files may be open at a time.", hint)
    if _SHARED.is_dir() and (size := shutil.disk_usage(_SHARED).total) < _SMALL_BYTES:
        hint = "Give it more: docker run --shm-size 1g, or shm_size: 1g in compose.yaml."
        yield warning("limits", f"{_SHARED} holds only {screen.size(size)}.", hint)


class Probe:
    """A process that loads PyTorch and tells what it sees, while other things are looked at."""

    def __init__(self, command: Sequence[str] = PROBE) -> None:
        self._command = command

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def devices(self, settings: Settings) -> Iterator[Finding]:
        """Waits for its answer."""
        try:
            told, errors = self._process.communicate(timeout=_PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            said = f"PyTorch did not load within {_PROBE_SECONDS:.0f} seconds."
            yield problem("devices", said, "The disk or the GPU's driver hangs: see dmesg.")
            return
        if self._process.returncode != 0:
            last = errors.decode(errors="replace").strip().rpartition("\n")[2]
            hint = "Install the pair of versions that danlu is tested with: make setup."
            yield problem("devices", f"PyTorch cannot be loaded: {last}", hint)
            return
        yield from judge(json.loads(told), settings, nvidia=_has_nvidia())


def judge(seen: dict[str, Any], settings: Settings, *, nvidia: bool) -> Iterator[Finding]:
    """The findings about what the probe saw; `nvidia`: the system knows of such a GPU."""
    names = [f"cpu ({seen['threads']} threads)"]
    for number, gpu in enumerate(seen["cuda"]):
        if "error" in gpu:
            hint = "See nvidia-smi: another program may have it for itself."
            said = f"cuda:{number} ({gpu['name']}) cannot be used: {gpu['error']}"
            yield problem("devices", said, hint)
            continue
        memory = f"{screen.size(gpu['free'])} of {screen.size(gpu['total'])} free"
        names.append(f"cuda:{number} ({gpu['name']}, {memory})")
    names += ["mps"] if seen["mps"] else []
    yield fine("devices", ", ".join(names))
    if nvidia and not seen["cuda"]:
        hint = "See that nvidia-smi works here; in Docker, run with --gpus all."
        if seen["cuda_version"] is None:
            hint = "This PyTorch is built without CUDA: make clean, then make setup."
        yield warning("devices", "There is an NVIDIA GPU that PyTorch cannot use.", hint)
    if not _is_there(settings.predict_device, seen):
        said = f"DANLU_PREDICT_DEVICE is {settings.predict_device}, which is not there."
        yield problem("devices", said, "Set it to one of the devices above, or unset it.")


def _is_there(device: str, seen: dict[str, Any]) -> bool:
    kind, _, number = device.partition(":")
    if kind == "cuda":
        return int(number or 0) < len(seen["cuda"])
    return kind in ("auto", "cpu") or bool(seen["mps"])


def _has_nvidia() -> bool:
    return _NVIDIA.exists() or os.access("/dev/nvidia0", os.F_OK)


def _required() -> list[str]:
    lines = [line for line in metadata.requires("danlu") or [] if "extra ==" not in line]
    return [found[0] for line in lines if (found := re.match(r"[\w.-]+", line))]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
