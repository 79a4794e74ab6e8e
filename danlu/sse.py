"""Server-sent events from lines of text, as the HTML standard has them (section 9.2.6).

Knows the events of danlu, whose data is JSON; knows no connection.
"""

import json
from collections.abc import Iterable, Iterator

from danlu.wire import Event


def parse(lines: Iterable[str]) -> Iterator[Event]:
    """The events among the lines; comments and what is cut off at the end are left out."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            again = name == "data" and name in fields
            fields[name] = f"{fields[name]}\n{value}" if again else value
            continue
        if "data" in fields:
            data = json.loads(fields["data"])
            yield Event(id=int(fields["id"]), type=fields.get("event", "message"), data=data)
        fields = {}
