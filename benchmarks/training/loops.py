"""The loops that danlu is compared with. None of them knows danlu, but the last: the limit.

Each trains some epochs and returns what it measured. A loop's time is its training part, from the
first batch asked for to the device having done the last step.
"""

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from benchmarks.training import cases
from benchmarks.training.cases import RATE, Case


@dataclass(slots=True)
class Measured:
    """Seconds of each epoch's training part and of its evaluation, and what was reached.

    `said` is what only danlu's job can tell of.
    """

    images: int = 0
    seconds: list[float] = field(default_factory=list)
    evaluations: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    said: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """How long and on what; `images` of the training part make an epoch, None: all."""

    data: Path
    device: str
    epochs: int
    images: int | None
    seed: int
    evaluate: bool  # after the last epoch

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if self.device == "cuda":
            torch.cuda.synchronize()


def notes(case: Case, asked: Asked, *, unpacked: bool = False) -> Measured:
    """The loop of 2.13.1: images one by one through PIL, float32, and a look at the loss, which
    waits for the device, at every step.
    """
    train = _part(cases.images(case, asked.data, train=True, unpacked=unpacked), asked)
    test = cases.images(case, asked.data, train=False, unpacked=unpacked)
    train_loader = DataLoader(train, batch_size=case.batch_size, shuffle=case.shuffle)
    test_loader = DataLoader(test, batch_size=case.batch_size)
    device = torch.device(asked.device)
    torch.manual_seed(asked.seed)
    model = cases.network(case.architecture).to(device)
    loss_fn = nn.CrossEntropyLoss().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)

    def epoch() -> None:
        model.train()
        total_loss, right = 0.0, torch.zeros((), device=device)
        for batch_index, (imgs, targets) in enumerate(train_loader):
            imgs, targets = imgs.to(device), targets.to(device)
            optimizer.zero_grad()
            outputs = model(imgs)
            loss = loss_fn(outputs, targets)
            total_loss += loss.item()
            right += (outputs.argmax(1) == targets).sum()
            loss.backward()
            optimizer.step()
            if batch_index % 100 == 0:
                sys.stderr.write(f"[{batch_index}/{len(train_loader)}] {total_loss:.6f}\n")

    return _measured(epoch, model, test_loader, asked, images=len(train))


def workers(case: Case, asked: Asked) -> Measured:
    """As torchvision's reference script trains: the same data set read by as many worker processes
    as there are cores, kept from epoch to epoch, float32, loss and accuracy read at every step.
    """
    train = _part(cases.images(case, asked.data, train=True), asked)
    test = cases.images(case, asked.data, train=False)
    reading: dict[str, Any] = {
        "num_workers": os.cpu_count() or 1,
        "pin_memory": asked.device == "cuda",
        "persistent_workers": True,
        "batch_size": case.batch_size,
    }
    train_loader = DataLoader(train, shuffle=case.shuffle, **reading)
    test_loader = DataLoader(test, **reading)
    device = torch.device(asked.device)
    torch.manual_seed(asked.seed)
    model = cases.network(case.architecture).to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)

    def epoch() -> None:
        model.train()
        total_loss = right = 0.0
        for image, target in train_loader:
            image = image.to(device, non_blocking=True)
            target = target.to(device, non_blocking=True)
            output = model(image)
            loss = criterion(output, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            right += (output.argmax(1) == target).sum().item()
            total_loss += loss.item() * len(image)

    return _measured(epoch, model, test_loader, asked, images=len(train))


def limit(case: Case, asked: Asked, *, precision: str) -> Measured:
    """Nothing but the computing of danlu's step: its network, memory layout, optimizer and
    precision, on one batch that lies ready on the device and is used again and again. As danlu's
    own it is done from a tape on the CPU, and on a GPU recorded as a CUDA graph, so that nothing
    but the device's own time counts.
    """
    from data_store import catalog
    from models_store import architectures
    from models_store import recipe as recipes
    from models_store.recipe import SubmittedRecipe
    from workers import devices, training

    if asked.device == "cpu":
        os.nice(10)  # as workers.child does
    device = torch.device(asked.device)
    body = case.recipe(precision=precision, epochs=asked.epochs, seed=asked.seed)
    facts = catalog.facts(case.dataset, asked.data)
    recipe = recipes.resolve(SubmittedRecipe.model_validate(body), facts)
    computed = devices.precision(recipe.precision, device)
    devices.set_up(computed, device)
    size = (case.side, case.side)
    plan = architectures.plan(case.architecture, channels=case.channels, size=size, classes=10)
    torch.manual_seed(asked.seed)
    network = architectures.build(plan).to(device).to(memory_format=torch.channels_last)
    run = training.Run(device, precision=computed, normalize=None, stopped=lambda: False)
    begun = training.begin(network, recipe, run, steps=1)
    inputs = torch.rand(case.batch_size, case.channels, *size, device=device)
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (case.batch_size,), device=device)
    count = len(_part(cases.images(case, asked.data, train=True), asked))
    network.train()
    do = (_recorded if asked.device == "cuda" else _replayed)(begun, run, inputs, labels)

    def epoch() -> None:
        network.train()
        for _ in range(-(-count // case.batch_size)):
            do()

    return _measured(epoch, network, None, asked, images=count)


def _replayed(begun: Any, run: Any, inputs: torch.Tensor, labels: torch.Tensor) -> Any:
    """The step as danlu does it on a CPU."""
    from workers.batches import Batch
    from workers.replays import Replaying
    from workers.steps import Prepared

    learn, batch = Replaying(), Batch(torch.arange(len(labels)))
    prepared = Prepared(inputs, labels, labels)

    def step() -> None:
        learn(begun, batch, prepared, run)
        begun.optimizer.step()

    return step


def _recorded(begun: Any, run: Any, inputs: torch.Tensor, labels: torch.Tensor) -> Any:
    """The step as one launch, after it was tried out."""
    dtype = torch.float16 if run.precision == "fp16" else torch.bfloat16

    def step() -> None:
        with torch.autocast("cuda", dtype=dtype, enabled=run.precision in ("bf16", "fp16")):
            logits = begun.network(inputs)
        loss = nn.functional.cross_entropy(logits.float(), labels)
        begun.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        begun.optimizer.step()

    for _ in range(3):
        step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def _part(whole: Any, asked: Asked) -> Subset[Any] | Any:
    if asked.images is None:
        return whole
    return Subset(whole, cases.part(len(whole), asked.images))


def _measured(epoch: Any, model: nn.Module, test: Any, asked: Asked, *, images: int) -> Measured:
    found = Measured(images=images)
    for number in range(1, asked.epochs + 1):
        asked.wait()
        began = time.perf_counter()
        epoch()
        asked.wait()
        found.seconds.append(time.perf_counter() - began)
        if test is not None and asked.evaluate and number == asked.epochs:
            began = time.perf_counter()
            found.accuracies.append(_accuracy(model, test, asked.device))
            found.evaluations.append(time.perf_counter() - began)
    return found


@torch.no_grad()
def _accuracy(model: nn.Module, loader: Any, device: str) -> float:
    model.eval()
    right = sum(_hits(model, batch, device) for batch in loader)
    return right / len(loader.dataset)


def _hits(model: nn.Module, batch: Any, device: str) -> int:
    images, targets = batch
    return int((model(images.to(device)).argmax(1) == targets.to(device)).sum())
