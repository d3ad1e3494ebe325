#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes the rescue image: a Debian kernel and an initramfs with busybox, LVM, leeward-fixup and leeward-agent. Replicas' disks are prepared in it, in a small
# virtual machine of its own, so that no kernel that anybody else uses has to read a stranger's file systems; and a bare machine boots from it.
#     make-rescue-image.sh FOLDER BIN [KERNEL_PACKAGE]
# BIN: the folder of the programs. KERNEL_PACKAGE: linux-image-cloud-amd64 (default; virtual machines) or linux-image-amd64 (real ones).
# Leaves in FOLDER: vmlinuz, initrd. Packages come from where this machine's own come from; nothing is installed.
set -euo pipefail
folder=$1
bin=$2
package=${3:-linux-image-cloud-amd64}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"

find_kernel() {
    apt-cache depends "$package" | awk '/Depends: linux-image-/ && !found++ { print $2 }'
}
kernel=$(find_kernel || true)
if [ -z "$kernel" ]; then
    flock /run/lock/leeward-apt.lock apt-get -q update >&2
    kernel=$(find_kernel || true)
fi
if [ -z "$kernel" ]; then
    echo "make-rescue-image.sh: there is no package $package" >&2
    exit 1
fi
mkdir "$work/debs" "$work/tree"
download() {
    (cd "$work/debs" && apt-get -q -o APT::Sandbox::User=root -o Acquire::Retries=5 download "$kernel" busybox-static >/dev/null)
}
# Lists of packages may name versions that are not there any more.
if ! download; then
    flock /run/lock/leeward-apt.lock apt-get -q update >&2
    kernel=$(find_kernel)
    download
fi
for deb in "$work"/debs/*.deb; do
    dpkg-deb -x "$deb" "$work/tree"
done
version=$(basename "$work"/tree/lib/modules/*)

root=$work/root
mkdir -p "$root"/{bin,lib,lib64,proc,sys,dev,run,tmp,etc,guest} "$root/lib/modules/$version"
cp "$work/tree/bin/busybox" "$root/bin/busybox"
for applet in $("$root/bin/busybox" --list | grep -vx busybox); do
    ln -sf busybox "$root/bin/$applet"
done
# What disks and network cards hang on, file systems, and what they need; not graphics, sound, radio and the like.
wanted=(kernel/{fs,lib,crypto,arch,block,net/core,net/ipv6,net/packet} kernel/drivers/{acpi,ata,block,char/hw_random,cdrom,firmware,hid,hv,md,message}
    kernel/drivers/{mmc,net,nvme,pci,scsi,target,usb,virtio,xen})
(
    cd "$work/tree/lib/modules/$version"
    cp modules.builtin modules.builtin.modinfo modules.order "$root/lib/modules/$version/"
    for part in "${wanted[@]}"; do
        [ ! -e "$part" ] || find "$part" -name '*.ko*' -not -path '*/wireless/*' -not -path '*/net/can/*' -print0
    done | xargs -0 cp -t "$root/lib/modules/$version" --parents
)
"$root/bin/busybox" depmod -b "$root" "$version"

# A program with the libraries that it wants.
add_program() {
    cp "$1" "$root/bin/"
    ldd "$1" | awk '/=> \// { print $3 } /^\t\/lib64/ { print $1 }' | while read -r library; do
        case $library in
        /lib64/*) cp -Ln "$library" "$root/lib64/" ;;
        *) cp -Ln "$library" "$root/lib/" ;;
        esac
    done
}
add_program "$bin/leeward-fixup"
add_program "$bin/leeward-agent"
add_program "$(command -v lvm)"
install -m 755 "$here/init" "$root/init"
install -m 755 "$here/udhcpc.sh" "$root/etc/udhcpc.sh"
printf 'PRETTY_NAME="Leeward rescue system"\n' >"$root/etc/os-release"
printf '127.0.0.1 localhost\n' >"$root/etc/hosts"

mkdir -p "$folder"
(cd "$root" && find . | LC_ALL=C sort | bin/busybox cpio -o -H newc -R 0:0 2>/dev/null) | zstd -q -3 -T0 >"$work/initrd"
cp "$work/tree/boot/vmlinuz-$version" "$folder/vmlinuz"
mv "$work/initrd" "$folder/initrd"
