"""What a command on the home says when it cannot do what it was asked for."""


class Refused(Exception):
    """A stable `code`, what is wrong, what to do; `exit_code` 2: ask otherwise, 1: it failed."""

    def __init__(self, code: str, detail: str, *, hint: str, exit_code: int = 2) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.hint = hint
        self.exit_code = exit_code
