"""Commands on the home itself: backup, restore, doctor.

`danlu backup`, `danlu restore` and `danlu doctor` start them as `python -m app.admin`, for the
client knows HTTP and nothing else. No server has to run, and none has to stop.
"""
