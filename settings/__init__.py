"""The DANLU_* variables, read once by each program; libraries get what they need as arguments."""

from settings.settings import Settings, what_is_wrong

__all__ = ["Settings", "what_is_wrong"]
