/* SPDX-License-Identifier: Apache-2.0
 *
 * Checked where a person gives it, and again by the helper, which trusts nobody.
 */
#include "hub/fixup/fixup_spec.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/core/json_members.h"
#include "transport/base/mem.h"

#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

static int bad(struct err *err, const char *member, const char *how)
{
    err_set(err, ERR_INVALID, "fixups.%s: %s", member, how);
    return err_hint(err,
        "For example {\"network\": {\"method\": \"static\", \"address\": \"192.0.2.7/24\", \"gateway\": "
        "\"192.0.2.1\"}}; docs/failover.md has all members.");
}

static int check_known(const json_t *object, const char *prefix, const char *const *known, struct err *err)
{
    const char *key = json_unknown_member(object, known);
    char member[100];

    if (!key)
        return 0;
    snprintf(member, sizeof(member), "%s%.60s", prefix, key);
    return bad(err, member, "unknown member");
}

static bool is_address(const json_t *value)
{
    struct in6_addr any;
    const char *text = json_string_value(value);

    return text && (inet_pton(AF_INET, text, &any) == 1 || inet_pton(AF_INET6, text, &any) == 1);
}

/* ADDRESS/BITS of either family. */
static bool is_interface_address(const json_t *value)
{
    const char *text = json_string_value(value), *slash = text ? strchr(text, '/') : NULL;
    char address[64], *end = NULL;
    struct in6_addr any;

    if (!slash || (size_t)(slash - text) >= sizeof(address) || slash[1] < '0' || slash[1] > '9')
        return false;
    memcpy(address, text, (size_t)(slash - text));
    address[slash - text] = '\0';
    long bits = strtol(slash + 1, &end, 10);
    long most = inet_pton(AF_INET, address, &any) == 1 ? 32 : inet_pton(AF_INET6, address, &any) == 1 ? 128 : -1;

    return *end == '\0' && bits >= 1 && bits <= most;
}

int fixup_prefix(const char *text, uint32_t *ret_address, unsigned *ret_bits)
{
    json_t *value = text ? json_string(text) : NULL;
    bool right = is_interface_address(value);
    struct in_addr a;
    char address[64];

    json_decref(value);
    if (!right)
        return -1;
    snprintf(address, sizeof(address), "%.*s", (int)strcspn(text, "/"), text);
    if (inet_pton(AF_INET, address, &a) != 1)
        return -1;
    *ret_address = ntohl(a.s_addr);
    *ret_bits = (unsigned)strtoul(strchr(text, '/') + 1, NULL, 10);
    return 0;
}

static uint32_t mask_of(unsigned bits)
{
    return bits == 0 ? 0 : UINT32_MAX << (32 - bits);
}

static int check_static(const json_t *network, struct err *err)
{
    static const char *const known[] = {"method", "name", "address", "gateway", "dns", NULL};
    const json_t *gateway = json_object_get(network, "gateway"), *dns = json_object_get(network, "dns");
    const json_t *one;
    size_t at;

    if (check_known(network, "network.", known, err) < 0)
        return -1;
    if (!is_interface_address(json_object_get(network, "address")))
        return bad(err, "network.address", "not ADDRESS/BITS");
    if (gateway && !is_address(gateway))
        return bad(err, "network.gateway", "not an address");
    if (dns && (!json_is_array(dns) || json_array_size(dns) > FIXUP_DNS_MAX))
        return bad(err, "network.dns", "not an array of at most 8 addresses");
    json_array_foreach(dns, at, one) if (!is_address(one)) return bad(err, "network.dns", "not an address");
    return 0;
}

/* The name of a card as the source had it, or none. The loopback is no card. */
static bool is_card_name(const json_t *value)
{
    const char *text = json_string_value(value);

    return !value || (text && text[0] && strlen(text) <= 15 && text[strspn(text, NAME_CHARACTERS)] == '\0' &&
                         strcmp(text, "lo") != 0);
}

/* Another one before it has its name. */
static bool is_named_twice(const json_t *nics, size_t at)
{
    const char *name = json_string_value(json_object_get(json_array_get(nics, at), "name"));

    for (size_t i = 0; name && i < at; i++) {
        const char *other = json_string_value(json_object_get(json_array_get(nics, i), "name"));

        if (other && strcmp(other, name) == 0)
            return true;
    }
    return false;
}

static int check_each(const json_t *network, struct err *err)
{
    static const char *const known[] = {"method", "nics", NULL}, *const dhcp[] = {"method", "name", NULL};
    const json_t *nics = json_object_get(network, "nics"), *one;
    size_t at;

    if (check_known(network, "network.", known, err) < 0)
        return -1;
    if (!json_is_array(nics) || json_array_size(nics) < 1 || json_array_size(nics) > FIXUP_NICS_MAX)
        return bad(err, "network.nics", "not an array of 1 to 16 entries");
    json_array_foreach(nics, at, one)
    {
        const char *method = json_string_value(json_object_get(one, "method"));

        if (!json_is_object(one) || !method || (strcmp(method, "dhcp") != 0 && strcmp(method, "static") != 0))
            return bad(err, "network.nics", "an entry has no method, dhcp or static");
        if (!is_card_name(json_object_get(one, "name")))
            return bad(err, "network.nics", "a name is not that of an interface");
        if (is_named_twice(nics, at))
            return bad(err, "network.nics", "two entries have the same name");
        if ((strcmp(method, "static") == 0 ? check_static(one, err) : check_known(one, "network.nics.", dhcp, err)) < 0)
            return -1;
    }
    return 0;
}

