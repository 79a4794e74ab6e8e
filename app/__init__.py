"""The HTTP server: validates, asks the libraries, and says what came of it.

Starts no training and imports no worker; it meets them in rows and folders only.
"""
