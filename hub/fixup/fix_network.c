/* SPDX-License-Identifier: Apache-2.0
 *
 * dhcp, static and each: the source's own configuration of network cards is put aside, and the replica's cards, known by the addresses of their hardware,
 * get the new one in the words of whatever configures the network of this guest. A card keeps the name that the source's had (systemd.link(5)), so that
 * whatever else names it goes on working. translate: the layout stays, addresses and hardware addresses in it are replaced.
 *
 * Formats: systemd.network(5), interfaces(5), netplan(5), nm-settings-keyfile(5), ifcfg of Red Hat's initscripts.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "hub/fixup/fixers.h"
#include "hub/fixup/fixup_spec.h"
#include "transport/base/buf.h"
#include "transport/base/mem.h"

#define FIXUP "network"
#define NEW_ADDRESS "the replica has another address"
#define PUT_ASIDE "the source's own network configuration does not hold in the replica"
#define INTERFACES "/etc/network/interfaces"
#define NAME_MAX_BYTES 15 /* of an interface */

enum renderer {
    RENDERER_NONE,
    RENDERER_NETWORKD,
    RENDERER_IFUPDOWN,
    RENDERER_NETPLAN,
    RENDERER_MANAGER,
    RENDERER_COUNT
};

/* What is to be configured of a card. */
struct wanted {
    bool dhcp;
    const char *address, *gateway; /* gateway: "" = none */
    bool ipv6;
    const json_t *dns;
    char mac[18];
    char name[NAME_MAX_BYTES + 1]; /* of the card in the source; "": not known */
    unsigned number;               /* of the replica's cards, from 0 */
};

struct wanted_list {
    struct wanted cards[FIXUP_NICS_MAX];
    size_t count;
};

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "no memory for the guest's network");
}

/* ---- what is there ---- */

struct place {
    const char *folder, *suffix;
    enum renderer renderer;
};

static const struct place places[] = {
    {"/etc/netplan", ".yaml", RENDERER_NETPLAN},
    {"/etc/NetworkManager/system-connections", "", RENDERER_MANAGER},
    {"/etc/sysconfig/network-scripts", "", RENDERER_MANAGER},
    {"/etc/systemd/network", ".network", RENDERER_NETWORKD},
    {"/etc/network/interfaces.d", "", RENDERER_IFUPDOWN},
};

static const char *base_of(const char *path)
{
    return strrchr(path, '/') + 1;
}

/* Loopback and scripts are not about a card. */
static bool is_about_a_card(const struct place *p, const char *path)
{
    const char *name = base_of(path);

    return strcmp(p->folder, "/etc/sysconfig/network-scripts") != 0 ||
           (strncmp(name, "ifcfg-", 6) == 0 && strcmp(name, "ifcfg-lo") != 0);
}

/* Files of the place, an array of paths; NULL with err. */
static json_t *files_of(const struct fixup_call *call, const struct place *p, struct err *err)
{
    json_t *all = json_array(), *files = json_array(), *one;
    size_t at;

    if (!all || !files || change_list_files(call->list, p->folder, p->suffix, all, err) < 0) {
        json_decref(all);
        json_decref(files);
        no_memory(err);
        return NULL;
    }
    json_array_foreach(all, at, one) if (is_about_a_card(p, json_string_value(one))) json_array_append(files, one);
    json_decref(all);
    return files;
}

/* "iface NAME" other than lo, at the line. */
static bool iface_name(const char *line, char ret_name[NAME_MAX_BYTES + 1])
{
    char word[16];

    return sscanf(line, " %15s %15s", word, ret_name) == 2 && strcmp(word, "iface") == 0 && strcmp(ret_name, "lo") != 0;
}

static bool has_iface(const char *text, char ret_name[NAME_MAX_BYTES + 1])
{
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (iface_name(line, ret_name))
            return true;
    return false;
}

static bool is_enabled(const struct fixup_call *call, const char *unit)
{
    AUTO_FREE char *path = mem_printf("/etc/systemd/system/multi-user.target.wants/%s", unit);

    /* The link's target may be missing in a test's tree, never in a guest's. */
    return path && guest_tree_has(change_list_tree(call->list), path);
}

/* Who configures the network. Several may have files; the one that the others' files are made for or that is enabled decides. */
static enum renderer find_renderer(const struct fixup_call *call, struct err *err)
{
    bool has[RENDERER_COUNT] = {false};
    const struct guest_tree *tree = change_list_tree(call->list);
    char name[NAME_MAX_BYTES + 1];
    const char *text = NULL;

    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        json_t *files = files_of(call, &places[i], err);

