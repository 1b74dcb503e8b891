"""Tests of the guest's init, run on this machine in namespaces of its own and spoken to through the bridge."""
