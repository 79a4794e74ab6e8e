"""What PyTorch does on a CPU while something is computed, written down once and done again from it.

A step of a small network is a hundred kernels, and to find out which they are takes as long each
time as many of them: layers in Python, types that autocast chooses, a graph of gradients. Knows
nothing of networks and batches.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch
from torch.utils import _python_dispatch

Given = ParamSpec("Given")
Made = TypeVar("Made")
Tape = Callable[..., tuple[torch.Tensor, ...]]

_MARK = "_name_on_tape"  # an attribute of tensors, which autograd keeps as long as the tensor
_ATEN = torch.ops.aten
_SAME = _ATEN.detach.default  # autograd's way to hold a tensor: nothing is computed
# The same kernels with the same arguments, behind a door that takes half the time to pass.
_QUICKER: dict[Any, Callable[..., Any]] = {
    _ATEN.addmm.default: torch.addmm,
    _ATEN.clone.default: torch.clone,
    _ATEN.convolution.default: torch.convolution,
    _ATEN.mm.default: torch.mm,
    _ATEN.relu.default: torch.relu,
    _ATEN.sum.dim_IntList: torch.sum,
    _ATEN.t.default: torch.Tensor.t,
    _ATEN.view.default: torch.Tensor.view,
}


class _Call(NamedTuple):
    """A line of the tape: its text, the names it reads and those it is the first to have."""

    text: str
    read: list[str]
    made: list[str]


class Recorder(_python_dispatch.TorchDispatchMode):  # type: ignore[no-untyped-call]  # as is most of torch
    """Use as a context: writes down what is computed inside it, which is done as ever.

    A tape may depend on tensors that are `given` anew each time, by name, and on those that
    `last`, as weights do. `reason` is why no tape can be made of what was seen.
    """

    def __init__(self, given: Mapping[str, torch.Tensor], lasting: Iterable[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.reason: str | None = None
        self._given = list(given)
        self._calls: list[_Call] = []
        self._space: dict[str, Any] = {}  # what the text speaks of by name, tensors excepted
        self._lasting = {id(tensor): "" for tensor in lasting}  # they are alive, so ids are theirs
        self._aside = False
        for name, tensor in given.items():
            self._mark(tensor, name)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """PyTorch's door: a kernel is to be called."""
        made = func(*args, **(kwargs or {}))
        if not self._aside and func.namespace != "profiler":
            self._note(func, args, kwargs or {}, made)
        return made

    def whole(self, function: Callable[..., Made], args: Sequence[Any]) -> Made:
        """What a function computes is one line of the tape: the call of the function itself."""
        self._aside = True
        try:
            made = function(*args)
        finally:
            self._aside = False
        self._note(function, args, {}, made)
        return made

    def tape(self, outputs: Iterable[torch.Tensor]) -> Tape | None:
        """What does it all again for tensors that are given in the order of `given`, and returns
        the `outputs`; None: there is a `reason`. Within `torch.no_grad` only.
        """
        wanted = [self._name(tensor) for tensor in outputs]
        if self.reason is not None:
            return None
        last = {name: at for at, call in enumerate(self._calls) for name in call.read + call.made}
        lines = []
        for at, call in enumerate(self._calls):
            lines.append(call.text)
            seen = {name for name in call.read + call.made if last[name] == at}
            if over := sorted(seen - {*wanted, *self._space}):
                lines.append(f"del {', '.join(over)}")  # its memory is for the next ones
        text = "\n    ".join([f"def replay({', '.join(self._given)}):", *lines])
        exec(f"{text}\n    return {', '.join(wanted)},", self._space)
        replay: Tape = self._space["replay"]
        return replay

    def _note(
        self, function: Callable[..., Any], args: Sequence[Any], options: Any, made: Any
    ) -> None:
        if self.reason is not None:
            return
        if function is _SAME:
            self._mark(made, self._name(args[0]))
            return
        function, args, options = _quicker(function, args, options)
        read: list[str] = []
        said = [self._said(value, read) for value in args]
        said += [f"{key}={self._said(value, read)}" for key, value in options.items()]
        call = f"{self._kept(function)}({', '.join(said)})"
        fresh: list[str] = []
        several = isinstance(made, tuple | list)
        names = [self._named(one, function, fresh) for one in (made if several else [made])]
        if fresh:
            call = f"{', '.join(names)}{',' * several} = {call}"
        self._calls.append(_Call(call, read, fresh))

    def _named(self, made: Any, function: Callable[..., Any], fresh: list[str]) -> str:
        """The name of what a call has made; one that had it before was changed in place."""
        if made is None:
            return "_"
        if not isinstance(made, torch.Tensor):
            self.reason = f"{function} looks at numbers"
            return "_"
        if id(made) in self._lasting or self._marked(made) is not None:
            return "_"
        name = f"t{len(self._calls)}_{len(fresh)}"
        self._mark(made, name)
        fresh.append(name)
        return name

    def _said(self, value: Any, read: list[str]) -> str:
        """An argument as the text has it."""
        if isinstance(value, torch.Tensor):
            read.append(self._name(value))
            return read[-1]
        if isinstance(value, list | tuple) and any(isinstance(v, torch.Tensor) for v in value):
            return f"[{', '.join(self._said(one, read) for one in value)}]"
        if value is None or isinstance(value, bool | int):
            return repr(value)
        return self._kept(value)

    def _kept(self, value: Any) -> str:
        name = f"k{len(self._space)}"
        self._space[name] = value
        return name

    def _name(self, tensor: torch.Tensor) -> str:
        if id(tensor) in self._lasting:
            self._lasting[id(tensor)] = self._lasting[id(tensor)] or self._kept(tensor)
            return self._lasting[id(tensor)]
        name = self._marked(tensor)
        if name is None:
            self.reason = self.reason or "it depends on a tensor that is not the network's"
        return name or "_"

    def _mark(self, tensor: torch.Tensor, name: str) -> None:
        setattr(tensor, _MARK, (self, name))

    def _marked(self, tensor: torch.Tensor) -> str | None:
        recorder, name = getattr(tensor, _MARK, (None, None))
        return name if recorder is self else None


def _quicker(
    function: Callable[..., Any], args: Sequence[Any], options: dict[str, Any]
) -> tuple[Callable[..., Any], Sequence[Any], dict[str, Any]]:
    """The same call, if there is a quicker one."""
    if function is _ATEN._to_copy.default:
        here = {"dtype": args[0].dtype, "layout": args[0].layout, "device": args[0].device}
        changed = {key for key, value in options.items() if here.get(key) != value}
        if changed == {"dtype"}:
            return torch.Tensor.to, [args[0], options["dtype"]], {}
    return _QUICKER.get(function, function), args, options


def whole(function: Callable[Given, Made]) -> Callable[Given, Made]:
    """A function whose way depends on more than its tensors, or that is faster as it stands than
    kernel by kernel: on a tape it is one call. It is only called with arguments in order.
    """

    @functools.wraps(function)
    def called(*args: Given.args, **options: Given.kwargs) -> Made:
        mode = _python_dispatch._get_current_dispatch_mode()
        if isinstance(mode, Recorder):
            assert not options
            return mode.whole(function, args)
        return function(*args, **options)

    return called