        has[places[i].renderer] |= json_array_size(files) > 0;
        json_decref(files);
    }
    if (change_list_text(call->list, INTERFACES, &text, err) == 1 && has_iface(text, name))
        has[RENDERER_IFUPDOWN] = true;
    if (has[RENDERER_NETPLAN])
        return RENDERER_NETPLAN;
    if (has[RENDERER_MANAGER] || is_enabled(call, "NetworkManager.service"))
        return RENDERER_MANAGER;
    if (has[RENDERER_NETWORKD] && (is_enabled(call, "systemd-networkd.service") || !has[RENDERER_IFUPDOWN]))
        return RENDERER_NETWORKD;
    if (has[RENDERER_IFUPDOWN])
        return RENDERER_IFUPDOWN;
    return guest_tree_has(tree, "/lib/systemd/systemd-networkd") ? RENDERER_NETWORKD : RENDERER_NONE;
}

/* ---- the name that the source's card had ---- */

static bool take_name(const char *from, size_t n, char ret_name[NAME_MAX_BYTES + 1])
{
    if (n == 0 || n > NAME_MAX_BYTES || (n == 2 && memcmp(from, "lo", 2) == 0))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)from[i]) && !strchr("-_.", from[i]))
            return false;
    memmove(ret_name, from, n); /* from may be ret_name */
    ret_name[n] = '\0';
    return true;
}

/* The value behind a key at the beginning of a line, quotes left out. */
static bool value_name(const char *text, const char *key, char ret_name[NAME_MAX_BYTES + 1])
{
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        const char *at = line + strspn(line, " \t");

        if (strncmp(at, key, strlen(key)) != 0)
            continue;
        at += strlen(key);
        at += strspn(at, " \t\"'");
        if (take_name(at, strcspn(at, " \t\"'\r\n"), ret_name))
            return true;
    }
    return false;
}

/* The first key below "ethernets:" in netplan's YAML, which is indented more than that. */
static bool netplan_name(const char *text, char ret_name[NAME_MAX_BYTES + 1])
{
    const char *at = strstr(text, "ethernets:");

    at = at ? strchr(at, '\n') : NULL;
    for (; at && *at; at = strchr(at, '\n')) {
        at++;
        const char *key = at + strspn(at, " \t\"'");

        if (*key == '#' || *key == '\n')
            continue;
        size_t n = strcspn(key, ":\"'\n");

        return key > at && take_name(key, n, ret_name);
    }
    return false;
}

static void find_name(const struct fixup_call *call, char ret_name[NAME_MAX_BYTES + 1], struct err *err)
{
    const char *text = NULL;
    bool found = change_list_text(call->list, INTERFACES, &text, err) == 1 && has_iface(text, ret_name) &&
                 take_name(ret_name, strlen(ret_name), ret_name);

    for (size_t i = 0; !found && i < ARRAY_LEN(places); i++) {
        json_t *files = files_of(call, &places[i], err), *one;
        size_t at;

        json_array_foreach(files, at, one)
        {
            if (found || change_list_text(call->list, json_string_value(one), &text, err) != 1)
                continue;
            found = places[i].renderer == RENDERER_NETPLAN    ? netplan_name(text, ret_name)
                    : places[i].renderer == RENDERER_NETWORKD ? value_name(text, "Name=", ret_name)
                    : places[i].renderer == RENDERER_MANAGER
                        ? value_name(text, "interface-name=", ret_name) || value_name(text, "DEVICE=", ret_name)
                        : has_iface(text, ret_name);
        }
        json_decref(files);
    }
    if (!found)
        ret_name[0] = '\0';
}

/* ---- the new configuration ---- */

/* The addresses, each behind `before` and followed by `after`. */
static int list_dns(const struct wanted *w, struct buf *out, const char *before, const char *after, struct err *err)
{
    const json_t *one;
    size_t at;

    json_array_foreach(
        w->dns, at, one) if (buf_printf(out, err, "%s%s%s", before, json_string_value(one), after) < 0) return -1;
    return 0;
}

static int networkd(const struct wanted *w, struct buf *out, struct err *err)
{
    if (buf_printf(out, err, "[Match]\nMACAddress=%s\n\n[Network]\n", w->mac) < 0)
        return -1;
    if (w->dhcp)
        return buf_append_str(out, "DHCP=yes\n", err);
    if (buf_printf(out, err, "Address=%s\n", w->address) < 0 ||
        (w->gateway[0] && buf_printf(out, err, "Gateway=%s\n", w->gateway) < 0))
        return -1;
    return list_dns(w, out, "DNS=", "\n", err);
}

