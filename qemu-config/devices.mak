# What runv's machines are made of. Nothing else is built but what these need; build_qemu.py checks that each of them is.

CONFIG_MICROVM=y
CONFIG_Q35=y
CONFIG_SERIAL_ISA=y
CONFIG_PCIE_PORT=y
CONFIG_VIRTIO_PCI=y

# The agent: virtio-serial or vsock
CONFIG_VIRTIO_SERIAL=y
CONFIG_VHOST_VSOCK=y

# What is shared
CONFIG_VIRTIO_9P=y
CONFIG_VHOST_USER_FS=y

CONFIG_VIRTIO_NET=y
CONFIG_VIRTIO_SCSI=y
CONFIG_VIRTIO_BLK=y

# Memory that comes and goes
CONFIG_VIRTIO_BALLOON=y
CONFIG_VIRTIO_MEM=y

CONFIG_VIRTIO_RNG=y

# Devices of the host's, passed through
CONFIG_VFIO_PCI=y
