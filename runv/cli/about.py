"""What help and the manual say of runv as a whole."""

ABOUT = "runv runs OCI containers, each pod in a virtual machine with a kernel of its own. It is called as runc is."
EXAMPLES = """\
runv spec                 write config.json; put a root file system beside it in ./rootfs
runv run demo             run it, in the foreground
runv exec demo ps         one more process in it
runv check                can this host do it, and how"""