static int ifupdown(const struct wanted *w, struct buf *out, struct err *err)
{
    const char *name = w->name, *family = w->ipv6 ? "inet6" : "inet";

    if (buf_printf(out, err, "\nauto %s\niface %s %s %s\n", name, name, w->dhcp ? "inet" : family,
            w->dhcp ? "dhcp" : "static") < 0)
        return -1;
    if (w->dhcp)
        return 0;
    if (buf_printf(out, err, "    address %s\n", w->address) < 0 ||
        (w->gateway[0] && buf_printf(out, err, "    gateway %s\n", w->gateway) < 0))
        return -1;
    if (json_array_size(w->dns) == 0)
        return 0;
    return buf_append_str(out, "    dns-nameservers", err) < 0 || list_dns(w, out, " ", "", err) < 0 ||
                   buf_append_str(out, "\n", err) < 0
               ? -1
               : 0;
}

static int netplan(const struct wanted *w, struct buf *out, struct err *err)
{
    if (buf_printf(out, err, "    replica%u:\n      match:\n        macaddress: \"%s\"\n", w->number, w->mac) < 0 ||
        (w->name[0] && buf_printf(out, err, "      set-name: \"%s\"\n", w->name) < 0))
        return -1;
    if (w->dhcp)
        return buf_append_str(out, "      dhcp4: true\n", err);
    if (buf_printf(out, err, "      addresses: [\"%s\"]\n", w->address) < 0 ||
        (w->gateway[0] && buf_printf(out, err, "      routes:\n        - to: \"%s\"\n          via: \"%s\"\n",
                              w->ipv6 ? "::/0" : "0.0.0.0/0", w->gateway) < 0))
        return -1;
    if (json_array_size(w->dns) == 0)
        return 0;
    if (buf_append_str(out, "      nameservers:\n        addresses:\n", err) < 0)
        return -1;
    return list_dns(w, out, "          - \"", "\"\n", err);
}

/* As people count; 0 of the first, whose files and names have no number. */
static unsigned card_number(const struct wanted *w)
{
    return w->number ? w->number + 1 : 0;
}

static int manager(const struct wanted *w, struct buf *out, struct err *err)
{
    const char *family = w->ipv6 ? "ipv6" : "ipv4", *other = w->ipv6 ? "ipv4" : "ipv6";

    if (buf_printf(out, err,
            "[connection]\nid=leeward-replica%s%.0u\ntype=ethernet\nautoconnect=true\n\n[ethernet]\nmac-address=%s\n\n",
            w->number ? "-" : "", card_number(w), w->mac) < 0)
        return -1;
    if (w->dhcp)
        return buf_append_str(out, "[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n", err);
    if (buf_printf(out, err, "[%s]\nmethod=manual\naddress1=%s%s%s\n", family, w->address, w->gateway[0] ? "," : "",
            w->gateway) < 0)
        return -1;
    if (json_array_size(w->dns) > 0 && (buf_append_str(out, "dns=", err) < 0 || list_dns(w, out, "", ";", err) < 0 ||
                                           buf_append_str(out, "\n", err) < 0))
        return -1;
    return buf_printf(out, err, "\n[%s]\nmethod=%s\n", other, w->ipv6 ? "disabled" : "ignore");
}

/* A file for all cards, or one for each. */
static const struct {
    const char *stem, *suffix;
    const char *begin; /* of the one file; NULL: each card has its own */
    mode_t mode;
    int (*write)(const struct wanted *w, struct buf *out, struct err *err);
} renderers[RENDERER_COUNT] = {
    [RENDERER_NETWORKD] = {"/etc/systemd/network/10-leeward-replica", ".network", NULL, 0644, networkd},
    [RENDERER_IFUPDOWN] = {INTERFACES, "", "auto lo\niface lo inet loopback\n", 0644, ifupdown},
    /* netplan complains about files that others than root may read; nothing in this one is secret. */
    [RENDERER_NETPLAN] = {"/etc/netplan/90-leeward-replica", ".yaml", "network:\n  version: 2\n  ethernets:\n", 0644,
        netplan},
    [RENDERER_MANAGER] = {"/etc/NetworkManager/system-connections/leeward-replica", ".nmconnection", NULL, 0600,
        manager},
};

