/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward machine mapping ..., leeward site mapping ...: what replicas get at a target. `set` changes one entry of the list of cards, the one with its source,
 * and leaves the others; what is more particular stands before what is less, since the first entry that fits a card counts.
 */
#include <stdio.h>
#include <string.h>

#include "hub/cli/verbs.h"
#include "transport/base/mem.h"

#define CPUS_MAX 512
#define MEMORY_MIB_MAX (64ULL << 20)
#define ANY "*"
#define MACHINE "/api/v1/machines/%s/mapping"
#define SITE "/api/v1/sites/%s/mapping"

static const struct column nic_columns[] = {
    {"SOURCE", "source", COLUMN_TEXT, false},
    {"NETWORK", "network", COLUMN_TEXT, false},
    {"ADDRESS", "address", COLUMN_TEXT, false},
    {"TEST NETWORK", "test_network", COLUMN_TEXT, false},
    {"TEST ADDRESS", "test_address", COLUMN_TEXT, false},
};

/* ---- showing ---- */

/* "192.0.2.7/24 via 192.0.2.1", "dhcp", "10.1.0.0/16 to 10.9.0.0/16". */
static json_t *address_words(const json_t *ip)
{
    const char *method = json_string_value(json_object_get(ip, "method"));
    const char *address = json_string_value(json_object_get(ip, "address"));
    const char *gateway = json_string_value(json_object_get(ip, "gateway"));
    const json_t *first = json_array_get(json_object_get(ip, "map"), 0);

    if (address)
        return gateway ? json_sprintf("%s via %s", address, gateway) : json_string(address);
    if (first)
        return json_sprintf("%s to %s%s", json_string_value(json_object_get(first, "from")),
            json_string_value(json_object_get(first, "to")),
            json_array_size(json_object_get(ip, "map")) > 1 ? ", ..." : "");
    return json_string(method ? method : "keep");
}

static int print(const struct command_line *line, json_t *mapping)
{
    json_t *one;
    size_t at;

    if (line->output == OUTPUT_JSON)
        return output_item(line, mapping, stdout);
    json_array_foreach(json_object_get(mapping, "nics"), at, one)
    {
        const json_t *ip = json_object_get(one, "ip"), *test = json_object_get(one, "test_ip");

        json_object_set_new(one, "address", address_words(ip));
        json_object_set_new(one, "test_address", address_words(test ? test : ip));
    }
    return output_item_and_list(line, mapping, "nics", nic_columns, ARRAY_LEN(nic_columns), stdout);
}

static int show(struct command_line *line, const char *form, struct err *err)
{
    AUTO_FREE char *path = client_path(form, line->arguments[0]);
    AUTO_ANSWER struct client_answer answer = {0};

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    return client_get(line->client, path, &answer, err) < 0 ? -1 : print(line, answer.json);
}

int verb_machine_mapping_show(struct command_line *line, struct err *err)
{
    return show(line, MACHINE, err);
}

int verb_site_mapping_show(struct command_line *line, struct err *err)
{
    return show(line, SITE, err);
}

/* ---- changing ---- */

/* --address, --gateway and --dns, or those that begin with test-, as an ip; *ret_ip NULL: none was given. */
static int read_ip(const struct command_line *line, const char *prefix, json_t **ret_ip, struct err *err)
{
    char name[24];
    const char *values[3];
    static const char *const options[] = {"address", "gateway", "dns"};

    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        snprintf(name, sizeof(name), "%s%s", prefix, options[i]);
        values[i] = command_option(line, name);
    }
    const char *address = values[0];

    *ret_ip = NULL;
    if (!address && !values[1] && !values[2])
        return 0;
    if (!address || !strchr(address, '/')) {
        if (address && !values[1] && !values[2]) {
            *ret_ip = json_pack("{s:s}", "method", address); /* dhcp, keep */
            return 0;
        }
        err_set(err, ERR_INVALID, "--%sgateway and --%sdns: without an address", prefix, prefix);
        return err_hint(err, "For example --%saddress 192.0.2.7/24 --%sgateway 192.0.2.1.", prefix, prefix);
    }
    *ret_ip = json_pack("{s:s, s:s, s:s*}", "method", "static", "address", address, "gateway", values[1]);
    if (values[2]) {
        json_t *servers = json_array();

        for (const char *at = values[2]; *at;) {
            size_t n = strcspn(at, ",");

            json_array_append_new(servers, json_stringn(at, n));
            at += n + (at[n] == ',');
        }
        json_object_set_new(*ret_ip, "dns", servers);
    }
    return 0;
}

/* --translate FROM=TO, may be repeated. */
static int read_translation(const struct command_line *line, json_t **ret_ip, struct err *err)
{
    json_t *map = NULL;
    const char *text;

    for (unsigned i = 0; (text = command_option_nth(line, "translate", i)); i++) {
        const char *to = strchr(text, '=');

        if (!to) {
            json_decref(map);
            err_set(err, ERR_INVALID, "--translate: %s is not FROM=TO", text);
            return err_hint(err, "For example --translate 10.1.0.0/16=10.9.0.0/16.");
        }
        map = map ? map : json_array();
        json_array_append_new(
            map, json_pack("{s:o, s:s}", "from", json_stringn(text, (size_t)(to - text)), "to", to + 1));
    }
    if (map && *ret_ip) {
        json_decref(map);
        err_set(err, ERR_INVALID, "--translate and --address: one of them");
        return err_hint(err, "Addresses are translated, or given anew.");
    }
    if (map)
        *ret_ip = json_pack("{s:s, s:o}", "method", "translate", "map", map);
    return 0;
}

