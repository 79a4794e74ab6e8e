"""Training: a supervisor that claims jobs, and one fresh process for each.

Meets the server only in data: rows of the database, folders of the stores.
"""
