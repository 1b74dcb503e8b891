"""QEMU's argument list, whole: what is started is what is written here."""

import pytest

from runv.vm.cmdline import kernel_command_line, qemu_arguments
from runv.vm.hotplug import free_ports
from runv.vm.machine import Machine, Memory, Nic, Restore, Share, Transport

MACHINE = Machine(
    name="s1",
    qemu="/usr/bin/qemu",
    kind="microvm",
    accelerator="kvm",
    kernel="/k",
    initrd="/i",
    kernel_parameters="",
    tsc_khz=2_000_000,
    vcpus=1,
    memory_mib=256,
    transport=Transport("serial", 7),
    shares=(Share("share", "/run/s", "9p"),),
    qmp_fd=8,
    console_fd=9,
)
Q35, TCG = {"kind": "q35"}, {"accelerator": "tcg"}
VSOCK = {"transport": Transport("vsock", 7, 1234)}
VIRTIOFS = {"shares": (Share("share", "/run/s", "virtiofs", "/run/fs,1.sock"),)}
KERNEL = "console=ttyS0 quiet loglevel=4 panic=-1 reboot=t random.trust_cpu=on rootfstype=ramfs runv.transport="


def text(**changes: object) -> str:
    return " ".join(qemu_arguments(MACHINE._replace(**changes)))  # type: ignore[arg-type]


def test_the_whole_list() -> None:
    assert qemu_arguments(MACHINE) == [
        "/usr/bin/qemu",
        "-name", "guest=s1",
        "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-accel", "kvm", "-cpu", "host",
        "-machine", "microvm,pcie=on,acpi=on,pit=on,pic=on,rtc=on,isa-serial=on",
        "-m", "256M", "-smp", "1",
        "-kernel", "/k", "-initrd", "/i", "-append", KERNEL + "serial pcie_ports=native",
        "-add-fd", "fd=9,set=1",
        "-chardev", "file,id=console,path=/dev/fdset/1,append=on", "-serial", "chardev:console",
        "-chardev", "socket,id=qmp,fd=8,server=on,wait=off", "-mon", "chardev=qmp,mode=control",
        "-chardev", "socket,id=agent,fd=7",
        "-device", "virtio-serial-pci,max_ports=2",
        "-device", "virtserialport,chardev=agent,name=org.runv.agent",
        "-device", "pcie-root-port,id=disks-port,chassis=64,slot=64",
        "-fsdev", "local,id=fs-share,path=/run/s,security_model=passthrough,multidevs=remap",
        "-device", "virtio-9p-pci,fsdev=fs-share,mount_tag=share",
    ]  # fmt: skip


def test_q35() -> None:
    assert " -machine q35,smm=off,vmport=off,hpet=off,usb=off -m 256M -smp 1 " in text(**Q35)


def test_a_machine_that_grows() -> None:
    found = text(**Q35, **TCG, vcpus_max=4, memory_max_mib=1024, ports=1)
    assert " -accel tcg,thread=multi," in found and " -m 256M,maxmem=1024M -smp 1,maxcpus=4 " in found
    assert found.endswith(" -device pcie-root-port,id=port0,chassis=1,slot=1 -device pcie-root-port,id=memory-port,chassis=65,slot=65")
    assert "nolapic_timer" not in found and "memory_hotplug.online_policy=auto-movable " in found
    assert text(**Q35, vcpus_max=1, memory_max_mib=256) == text(**Q35)


@pytest.mark.parametrize(("vcpus", "thread"), [(1, "single"), (4, "multi")])
def test_tcg(vcpus: int, thread: str) -> None:
    assert f" -accel tcg,thread={thread},tb-size=32 -cpu max,-erms,-fsrm " in text(**TCG, vcpus=vcpus)
    assert "kvm" not in text(**TCG)
    assert ",tb-size=8,idle-release=3 " in text(**TCG, tcg_buffer_mib=8, tcg_release_s=3)
    assert "idle-release" not in text(tcg_release_s=3)


def test_vsock_needs_no_serial_port() -> None:
    assert " -device vhost-vsock-pci,guest-cid=1234,vhostfd=7 " in text(**VSOCK)
    assert "virtserialport" not in text(**VSOCK)


