"""Short ids: what a person types for a job or checkpoint, and what a table shows for it.

Knows that ids have a prefix and sort by time; asks the server which there are.
"""

from collections.abc import Callable, Iterable
from typing import Any

from danlu import pages
from danlu.client import Client
from danlu.errors import DanluError
from danlu.wire import Page

LAST = "last"
ID_LENGTH = 26  # of a ULID, after the prefix
TIME_LENGTH = 10  # of its first part, which tells milliseconds apart


def job(client: Client, typed: str) -> str:
    """Id of the job that a person means: an id, the beginning of one, or `last`.

    Raises `DanluError` (`job_not_found`, `id_ambiguous`) when it is not exactly one.
    """
    return _find(typed, "job", lambda **page: client.jobs(**page))


def checkpoint(client: Client, typed: str) -> str:
    """Id of the checkpoint that a person means; like `job`."""
    return _find(typed, "ckpt", lambda **page: client.checkpoints(**page))


def model(client: Client, typed: str) -> str:
    """What a person means by a model: a job, a checkpoint, or a name that the server knows."""
    if typed.startswith("ckpt_"):
        return checkpoint(client, typed)
    if typed.startswith("job_") or typed == LAST:
        return job(client, typed)
    return typed


def shorten(ids: Iterable[str]) -> dict[str, str]:
    """Each id cut to its time, or to what tells it from the others if that is more."""
    whole = set(ids)
    length = TIME_LENGTH + max((one.find("_") + 1 for one in whole), default=0)
    while length < ID_LENGTH + 8 and len({one[:length] for one in whole}) < len(whole):
        length += 1
    return {one: one[:length] for one in whole}


def _find(typed: str, prefix: str, page: Callable[..., Page[Any]]) -> str:
    noun = {"job": "job", "ckpt": "checkpoint"}[prefix]
    wanted = typed.removeprefix(f"{prefix}_").upper()
    if len(wanted) == ID_LENGTH:
        return f"{prefix}_{wanted}"
    if typed == LAST:
        found = [item["id"] for item in page(limit=1)["items"]]
    else:
        start = f"{prefix}_{wanted}"
        found = [item["id"] for item in pages.every(page) if item["id"].startswith(start)]
    if len(found) == 1:
        return str(found[0])
    hint = f"`danlu {noun}s` lists them."
    if found:
        detail = f"{len(found)} {noun}s begin with {typed!r}: {', '.join(found[:5])}."
        raise DanluError("id_ambiguous", detail, hint="Type more of it.")
    detail = f"There is no {noun} yet." if typed == LAST else f"No {noun} begins with {typed!r}."
    raise DanluError(f"{noun}_not_found", detail, status=404, hint=hint)
