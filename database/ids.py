"""Makes ids that sort by time: a prefix and a ULID. Knows nothing of the rows they name."""

from datetime import datetime
from typing import Literal

from ulid import ULID


def new(prefix: Literal["job", "ckpt"]) -> str:
    """A fresh id such as `job_01K5…`; ids of one process never sort before an older one of it."""
    return f"{prefix}_{ULID()}"


def time_of(identifier: str) -> datetime:
    """When `identifier` was made, UTC, to the millisecond; `ValueError` for anything but an id."""
    return ULID.from_str(identifier.rpartition("_")[2]).datetime
