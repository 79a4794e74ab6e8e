"""What a server holds is made without touching anything."""

from app.resources import Resources


def test_making_it_touches_no_disk(settings):
    held = Resources.of(settings)
    assert held.warmup.state == "loading"
    assert held.predictor.serving() == []
    assert not settings.home.exists()