static char *path_of(const char *stem, const char *suffix, unsigned number)
{
    return number ? mem_printf("%s-%u%s", stem, number, suffix) : mem_printf("%s%s", stem, suffix);
}

/* Whether the file is one that the cards are going to have. */
static bool is_new(enum renderer renderer, const struct wanted_list *l, const char *path)
{
    for (size_t i = 0; i < (renderers[renderer].begin ? 1 : l->count); i++) {
        AUTO_FREE char *own = path_of(renderers[renderer].stem, renderers[renderer].suffix, card_number(&l->cards[i]));

        if (own && strcmp(own, path) == 0)
            return true;
    }
    return false;
}

/* NetworkManager's connections that need no card of their own. */
static bool is_a_tunnel(const struct fixup_call *call, const char *path, struct err *err)
{
    const char *text = NULL;

    return change_list_text(call->list, path, &text, err) == 1 &&
           (strstr(text, "type=vpn") || strstr(text, "type=wireguard") || strstr(text, "type=loopback"));
}

static int put_aside(
    const struct fixup_call *call, enum renderer renderer, const struct wanted_list *l, struct err *err)
{
    const char *text = NULL;
    char name[NAME_MAX_BYTES + 1];
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(places); i++) {
        json_t *files = files_of(call, &places[i], err), *one;
        size_t at;

        rc = files ? 0 : -1;
        json_array_foreach(files, at, one)
        {
            const char *path = json_string_value(one);

            if (rc == 0 && !is_new(renderer, l, path) && !is_a_tunnel(call, path, err))
                rc = change_list_put(call->list, FIXUP, path, NULL,
                    places[i].renderer == RENDERER_MANAGER ? 0600 : 0644, PUT_ASIDE, err);
        }
        json_decref(files);
    }
    if (rc == 0 && renderer != RENDERER_IFUPDOWN && change_list_text(call->list, INTERFACES, &text, err) == 1 &&
        has_iface(text, name))
        rc = change_list_put(call->list, FIXUP, INTERFACES, "auto lo\niface lo inet loopback\n", 0644, PUT_ASIDE, err);
    /* Rules by the hardware address of the source's cards would call the replica's by another name. */
    return rc < 0 ? -1
                  : change_list_put(call->list, FIXUP, "/etc/udev/rules.d/70-persistent-net.rules", NULL, 0644,
                        "it gives names to cards that the replica has not", err);
}

/* netplan gives the name itself. */
static int keep_name(const struct fixup_call *call, const struct wanted *w, enum renderer renderer, struct err *err)
{
    AUTO_FREE char *text = NULL;
    AUTO_FREE char *path = NULL;

    if (!w->name[0] || renderer == RENDERER_NETPLAN)
        return 0;
    text = mem_printf("[Match]\nMACAddress=%s\n\n[Link]\nName=%s\n", w->mac, w->name);
    path = path_of("/etc/systemd/network/10-leeward-replica", ".link", card_number(w));
    return text && path
               ? change_list_put(call->list, FIXUP, path, text, 0644, "the card is called as the source's was", err)
               : no_memory(err);
}

/* A resolv.conf that nobody makes. */
static int fix_resolver(const struct fixup_call *call, const struct wanted *w, enum renderer renderer, struct err *err)
{
    AUTO_BUF struct buf out = BUF_INIT(4096);
    const char *text = NULL;

    if (renderer != RENDERER_IFUPDOWN || json_array_size(w->dns) == 0 ||
        change_list_text(call->list, "/etc/resolv.conf", &text, err) != 1)
        return 0;
    if (list_dns(w, &out, "nameserver ", "\n", err) < 0 || !buf_str(&out, err))
        return -1;
    return change_list_put(call->list, FIXUP, "/etc/resolv.conf", (char *)out.data, 0644, NEW_ADDRESS, err);
}

/* cloud-init makes the network's files anew when it finds itself in another place. */
static int calm_cloud_init(const struct fixup_call *call, struct err *err)
{
    if (!guest_tree_has(change_list_tree(call->list), "/etc/cloud/cloud.cfg"))
        return 0;
    return change_list_put(call->list, FIXUP, "/etc/cloud/cloud.cfg.d/99-leeward-replica.cfg",
        "network:\n  config: disabled\n", 0644, "cloud-init leaves the network alone", err);
}

/* ---- replacing ---- */

