"""A container's life walked through in a machine that nobody has: for machines that wait, and for what later ones need not translate."""
