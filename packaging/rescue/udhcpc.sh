#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# What busybox's DHCP client calls in the rescue image with what it was told.
case $1 in
deconfig)
    ip address flush dev "$interface"
    ip link set "$interface" up
    ;;
bound | renew)
    # A lease that is only longer must not cost the connections that there are.
    if [ "$1" = renew ] && ip -4 address show dev "$interface" | grep -q " $ip/"; then
        exit 0
    fi
    ip address flush dev "$interface"
    ip address add "$ip/${mask:-24}" dev "$interface"
    for gateway in $router; do
        ip route add default via "$gateway" dev "$interface" && break
    done
    : >/etc/resolv.conf
    for server in $dns; do
        echo "nameserver $server" >>/etc/resolv.conf
    done
    ;;
esac