@pytest.mark.parametrize(("changes", "board"), [({}, "isa-serial=on"), (Q35, "usb=off")])
def test_virtiofs_shares_the_memory(changes: dict[str, object], board: str) -> None:
    found = text(**changes, **VIRTIOFS)
    assert f"{board},memory-backend=mem -m 256M" in found
    assert "-object memory-backend-memfd,share=on,id=mem,size=256M" in found
    assert found.endswith(
        "-chardev socket,id=fs-share,path=/run/fs,,1.sock -device vhost-user-fs-pci,chardev=fs-share,tag=share"
    )
    assert "fsdev local" not in found
    assert "memfd" not in text()


def test_commas_in_paths_are_doubled() -> None:
    assert "path=/a,,b,,c,security_model" in text(shares=(Share("share", "/a,b,c", "9p"),))
    assert "guest=a,,b" in text(name="a,b")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "serial pcie_ports=native"),
        (VSOCK, "vsock pcie_ports=native"),
        (Q35, "serial"),
        (TCG, "serial tsc_early_khz=2000000 tsc=reliable no_timer_check pcie_ports=native"),
        (TCG | {"tsc_khz": 0}, "serial tsc=reliable no_timer_check pcie_ports=native"),
        (TCG | Q35, "serial tsc_early_khz=2000000 tsc=reliable no_timer_check nolapic_timer"),
        (TCG | Q35 | {"vcpus": 2}, "serial tsc_early_khz=2000000 tsc=reliable no_timer_check"),
        ({"kernel_parameters": "debug x=y"}, "serial pcie_ports=native debug x=y"),
    ],
)
def test_the_kernels_command_line(changes: dict[str, object], words: str) -> None:
    assert kernel_command_line(MACHINE._replace(**changes)) == KERNEL + words  # type: ignore[arg-type]


def test_cards() -> None:
    one = Nic("tap0", (11,), "02:00:00:00:00:01")
    two = Nic("tap1", (12, 13), "02:00:00:00:00:02", (14, 15))
    assert text(nics=(one, two), ports=2).endswith(
        " -netdev tap,id=tap0,fds=11 -device virtio-net-pci,id=card-tap0,netdev=tap0,mac=02:00:00:00:00:01,romfile=,guest_announce=off"
        " -netdev tap,id=tap1,fds=12:13,vhost=on,vhostfds=14:15"
        " -device virtio-net-pci,id=card-tap1,netdev=tap1,mac=02:00:00:00:00:02,romfile=,guest_announce=off,mq=on,vectors=6"
        " -device pcie-root-port,id=port0,chassis=1,slot=1 -device pcie-root-port,id=port1,chassis=2,slot=2"
    )


def test_memory_in_a_file() -> None:
    assert "-object memory-backend-file,mem-path=/t,,1,share=on,id=mem,size=256M" in text(memory=Memory("/t,1"))
    assert ",memory-backend=mem -m 256M" in text(memory=Memory("/t"))


def test_a_clone() -> None:
    found = text(memory=Memory("/t", private=True), restore=Restore(11, 12))
    assert "mem-path=/t,share=off," in found
    assert found.endswith("-chardev socket,id=restore,fd=11 -mon chardev=restore,mode=control -incoming defer")
    assert "ringbuf,id=console" in found
    assert "fdset" not in found


def test_free_ports() -> None:
    def port(name: str, *devices: str) -> dict[str, object]:
        bridge = {"devices": [{"qdev_id": device} for device in devices]} if devices else {}
        return {"qdev_id": name, "pci_bridge": bridge}

    bus = [{"qdev_id": ""}, {"qdev_id": "card-tap0"}, port("port1"), port("port0", "card-tap1"), port("port2")]
    assert free_ports([{"bus": 0, "devices": bus}]) == ["port1", "port2"]


def test_devices_that_are_passed_through() -> None:
    found = text(**Q35, pci=("0000:01:00.0", "0000:01:00.1"))
    assert found.endswith(" -device vfio-pci,host=0000:01:00.0 -device vfio-pci,host=0000:01:00.1")
    assert "vfio" not in text()
