"""The OCI runtime specification's documents: typed, checked, and nothing done with them yet. Pure."""
