"""What schemathesis may not hold against the server, each with the reason."""
