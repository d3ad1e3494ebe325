/* SPDX-License-Identifier: Apache-2.0
 *
 * getifaddrs(3) has hardware addresses (AF_PACKET) and addresses; what stands on what is in /sys/class/net/NAME/upper_OTHER.
 */
#include "mobility/nic_list.h"

#include <arpa/inet.h>
#include <glob.h>
#include <ifaddrs.h>
#include <net/if_arp.h>
#include <netpacket/packet.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define UPPER_DEPTH 4 /* VLAN on a bridge on a bond on a card */
#define MAC_BYTES 6

static bool has_device(const char *name)
{
    char path[64];

    snprintf(path, sizeof(path), "/sys/class/net/%s/device", name);
    return access(path, F_OK) == 0;
}

/* Whether the interface is the card, or stands on it. */
static bool stands_on(const char *card, const char *interface, int depth)
{
    char pattern[64];
    glob_t uppers;
    bool found = strcmp(card, interface) == 0;

    if (found || depth == 0)
        return found;
    snprintf(pattern, sizeof(pattern), "/sys/class/net/%s/upper_*", card);
    if (glob(pattern, GLOB_NOSORT, NULL, &uppers) != 0)
        return false;
    for (size_t i = 0; !found && i < uppers.gl_pathc; i++)
        found = stands_on(strrchr(uppers.gl_pathv[i], '/') + sizeof("/upper_") - 1, interface, depth - 1);
    globfree(&uppers);
    return found;
}

static bool is_ethernet(const struct ifaddrs *a)
{
    const struct sockaddr_ll *link = (const struct sockaddr_ll *)(const void *)a->ifa_addr;

    return link && link->sll_family == AF_PACKET && !(a->ifa_flags & IFF_LOOPBACK) &&
           link->sll_hatype == ARPHRD_ETHER && link->sll_halen == MAC_BYTES;
}

static size_t add_cards(const struct ifaddrs *list, bool with_device, struct nic *ret_list, size_t max)
{
    size_t n = 0;

    for (const struct ifaddrs *a = list; a && n < max; a = a->ifa_next) {
        if (!is_ethernet(a) || (with_device && !has_device(a->ifa_name)))
            continue;
        const unsigned char *mac = ((const struct sockaddr_ll *)(const void *)a->ifa_addr)->sll_addr;
        struct nic *nic = &ret_list[n++];

        nic->address_count = 0;
        snprintf(nic->name, sizeof(nic->name), "%s", a->ifa_name);
        snprintf(nic->mac, sizeof(nic->mac), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
            mac[5]);
    }
    return n;
}

static unsigned count_bits(const uint8_t *bytes, size_t n)
{
    unsigned bits = 0;

    for (size_t i = 0; i < n; i++)
        bits += (unsigned)__builtin_popcount(bytes[i]);
    return bits;
}

/* "192.0.2.7/24"; false for what is no address that a plan could be about. */
static bool address_text(const struct ifaddrs *a, char ret_text[NIC_ADDRESS_SIZE])
{
    char address[INET6_ADDRSTRLEN];
    unsigned bits;

    if (!a->ifa_addr || !a->ifa_netmask)
        return false;
    if (a->ifa_addr->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)a->ifa_addr;
        const struct sockaddr_in *mask = (const struct sockaddr_in *)(const void *)a->ifa_netmask;

        if (!inet_ntop(AF_INET, &in->sin_addr, address, sizeof(address)))
            return false;
        bits = count_bits((const uint8_t *)&mask->sin_addr, sizeof(mask->sin_addr));
    } else if (a->ifa_addr->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)(const void *)a->ifa_addr;
        const struct sockaddr_in6 *mask = (const struct sockaddr_in6 *)(const void *)a->ifa_netmask;

        if (IN6_IS_ADDR_LINKLOCAL(&in->sin6_addr) || !inet_ntop(AF_INET6, &in->sin6_addr, address, sizeof(address)))
            return false;
        bits = count_bits((const uint8_t *)&mask->sin6_addr, sizeof(mask->sin6_addr));
    } else {
        return false;
    }
    snprintf(ret_text, NIC_ADDRESS_SIZE, "%s/%u", address, bits);
    return true;
}

/* Whether the address is the card's, or of what stands on it. The kernel gives its label, if it has one, in the place of the interface ("eth0:1"). */
static bool is_of_card(const struct ifaddrs *a, const char *card)
{
    char interface[IF_NAMESIZE];

    snprintf(interface, sizeof(interface), "%.*s", (int)strcspn(a->ifa_name, ":"), a->ifa_name);
    return stands_on(card, interface, UPPER_DEPTH);
}

static void add_addresses(const struct ifaddrs *list, struct nic *nic)
{
    for (const struct ifaddrs *a = list; a && nic->address_count < NIC_ADDRESSES_MAX; a = a->ifa_next)
        if (!(a->ifa_flags & IFF_LOOPBACK) && is_of_card(a, nic->name) &&
            address_text(a, nic->addresses[nic->address_count]))
            nic->address_count++;
}

size_t nic_list_read(struct nic *ret_list, size_t max)
{
    struct ifaddrs *list = NULL;
    size_t n;

    if (getifaddrs(&list) < 0)
        return 0;
    n = add_cards(list, true, ret_list, max);
    if (n == 0)
        n = add_cards(list, false, ret_list, max);
    for (size_t i = 0; i < n; i++)
        add_addresses(list, &ret_list[i]);
    freeifaddrs(list);
    return n;
}