static int check_map(const json_t *network, struct err *err)
{
    static const char *const known[] = {"method", "map", NULL}, *const entry[] = {"from", "to", NULL};
    const json_t *map = json_object_get(network, "map"), *one;
    size_t at;

    if (check_known(network, "network.", known, err) < 0)
        return -1;
    if (!json_is_array(map) || json_array_size(map) < 1 || json_array_size(map) > FIXUP_MAP_MAX)
        return bad(err, "network.map", "not an array of 1 to 64 entries");
    json_array_foreach(map, at, one)
    {
        uint32_t from, to;
        unsigned from_bits, to_bits;

        if (!json_is_object(one) || check_known(one, "network.map.", entry, err) < 0)
            return json_is_object(one) ? -1 : bad(err, "network.map", "an entry is not an object");
        if (fixup_prefix(json_string_value(json_object_get(one, "from")), &from, &from_bits) < 0 ||
            fixup_prefix(json_string_value(json_object_get(one, "to")), &to, &to_bits) < 0)
            return bad(err, "network.map", "from or to is not an IPv4 network such as 10.1.0.0/16");
        if (from_bits != to_bits || (from & ~mask_of(from_bits)) || (to & ~mask_of(to_bits)))
            return bad(err, "network.map", "from and to are not networks of the same size");
    }
    return 0;
}

static int check_network(const json_t *network, struct err *err)
{
    static const char *const known[] = {"method", NULL};
    const char *method = json_string_value(json_object_get(network, "method"));

    if (!json_is_object(network) || !method)
        return bad(err, "network.method", "missing");
    if (strcmp(method, "static") == 0)
        return json_object_get(network, "name") ? bad(err, "network.name", "unknown member")
                                                : check_static(network, err);
    if (strcmp(method, "each") == 0)
        return check_each(network, err);
    if (strcmp(method, "translate") == 0)
        return check_map(network, err);
    if (strcmp(method, "keep") != 0 && strcmp(method, "dhcp") != 0)
        return bad(err, "network.method", "none of keep, dhcp, static, each, translate");
    return check_known(network, "network.", known, err);
}

int fixup_spec_check(const json_t *fixups, struct err *err)
{
    static const char *const known[] = {"drivers", "storage", "agent", "serial_console", "network", "on_failure", NULL};
    const json_t *network = json_object_get(fixups, "network"), *failure = json_object_get(fixups, "on_failure");
    const char *word = json_string_value(failure);

    if (!fixups)
        return 0;
    if (!json_is_object(fixups)) {
        err_set(err, ERR_INVALID, "fixups: not an object");
        return err_hint(err, "{} for what every replica needs; docs/failover.md has all members.");
    }
    if (check_known(fixups, "", known, err) < 0)
        return -1;
    for (size_t i = 0; strcmp(known[i], "network") != 0; i++)
        if (json_object_get(fixups, known[i]) && !json_is_boolean(json_object_get(fixups, known[i])))
            return bad(err, known[i], "neither true nor false");
    if (failure && (!word || (strcmp(word, "stop") != 0 && strcmp(word, "continue") != 0)))
        return bad(err, "on_failure", "neither stop nor continue");
    return network ? check_network(network, err) : 0;
}

const char *fixup_network_method(const json_t *fixups)
{
    const char *method = json_string_value(json_object_get(json_object_get(fixups, "network"), "method"));

    return method ? method : "keep";
}

bool fixup_may_fail(const json_t *fixups, bool planned)
{
    const char *word = json_string_value(json_object_get(fixups, "on_failure"));

    return word ? strcmp(word, "continue") == 0 : !planned;
}

bool fixup_wants(const json_t *fixups, const char *what)
{
    const json_t *value = json_object_get(fixups, what);

    return value ? json_is_true(value) : strcmp(what, "serial_console") != 0;
}

bool fixup_translate(const json_t *map, uint32_t *address)
{
    const json_t *one;
    size_t at;

    json_array_foreach(map, at, one)
    {
        uint32_t from, to;
        unsigned bits;

        if (fixup_prefix(json_string_value(json_object_get(one, "from")), &from, &bits) < 0 ||
            fixup_prefix(json_string_value(json_object_get(one, "to")), &to, &bits) < 0 ||
            (*address & mask_of(bits)) != from)
            continue;
        *address = to | (*address & ~mask_of(bits));
        return true;
    }
    return false;
}

void fixup_mac(const char *failover_id, char ret_mac[18])
{
    fixup_nic_mac(failover_id, 0, ret_mac);
}

void fixup_nic_mac(const char *failover_id, unsigned n, char ret_mac[18])
{
    uint32_t h = 2166136261U; /* FNV-1a: any spread of the ids will do */

    for (const char *p = failover_id; *p; p++)
        h = (h ^ (uint8_t)*p) * 16777619U;
    h += n; /* neighbours: two cards of one replica never share one */
    snprintf(ret_mac, 18, "52:54:00:%02x:%02x:%02x", (h >> 16) & 0xff, (h >> 8) & 0xff, h & 0xff);
}
