"""The client: every endpoint of a danlu server as a typed method. Synchronous, over httpx.

Knows the HTTP API; knows nothing of terminals, of rooms beneath the server, or of torch.
"""

# The server is taken at its word: what it sends has the types of danlu.wire.
# mypy: disable-error-code="no-any-return"

import json
import math
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from email.message import Message
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from danlu import environment, key, sse
from danlu import package as packages
from danlu.connection import Connection, connect, label, path_of
from danlu.errors import NO_SERVER, DanluError
from danlu.package import Package
from danlu.wire import (
    ENDED,
    Answer,
    Checkpoint,
    DataSet,
    DataSetImage,
    Event,
    History,
    Job,
    Model,
    Page,
    Plan,
    Prediction,
    Report,
)

LONGEST_WAIT = 55  # seconds that the server holds a long poll at most
MOST_FILES = 64  # images in one request
MOST_BYTES = 100_000_000  # half of what the server takes: parts are even by number, not by size
_LOOK_AGAIN_SECONDS = 0.25

# Of forms that are sent as they are made; an archive that has it is as likely as a wrong sha256.
_BOUNDARY = f"danlu-{secrets.token_hex(16)}"

Image = str | os.PathLike[str] | bytes | tuple[str, bytes]
"""An image to classify: its path, the bytes of its file, or a name and those bytes."""


