"""Machines that were saved with all that runs in them, and go on."""
