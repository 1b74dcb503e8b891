"""A virtual machine under QEMU: what we want of it, the command line that gives it, the process, QMP. Knows nothing of containers."""
