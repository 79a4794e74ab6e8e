"""The one exception of the client: what a server refused, or that there is no server.

Knows the fields of `application/problem+json` but not how they travel.
"""

from collections.abc import Sequence

from danlu.wire import FieldError

NO_SERVER = "no_server"
"""Code of everything that kept a danlu server from answering: none there, too slow, not danlu."""


class DanluError(Exception):
    """What went wrong, with a stable `code` to act on and a `hint` of what to do.

    `status` is the HTTP status, None where no danlu server answered (`code` is `no_server` then)
    or where the client itself saw the mistake. `errors` names each wrong field.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        status: int | None = None,
        hint: str | None = None,
        errors: Sequence[FieldError] = (),
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.status = status
        self.hint = hint
        self.errors = list(errors)
