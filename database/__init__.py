"""Rows and how they change: jobs, their history, checkpoints and the processes that are alive.

Callers open a session (`with sessions.begin() as session:`) and commit it; nothing in here commits,
knows HTTP, or reads a file of a model or a data set.
"""
