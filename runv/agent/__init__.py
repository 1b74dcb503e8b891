"""Talking to the guest's init: carriers, frames, calls. Knows nothing of QEMU."""
