"""The daemon: pods, images, volumes and networks, kept as they are wanted. Every machine is started by runv."""
