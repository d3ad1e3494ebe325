/* SPDX-License-Identifier: Apache-2.0
 *
 * The network cards of this machine, for its inventory: a replica gets as many, and its mapping knows them by name, hardware address or network.
 * A card is what has hardware behind it in /sys/class/net; where nothing has (a container), each Ethernet interface is one. The addresses are those of
 * the card and of whatever stands on it: bridges, bonds, VLANs.
 */
#ifndef MOBILITY_NIC_LIST_H
#define MOBILITY_NIC_LIST_H

#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>

#define NIC_LIST_MAX 16u
#define NIC_ADDRESSES_MAX 8u
#define NIC_ADDRESS_SIZE (INET6_ADDRSTRLEN + 4) /* with "/128" */

struct nic {
    char name[IF_NAMESIZE];
    char mac[18]; /* "52:54:00:12:34:56" */
    char addresses[NIC_ADDRESSES_MAX][NIC_ADDRESS_SIZE];
    size_t address_count;
};

/* In the order of the kernel; at most max. Link-local addresses are left out. How many: 0 also where the kernel does not say. */
size_t nic_list_read(struct nic *ret_list, size_t max);

#endif
