"""What of the host a container's files and devices are: shared folders, disks, devices. Knows neither QEMU nor the agent."""
