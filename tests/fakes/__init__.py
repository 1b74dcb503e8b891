"""Neighbours that speak the real protocol, for tests of one side of it."""
