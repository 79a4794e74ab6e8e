"""Server-sent events from lines: what the standard allows and danlu sends."""

from danlu.sse import parse


def test_events_comments_and_what_is_cut_off() -> None:
    text = (
        "retry: 1000\n\n"
        ": ping\n\n"
        'event: state\ndata: {"state": "running"}\nid: 7\n\n'
        'event: log\ndata: {"line":\ndata:  "two lines"}\nid:8\n\n'
        'event: end\ndata: {"state": "succ'
    )
    assert list(parse(text.split("\n"))) == [
        {"id": 7, "type": "state", "data": {"state": "running"}},
        {"id": 8, "type": "log", "data": {"line": "two lines"}},
    ]
