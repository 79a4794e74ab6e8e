"""Aliases: names that point at checkpoints, can be pointed elsewhere, and remember what they
pointed at.

Knows nothing of files, nor of what is loaded.
"""

from collections import defaultdict
from collections.abc import Collection
from datetime import UTC, datetime

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from database.pages import Page, cursor_to, place_of
from database.tables import Alias, Checkpoint, Pointing
from problems import Problem, did_you_mean, match

# So many of the latest are shown; all are kept.
SHOWN = 50
DEFAULT = "default"  # what is meant where no model is named
_SORT = "alias"


def point(session: Session, name: str, checkpoint_id: str, *, by: str) -> Alias:
    """Points an alias, new or not, at a checkpoint; where it points there already nothing changes.

    The checkpoint cannot go until the commit, and then not as long as it is pointed at. Raises
    `Problem` checkpoint_not_found, and parity_failed for one that does not serve as it was trained.
    """
    found = select(Checkpoint).where(Checkpoint.id == checkpoint_id).with_for_update()
    row = session.scalars(found.execution_options(populate_existing=True)).one_or_none()
    if row is None:
        raise Problem("checkpoint_not_found", f"There is no checkpoint {checkpoint_id[:80]!r}.")
    if row.parity is False:
        raise Problem(
            "parity_failed",
            f"Served from its file, {checkpoint_id} gives other labels than it did in training.",
            errors=[{"loc": ["body", "checkpoint"], "msg": "does not serve as it was trained"}],
        )
    present = session.get(Alias, name, populate_existing=True, with_for_update=True)
    if present is not None and present.checkpoint_id == checkpoint_id:
        return present
    _set(session, name, row, by=by)
    return get(session, name)


def get(session: Session, name: str) -> Alias:
    """The alias of exactly this name. Raises `Problem` model_not_found, with what was perhaps meant
    and what there is.
    """
    row = session.get(Alias, name, populate_existing=True)
    if row is None:
        raise _not_found(name, names(session))
    return row


def meant(session: Session, name: str) -> Alias:
    """The alias that `name` means, minding neither case nor `-` and `_`. Raises as `get` does."""
    return get(session, match(name, names(session)) or name)


def names(session: Session) -> list[str]:
    """Of all aliases, in order."""
    return list(session.scalars(select(Alias.name).order_by(Alias.name)))


def find(session: Session, *, limit: int = 50, cursor: str | None = None) -> Page[Alias]:
    """A page of aliases, by name; Problem invalid_request for a cursor of another list."""
    found = select(Alias).order_by(Alias.name).limit(limit + 1)
    if cursor is not None:
        found = found.where(Alias.name > place_of(cursor, _SORT)[1])
    rows = list(session.scalars(found))
    more = len(rows) > limit
    return Page(rows[:limit], cursor_to(_SORT, (None, rows[limit - 1].name)) if more else None)


def remove(session: Session, name: str) -> None:
    """Forgets an alias; what it pointed at is known again when it comes back. Raises `Problem`
    model_not_found.
    """
    gone = delete(Alias).where(Alias.name == name).returning(Alias.name)
    if session.scalar(gone.execution_options(synchronize_session=False)) is None:
        raise _not_found(name, names(session))


def history(session: Session, aliases: Collection[str]) -> dict[str, list[Pointing]]:
    """The latest SHOWN things that each of these aliases was pointed at, newest first."""
    rank = func.row_number().over(partition_by=Pointing.alias, order_by=Pointing.id.desc())
    ranked = select(Pointing, rank.label("rank")).where(Pointing.alias.in_(aliases)).subquery()
    latest = aliased(Pointing, ranked)
    found = select(latest).where(ranked.c.rank <= SHOWN).order_by(latest.id.desc())
    told: dict[str, list[Pointing]] = defaultdict(list)
    for row in session.scalars(found):
        told[row.alias].append(row)
    return told


def pointing_at(session: Session, checkpoint_ids: Collection[str]) -> dict[str, list[str]]:
    """Those of the checkpoints that aliases point at, each with their names."""
    found = select(Alias).where(Alias.checkpoint_id.in_(checkpoint_ids)).order_by(Alias.name)
    told: dict[str, list[str]] = defaultdict(list)
    for row in session.scalars(found):
        told[row.checkpoint_id].append(row.name)
    return told


def refuse_if_pointed_at(session: Session, checkpoint_ids: Collection[str]) -> None:
    """Raises `Problem` checkpoint_in_use when an alias points at one of them; until the commit none
    will be pointed there.
    """
    held = select(Checkpoint.id).where(Checkpoint.id.in_(checkpoint_ids)).with_for_update()
    session.execute(held)
    for checkpoint_id, pointing in pointing_at(session, checkpoint_ids).items():
        raise Problem(
            "checkpoint_in_use",
            f"{checkpoint_id} is what {', '.join(pointing)} points at.",
            hint=f"Point it elsewhere first: PUT /models/{pointing[0]}, or DELETE it.",
        )


def release(session: Session, checkpoint_id: str) -> None:
    """Forgets the aliases that point at a checkpoint which is lost."""
    session.execute(delete(Alias).where(Alias.checkpoint_id == checkpoint_id))


def _set(session: Session, name: str, checkpoint: Checkpoint, *, by: str) -> None:
    """Writes what the alias points at from now on, and that it did."""
    now = datetime.now(UTC)
    said = {"updated_at": now, "updated_by": by}
    moved = update(Alias).where(Alias.name == name).values(checkpoint_id=checkpoint.id, **said)
    moved = moved.returning(Alias.name).execution_options(synchronize_session=False)
    if session.scalar(moved) is None:
        try:
            with session.begin_nested():
                made = insert(Alias).values(name=name, checkpoint_id=checkpoint.id, **said)
                session.execute(made)
        except IntegrityError:  # another made it just now: the later one counts
            session.execute(moved)
    session.add(Pointing(alias=name, checkpoint_id=checkpoint.id, job_id=checkpoint.job_id, **said))
    session.flush()


def _not_found(name: str, known: Collection[str]) -> Problem:
    return Problem(
        "model_not_found", f"There is no model {name[:80]!r}.", hint=did_you_mean(name, known)
    )
