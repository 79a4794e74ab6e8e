"""What a first convolution computes by one thread or by more; its gradients are in test_kernels."""

from collections.abc import Callable

from workers.convolutions import Pace, one_way


def told(pace: Pace, alone: float, together: Callable[[int], float], times: int) -> int:
    """How often it was together."""
    count = 0
    for number in range(times):
        way = pace.together()
        pace.tell(together(number) if way else alone, together=way)
        count += way
    return count


def test_all_threads_do_what_they_do_faster() -> None:
    assert told(Pace(), 2.0, lambda _: 1.0, times=100) == 99


def test_threads_that_are_kept_waiting_are_hardly_ever_tried_again() -> None:
    assert told(Pace(), 1.0, lambda _: 500.0, times=1000) < 8


def test_threads_are_taken_up_again_when_nobody_keeps_them_waiting() -> None:
    pace = Pace()
    told(pace, 1.0, lambda _: 500.0, times=100)

    assert told(pace, 1.0, lambda _: 0.5, times=400) > 200


def test_one_way_is_one_thread_for_as_long_as_bits_are_compared() -> None:
    pace = Pace()
    with one_way():
        assert told(pace, 2.0, lambda _: 1.0, times=10) == 0

    assert told(pace, 2.0, lambda _: 1.0, times=10) == 10
