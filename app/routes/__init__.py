"""The endpoints, one module per noun of the API."""