class Client:
    """One danlu server. Every method raises `DanluError` when it is refused or there is no server.

    May be shared by threads, as `httpx.Client` may. `http` stands in for the connection, for
    example `httpx.Client(transport=httpx.MockTransport(...), base_url=...)` in tests. The key is
    `api_key`, else the one in the address, else `DANLU_API_KEY`; none is sent when it is empty.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        user: str | None = None,
        api_key: str | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        address, carried = key.in_address(base_url or environment.url())
        api_key = (carried or key.found()) if api_key is None else api_key
        who = user or environment.user()
        self.user = who and label(who)
        """Who owns the jobs that this makes."""
        self.asks_with_key = bool(api_key)
        """Whether a key is sent."""
        self._connection = Connection(
            http or connect(address),
            user=self.user,
            api_key=key.checked(api_key) if api_key else None,
        )

    @property
    def base_url(self) -> str:
        """Address of the server, without a slash at the end."""
        return self._connection.base_url

    def close(self) -> None:
        """Close the connections; the client cannot be used after that."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Training

    def train(
        self, recipe: Mapping[str, Any] | str, *, once: str | None = None, **fields: Any
    ) -> Job:
        """Queue a training job; `{"dataset": "mnist"}`, or just `"mnist"`, is enough.

        `fields` go before those of `recipe`. `once`, any text of your own, makes it safe to call
        this again with the same recipe: no second job is made. Returns at once.
        """
        headers = {} if once is None else {"Idempotency-Key": once}
        body = _recipe(recipe, fields)
        return self._connection.json("POST", "/train", json=body, headers=headers)

    def plan(self, recipe: Mapping[str, Any] | str, **fields: Any) -> Plan:
        """What `train` would do: the resolved recipe, the layers, the steps. Makes no job."""
        body = _recipe(recipe, fields)
        return self._connection.json("POST", "/train", json=body, params={"dry_run": True})

    def jobs(
        self,
        *,
        state: str | Sequence[str] = (),
        active: bool | None = None,
        kind: str | None = None,
        owner: str | None = None,
        dataset: str | None = None,
        tag: str | None = None,
        sort: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[Job]:
        """Jobs, newest first unless `sort` says otherwise; without their checkpoints.

        `state` is one, or several.
        """
        params = {
            "state": (state if isinstance(state, str) else ",".join(state)) or None,
            "active": active,
            "kind": kind,
            "owner": owner,
            "dataset": dataset,
            "tag": tag,
            "sort": sort,
            "limit": limit,
            "cursor": cursor,
        }
        return self._connection.json("GET", "/jobs", params=params)

    def job(self, job_id: str, *, wait: int | None = None) -> Job:
        """One job; `wait` holds the answer until it has ended, at most that many seconds."""
        timeout = httpx.Timeout(wait + 15.0) if wait else None
        path = path_of("jobs", job_id)
        return self._connection.json("GET", path, params={"wait": wait}, timeout=timeout)

    def wait(
        self, job_id: str, *, timeout_seconds: float = math.inf, patience_seconds: float = 30.0
    ) -> Job:
        """The job once it has ended; as it is after `timeout_seconds` if it has not.

        As patient with a server that is away as `watch`, but not beyond `timeout_seconds`.
        """
        deadline = time.monotonic() + timeout_seconds
        patience = _Patience(patience_seconds)
        while True:
            left = max(0.0, deadline - time.monotonic())
            try:
                job = self.job(job_id, wait=math.ceil(min(left, LONGEST_WAIT)))
            except DanluError as error:
                if not patience.bears(error) or time.monotonic() >= deadline:
                    raise
                time.sleep(_LOOK_AGAIN_SECONDS)
            else:
                patience.renew()
                if job["state"] in ENDED or time.monotonic() >= deadline:
                    return job

    def watch(
        self,
        job_id: str,
        *,
        interval_seconds: float = _LOOK_AGAIN_SECONDS,
        patience_seconds: float = 30.0,
    ) -> Iterator[Job]:
        """The job again and again, the last time when it has ended.

        A server that is away (being restarted, say) for less than `patience_seconds` is waited for.
        """
        patience = _Patience(patience_seconds)
        while True:
            try:
                job = self.job(job_id)
            except DanluError as error:
                if not patience.bears(error):
                    raise
            else:
                patience.renew()
                yield job
                if job["state"] in ENDED:
                    return
            time.sleep(interval_seconds)

    def history(
        self, job_id: str, *, since: str | None = None, max_points: int | None = None
    ) -> History:
        """Curves of a job; `since` is the `next` of an earlier answer."""
        params = {"since": since, "max_points": max_points}
        return self._connection.json("GET", path_of("jobs", job_id, "history"), params=params)

    def logs(self, job_id: str) -> str:
        """What the job wrote, as text."""
        return self._connection.send("GET", path_of("jobs", job_id, "logs")).text

    def script(self, job_id: str) -> str:
        """The run as one plain PyTorch file."""
        return self._connection.send("GET", path_of("jobs", job_id, "script")).text

    def events(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """What happens to the job, as it happens, from event number `after` on, until its end.

        A connection that breaks is not made again: go on with the last event's `id`.
        """
        headers = {"Last-Event-ID": str(after)} if after else {}
        path = path_of("jobs", job_id, "events")
        # Comments come every 15 s.
        timeout = httpx.Timeout(45.0, connect=5.0)
        with self._connection.stream("GET", path, headers=headers, timeout=timeout) as response:
            yield from sse.parse(response.iter_lines())

    def plot(self, job_id: str) -> bytes:
        """The curves of the job as a PNG."""
        return self._connection.send("GET", path_of("jobs", job_id, "plot.png")).content

    def cancel(self, job_id: str, *, finish: bool = False) -> Job:
        """Cancel a job: a queued one at once, a running one as soon as its worker hears of it.

        `finish`: let it end after this epoch instead, and succeed with what there is.
        """
        path = path_of("jobs", job_id, "cancel")
        return self._connection.json("POST", path, json={"finish": True} if finish else None)

    def resume(self, job_id: str, *, epochs: int | None = None) -> Job:
        """Go on with a job that failed or was cancelled; with more `epochs`, with any ended one."""
        body = {} if epochs is None else {"epochs": epochs}
        return self._connection.json("POST", path_of("jobs", job_id, "resume"), json=body)

    def change(self, job_id: str, **changes: Any) -> Job:
        """Give a job another `name`, `tags` or `priority`."""
        return self._connection.json("PATCH", path_of("jobs", job_id), json=changes)

    def delete_job(self, job_id: str) -> None:
        """Delete a job that has ended, with its checkpoints."""
        self._connection.send("DELETE", path_of("jobs", job_id))

    # Checkpoints

    def checkpoints(
        self, *, job: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> Page[Checkpoint]:
        """Checkpoints, newest first; of one job if `job` is given."""
        params = {"job": job, "limit": limit, "cursor": cursor}
        return self._connection.json("GET", "/checkpoints", params=params)

    def checkpoint(self, checkpoint_id: str) -> dict[str, Any]:
        """The manifest of a checkpoint: network, classes, preprocessing, recipe, metrics."""
        return self._connection.json("GET", path_of("checkpoints", checkpoint_id))

    def report(self, checkpoint_id: str) -> Report:
        """What the best checkpoint of a job that has ended is worth."""
        return self._connection.json("GET", path_of("checkpoints", checkpoint_id, "report"))

    def confusion(self, checkpoint_id: str) -> bytes:
        """Its confusion matrix as a PNG."""
        path = path_of("checkpoints", checkpoint_id, "confusion.png")
        return self._connection.send("GET", path).content

    def mistakes(self, checkpoint_id: str) -> bytes:
        """The images that it was surest about and wrong, as a PNG."""
        path = path_of("checkpoints", checkpoint_id, "mistakes.png")
        return self._connection.send("GET", path).content

    def download(
        self, checkpoint_id: str, *, to: str | os.PathLike[str] = ".", format: str | None = None
    ) -> Path:
        """Save a checkpoint (`safetensors`, `pt`; `onnx` or `bundle` once exported) and return the
        path of the file.

        `to` is a folder, where the file gets the server's name for it, or a path. The file is
        whole or not there.
        """
        path = path_of("checkpoints", checkpoint_id, "download")
        with self._connection.stream("GET", path, params={"format": format}) as response:
            target = _target(Path(to), response.headers, checkpoint_id)
            partial = target.with_name(f".{target.name}.part")
            with partial.open("wb") as file:
                for chunk in response.iter_bytes():
                    file.write(chunk)
            return partial.rename(target)

    def export(self, checkpoint_id: str, format: str) -> Job:
        """Have `onnx` or `bundle` made; `download` gives it once the job has succeeded."""
        path = path_of("checkpoints", checkpoint_id, "exports")
        return self._connection.json("POST", path, json={"format": format})

    def import_checkpoint(
        self,
        file: str | os.PathLike[str],
        *,
        architecture: str | Mapping[str, Any],
        classes: Sequence[str],
        input: str | Mapping[str, Any],
    ) -> Checkpoint:
        """Bring in weights that were trained elsewhere: a state_dict, as `.pth` or `.safetensors`.

        `architecture` is a name or a list of layers, `input` is `1x28x28` or says more.
        """
        fields = {"architecture": architecture, "input": input, "classes": list(classes)}
        data = {k: v if isinstance(v, str) else json.dumps(v) for k, v in fields.items()}
        with Path(file).open("rb") as opened:
            files = {"file": (Path(file).name, opened)}
            # Others may be before it; each is read in a process of its own.
            timeout = httpx.Timeout(600.0)
            return self._connection.json(
                "POST", "/checkpoints", data=data, files=files, timeout=timeout
            )

    def delete_checkpoint(self, checkpoint_id: str) -> None:
        """Delete a checkpoint and its files."""
        self._connection.send("DELETE", path_of("checkpoints", checkpoint_id))

    # Aliases

    def models(self, *, limit: int | None = None, cursor: str | None = None) -> Page[Model]:
        """The aliases, by name."""
        params = {"limit": limit, "cursor": cursor}
        return self._connection.json("GET", "/models", params=params)

    def model(self, alias: str) -> Model:
        """What an alias points at, and what it pointed at before."""
        return self._connection.json("GET", path_of("models", alias))

    def point(self, alias: str, checkpoint: str) -> Model:
        """Point an alias at a checkpoint, or at the best so far of a job; returns when the
        checkpoint is loaded and answers.
        """
        target = {"checkpoint": checkpoint}
        # It may be large, and the disk slow.
        timeout = httpx.Timeout(120.0)
        return self._connection.json("PUT", path_of("models", alias), json=target, timeout=timeout)

    def delete_model(self, alias: str) -> None:
        """Delete an alias; the checkpoint stays."""
        self._connection.send("DELETE", path_of("models", alias))

    # Predicting

    def predict(
        self,
        *images: Image,
        model: str | None = None,
        top_k: int | None = None,
        threshold: float | None = None,
    ) -> Answer:
        """Classify images, any number of them; one prediction for each, in order.

        `model` is an alias or the id of a checkpoint or job, None the server's choice. A single
        image that cannot be read raises `DanluError`; among several it has an `error` of its own.
        """
        params = {"model": model, "top_k": top_k, "threshold": threshold}
        predictions: list[Prediction] = []
        answer: Answer | None = None
        for batch in _batches(images):
            files = [("file", _part(image)) for image in batch]
            answer = self._connection.json("POST", "/predict", params=params, files=files)
            predictions += answer["predictions"]
            # All batches are for one model, also when a newer one is ready in between.
            params["model"] = answer["checkpoint_id"]
        if answer is None:
            raise DanluError("no_file", "There is no image to classify.", hint="Give at least one.")
        return {**answer, "predictions": predictions, "model": model or answer["model"]}

    # What there is

    def datasets(self, *, limit: int | None = None, cursor: str | None = None) -> Page[DataSet]:
        """The data sets that can be trained on."""
        params = {"limit": limit, "cursor": cursor}
        return self._connection.json("GET", "/datasets", params=params)

    def dataset(self, name: str) -> DataSet:
        """One data set."""
        return self._connection.json("GET", path_of("datasets", name))

    def add_dataset(
        self,
        source: str | os.PathLike[str] | Package,
        *,
        name: str | None = None,
        replace: bool = False,
        merge: bool = False,
        progress: Callable[[int], object] = lambda _: None,
    ) -> Job:
        """Send a folder or an archive, and get the job that makes a data set of it.

        Called as it is called on this disk unless `name` says otherwise. A name that other content
        has is refused, unless `replace` or `merge` says what becomes of that. `progress` is told of
        each piece that was sent by its bytes.
        """
        package = source if isinstance(source, Package) else packages.of(Path(source), name=name)
        name = name or package.name
        if replace or merge:
            return self._connection.upload(
                *("PUT", path_of("datasets", name), _counted(package.pieces(), progress)),
                size=package.size,
                params={"merge": merge or None},
            )
        head, tail = _form(name, package.path.name)
        pieces = chain([head], _counted(package.pieces(), progress), [tail])
        return self._connection.upload(
            *("POST", "/datasets", pieces),
            size=len(head) + package.size + len(tail),
            kind=f"multipart/form-data; boundary={_BOUNDARY}",
        )

    def delete_dataset(self, name: str) -> None:
        """Delete a data set of one's own, with what was decoded of it."""
        self._connection.send("DELETE", path_of("datasets", name))

    def samples(self, name: str, *, split: str | None = None) -> bytes:
        """Some images of each class of a data set, as one PNG."""
        path = path_of("datasets", name, "samples.png")
        return self._connection.send("GET", path, params={"split": split}).content

    def dataset_images(
        self,
        name: str,
        *,
        split: str | None = None,
        label: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[DataSetImage]:
        """Images of one part (`train`, `val`, `test`) of a data set; of one class if asked."""
        params = {"split": split, "class": label, "limit": limit, "cursor": cursor}
        return self._connection.json("GET", path_of("datasets", name, "images"), params=params)

    def image(self, image: DataSetImage) -> bytes:
        """The file of one image of a data set."""
        # Below a path it begins with it, as our address of the server does.
        below = urlsplit(self._connection.base_url).path
        return self._connection.send("GET", image["url"].removeprefix(below)).content

    def architectures(
        self, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[dict[str, Any]]:
        """The networks that can be trained."""
        params = {"limit": limit, "cursor": cursor}
        return self._connection.json("GET", "/architectures", params=params)

    def recipes(
        self, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[dict[str, Any]]:
        """The ready-made recipes."""
        params = {"limit": limit, "cursor": cursor}
        return self._connection.json("GET", "/recipes", params=params)

    def system(self) -> dict[str, Any]:
        """Home, versions, devices, memory, disk, queue and processes of the server."""
        return self._connection.json("GET", "/system")

    def ready(self, *, timeout_seconds: float = 5.0) -> dict[str, Any]:
        """What `/readyz` says; raises `DanluError` while the server is not ready."""
        return self._connection.json("GET", "/readyz", timeout=httpx.Timeout(timeout_seconds))


class _Patience:
    """With a server that is away, from the first question on that it left unanswered: the one
    before may have been a long poll.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None

    def renew(self) -> None:
        """The server has answered."""
        self._since = None

    def bears(self, error: DanluError) -> bool:
        """Whether to ask again after this error."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        return error.code == NO_SERVER and now - self._since < self._seconds


def _counted(pieces: Iterable[bytes], progress: Callable[[int], object]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        progress(len(piece))


def _form(name: str, filename: str) -> tuple[bytes, bytes]:
    """What comes before and after the file in a form: the name first, so that it is judged before
    the file is sent.
    """
    quoted = filename.replace("\\", "_").replace('"', "%22")
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="name"\r\n\r\n{name}\r\n'
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{quoted}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return head.encode("utf-8", "replace"), f"\r\n--{_BOUNDARY}--\r\n".encode()


def _target(to: Path, headers: httpx.Headers, checkpoint_id: str) -> Path:
    """Where to save a download; never outside of the folder, whatever name the server gives."""
    if not to.is_dir():
        return to
    header = Message()
    header["content-disposition"] = headers.get("content-disposition", "")
    return to / (Path(header.get_filename() or "").name or checkpoint_id)


def _batches(images: Sequence[Image]) -> Iterator[Sequence[Image]]:
    """Parts that the server takes, of even sizes: none has a single image unless all do."""
    total = sum(map(_bytes, images))
    count = max(math.ceil(len(images) / MOST_FILES), min(total // MOST_BYTES + 1, len(images)))
    for i in range(count):
        yield images[i * len(images) // count : (i + 1) * len(images) // count]


def _recipe(recipe: Mapping[str, Any] | str, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {**({"dataset": recipe} if isinstance(recipe, str) else recipe), **fields}


def _bytes(image: Image) -> int:
    if isinstance(image, bytes):
        return len(image)
    return len(image[1]) if isinstance(image, tuple) else Path(image).stat().st_size


def _part(image: Image) -> tuple[str, bytes, str]:
    if isinstance(image, bytes):
        image = ("image", image)
    if not isinstance(image, tuple):
        path = Path(image)
        image = (path.name, path.read_bytes())
    name, content = image
    return (label(name), content, "application/octet-stream")
