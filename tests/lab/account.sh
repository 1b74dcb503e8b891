# What stands still, and where: the processes, their kernel stacks, interrupts, and the consoles of the machines in this one.

echo "lab: processes"
$busybox ps -o pid,ppid,stat,args
for folder in /proc/[0-9]*; do
    line=$($busybox tr '\000' ' ' <"$folder/cmdline" | $busybox cut -c -200)
    [ "$line" ] || continue # a thread of the kernel
    echo "lab: process ${folder#/proc/}: $line"
    for thread in "$folder"/task/*; do
        echo "thread ${thread##*/}, system call $($busybox cat "$thread/syscall")"
        $busybox cat "$thread/stack"
    done
done 2>/dev/null
# Twice: the difference tells whether anything moves.
for _ in 1 2; do
    echo "lab: interrupts"
    $busybox cat /proc/interrupts
    $busybox sleep 1
done
for log in $($busybox find /tmp /run -name console.log 2>/dev/null); do
    echo "lab: $log"
    $busybox tail -n 20 "$log"
done
echo "lab: the kernel's last words"
$busybox dmesg | $busybox tail -n 40
