"""Makes ids that sort by time: a prefix and a ULID. Knows nothing of the rows they name."""

import re
from datetime import datetime
from typing import Literal

from ulid import ULID

_ULID = "[0-9A-HJKMNP-TV-Z]{26}"
JOB = f"^job_{_ULID}$"
CHECKPOINT = f"^ckpt_{_ULID}$"
_JOB, _CHECKPOINT = re.compile(JOB[1:-1]), re.compile(CHECKPOINT[1:-1])


def new(prefix: Literal["job", "ckpt"]) -> str:
    """A fresh id such as `job_01K5…`; ids of one process never sort before an older one of it."""
    return f"{prefix}_{ULID()}"


def is_job(text: str) -> bool:
    """Whether it looks like the id of a job."""
    return _JOB.fullmatch(text) is not None


def is_checkpoint(text: str) -> bool:
    """Whether it looks like the id of a checkpoint."""
    return _CHECKPOINT.fullmatch(text) is not None


def time_of(identifier: str) -> datetime:
    """When `identifier` was made, UTC, to the millisecond; `ValueError` for anything but an id."""
    return ULID.from_str(identifier.rpartition("_")[2]).datetime
