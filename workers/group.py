"""The processes that share each batch of one training, as one of them sees them.

Each has the network, the optimizer and the schedule, computes its part of every batch, and moves
its weights by gradients that were added up over all; so all have the same weights at every step.
Knows nothing of jobs, nor of how the processes are started and watched.
"""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import distributed, nn
from torch.distributed import FileStore  # type: ignore[attr-defined]  # torch does not say so

from workers.losses import Loss

if TYPE_CHECKING:
    from workers.batches import Batch

_VARIABLES = os.environ  # noqa: TID251 - gloo and NCCL read it there, they are no settings
_YES, _NO = b"\1", b"\0"
# Who is gone is noticed by who watches the processes, within milliseconds; a timer would only end
# what waits for good reason, such as a slow disk.
_FOREVER = timedelta(days=1)
# Time for that to be noticed, before an error that only follows from it is raised.
_NOTICED_SECONDS = 10.0
# Numbers that are added up at once: enough to be fast, and little memory beside the network.
_BUCKET = 2**24

Share = float | torch.Tensor | None


class Group:
    """The place `rank` among `size` processes, of which number 0 leads: what it decides, all do.

    Alone, as everything on one device is, it computes nothing and waits for nobody.
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        *,
        words: Sequence[Connection] = (),
        alike: bool = True,
    ) -> None:
        """`words` lead to the others, or to who leads. With `alike` all draw the same numbers for
        a whole batch, as one device would; else each draws its own, for its part alone.
        """
        self.rank, self.size = rank, size
        self._words = words
        self._alike = alike
        self._threads: int | None = None

    def join(self, device: torch.device, folder: Path) -> None:
        """Waits for all others, who come to the same `folder`, where no other group has met."""
        interface = "lo" if sys.platform == "linux" else "lo0"
        for library in ("GLOO", "NCCL"):  # nobody outside of this machine is to be reached
            _VARIABLES[f"{library}_SOCKET_IFNAME"] = interface
        if device.type == "cuda":
            torch.cuda.set_device(device)
        store = FileStore(str(folder / "meeting"), self.size)
        store.set_timeout(_FOREVER)
        distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=store,
            rank=self.rank,
            world_size=self.size,
            timeout=_FOREVER,
        )
        self._add_up(torch.zeros(1, device=device))  # what the first sum sets up is set up now

    def share_cores(self) -> None:
        """Takes no more threads than are its part, until it leaves."""
        if self.size > 1 and self._threads is None:
            self._threads = torch.get_num_threads()
            torch.set_num_threads(max(1, self._threads // self.size))

    def leave(self) -> None:
        """Who leads goes on alone; the others have nothing left to do."""
        self.rank, self.size, self._words = 0, 1, ()
        if self._threads is not None:
            torch.set_num_threads(self._threads)

    def agree(self, flag: bool) -> bool:
        """The `flag` of who leads, for all. All call it, in the same order."""
        if self.size == 1:
            return flag
        if self.rank != 0:
            return self._words[0].recv_bytes() == _YES
        try:
            for words in self._words:
                words.send_bytes(_YES if flag else _NO)
        except OSError:
            self._bereaved()
            raise
        return flag

    def divide(
        self, batch: "Batch", labels: torch.Tensor, loss: Loss, *, mixed: bool, least: int
    ) -> "Batch":
        """What is done of a batch here: which of its images are prepared, from which of these is
        learnt, and what that counts for in the whole. No part has fewer images than `least`: there
        may be none for the last ones. `labels` are those of all images.
        """
        if self.size == 1:
            return batch
        first, parts = 0, self._parts(batch.index, least)
        if self.rank < len(parts):
            shares = loss.shares([labels[part] for part in parts], mixed=mixed)
            batch = replace(batch, share=_product(batch.share, shares[self.rank]))
        if self._alike:
            first = sum(map(len, parts[: self.rank]))
        count = len(parts[self.rank]) if self.rank < len(parts) else 0
        here = slice(first, first + count)
        return replace(batch, index=self.prepared(batch.index, least), here=here)

    def prepared(self, index: torch.Tensor, least: int) -> torch.Tensor:
        """The images of a batch (n,) that are prepared here: all, or those of the part. Where that
        is empty it is one image: nothing cannot be prepared.
        """
        if self._alike:
            return index
        parts = self._parts(index, least)
        return parts[self.rank] if self.rank < len(parts) else index[:1]

    def _parts(self, index: torch.Tensor, least: int) -> tuple[torch.Tensor, ...]:
        return index.tensor_split(max(1, min(self.size, len(index) // least)))

    def part(self, index: torch.Tensor) -> torch.Tensor:
        """Of images (n,) to judge, those that are judged here: the others judge the rest."""
        return index.tensor_split(self.size)[self.rank]

    @torch.no_grad()
    def add_gradients(self, network: nn.Module) -> None:
        """Those of all parts together become everybody's."""
        if self.size == 1:
            return
        trained = [weight for weight in network.parameters() if weight.requires_grad]
        # Whoever had images has a gradient of all that the network uses, and who had none of none.
        idle = all(weight.grad is None for weight in trained)
        for bucket in _buckets(trained):
            total = torch.cat([_gradient(weight).reshape(-1) for weight in bucket])
            self._add_up(total)
            pieces = torch.split(total, [weight.numel() for weight in bucket])
            for weight, piece in zip(bucket, pieces, strict=True):
                if idle:
                    weight.grad = torch.empty_like(weight)
                if weight.grad is not None:
                    weight.grad.copy_(piece.view_as(weight))

    @torch.no_grad()
    def average_buffers(self, network: nn.Module) -> None:
        """What BatchNorm knows of the images, from its parts here, becomes the mean over all."""
        if self.size == 1:
            return
        for buffer in network.buffers():
            if buffer.is_floating_point():
                self._add_up(buffer)
                buffer.div_(self.size)

    def sum(self, totals: torch.Tensor) -> torch.Tensor:
        """Over all."""
        if self.size == 1:
            return totals
        summed = totals.clone()
        self._add_up(summed)
        return summed

    def _add_up(self, tensor: torch.Tensor) -> None:
        try:
            distributed.all_reduce(tensor)
        except RuntimeError:
            self._bereaved()
            raise

    def _bereaved(self) -> None:
        """Somebody is gone: who watches ends this process meanwhile, and says why."""
        time.sleep(_NOTICED_SECONDS)


def _buckets(weights: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """In order, as many at a time as fit."""
    bucket: list[nn.Parameter] = []
    filled = 0
    for weight in weights:
        if bucket and filled + weight.numel() > _BUCKET:
            yield bucket
            bucket, filled = [], 0
        bucket.append(weight)
        filled += weight.numel()
    if bucket:
        yield bucket


def _gradient(weight: nn.Parameter) -> torch.Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight.grad


def _product(one: Share, other: Share) -> Share:
    """None stands for 1."""
    if one is None or other is None:
        return other if one is None else one
    return one * other
