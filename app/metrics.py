"""What Prometheus is told of a server: its answers, its predictions, its jobs, its process.

Made at each scrape of what others count; nothing is kept here. Knows no endpoint.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from heapq import nlargest
from importlib.metadata import version
from itertools import accumulate

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from sqlalchemy.exc import SQLAlchemyError

from app.figures import Serving
from app.resources import Resources
from app.tallies import Answers, Histogram, added
from database import jobs, processes
from database.tables import State

log = logging.getLogger(__name__)

PLAIN = "text/plain"
OPEN_METRICS = "application/openmetrics-text"

# Checkpoints that are told of one by one: each has five series, and every series costs memory in
# Prometheus for as long as it keeps them.
_MODELS = 100
# Counted from the start, so that a first one is seen to be one more than none.
_RESULTS = ("answered", "dropped", "overloaded", "too_slow", "internal")
_MODEL_COUNTERS = {
    "requests": "Requests that this checkpoint answered.",
    "images": "Images that went through the network of this checkpoint.",
    "compute_seconds": "Seconds in which batches of this checkpoint were computed.",
}
_MODEL_GAUGES = {
    "memory_bytes": "Weights of this checkpoint in memory, all processes together.",
    "processes": "Processes that have this checkpoint loaded.",
}


def page(held: Resources, accept: str) -> tuple[bytes, str]:
    """Everything as text, and its media type: OpenMetrics for who accepts it, otherwise the form
    that every Prometheus reads. Reads the database and /proc.
    """
    registry = CollectorRegistry()
    registry.register(_Everything(held))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    try:
        encode, media_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is no number
        encode, media_type = choose_encoder("")
    return encode(registry), media_type


class _Everything(Collector):
    def __init__(self, held: Resources) -> None:
        self._held = held

    def collect(self) -> Iterator[Metric]:
        """prometheus_client."""
        held = self._held
        info = InfoMetricFamily("danlu", "The danlu that answers.")
        info.add_metric([], {"version": version("danlu")})
        yield info
        yield from _http(held.requests.read(), held.requests.bounds)
        yield from _predictions(held)
        yield from _models([one for one in held.predictor.serving() if one.processes])
        yield from _rows(held)


def _http(found: Sequence[Answers], bounds: Sequence[float]) -> Iterator[Metric]:
    counted = CounterMetricFamily(
        "danlu_http_requests",
        "Requests by the status of their answers; 499: the client went away before.",
        labels=["route", "method", "status"],
    )
    for one in found:
        counted.add_metric([one.route, one.method, str(one.status)], one.count)
    yield counted
    timed = HistogramMetricFamily(
        "danlu_http_request_duration_seconds",
        "From a request until its response begins, without those that wait for a job.",
        labels=["route", "method"],
    )
    for route, method in sorted({(one.route, one.method) for one in found}):
        same = [one.seconds for one in found if (one.route, one.method) == (route, method)]
        _add(timed, [route, method], bounds, added(same))
    yield timed


def _predictions(held: Resources) -> Iterator[Metric]:
    tally, pool = held.predictor.tally, held.predictor.pool
    results = CounterMetricFamily(
        "danlu_predict_requests",
        "Questions to models, by what became of them: answered, dropped because the client went "
        "away, or the code of a problem.",
        labels=["result"],
    )
    for result, count in {**dict.fromkeys(_RESULTS, 0), **tally.results.copy()}.items():
        results.add_metric([result], count)
    yield results
    yield _gauge(
        "danlu_predict_queue_requests",
        "Questions to models that wait or are worked at.",
        held.predictor.requests,
    )
    yield _gauge(
        "danlu_predict_queue_limit_requests",
        "Questions above which more are refused.",
        held.settings.predict_queue,
    )
    yield _histogram("danlu_predict_batch_images", "Images of a batch.", tally.batch_images)
    yield _histogram(
        "danlu_predict_batch_duration_seconds",
        "Decoding and computing of a batch.",
        tally.batch_seconds,
    )
    running = GaugeMetricFamily(
        "danlu_predict_processes", "Processes that compute predictions.", labels=["device"]
    )
    for device, count in Counter(device for _, device in pool.pids()).items():
        running.add_metric([device], count)
    yield running
    yield CounterMetricFamily(
        "danlu_predict_processes_lost",
        "Processes that died while they computed predictions, or hung and were ended.",
        value=pool.lost,
    )


def _models(warm: Sequence[Serving]) -> Iterator[Metric]:
    """Of those that are loaded, so that their number has a limit."""
    yield _gauge("danlu_warm_models", "Checkpoints that are loaded.", len(warm))
    yield _gauge(
        "danlu_warm_models_memory_bytes",
        "Weights in memory, all checkpoints and processes together.",
        sum(one.memory_bytes for one in warm),
    )
    shown = nlargest(_MODELS, warm, key=lambda one: one.images)
    for name, said in _MODEL_COUNTERS.items():
        field = name.removeprefix("compute_")
        counter = CounterMetricFamily(f"danlu_model_{name}", said, labels=["checkpoint"])
        for one in shown:
            counter.add_metric([one.checkpoint_id], getattr(one, field))
        yield counter
    for name, said in _MODEL_GAUGES.items():
        gauge = GaugeMetricFamily(f"danlu_model_{name}", said, labels=["checkpoint"])
        for one in shown:
            gauge.add_metric([one.checkpoint_id], getattr(one, name))
        yield gauge


def _rows(held: Resources) -> Iterable[Metric]:
    """What the database knows. Without it the rest is told all the more."""
    name, said = "danlu_database_up", "Whether the database answers."
    try:
        with held.reading() as session:
            counts = jobs.counts(session)
            workers = [one for one in processes.alive(session) if one.role == "supervisor"]
    except SQLAlchemyError as error:
        log.warning("the metrics lack what the database would tell: %s", error)
        return [_gauge(name, said, 0)]
    states = GaugeMetricFamily("danlu_jobs", "Jobs by state.", labels=["state"])
    for state in State:
        states.add_metric([str(state)], counts.get(state, 0))
    alive = _gauge("danlu_workers", "Workers that were alive within 15 seconds.", len(workers))
    return [_gauge(name, said, 1), states, alive]


def _gauge(name: str, said: str, value: float) -> Metric:
    return GaugeMetricFamily(name, said, value=value)


def _histogram(name: str, said: str, histogram: Histogram) -> Metric:
    family = HistogramMetricFamily(name, said, labels=[])
    _add(family, [], histogram.bounds, histogram.read())
    return family


def _add(
    family: HistogramMetricFamily,
    labels: Sequence[str],
    bounds: Sequence[float],
    found: tuple[list[float], float],
) -> None:
    """Prometheus counts in each bucket what lies in those before it too."""
    counts, total = found
    names = [*map(floatToGoString, bounds), "+Inf"]
    family.add_metric(labels, list(zip(names, accumulate(counts), strict=True)), total)
