"""The disks of a sandbox."""
