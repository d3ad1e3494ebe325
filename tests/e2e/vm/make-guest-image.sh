#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes the disk of a virtual machine to be protected: a small server whose disk boots by itself (GRUB in its boot record),
# with LVM, md, dm and LUKS tools, sshd and Python. Nothing is mounted and no loop device is used: mmdebstrap makes the tree,
# mkfs.ext4 puts it into a file, and GRUB's two images are copied to where the BIOS and they look for each other.
#     make-guest-image.sh FOLDER [bookworm|database|backports|jammy]
# bookworm: Debian 12 with its kernel; database: the same with a PostgreSQL that nobody has enabled; backports: with the kernel of
# bookworm-backports; jammy: Ubuntu 22.04 with its 5.15.
# What Debian's guests are made of comes from where this machine's own packages come from, or from $LEEWARD_DEBIAN_MIRROR; what
# Ubuntu's is made of comes from $LEEWARD_UBUNTU_MIRROR.
# Leaves in FOLDER: disk.img (raw, sparse), ssh.key, kernel (the version's name).
set -euo pipefail
folder=$1
suite=${2:-bookworm}
DISK_MIB=1536     # the tree takes 500-700
FIRST_MIB=1       # the partition's begin; GRUB's core lies before it

packages=systemd-sysv,udev,dbus,openssh-server,iproute2,lvm2,mdadm,dmsetup,cryptsetup-bin,python3-minimal,procps,kmod,initramfs-tools
mirror=${LEEWARD_DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' | awk '$2 == "bookworm" && !found++ { print $1 }')}
if [ -z "$mirror" ]; then
    echo "make-guest-image.sh: no source of bookworm's packages; set LEEWARD_DEBIAN_MIRROR" >&2
    exit 1
fi
release=bookworm
case $suite in
bookworm | database)
    sources=("deb $mirror bookworm main")
    packages=$packages,linux-image-cloud-amd64
    ;;
backports)
    sources=("deb $mirror bookworm main" "deb $mirror bookworm-backports main")
    packages=$packages,linux-image-cloud-amd64/bookworm-backports
    ;;
jammy)
    # Debian 12 has no package with Ubuntu's keys; what is fetched runs in the guest alone.
    ubuntu=${LEEWARD_UBUNTU_MIRROR:?where the packages of Ubuntu are, for the guest jammy}
    sources=("deb [trusted=yes] $ubuntu jammy main universe" "deb [trusted=yes] $ubuntu jammy-updates main universe")
    packages=$packages,linux-image-virtual
    release=jammy
    ;;
*)
    echo "make-guest-image.sh: there is no guest $suite" >&2
    exit 2
    ;;
esac

# The libraries of a database whose packages are not installed: they want a compiler's and all of Perl, which is most of their size.
[ "$suite" != database ] || packages=$packages,libpq5,libxml2,liblz4-1

mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
chmod 755 "$work"
ssh-keygen -q -t ed25519 -N '' -C guest -f "$work/ssh.key"

# The guest's disks are virtio; an initramfs with all modules would take most of the time of a boot in emulation.
cat >"$work/early" <<'HOOK'
#!/bin/sh
set -eu
mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/etc/mdadm"
printf 'MODULES=list\nCOMPRESS=gzip\nRESUME=none\nFSTYPE=ext4\n' >"$1/etc/initramfs-tools/conf.d/guest"
printf 'virtio_blk\nvirtio_pci\next4\n' >"$1/etc/initramfs-tools/modules-of-guest"
printf 'AUTO -all\n' >"$1/etc/mdadm/mdadm.conf"
HOOK
cat >"$work/late" <<'HOOK'
#!/bin/sh
set -eu
root=$1
mv "$root/etc/initramfs-tools/modules-of-guest" "$root/etc/initramfs-tools/modules"
# The root disk is no array; this would load and time all RAID levels in each boot.
rm -f "$root"/usr/share/initramfs-tools/hooks/mdadm "$root"/usr/share/initramfs-tools/scripts/local-*/mdadm
echo guest >"$root/etc/hostname"
printf '127.0.0.1 localhost guest\n' >"$root/etc/hosts"
printf 'LABEL=root / ext4 defaults,errors=remount-ro 0 1\n' >"$root/etc/fstab"
mkdir -p "$root/root/.ssh" "$root/etc/systemd/network" "$root/etc/systemd/system.conf.d" "$root/etc/ssh/sshd_config.d"
cp "$KEY.pub" "$root/root/.ssh/authorized_keys"
chmod 700 "$root/root/.ssh"
printf 'UseDNS no\nPrintMotd no\nUsePAM no\nLoginGraceTime 600\n' >"$root/etc/ssh/sshd_config.d/guest.conf"
# The one address of qemu's user network; waiting for DHCP would take seconds.
printf '[Match]\nName=e*\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n' >"$root/etc/systemd/network/guest.network"
# Nothing is late because the host is busy.
printf '[Manager]\nDefaultTimeoutStartSec=900\nDefaultTimeoutStopSec=300\nDefaultDeviceTimeoutSec=900\n' \
    >"$root/etc/systemd/system.conf.d/guest.conf"
