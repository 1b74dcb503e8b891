"""The HTTP API: one table of routes, from which server and description both come."""
