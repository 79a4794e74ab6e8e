"""The DANLU_* variables, read once by each program; libraries get what they need as arguments."""

from settings.settings import Settings

__all__ = ["Settings"]
