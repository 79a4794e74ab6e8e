"""What a server counts, as plain numbers."""

import bisect
import random
from types import SimpleNamespace

from app.tallies import GONE, OTHER, Histogram, Predictions, Requests, added

ROUTE = SimpleNamespace(path_format="/jobs/{id}")


def scope(method: str = "GET", query: bytes = b"", route: object = ROUTE) -> dict[str, object]:
    return {"method": method, "query_string": query, **({"route": route} if route else {})}


def test_values_lie_at_the_first_bound_that_is_not_below_them():
    bounds = (1.0, 2.0, 4.0)
    values = [random.Random(0).choice([0, 0.5, 1, 1.5, 2, 3, 4, 5, 99]) for _ in range(200)]
    histogram = Histogram(bounds)
    for value in values:
        histogram.add(value)

    counts, total = histogram.read()

    assert total == sum(values)
    assert [sum(counts[: n + 1]) for n in range(3)] == [
        sum(value <= bound for value in values) for bound in bounds
    ]
    assert counts[3] == sum(bisect.bisect_left(bounds, value) == 3 for value in values)


def test_what_was_read_does_not_change_any_more():
    histogram = Histogram((1.0,))
    before = histogram.read()
    histogram.add(3.0)
    assert before == ([0, 0], 0)
    assert added([before, histogram.read(), histogram.read()]) == ([0, 2], 6.0)


def test_requests_are_told_apart_by_route_method_and_status():
    requests = Requests()
    for status in (200, 404, 200):
        requests.answered(scope(), status, 0.003)
    requests.answered(scope("DELETE"), 204, 0.2)
    requests.answered(scope(route=None), 401, 0.0)

    found = {(one.route, one.method, one.status): one.count for one in requests.read()}

    assert found == {
        ("/jobs/{id}", "GET", 200): 2,
        ("/jobs/{id}", "GET", 404): 1,
        ("/jobs/{id}", "DELETE", 204): 1,
        (OTHER, "GET", 401): 1,
    }


def test_however_many_methods_a_client_invents_there_is_one_more():
    requests = Requests()
    for number in range(50):
        requests.answered(scope(f"M{number}"), 405, 0.0)
    [found] = requests.read()
    assert (found.method, found.count) == (OTHER, 50)


def test_waiting_for_a_job_and_going_away_are_no_latencies():
    requests = Requests()
    requests.answered(scope(query=b"wait=30"), 200, 30.0)
    requests.answered(scope(), GONE, 0.0)
    requests.answered(scope(), 200, 0.003)
    assert sum(one.count for one in requests.read()) == 3
    assert added(one.seconds for one in requests.read())[1] == 0.003


def test_predictions_and_batches():
    predictions = Predictions()
    for result in ("answered", "overloaded", "answered"):
        predictions.ended(result)
    predictions.batch(3, 0.02)
    assert predictions.results == {"answered": 2, "overloaded": 1}
    assert predictions.batch_images.read() == ([0, 0, 1, 0, 0, 0, 0, 0], 3)
    assert predictions.batch_seconds.read()[1] == 0.02