/* `card`: network of the fix-ups, or one of its nics. */
static void take_card(const struct fixup_call *call, const json_t *card, struct wanted_list *l)
{
    const char *gateway = json_string_value(json_object_get(card, "gateway"));
    const char *method = json_string_value(json_object_get(card, "method"));
    const char *mac = json_string_value(json_object_get(call->context, "mac"));
    const char *failover = json_string_value(json_object_get(call->context, "failover_id"));
    const char *name = json_string_value(json_object_get(card, "name"));
    struct wanted *w = &l->cards[l->count];

    *w = (struct wanted){.dhcp = method && strcmp(method, "dhcp") == 0,
        .address = json_string_value(json_object_get(card, "address")),
        .gateway = gateway ? gateway : "",
        .dns = json_object_get(card, "dns"),
        .number = (unsigned)l->count++};
    w->ipv6 = w->address && strchr(w->address, ':');
    if (w->number > 0)
        fixup_nic_mac(failover ? failover : "", w->number, w->mac);
    else
        snprintf(w->mac, sizeof(w->mac), "%s", mac ? mac : "");
    if (name)
        (void)take_name(name, strlen(name), w->name);
}

static void take_cards(const struct fixup_call *call, struct wanted_list *l)
{
    const json_t *network = json_object_get(call->fixups, "network"), *one;
    size_t at;

    if (strcmp(fixup_network_method(call->fixups), "each") != 0) {
        take_card(call, network, l);
        return;
    }
    json_array_foreach(json_object_get(network, "nics"), at, one) if (l->count < FIXUP_NICS_MAX)
        take_card(call, one, l);
}

static void name_cards(const struct fixup_call *call, enum renderer renderer, struct wanted_list *l, struct err *err)
{
    for (size_t i = 0; i < l->count; i++) {
        struct wanted *w = &l->cards[i];

        if (l->count == 1 && !w->name[0])
            find_name(call, w->name, err);
        if (!w->name[0] && renderer == RENDERER_IFUPDOWN) /* interfaces(5) knows a card by its name alone */
            snprintf(w->name, sizeof(w->name), "eth%u", w->number);
    }
}

static int put_file(
    const struct fixup_call *call, enum renderer renderer, unsigned number, struct buf *text, struct err *err)
{
    AUTO_FREE char *path = path_of(renderers[renderer].stem, renderers[renderer].suffix, number);

    if (!path || !buf_str(text, err))
        return path ? -1 : no_memory(err);
    return change_list_put(call->list, FIXUP, path, (char *)text->data, renderers[renderer].mode, NEW_ADDRESS, err);
}

static int write_files(
    const struct fixup_call *call, enum renderer renderer, const struct wanted_list *l, struct err *err)
{
    AUTO_BUF struct buf out = BUF_INIT(65536);
    const char *begin = renderers[renderer].begin;

    if (begin && buf_append_str(&out, begin, err) < 0)
        return -1;
    for (size_t i = 0; i < l->count; i++) {
        if (renderers[renderer].write(&l->cards[i], &out, err) < 0)
            return -1;
        if (begin)
            continue;
        if (put_file(call, renderer, card_number(&l->cards[i]), &out, err) < 0)
            return -1;
        buf_clear(&out);
    }
    return begin ? put_file(call, renderer, 0, &out, err) : 0;
}

static int replace_layout(const struct fixup_call *call, struct err *err)
{
    enum renderer renderer = find_renderer(call, err);
    struct wanted_list l = {.count = 0};

    if (renderer == RENDERER_NONE)
        return change_list_warn(
            call->list, err, "nothing that is known configures this guest's network; it stays as it is");
    take_cards(call, &l);
    name_cards(call, renderer, &l, err);
    if (put_aside(call, renderer, &l, err) < 0 || write_files(call, renderer, &l, err) < 0)
        return -1;
    for (size_t i = 0; i < l.count; i++)
        if (keep_name(call, &l.cards[i], renderer, err) < 0)
            return -1;
    for (size_t i = 0; i < l.count; i++)
        if (json_array_size(l.cards[i].dns) > 0)
            return fix_resolver(call, &l.cards[i], renderer, err) < 0 ? -1 : calm_cloud_init(call, err);
    return calm_cloud_init(call, err);
}

/* ---- translating ---- */

static size_t address_at(const char *at, uint32_t *ret_address)
{
    char text[16];
    size_t n = strspn(at, "0123456789.");
    struct in_addr a;

    if (n < 7 || n > 15)
        return 0;
    memcpy(text, at, n);
    text[n] = '\0';
    if (inet_pton(AF_INET, text, &a) != 1)
        return 0;
    *ret_address = ntohl(a.s_addr);
    return n;
}

