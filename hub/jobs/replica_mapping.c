/* SPDX-License-Identifier: Apache-2.0
 *
 * Cards are walked in the order of the machine's inventory, so that a replica has them in the same one. Their addresses become one word on the network for
 * the fix-ups: either all cards are addressed anew, or the layout of the source stays and addresses in it may be translated. A mixture of both would leave
 * cards whose configuration was put aside with the others'.
 */
#include "hub/jobs/replica_mapping.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "hub/core/json_members.h"
#include "hub/db/mapping_store.h"
#include "hub/fixup/fixup_spec.h"
#include "transport/base/mem.h"

#define NAME_MAX_BYTES 15 /* of an interface */
#define NETWORK_MAX 128
#define ANY "*"

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

/* ---- checking ---- */

static int bad(struct err *err, const char *member, const char *how)
{
    err_set(err, ERR_INVALID, "%s: %s", member, how);
    return err_hint(err, "docs/failover.md, \"Mappings\", has all members.");
}

static int check_known(const json_t *object, const char *const *known, struct err *err)
{
    const char *key = json_unknown_member(object, known);

    return key ? bad(err, key, "unknown member") : 0;
}

static bool is_mac(const char *text)
{
    for (size_t i = 0; i < 17; i++)
        if (i % 3 == 2 ? text[i] != ':' : !isxdigit((unsigned char)text[i]))
            return false;
    return text[17] == '\0';
}

static bool is_interface(const char *text)
{
    size_t n = strlen(text);

    if (n == 0 || n > NAME_MAX_BYTES)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)text[i]) && !strchr("-_.", text[i]))
            return false;
    return true;
}

static bool is_source(const char *text)
{
    uint32_t address;
    unsigned bits;

    return strcmp(text, ANY) == 0 || is_mac(text) || is_interface(text) || fixup_prefix(text, &address, &bits) == 0;
}

static bool is_network(const json_t *value)
{
    const char *text = json_string_value(value);

    return !value || (text && text[0] && strlen(text) <= NETWORK_MAX);
}

static int check_ip(const json_t *ip, bool of_site, struct err *err)
{
    json_t *fixups = ip ? json_pack("{s:O}", "network", ip) : NULL;
    int rc = fixup_spec_check(fixups, err);
    const char *method = fixup_network_method(fixups);

    if (rc == 0 && strcmp(method, "each") == 0)
        rc = bad(err, "ip.method", "each is not of one card");
    if (rc == 0 && of_site && strcmp(method, "static") == 0)
        rc = bad(err, "ip.method", "a static address is one machine's: give it in the machine's own mapping");
    json_decref(fixups);
    return rc;
}

static int check_nic(const json_t *nic, bool of_site, struct err *err)
{
    static const char *const known[] = {"source", "network", "test_network", "ip", "test_ip", NULL};

    if (!json_is_object(nic))
        return bad(err, "nics", "an entry is not an object");
    if (check_known(nic, known, err) < 0)
        return -1;
    if (!is_source(text_of(nic, "source")))
        return bad(
            err, "source", "neither *, nor a card's name or hardware address, nor a network such as 10.1.0.0/16");
    if (!is_network(json_object_get(nic, "network")))
        return bad(err, "network", "not the name of a network");
    if (!is_network(json_object_get(nic, "test_network")))
        return bad(err, "test_network", "not the name of a network");
    if (json_object_get(nic, "network") && strcmp(text_of(nic, "network"), text_of(nic, "test_network")) == 0)
        return bad(err, "test_network", "the network that failovers use: a test is to be alone in its own");
    return check_ip(json_object_get(nic, "ip"), of_site, err) < 0 ||
                   check_ip(json_object_get(nic, "test_ip"), of_site, err) < 0
               ? -1
               : 0;
}

static bool within(const json_t *object, const char *key, long long min, long long max)
{
    const json_t *v = json_object_get(object, key);

    return !v || (json_is_integer(v) && json_integer_value(v) >= min && json_integer_value(v) <= max);
}

