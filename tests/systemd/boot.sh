#!/bin/sh
# Boots systemd in namespaces of its own, over a throw-away copy of this machine's files: nothing that it writes stays, and
# nothing outside is seen or touched by it, but for a cgroup. For root. Used by machine.rs:
#
#   boot.sh DIR SOURCE PROGRAMS      inside fresh mount, pid, uts, ipc, net and cgroup namespaces; becomes systemd
#
# DIR is an empty directory of the caller's, below which lies what only this machine sees. SOURCE and PROGRAMS, this
# repository and where its programs are, are to be found there as /gpusched/source and /gpusched/programs.
set -eu
dir=$1 source=$2 programs=$3
mount --make-rprivate /
mount -t tmpfs -o mode=755,size=2g gpusched-test "$dir"
mkdir "$dir/upper" "$dir/work" "$dir/root"
root=$dir/root
mount -t overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" overlay "$root"

mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o nosuid,nodev,noexec,ro sysfs "$root/sys"
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755,nosuid,nodev run "$root/run"
mount -t tmpfs -o mode=1777,nosuid,nodev tmp "$root/tmp"
mount -t tmpfs -o mode=755,nosuid dev "$root/dev"
for node in null zero full random urandom tty; do
    touch "$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev shm "$root/dev/shm"
for shared in "source:$source" "programs:$programs"; do
    mkdir -p "$root/gpusched/${shared%%:*}"
    mount --bind "${shared#*:}" "$root/gpusched/${shared%%:*}"
    mount -o remount,bind,ro "$root/gpusched/${shared%%:*}"
done
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"

# A machine without a past: no units, daemons or users of this one's but what packages brought.
rm -rf "$root/etc/systemd/system" "$root/var/lib/systemd" "$root/var/log/journal" "$root/etc/fstab" "$root/etc/gpusched" "$root/var/lib/gpusched"
mkdir -p "$root/etc/systemd/system"
for unit in systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udev-trigger.service \
    systemd-timesyncd.service systemd-resolved.service systemd-networkd.service systemd-networkd.socket \
    systemd-sysctl.service systemd-modules-load.service systemd-logind.service systemd-hwdb-update.service \
    getty.target console-getty.service systemd-firstboot.service systemd-homed.service systemd-oomd.service \
    systemd-random-seed.service systemd-remount-fs.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount \
    cron.service ssh.service podman.socket podman.service podman-restart.service podman-auto-update.timer \
    dbus.service dbus.socket apt-daily.timer apt-daily-upgrade.timer; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"

cd "$root"
mkdir -p .old
pivot_root . .old
umount -l /.old
rmdir /.old 2>/dev/null || true
# Units with credentials or namespaces of their own need their mounts to come along.
mount --make-rshared /
systemd=/lib/systemd/systemd
exec env -i container=gpusched-test LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    "$systemd" --system --unit=multi-user.target --log-target=journal
