# PID 1 of the lab, second half, in the host's file tree: run the job, report its status, power off.

busybox=/run/lab/busybox

# Print the device of the virtio-serial port with this name. There is no udev to make /dev/virtio-ports.
port() {
    for entry in /sys/class/virtio-ports/*; do
        [ "$($busybox cat "$entry/name")" = "$1" ] && echo "/dev/${entry##*/}"
    done
}

$busybox hostname runv-lab
$busybox ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward
for controller in $($busybox cat /sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done
for module in $($busybox cat /run/lab/modules); do
    /sbin/modprobe "$module" || echo "lab: cannot load $module" >/dev/console
done

exec 3<>"$(port lab.control)" 4>"$(port lab.stderr)"
echo ready >&3
# The host asks when the command has not ended in time.
while read -r _ <&3; do
    . /run/lab/account.sh >&4
    echo accounted >&3
done &
$busybox setsid /bin/sh /run/lab/job.sh </dev/null >"$(port lab.stdout)" 2>&4 3<&- 4>&-
# A write returns when the host has the bytes, so nothing of the output is behind this line.
echo "exit $?" >&3
$busybox poweroff -f