int replica_mapping_check(const json_t *mapping, bool of_site, struct err *err)
{
    static const char *const known[] = {"cpus", "memory_bytes", "nics", NULL};
    const json_t *nics = json_object_get(mapping, "nics"), *one;
    size_t at;

    if (!json_is_object(mapping))
        return bad(err, "mapping", "not an object");
    if (check_known(mapping, known, err) < 0)
        return -1;
    if (!within(mapping, "cpus", 1, REPLICA_CPUS_MAX))
        return bad(err, "cpus", "not between 1 and 512");
    if (!within(mapping, "memory_bytes", REPLICA_MEMORY_MIN_BYTES, REPLICA_MEMORY_MAX_BYTES))
        return bad(err, "memory_bytes", "less than 64 MiB, or too much");
    if (nics && (!json_is_array(nics) || json_array_size(nics) > FIXUP_NICS_MAX))
        return bad(err, "nics", "not an array of at most 16 entries");
    json_array_foreach(nics, at, one) if (check_nic(one, of_site, err) < 0) return err_wrap(err, "nics/%zu", at);
    return 0;
}

/* ---- which entry is a card's ---- */

static bool has_address_in(const json_t *nic, uint32_t network, unsigned bits)
{
    uint32_t mask = bits == 0 ? 0 : UINT32_MAX << (32 - bits);
    const json_t *one;
    size_t at;

    json_array_foreach(json_object_get(nic, "addresses"), at, one)
    {
        char text[INET_ADDRSTRLEN] = "";
        struct in_addr a;
        const char *s = json_string_value(one);

        if (!s)
            continue;
        snprintf(text, sizeof(text), "%.*s", (int)strcspn(s, "/"), s);
        if (inet_pton(AF_INET, text, &a) == 1 && (ntohl(a.s_addr) & mask) == (network & mask))
            return true;
    }
    return false;
}

static bool fits(const json_t *entry, const json_t *nic)
{
    const char *source = text_of(entry, "source");
    uint32_t network;
    unsigned bits;

    if (strcmp(source, ANY) == 0 || strcmp(source, text_of(nic, "name")) == 0 ||
        strcasecmp(source, text_of(nic, "mac")) == 0)
        return true;
    return fixup_prefix(source, &network, &bits) == 0 && has_address_in(nic, network, bits);
}

static const json_t *find_entry(const json_t *mapping, const json_t *nic)
{
    const json_t *one;
    size_t at;

    json_array_foreach(json_object_get(mapping, "nics"), at, one) if (fits(one, nic)) return one;
    return NULL;
}

/* A name or a hardware address. */
static bool names_a_card(const json_t *mapping)
{
    const json_t *one;
    size_t at;

    json_array_foreach(json_object_get(mapping, "nics"), at, one)
    {
        const char *source = text_of(one, "source");
        uint32_t network;
        unsigned bits;

        if (strcmp(source, ANY) != 0 && fixup_prefix(source, &network, &bits) < 0)
            return true;
    }
    return false;
}

/* ---- applying ---- */

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "no memory for a mapping");
}

static int refuse(struct err *err, const char *why)
{
    err_set(err, ERR_REFUSED, "the mapping does not fit the machine: %s", why);
    return err_hint(err, "leeward machine mapping show lists its cards; or fail over without: --no-mapping");
}

/* The cards of the replica, and what becomes of their addresses. */
struct cards {
    json_t *nics;                      /* options.nics */
    const json_t *ips[FIXUP_NICS_MAX]; /* NULL: keep */
    const char *names[FIXUP_NICS_MAX];
    size_t count;
};

/* The address of a static one, however it is written; false: there is none. */
static bool address_of(const json_t *ip, int *ret_family, struct in6_addr *ret_address)
{
    const char *address = text_of(ip, "address");
    char text[INET6_ADDRSTRLEN] = "";

    *ret_address = (struct in6_addr){0};
    snprintf(text, sizeof(text), "%.*s", (int)strcspn(address, "/"), address);
    *ret_family = strchr(text, ':') ? AF_INET6 : AF_INET;
    return inet_pton(*ret_family, text, ret_address) == 1;
}

