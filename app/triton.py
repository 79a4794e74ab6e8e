"""Leaves out what our processes never use of torch. Imports nothing."""

import logging
import sys


def leave_out() -> None:
    """Torch's compiler, which comes with torchvision's networks, imports triton where it is there:
    90 MB, and pages about what it leaves behind when we end. Neither the server nor its inference
    processes compile anything.
    """
    # None makes the import fail as if triton were not installed.
    sys.modules["triton"] = None  # type: ignore[assignment]  # typeshed knows modules only
    # Warns that it counts no kernels of triton's; there are none.
    logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)