static int set_members(const struct command_line *line, json_t *entry, struct err *err)
{
    const char *network = command_option(line, "network"), *test = command_option(line, "test-network");
    json_t *ip = NULL, *test_ip = NULL;
    int rc = read_ip(line, "", &ip, err);

    if (rc == 0)
        rc = read_translation(line, &ip, err);
    if (rc == 0)
        rc = read_ip(line, "test-", &test_ip, err);
    if (rc == 0 && network && !network[0])
        json_object_del(entry, "network");
    else if (rc == 0 && network)
        json_object_set_new(entry, "network", json_string(network));
    if (rc == 0 && test && !test[0])
        json_object_del(entry, "test_network");
    else if (rc == 0 && test)
        json_object_set_new(entry, "test_network", json_string(test));
    if (rc == 0 && ip)
        json_object_set(entry, "ip", ip);
    if (rc == 0 && test_ip)
        json_object_set(entry, "test_ip", test_ip);
    json_decref(ip);
    json_decref(test_ip);
    return rc;
}

/* A card before a network before any. */
static unsigned rank(const char *source)
{
    return strcmp(source, ANY) == 0 ? 2 : strchr(source, '/') ? 1 : 0;
}

static const char *source_of(const json_t *entry)
{
    const char *source = json_string_value(json_object_get(entry, "source"));

    return source ? source : "";
}

/* The entry of the source, made in its place where there is none. */
static json_t *entry_of(json_t *nics, const char *source)
{
    size_t at, place = 0;
    json_t *one;

    json_array_foreach(nics, at, one)
    {
        if (strcmp(source_of(one), source) == 0)
            return one;
        place += rank(source_of(one)) <= rank(source);
    }
    return json_array_insert_new(nics, place, json_pack("{s:s}", "source", source)) == 0 ? json_array_get(nics, place)
                                                                                         : NULL;
}

static int remove_entry(json_t *nics, const char *source, struct err *err)
{
    size_t at;
    json_t *one;

    json_array_foreach(nics, at, one) if (strcmp(source_of(one), source) == 0) return json_array_remove(nics, at);
    err_set(err, ERR_NOT_FOUND, "the mapping has no entry for %s", source);
    return err_hint(err, "Name one that it has with --nic.");
}

/* Processors and memory; 0 is none of their own. */
static int add_sizes(const struct command_line *line, json_t *body, struct err *err)
{
    uint64_t value;
    int given;

    if ((given = command_option_number(line, "cpus", 0, CPUS_MAX, &value, err)) < 0)
        return -1;
    if (given)
        json_object_set_new(body, "cpus", value ? json_integer((json_int_t)value) : json_null());
    if ((given = command_option_number(line, "memory-mib", 0, MEMORY_MIB_MAX, &value, err)) < 0)
        return -1;
    if (given)
        json_object_set_new(body, "memory_bytes", value ? json_integer((json_int_t)(value << 20)) : json_null());
    return 0;
}

static bool names_a_nic(const struct command_line *line)
{
    static const char *const options[] = {"nic", "network", "test-network", "address", "gateway", "dns", "test-address",
        "test-gateway", "test-dns", "translate", "remove"};

    for (size_t i = 0; i < ARRAY_LEN(options); i++)
        if (command_option(line, options[i]))
            return true;
    return false;
}

static int add_nics(const struct command_line *line, const json_t *before, json_t *body, struct err *err)
{
    const char *source = command_option(line, "nic") ? command_option(line, "nic") : ANY;
    json_t *nics, *entry;

    if (!names_a_nic(line))
        return 0;
    nics = json_deep_copy(json_object_get(before, "nics"));
    if (!nics || json_object_set_new(body, "nics", nics) < 0)
        return err_set(err, ERR_NOMEM, "no memory for a mapping");
    if (command_option(line, "remove"))
        return remove_entry(nics, source, err);
    entry = entry_of(nics, source);
    return entry ? set_members(line, entry, err) : err_set(err, ERR_NOMEM, "no memory for a mapping");
}

static int change(struct command_line *line, const char *form, bool clear, struct err *err)
{
    AUTO_FREE char *path = client_path(form, line->arguments[0]);
    AUTO_ANSWER struct client_answer before = {0};
    AUTO_ANSWER struct client_answer after = {0};
    json_t *body = clear ? json_pack("{s:n, s:n, s:n}", "cpus", "memory_bytes", "nics") : json_object();
    int rc = path && body ? client_get(line->client, path, &before, err)
                          : err_set(err, ERR_NOMEM, "no memory for a request");

    if (rc == 0 && !clear && (add_sizes(line, body, err) < 0 || add_nics(line, before.json, body, err) < 0))
        rc = -1;
    if (rc == 0 && json_object_size(body) == 0) {
        err_set(err, ERR_INVALID, "nothing to change was given");
        rc = err_hint(err, "For example --network prod --test-network drill --address dhcp.");
    }
    if (rc == 0)
        rc = client_call(line->client, "PATCH", path, body, before.etag, &after, err);
    json_decref(body);
    return rc < 0 ? -1 : after.json ? print(line, after.json) : 0;
}

int verb_machine_mapping_set(struct command_line *line, struct err *err)
{
    return change(line, MACHINE, false, err);
}

int verb_site_mapping_set(struct command_line *line, struct err *err)
{
    return change(line, SITE, false, err);
}

int verb_machine_mapping_clear(struct command_line *line, struct err *err)
{
    return change(line, MACHINE, true, err);
}

int verb_site_mapping_clear(struct command_line *line, struct err *err)
{
    return change(line, SITE, true, err);
}
