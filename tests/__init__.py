"""Tests; from cheap to dear: unit, host_c and guest (no VM), vm, conformance."""
