"""The processes that compute predictions, each beside a server: decoding, networks, answers.

The server sends them what it was asked and knows them through `app.predictor`.
"""