for unit in systemd-networkd ssh; do chroot "$root" systemctl -q enable "$unit"; done
chroot "$root" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer systemd-logind.service dev-hugepages.mount dev-mqueue.mount \
    sys-kernel-debug.mount systemd-networkd-wait-online.service motd-news.timer mdcheck_start.timer \
    mdcheck_continue.timer mdmonitor-oneshot.timer >/dev/null 2>&1 || true
chroot "$root" update-initramfs -u -k all >/dev/null
HOOK
# PostgreSQL as any host on the guest's network finds it. Its log has segments of 1 MiB, for there are many copies of this disk.
cat >"$work/database" <<'HOOK'
#!/bin/sh
set -eu
root=$1
debs=$WORK/debs
mkdir "$debs" "$debs/tree"
cd "$debs"
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -q -o APT::Sandbox::User=root -o Acquire::Retries=5 download postgresql-15 >/dev/null
dpkg-deb --fsys-tarfile postgresql-15_*.deb | tar -x -C "$root" --exclude='*/bitcode' --exclude='*llvmjit*' --exclude='./usr/share/doc' \
    --exclude='*/man' --exclude='./usr/share/locale' --exclude='./lib' --exclude='./etc'
data=/var/lib/postgresql/main
chroot "$root" useradd --system --user-group --home-dir /var/lib/postgresql --shell /bin/sh postgres
chroot "$root" install -d -m 700 -o postgres -g postgres /var/lib/postgresql
chroot "$root" setpriv --reuid=postgres --regid=postgres --clear-groups /usr/lib/postgresql/15/bin/initdb -D "$data" -A trust -E UTF8 --no-locale \
    --wal-segsize=1 --no-sync --no-instructions >/dev/null
cat >>"$root$data/postgresql.conf" <<'CONF'
listen_addresses = '*'
shared_buffers = 16MB
min_wal_size = 4MB
max_wal_size = 32MB
jit = off
CONF
echo 'host all all 10.0.2.0/24 trust' >>"$root$data/pg_hba.conf"
cat >"$root/etc/systemd/system/postgresql.service" <<'UNIT'
[Unit]
Description=PostgreSQL
After=network.target
[Service]
Type=notify
User=postgres
RuntimeDirectory=postgresql
ExecStart=/usr/lib/postgresql/15/bin/postgres -D /var/lib/postgresql/main
KillMode=mixed
KillSignal=SIGINT
TimeoutSec=infinity
[Install]
WantedBy=multi-user.target
UNIT
HOOK
[ "$suite" = database ] || printf '#!/bin/sh\n' >"$work/database"
chmod +x "$work/early" "$work/late" "$work/database"

KEY=$work/ssh.key WORK=$work mmdebstrap --quiet --variant=minbase --include="$packages" \
    --aptopt='Acquire::Retries "5"' --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --essential-hook="$work/early \"\$1\"" --customize-hook="$work/late \"\$1\"" --customize-hook="$work/database \"\$1\"" \
    "$release" "$root" "${sources[@]}"

version=$(basename "$(ls "$root"/boot/vmlinuz-*)" | sed 's/^vmlinuz-//')
mkdir -p "$root/boot/grub"
cat >"$root/boot/grub/grub.cfg" <<CFG
serial
terminal_output serial
linux /boot/vmlinuz-$version root=LABEL=root ro console=ttyS0 net.ifnames=0 quiet mitigations=off nokaslr no_timer_check audit=0 apparmor=0 random.trust_cpu=on cryptomgr.notests=1
initrd /boot/initrd.img-$version
boot
CFG

image=$work/disk.img
truncate -s "${DISK_MIB}M" "$image"
printf 'label: dos\nstart=%dMiB, type=83, bootable\n' "$FIRST_MIB" | sfdisk -q "$image"
size_kib=$(((DISK_MIB - FIRST_MIB) * 1024))
mkfs.ext4 -q -L root -E offset=$((FIRST_MIB << 20)) -O ^metadata_csum_seed,^orphan_file -d "$root" "$image" "${size_kib}k"

# boot.img goes on at sector 1, where the core image begins; both know that by default.
modules=/usr/lib/grub/i386-pc
grub-mkimage -O i386-pc -o "$work/core.img" -p '(hd0,msdos1)/boot/grub' \
    biosdisk part_msdos ext2 normal linux configfile serial terminal boot echo
dd if="$modules/boot.img" of="$image" bs=440 count=1 conv=notrunc status=none
dd if="$work/core.img" of="$image" bs=512 seek=1 conv=notrunc status=none

echo "$version" >"$folder/kernel"
cp "$work/ssh.key" "$folder/ssh.key"
cp --sparse=always "$image" "$folder/disk.img"
