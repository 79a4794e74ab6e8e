"""What a pickle asks for when it is unpickled, read off without doing it.

Torch-free. Reading one takes the memory and the time that the file says: do it under limits.
"""

import pickletools
import re
from collections import deque
from collections.abc import Iterator
from typing import IO

_TEXTS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"}
_PUTS = {"BINPUT", "LONG_BINPUT", "PUT"}
_GETS = {"BINGET", "LONG_BINGET", "GET"}
# In every pickle of tensors or objects: what else is asked for says more of what it holds.
_USUAL = re.compile(
    r"collections\.OrderedDict|torch\._utils\..*|torch\.storage\..*|torch\.\w+Storage"
    r"|copy_?reg\._reconstructor|(builtins|__builtin__)\.object"
)


def asks_for(stream: IO[bytes]) -> str | None:
    """The class or function that tells most of what is in the next pickle; None if it asks for
    nothing. Raises ValueError, and whatever pickletools runs into, for what is no pickle.
    """
    found = list(dict.fromkeys(_names(stream)))
    rare = (name for name in found if not _USUAL.fullmatch(name))
    return next(rare, found[0] if found else None)


def _names(stream: IO[bytes]) -> Iterator[str]:
    """Everything asked for, as `module.name`, in order."""
    texts: deque[str] = deque(maxlen=2)  # the last ones on the stack
    remembered: dict[int, str] = {}
    count, last = 0, ""
    for opcode, argument, _ in pickletools.genops(stream):
        text = ""
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(texts)
        elif opcode.name in _TEXTS:
            text = str(argument)
        elif opcode.name in _GETS:
            text = remembered.get(int(str(argument)), "")
        elif opcode.name == "MEMOIZE" or opcode.name in _PUTS:
            remembered[count if argument is None else int(argument)] = last
            count += 1
        if text:
            texts.append(text)
        last = text
