"""What a machine is to be: frozen records, checked, units in the names. Pure."""

from runv.quick import NamedTuple


class Share(NamedTuple):
    """A folder of the host shown to the guest under ``tag``. ``kind``: ``9p`` or ``virtiofs`` (then ``socket`` is where virtiofsd listens)."""

    tag: str
    folder: str
    kind: str
    socket: str = ""


class Transport(NamedTuple):
    """The agent's carrier: ``serial`` over the descriptor of a connected socket, or ``vsock`` with a CID held by an open vhost-vsock device."""

    kind: str
    fd: int
    cid: int = 0


class Nic(NamedTuple):
    """A network card: the descriptors of its tap, one for each pair of queues, and as many of vhost-net where the host's kernel is to carry
    the packets (else none). ``name`` is the netdev's in QEMU."""

    name: str
    fds: tuple[int, ...]
    mac: str
    vhost_fds: tuple[int, ...] = ()


class Disk(NamedTuple):
    """A disk: the descriptor of an image file or a block device, and what QEMU is to make of it. The guest knows it by ``serial``, which begins
    with a letter and has at most 30 characters of ``[A-Za-z0-9.-]``. ``format``: ``raw`` or ``qcow2``."""

    serial: str
    fd: int
    format: str
    read_only: bool
    block_device: bool


class Memory(NamedTuple):
    """The file behind the guest's memory, none when ``path`` is empty. ``private``: what the guest changes stays its own, and out of the file.
    ``fd``: where ``path`` names a descriptor that QEMU inherits, that. ``named``: there is no file, and QEMU calls the memory as if there were."""

    path: str = ""
    private: bool = False
    fd: int = -1
    named: bool = False


class Restore(NamedTuple):
    """Descriptors of a clone: ``monitor_fd`` holds its orders (``template.orders``), ``state_fd`` the devices' state."""

    monitor_fd: int
    state_fd: int


class Plugged(NamedTuple):
    """A disk that is there from the start, in its old place: ``lun`` of the controller."""

    disk: Disk
    lun: int


class Machine(NamedTuple):
    """One virtual machine, complete. Descriptors are those QEMU will inherit."""

    name: str
    qemu: str
    kind: str  # microvm or q35
    accelerator: str  # kvm or tcg
    kernel: str
    initrd: str
    kernel_parameters: str
    tsc_khz: int  # the host's; 0 when not known
    vcpus: int
    memory_mib: int
    transport: Transport
    shares: tuple[Share, ...]
    qmp_fd: int
    console_fd: int
    nics: tuple[Nic, ...] = ()
    ports: int = 0  # that devices can be plugged into later
    pci: tuple[str, ...] = ()  # the addresses of devices that are passed through; needs a q35
    memory: Memory = Memory()
    restore: Restore | None = None
    controller: bool = False  # that of the disks is there from the start, with those that are plugged in
    plugged: tuple[Plugged, ...] = ()
    shim: str = ""  # a library to load into QEMU
    tcg_buffer_mib: int = 32
    translations: str = ""  # a file of what a machine like this has translated; empty for none
    keeps: bool = False  # what it translates can be written to such a file
    tcg_release_s: int = 0  # after which the translated code of a guest that sleeps is given back; 0 where QEMU cannot, or is not to
    vcpus_max: int = 0  # to which it can grow; 0: it cannot
    memory_max_mib: int = 0

    @property
    def parallel(self) -> bool:
        """Whether an emulated processor has a thread for each virtual CPU: code that runs beside other code is another one."""
        return max(self.vcpus, self.vcpus_max) > 1

    @property
    def grows_vcpus(self) -> bool:
        """Whether it can be given more virtual CPUs."""
        return self.vcpus_max > self.vcpus

    @property
    def grows_memory(self) -> bool:
        """Whether it can be given more memory."""
        return self.memory_max_mib > self.memory_mib

    @property
    def shared_memory(self) -> bool:
        """Whether another process must see the guest's memory (vhost-user devices)."""
        return any(share.kind == "virtiofs" for share in self.shares)

