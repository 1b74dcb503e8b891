"""Machines that wait for somebody to take them."""
