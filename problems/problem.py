"""The one exception that carries a code, a message for people and a hint of what to do."""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

from problems.registry import KINDS


class FieldError(TypedDict):
    """One wrong field: where it is (`["body", "optimizer", "lr"]`) and what is wrong with it."""

    loc: list[str | int]
    msg: str


class ProblemDict(TypedDict):
    """A problem as it is stored in a job row and shown beside a file that failed."""

    code: str
    message: str
    hint: str
    errors: NotRequired[list[FieldError]]


class Problem(Exception):
    """Something that a person must be told: `code` is a key of `problems.KINDS`.

    Raises `KeyError` when the code is not registered, so a typing error cannot reach the wire.
    """

    def __init__(
        self, code: str, detail: str, *, hint: str | None = None, errors: Sequence[FieldError] = ()
    ) -> None:
        super().__init__(detail)
        self.kind = KINDS[code]
        self.code = code
        self.detail = detail
        self.hint = hint if hint is not None else self.kind.hint
        self.errors = list(errors)

    @property
    def status(self) -> int:
        """HTTP status of this code."""
        return self.kind.status

    def as_dict(self) -> ProblemDict:
        """`{code, message, hint}` and `errors` when a field is to blame."""
        shown: ProblemDict = {"code": self.code, "message": self.detail, "hint": self.hint}
        if self.errors:
            shown["errors"] = self.errors
        return shown

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process borders by pickling their args; ours need all four.
        return _rebuild, (self.code, self.detail, self.hint, self.errors)


def _rebuild(code: str, detail: str, hint: str, errors: list[FieldError]) -> Problem:
    return Problem(code, detail, hint=hint, errors=errors)
