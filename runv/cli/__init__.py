"""The OCI command. ``options`` is the table of its commands, ``main`` the only place that prints errors and exits."""
