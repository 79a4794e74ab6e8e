"""`danlu train ./folder`: from pictures on this disk to a model, and the lines that use it.

Knows the client and the other commands' ways; what a recipe may say is the server's to judge.
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from danlu import command, environment, key, recipe, screen, sending
from danlu import package as packages
from danlu.client import Client
from danlu.errors import DanluError
from danlu.package import Package
from danlu.wire import DataSet, Job

_SPECIAL = '";,\\'  # to curl, in the name of a file


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was typed: a folder or archive, a name for it, and what differs from the defaults."""

    path: Path
    name: str | None
    settings: Sequence[str]
    follow: bool


def of_ones_own(client: Client, wanted: Wanted, *, dry_run: bool, as_json: bool) -> None:
    """Imports what is not on the server yet, trains on it, and says how to go on.

    Raises `DanluError`; exits when a job fails, and at Ctrl-C.
    """
    package = packages.of(wanted.path, name=wanted.name)
    submitted = _recipe(package, wanted)
    there = sending.existing(client, package.name)
    if dry_run:
        _dry_run(client, package, there, submitted, as_json=as_json)
        return
    replace = there is not None and _is_ours(client, there)
    sending.send(client, package, replace=replace, quiet=as_json)
    job = client.train(submitted)
    if not wanted.follow:
        told = Text.assemble(
            job["id"], " is ", screen.state(job), "; see it with: danlu watch last"
        )
        command.show(job, told, as_json=as_json)
        return
    job = command.follow(client, job["id"], as_json=as_json)
    if not as_json:
        _go_on(screen.console(), client, package, job)


def _recipe(package: Package, wanted: Wanted) -> dict[str, object]:
    stray = next((word for word in wanted.settings if "=" not in word), None)
    if stray is not None:
        raise typer.BadParameter(f"{stray!r} is no setting; settings look like epochs=3")
    if any(word.partition("=")[0] == "dataset" for word in wanted.settings):
        raise typer.BadParameter("a folder is its own dataset; --as names it")
    try:
        return recipe.build([f"dataset={json.dumps(package.name)}", *wanted.settings])
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _dry_run(
    client: Client,
    package: Package,
    there: DataSet | None,
    submitted: dict[str, object],
    *,
    as_json: bool,
) -> None:
    """A plan needs the images on the server."""
    if there is None:
        hint = f"Send it first: danlu datasets add {shlex.quote(package.name)} {package.path}"
        detail = f"The server has no data set {package.name!r} yet to plan with."
        raise DanluError("dataset_unknown", detail, hint=hint)
    plan = client.plan(submitted)
    command.show(plan, screen.plan(plan), as_json=as_json)


def _is_ours(client: Client, there: DataSet) -> bool:
    """Whether the set came from an import of the same owner, who means this folder by its name;
    anybody else's is left alone.
    """
    job_id = there.get("job_id")
    if job_id is None:
        return False
    try:
        return client.job(job_id)["owner"] == (client.user or "anonymous")
    except DanluError:  # the job was deleted
        return False


def _go_on(console: Console, client: Client, package: Package, job: Job) -> None:
    script = f"{package.name}.py".replace("/", "_")
    lines = (
        ("Classify an image with it:", curl(client, package, job)),
        (
            "The training as one PyTorch file:",
            f"{shlex.quote(environment.command())} script {job['id']} > {shlex.quote(script)}",
        ),
    )
    console.print()
    for what, line in lines:
        console.print(Text(what, style="bold"))
        # As it is, to be copied: neither wrapped nor taken for markup.
        console.print(Text(f"  {line}"), soft_wrap=True)


def perhaps_a_folder(error: DanluError, what: str) -> DanluError:
    """The error, with a hint where a bare word names no data set but a folder here."""
    if error.code == "dataset_unknown" and Path(what).is_dir():
        error.hint = f"The folder here is meant? danlu train ./{shlex.quote(what)}"
    return error


def curl(client: Client, package: Package, job: Job) -> str:
    """The line that classifies an image with the model of this job; it works as it is.

    The image is one of the folder; of an archive, one that the server hands out.
    """
    address = shlex.quote(f"{client.base_url}/predict?model={job['id']}")
    auth = f' -H "Authorization: Bearer {key.in_shell()}"' if client.asks_with_key else ""
    image = package.example()
    if image is None:
        page = client.dataset_images(package.name, limit=1)
        url = shlex.quote(f"{client.base_url}{page['items'][0]['url']}")
        return f"curl -s{auth} {url} | curl{auth} -F file=@- {address}"
    return f"curl{auth} -F {shlex.quote(_form_file(image))} {address}"


def _form_file(image: Path) -> str:
    path = str(image)
    if not set(path) & set(_SPECIAL):
        return f"file=@{path}"
    quoted = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'file=@"{quoted}"'
