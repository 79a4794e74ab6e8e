"""Decoded images: whether they still are what was written, and what nobody will use any more."""

import time
from collections.abc import Iterator
from pathlib import Path

from app.admin import links, screen
from app.admin.findings import Finding, fine, warning
from app.admin.record import Told
from data_store import cache, catalog
from settings import Settings

# Younger ones may be on their way.
_STALE_SECONDS = 3600.0
_MOST_TITLES = 3


def examine(settings: Settings, *, checksums: bool, told: Told) -> Iterator[Finding]:
    """Every decoded set. A damaged one is a warning: the next job that uses it mends it."""
    sets = cache.sets(settings.cache)
    total, done = sum(cache.weigh(folder) for folder in sets), 0

    def heard(count: int) -> None:
        nonlocal done
        done += count
        told("decoded images", done, total)

    whole = True
    for folder in sets:
        found = cache.fault(folder, checksums=checksums, heard=heard)
        if found and folder.exists():  # a job may have removed it meanwhile
            whole = False
            hint = (
                "The next job that uses it decodes it anew; nothing is lost. If it comes again, "
                "the disk may be failing."
            )
            yield warning("cache", f"{cache.title(folder)}: {found}.", hint)
    if whole:
        agree = ", checksums agree" if checksums else "; checksums were not compared"
        said = f"{screen.counted(len(sets), 'decoded set')}, {screen.size(total)}{agree}."
        yield fine("cache", said if sets else "Nothing has been decoded yet.")
    yield from _outdated(settings)
    yield from _cut_off(settings.cache)


def _outdated(settings: Settings) -> Iterator[Finding]:
    """Whoever changes a data set leaves what was decoded of it as it was. A job may be reading that
    still, so nothing removes it by itself.
    """
    old = cache.outdated(settings.cache, catalog.keys(settings.datasets))
    if old:
        size = screen.size(sum(cache.weigh(folder) for folder in old))
        titles = sorted({cache.title(folder) for folder in old})
        more = " …" if len(titles) > _MOST_TITLES else ""
        yield warning(
            "cache",
            f"{screen.counted(len(old), 'decoded set')}, {size}, of images as none lie in "
            f"{settings.datasets} any more: {', '.join(titles[:_MOST_TITLES])}{more}.",
            f"No job will use them. While nothing runs, all of {settings.cache} may be deleted: "
            "what is wanted is decoded anew.",
        )


def _cut_off(root: Path) -> Iterator[Finding]:
    stale = [folder for folder in cache.drafts(root) if _is_stale(folder)]
    if stale:
        size = screen.size(sum(links.weigh(folder)[1] for folder in stale))
        yield warning(
            "cache",
            f"{screen.counted(len(stale), 'folder')} in {root}, {size}, cut off.",
            "The worker removes them when it decodes next.",
        )


def _is_stale(folder: Path) -> bool:
    """Whether nothing was written to it for an hour."""
    try:
        newest = max(each.stat().st_mtime for each in (folder, *folder.iterdir()))
    except FileNotFoundError:
        return False
    return time.time() - newest > _STALE_SECONDS
