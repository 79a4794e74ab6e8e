"""A hundred trained checkpoints, and requests that are spread over all: are labels right, and does
memory stay under the budget?

The checkpoints are one trained network whose classes are in another order in each, so that every
one has labels of its own for the same image.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import cycle, islice

import httpx
import torch

from benchmarks.memory import Curve, anonymous_mb
from benchmarks.serving import networks, pictures, servers
from benchmarks.serving.memory import held
from benchmarks.serving.networks import State
from benchmarks.serving.plain import Model
from benchmarks.serving.rounds import Plan
from benchmarks.serving.servers import Server
from benchmarks.training.table import word

COUNT, REQUESTS, CONNECTIONS = 100, 3_000, 32
BUDGET_MB = 30  # of the setting: about half of these models
# One process, since a second one's own memory would be taken for that of models.
_SETTINGS = {"PREDICT_MEMORY_MB": f"{BUDGET_MB}", "PREDICT_PROCESSES": "1"}
_IMAGES, _UNSURE = 40, 0.05


def measure(plan: Plan) -> tuple[bool, str]:
    """Whether all is as promised, and the text."""
    checkpoint = networks.checkpoint(networks.CIFAR10, plan.data, plan.work)
    model = Model(checkpoint)
    chance = random.Random(0)
    orders = [chance.sample(range(10), 10) for _ in range(COUNT)]

    def change(place: int, state: State) -> State:
        return _reordered(state, orders[place])

    home = plan.work / "homes" / "hundred"
    made = networks.home(home, [checkpoint] * COUNT, change)
    images = _sure(model, pictures.some(plan.data, _IMAGES))
    right = {
        (one, place): model.classes[order.index(index)]
        for one, order in zip(made, orders, strict=True)
        for place, (_, index) in enumerate(images)
    }
    with servers.danlu("danlu", home, settings=_SETTINGS) as server:
        server.wait().ask(images[0][0])
        # Under the same load, so that what computing takes is there already.
        of_one = {asked: label for asked, label in right.items() if asked[0] == made[0]}
        wrong = asyncio.run(_ask(server, [data for data, _ in images], of_one, chance))
        whole, of_models = held(server), _of_models(server)
        with Curve(lambda: held(server)) as both, Curve(lambda: _of_models(server)) as models:
            wrong += asyncio.run(_ask(server, [data for data, _ in images], right, chance))
    grown = models.most() - of_models
    good = not wrong and grown <= BUDGET_MB
    return good, (
        f"{REQUESTS:,} requests over {CONNECTIONS} connections, each for one of {COUNT} "
        f"checkpoints by chance. Wrong labels or failed: {dict(wrong) or 'none'}: "
        f"{word(not wrong)}. Memory of the inference process with one model {of_models:.0f} MB, at "
        f"most {grown:.0f} MB more, where `DANLU_PREDICT_MEMORY_MB={BUDGET_MB}` allows {BUDGET_MB} "
        f"MB: {word(grown <= BUDGET_MB)}. With the server itself {whole:.0f} MB, at most "
        f"{both.most() - whole:.0f} MB more.\n"
    )


def _of_models(server: Server) -> float:
    """Private anonymous memory of the processes that have models loaded, in MB."""
    return sum(anonymous_mb(pid) for pid, role in server.said().items() if role == "predictor")


def _reordered(state: State, order: Sequence[int]) -> State:
    """The same network, whose output number i is what number order[i] was."""
    last = max(
        (key for key in state if key.endswith(".weight")), key=lambda key: int(key.split(".")[1])
    ).removesuffix(".weight")
    index = torch.tensor(order)
    moved = {key: state[key][index] for key in (f"{last}.weight", f"{last}.bias")}
    return {**state, **moved}


def _sure(model: Model, images: Sequence[bytes]) -> list[tuple[bytes, int]]:
    """Those whose class is beyond doubt, with its number."""
    told = [(image, model.classify(image)["top"]) for image in images]
    return [
        (image, model.classes.index(top[0]["label"]))
        for image, top in told
        if top[0]["probability"] - top[1]["probability"] > _UNSURE
    ]


async def _ask(
    server: Server,
    images: Sequence[bytes],
    right: Mapping[tuple[str, int], str],
    chance: random.Random,
) -> Counter[str]:
    """What was wrong, counted."""
    # Each checkpoint as often as every other, in an order by chance.
    chosen = chance.sample(asked := list(islice(cycle(right), REQUESTS)), len(asked))
    waiting = iter(chosen)
    wrong: Counter[str] = Counter()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as http:

        async def one_after_another() -> None:
            for checkpoint, place in waiting:
                response = await http.post(
                    "/predict",
                    params={"model": checkpoint},
                    files={"file": ("image.jpg", images[place], "image/jpeg")},
                )
                if response.status_code != 200:
                    wrong[f"status {response.status_code}"] += 1
                elif response.json()["predictions"][0]["label"] != right[checkpoint, place]:
                    wrong["another label"] += 1

        await asyncio.gather(*(one_after_another() for _ in range(CONNECTIONS)))
    return wrong
