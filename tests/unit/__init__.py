"""Tests without root, VM or network: seconds for all of them."""
