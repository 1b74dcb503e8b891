"""A sandbox's machine: how big it is, how it comes to be, and how it grows."""
