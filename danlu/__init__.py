"""danlu's client: train image classifiers and classify images with them, over HTTP.

Knows the HTTP API and nothing else of danlu; importing it loads neither torch nor fastapi.
"""

from danlu.client import Client
from danlu.errors import DanluError

__all__ = ["Client", "DanluError"]