/* Another card has that address, whatever the size of its network. */
static bool is_taken(const struct cards *c, const json_t *ip)
{
    struct in6_addr own, other;
    int own_family, other_family;

    if (!address_of(ip, &own_family, &own))
        return false;
    for (size_t i = 0; i < c->count; i++)
        if (address_of(c->ips[i], &other_family, &other) && own_family == other_family &&
            memcmp(&own, &other, sizeof(own)) == 0)
            return true;
    return false;
}

static int add_card(const struct replica_mapping_question *q, const json_t *nic, struct cards *c, struct err *err)
{
    const json_t *entry = find_entry(q->machine, nic), *ip;
    const char *network;

    if (!entry)
        entry = find_entry(q->site, nic);
    network = text_of(entry, q->test ? "test_network" : "network");
    if (!network[0])
        return 0;
    if (c->count == FIXUP_NICS_MAX)
        return refuse(err, "more than 16 of its cards would get a network; map the ones that matter");
    ip = q->test ? json_object_get(entry, "test_ip") : NULL;
    ip = ip ? ip : json_object_get(entry, "ip");
    if (is_taken(c, ip))
        return refuse(err, "two of its cards would get the same static address; name one as its source");
    c->names[c->count] = text_of(nic, "name");
    c->ips[c->count++] = ip;
    if (json_array_append_new(c->nics, json_pack("{s:s, s:s, s:b}", "source", text_of(nic, "name"), "network", network,
                                           "isolated", q->test ? 1 : 0)) < 0)
        return no_memory(err);
    return 0;
}

static bool is_method(const json_t *ip, const char *a, const char *b)
{
    const char *method = ip ? text_of(ip, "method") : "keep";

    return strcmp(method, a) == 0 || strcmp(method, b) == 0;
}

/* All of them addressed anew. A single card of a machine that has but one is told as people tell it. */
static json_t *address_anew(const struct cards *c, bool alone)
{
    json_t *list = json_array();

    if (alone && c->count == 1) {
        json_decref(list);
        return json_deep_copy(c->ips[0]);
    }
    for (size_t i = 0; i < c->count; i++) {
        json_t *one = json_deep_copy(c->ips[i]);

        if (one && c->names[i][0])
            json_object_set_new(one, "name", json_string(c->names[i]));
        json_array_append_new(list, one);
    }
    return json_pack("{s:s, s:o}", "method", "each", "nics", list);
}

/* One map for all: the layout is of the whole machine. */
static json_t *translate_all(const struct cards *c)
{
    json_t *map = json_array();

    for (size_t i = 0; i < c->count; i++) {
        const json_t *one, *there;
        size_t at, k;

        json_array_foreach(json_object_get(c->ips[i], "map"), at, one)
        {
            bool known = false;

            json_array_foreach(map, k, there) known |= json_equal(there, one);
            if (!known)
                json_array_append(map, (json_t *)one);
        }
    }
    return json_pack("{s:s, s:o}", "method", "translate", "map", map);
}

/* *ret_network NULL: nothing is to be changed. */
static int plan_addresses(const struct cards *c, bool alone, json_t **ret_network, struct err *err)
{
    size_t anew = 0, translated = 0;

    *ret_network = NULL;
    for (size_t i = 0; i < c->count; i++) {
        anew += is_method(c->ips[i], "dhcp", "static");
        translated += is_method(c->ips[i], "translate", "translate");
    }
    if (anew > 0 && anew < c->count)
        return refuse(err, "some cards are addressed anew (dhcp, static) and others keep their layout (keep, "
                           "translate): one or the other for all");
    if (anew == 0 && translated == 0)
        return 0;
    *ret_network = anew > 0 ? address_anew(c, alone) : translate_all(c);
    return *ret_network ? 0 : no_memory(err);
}

/* Takes network over. */
static int put_network(json_t *options, json_t *network, struct err *err)
{
    json_t *fixups = json_object_get(options, "fixups");

    if (!fixups && json_object_set_new(options, "fixups", fixups = json_object()) < 0) {
        json_decref(network);
        return no_memory(err);
    }
    return json_object_set_new(fixups, "network", network) < 0 ? no_memory(err) : 0;
}

