"""A page whose sections are made by several programs, each of which renews its own.

A section begins with a line `## …`; what is before the first one is the introduction.
"""

from pathlib import Path

HEADING = "## "


def renew(page: Path, text: str) -> None:
    """Writes the sections of `text` in place of those of the same headings, new ones at the end;
    its introduction too, where it has one. The other sections stay as they are.
    """
    present = sections(page.read_text("utf-8")) if page.exists() else {}
    made = sections(text)
    if not made[""].strip():
        del made[""]
    whole = present | made
    page.write_text("\n".join(one.rstrip() + "\n" for one in whole.values()), encoding="utf-8")


def sections(text: str) -> dict[str, str]:
    """By heading, in order; "" is the introduction."""
    found = {"": ""}
    heading = ""
    for line in text.splitlines(keepends=True):
        if line.startswith(HEADING):
            heading = line.strip()
        found[heading] = found.get(heading, "") + line
    return found
