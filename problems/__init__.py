"""What can go wrong, said once: every error that a person may see has a stable code.

Libraries raise `Problem`; the server renders it as `application/problem+json`, a worker stores it
as `job.error`. Knows nothing of HTTP beyond the status number of each code.
"""

from problems.names import did_you_mean, match
from problems.problem import FieldError, Problem
from problems.registry import KINDS, Kind

__all__ = ["KINDS", "FieldError", "Kind", "Problem", "did_you_mean", "match"]
