"""A data set and what its import found, in words.

Knows the wire and rich; asks no server.
"""

from collections.abc import Collection, Iterator
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from danlu import screen
from danlu.wire import DataSet

_NAMED = 3  # things that a finding is shown with in a line
_LISTED = 20  # and in a list
_CLASSES = 20  # of more classes, the smallest


def in_short(found: DataSet, *, told: Collection[str] = ()) -> Group:
    """What is in it in a line, and a line or two for each finding; those of the codes in `told`
    are left out.
    """
    findings = [one for one in _findings(found) if one["code"] not in told]
    return Group(summary(found), *(line for one in findings for line in _short(one)))


def shown(found: DataSet) -> Group:
    """The same with the classes, and each finding with what it is about by name."""
    report = found.get("report")
    parts: list[Text | Table] = [summary(found)]
    if report:
        parts += [_kinds(report), _classes(report["parts"])]
    else:
        names = ", ".join(found["classes"][:_CLASSES])
        more = "" if len(found["classes"]) <= _CLASSES else " …"
        parts.append(Text(f"{names}{more}", style="dim"))
    for one in _findings(found):
        parts += [Text(), *_long(one)]
    return Group(*parts)


def summary(found: DataSet) -> Text:
    """What is in it, in a line."""
    counts = ", ".join(f"{count:,} {part}" for part, count in found["counts"].items())
    colour = "grey" if found["channels"] == 1 else "colour"
    return Text.assemble(
        (found["name"], "bold"),
        f"  {len(found['classes']):,} classes  {counts}",
        (f"  {found['width']}×{found['height']} {colour}", "dim"),
    )


def _findings(found: DataSet) -> list[dict[str, Any]]:
    report = found.get("report") or {}
    return list(report.get("findings", ()))


def _short(one: dict[str, Any]) -> Iterator[Text]:
    names = [_name(item) for item in one["items"][:_NAMED]]
    more = one["total"] - len(names)
    rest = f" and {more:,} more" if names and more > 0 else ""
    named = f": {', '.join(names)}{rest}" if names else ""
    yield Text.assemble((f"  {one['message']}", "yellow"), named)
    yield Text(f"    {one['advice']}", style="dim")


def _long(one: dict[str, Any]) -> Iterator[Text]:
    yield Text.assemble((one["message"], "yellow"), (f"  {one['advice']}", "dim"))
    for item in one["items"][:_LISTED]:
        why = item.get("message") or item.get("why") or ""
        yield Text.assemble(f"  {_name(item)}", (f"  {why}", "dim"))
    if one["items"] and one["total"] > _LISTED:
        yield Text(f"  and {one['total'] - _LISTED:,} more", style="dim")


def _name(item: dict[str, Any]) -> str:
    """What an item of a finding is about: a file, a file and its twin, several files, a class."""
    if "twin" in item:
        return f"{item['file']} = {item['twin']}"
    if "files" in item:
        return " = ".join(item["files"])
    images = f" ({item['images']:,} images)" if "images" in item else ""
    kind = f" ({item['format']})" if "format" in item else ""
    return f"{item.get('file') or item.get('class')}{kind}{images}"


def _kinds(report: dict[str, Any]) -> Text:
    """Sizes, formats and modes of the files."""
    words = [screen.size(report["bytes"])]
    if sizes := report.get("sizes"):
        words.append(f"sides from {sizes['smallest']:,} to {sizes['largest']:,} px")
    for counts in (report["formats"], report["modes"]):
        words.append(", ".join(f"{kind} {count:,}" for kind, count in counts.items()))
    return Text("  ".join(words), style="dim")


def _classes(parts: list[dict[str, Any]]) -> Table:
    """How many images each class has in each part; of many classes the smallest."""
    counts = [{one["name"]: one["images"] for one in part["classes"]} for part in parts]
    names = list(counts[0])
    title = "class"
    if len(names) > _CLASSES:
        title = f"the smallest of {len(names):,} classes"
        names = sorted(names, key=lambda name: counts[0][name])[:_CLASSES]
    table = screen.new_table(title, *(f">{part['part']}" for part in parts))
    for name in names:
        table.add_row(Text(name), *(f"{of_part.get(name, 0):,}" for of_part in counts))
    return table
