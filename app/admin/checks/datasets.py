"""Which data sets are there, how large they are, and which folders cannot be trained on."""

from collections.abc import Iterator
from pathlib import Path

from app.admin import links, screen
from app.admin.findings import Finding, fine, warning
from data_store import catalog, readers
from data_store.built_in import SETS
from problems import Problem
from settings import Settings


def examine(settings: Settings) -> Iterator[Finding]:
    """One line for all that can be trained on, one for each that cannot."""
    root, found = settings.datasets, []
    if not root.is_dir():
        yield fine("datasets", f"There are none of your own yet; they go into {root}.")
        return
    for name in SETS:
        files = [file for file in readers.files(name, root) if file.is_relative_to(root)]
        if files and catalog.facts(name, root).available:
            size = sum(file.stat().st_size for file in files if file.exists())
            found.append(f"{name} ({screen.size(size)})")
    for path in _own(root):
        try:
            facts = catalog.facts(path.name, root)
        except Problem as problem:
            yield warning("datasets", problem.detail, problem.hint)
            continue
        images = screen.counted(sum(facts.counts.values()), "image")
        found.append(f"{facts.name} ({images}, {screen.size(links.weigh(path)[1])})")
    yield fine("datasets", ", ".join(found) if found else f"There are none in {root} yet.")


def _own(root: Path) -> list[Path]:
    """Folders that may be data sets, without those that built-in sets are unpacked into."""
    of_built_in = {
        file.relative_to(root).parts[0]
        for name in SETS
        for file in readers.files(name, root)
        if file.is_relative_to(root)
    }
    return [
        path
        for path in sorted(root.glob("[!.]*"))
        if path.is_dir() and path.name not in of_built_in
    ]