/* The agent tells of no card (those before mappings never do): there is one, and its addresses are the machine's. */
static int choose_for_unknown(const struct replica_mapping_question *q, struct cards *c, struct err *err)
{
    json_t *only = json_pack("{s:s, s:s, s:O?}", "name", "", "mac", "", "addresses", (json_t *)q->addresses);
    int rc = c->nics && only ? 0 : no_memory(err);

    if (rc == 0 && !find_entry(q->machine, only) && !find_entry(q->site, only) &&
        (names_a_card(q->machine) || names_a_card(q->site)))
        rc = refuse(err, "the mapping names cards, and the machine's agent tells none: upgrade the agent, or map * or "
                         "a network");
    if (rc == 0)
        rc = add_card(q, only, c, err);
    if (c->count > 0)
        c->names[0] = "";
    json_decref(only);
    return rc;
}

static int choose_cards(const struct replica_mapping_question *q, struct cards *c, bool *ret_alone, struct err *err)
{
    const json_t *one;
    size_t at;

    c->nics = json_array();
    *ret_alone = json_array_size(q->nics) <= 1;
    if (json_array_size(q->nics) == 0)
        return choose_for_unknown(q, c, err);
    json_array_foreach(q->nics, at, one) if (add_card(q, one, c, err) < 0) return -1;
    return 0;
}

static int apply_nics(const struct replica_mapping_question *q, json_t *options, struct err *err)
{
    struct cards c = {.count = 0};
    json_t *network = NULL;
    bool alone;
    int rc = choose_cards(q, &c, &alone, err);

    if (rc == 0 && !json_object_get(json_object_get(options, "fixups"), "network"))
        rc = plan_addresses(&c, alone, &network, err);
    if (rc == 0 && json_object_set(options, "nics", c.nics) < 0)
        rc = no_memory(err);
    if (rc == 0 && network)
        rc = put_network(options, TAKE_PTR(network), err);
    json_decref(network);
    json_decref(c.nics);
    if (rc == 0 && fixup_spec_check(json_object_get(options, "fixups"), err) < 0)
        rc = refuse(err, "its addresses do not make one plan");
    return rc;
}

int replica_mapping_apply(const struct replica_mapping_question *q, json_t *options, struct err *err)
{
    static const char *const sizes[] = {"cpus", "memory_bytes"};

    if (json_is_false(json_object_get(options, "mapping")))
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        json_t *own = json_object_get(q->machine, sizes[i]);
        json_t *value = own ? own : json_object_get(q->site, sizes[i]);

        if (value && !json_object_get(options, sizes[i]) && json_object_set(options, sizes[i], value) < 0)
            return no_memory(err);
    }
    if (json_object_get(options, "network") || (json_array_size(json_object_get(q->machine, "nics")) == 0 &&
                                                   json_array_size(json_object_get(q->site, "nics")) == 0))
        return 0;
    return apply_nics(q, options, err);
}

int replica_mapping_resolve(struct db_conn *conn, const char *machine_id, bool test, json_t *params, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    json_t *options = json_object_get(params, "options");

    if (!options && json_object_set_new(params, "options", options = json_object()) < 0)
        return no_memory(err);
    if (db_need(conn, &db_machine_mappings, machine_id, &set, err) < 0)
        return -1;
    const struct machine_mapping_row *m = db_at(&set, struct machine_mapping_row, 0);
    json_t *machine = json_loads(m->mapping_json, 0, NULL), *site = json_loads(m->site_mapping_json, 0, NULL);
    json_t *nics = json_loads(m->nics_json, 0, NULL), *addresses = json_loads(m->addresses_json, 0, NULL);
    const struct replica_mapping_question q = {
        .machine = machine, .site = site, .nics = nics, .addresses = addresses, .test = test};
    int rc = replica_mapping_apply(&q, options, err);

    json_decref(machine);
    json_decref(site);
    json_decref(nics);
    json_decref(addresses);
    return rc;
}