static bool is_mac(const char *at)
{
    for (size_t i = 0; i < 17; i++)
        if (i % 3 == 2 ? at[i] != ':' : !isxdigit((unsigned char)at[i]))
            return false;
    return !isxdigit((unsigned char)at[17]) && at[17] != ':';
}

/* What was met in all files. */
struct hardware {
    char first[18]; /* "" while none was seen */
    bool others;    /* there is one more, which people know of */
};

/* Which of several cards is which is not known here: the layout keeps the others'. */
static int warn_of_others(const struct fixup_call *call, const char *mac, struct hardware *h, struct err *err)
{
    if (h->others || json_integer_value(json_object_get(call->context, "cards")) < 2)
        return 0;
    h->others = true;
    return change_list_warn(call->list, err,
        "the hardware address %.17s stays in the network's configuration: only the first one that is met becomes that "
        "of a replica's card; a configuration that finds its other cards by theirs will not find them",
        mac);
}

/* Replaces addresses that the map has and the first hardware address. */
static int translate(
    const struct fixup_call *call, const char *text, struct hardware *h, struct buf *out, struct err *err)
{
    const json_t *map = json_object_get(json_object_get(call->fixups, "network"), "map");
    const char *mac = json_string_value(json_object_get(call->context, "mac"));

    for (const char *at = text; *at;) {
        bool inside = at > text && (isalnum((unsigned char)at[-1]) || strchr(".:", at[-1]));
        uint32_t address;
        size_t n = inside ? 0 : address_at(at, &address);

        if (n > 0 && fixup_translate(map, &address)) {
            if (buf_printf(out, err, "%u.%u.%u.%u", address >> 24, (address >> 16) & 255, (address >> 8) & 255,
                    address & 255) < 0)
                return -1;
        } else if (n == 0 && !inside && mac && is_mac(at) && (!h->first[0] || strncasecmp(h->first, at, 17) == 0)) {
            memcpy(h->first, at, 17);
            n = 17;
            if (buf_append_str(out, mac, err) < 0)
                return -1;
        } else {
            if (n == 0 && !inside && mac && is_mac(at) && warn_of_others(call, at, h, err) < 0)
                return -1;
            n = n > 0 ? n : 1;
            if (buf_append(out, at, n, err) < 0)
                return -1;
        }
        at += n;
    }
    return 0;
}

static int translate_file(
    const struct fixup_call *call, const char *path, mode_t mode, struct hardware *h, struct err *err)
{
    AUTO_BUF struct buf out = BUF_INIT(2 * GUEST_TEXT_MAX);
    const char *text = NULL;
    int rc = change_list_text(call->list, path, &text, err);

    if (rc != 1)
        return rc;
    if (translate(call, text, h, &out, err) < 0 || !buf_str(&out, err))
        return -1;
    return change_list_put(call->list, FIXUP, path, (char *)out.data, mode, NEW_ADDRESS, err);
}

static int translate_layout(const struct fixup_call *call, struct err *err)
{
    static const char *const files[] = {INTERFACES, "/etc/resolv.conf", "/etc/hosts"};
    static const struct place others[] = {{"/etc/systemd/network", ".netdev", RENDERER_NETWORKD},
        {"/etc/systemd/network", ".link", RENDERER_NETWORKD},
        {"/etc/udev/rules.d", "-persistent-net.rules", RENDERER_NONE}};
    struct hardware h = {.others = false};
    int rc = 0;

    for (size_t i = 0; i < ARRAY_LEN(places) + ARRAY_LEN(others); i++) {
        const struct place *p = i < ARRAY_LEN(places) ? &places[i] : &others[i - ARRAY_LEN(places)];
        json_t *list = files_of(call, p, err), *one;
        size_t at;

        rc = list ? rc : -1;
        json_array_foreach(list, at, one) if (rc == 0) rc =
            translate_file(call, json_string_value(one), p->renderer == RENDERER_MANAGER ? 0600 : 0644, &h, err);
        json_decref(list);
    }
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(files); i++)
        rc = translate_file(call, files[i], 0644, &h, err);
    return rc < 0 ? -1 : calm_cloud_init(call, err);
}

int fix_network(const struct fixup_call *call, struct err *err)
{
    return strcmp(fixup_network_method(call->fixups), "translate") == 0 ? translate_layout(call, err)
                                                                        : replace_layout(call, err);
}
