"""What is left of imports that never came to a job, or whose job is gone; the rest is in
routes/test_imports, over HTTP.
"""

import os
import time

from app import imports


def test_archives_of_active_jobs_are_kept_when_a_server_starts(serve, settings):
    with serve(settings) as server:
        server.request("PUT", "/datasets/pets", content=b"PK, an archive")
        [wanted] = settings.uploads.iterdir()
    forgotten, new = settings.uploads / "forgotten", settings.uploads / "new"
    for file in (forgotten, new):
        file.write_bytes(b"x")
    for file in (forgotten, wanted):
        os.utime(file, (time.time() - 7200,) * 2)
    with serve(settings) as server:
        assert set(settings.uploads.iterdir()) == {wanted, new}
        imports.sweep(server.app.state.resources)
        assert set(settings.uploads.iterdir()) == {wanted, new}
