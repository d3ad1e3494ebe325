/* SPDX-License-Identifier: Apache-2.0
 *
 * Disks are NBD over the vault's Unix socket, the machine's own order kept, with the disk that holds its root file system first, since a BIOS boots
 * from that; virtio throughout, which every guest kernel of this century has. Format: libvirt.org/formatdomain.html.
 */
#include "hub/fabric/domain_xml.h"

#include <ctype.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <libxml/xmlwriter.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hub/fabric/compute.h"
#include "hub/fixup/fixup_spec.h"
#include "transport/base/mem.h"

#define DISKS_MAX 26 /* vda to vdz */
#define MEMORY_MIN_BYTES (64ULL << 20)

void domain_name(const json_t *spec, char ret_name[DOMAIN_NAME_SIZE])
{
    const char *name = compute_text(json_object_get(spec, "machine"), "name", "machine");

    snprintf(ret_name, DOMAIN_NAME_SIZE, "leeward-%.63s-%.8s", name, compute_text(spec, "failover_id", "00000000"));
    for (char *p = ret_name; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("-_.", *p))
            *p = '-';
}

/* ---- what a URI means ---- */

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* n bytes of escaped text; NULL for a broken escape or no memory. */
static char *unescape(const char *s, size_t n)
{
    char *text = mem_alloc(n + 1, 1);
    size_t out = 0;

    for (size_t i = 0; text && i < n; i++) {
        if (s[i] != '%') {
            text[out++] = s[i];
            continue;
        }
        if (i + 2 >= n || hex(s[i + 1]) < 0 || hex(s[i + 2]) < 0 || (s[i + 1] == '0' && s[i + 2] == '0')) {
            free(text);
            return NULL;
        }
        text[out++] = (char)(hex(s[i + 1]) * 16 + hex(s[i + 2]));
        i += 2;
    }
    return text;
}

int domain_disk_source(const char *uri, char **ret_socket, char **ret_export, struct err *err)
{
    static const char scheme[] = "nbd+unix:///", query[] = "?socket=";
    const char *name = uri + sizeof(scheme) - 1, *mark;

    if (strncmp(uri, scheme, sizeof(scheme) - 1) != 0 || !(mark = strstr(name, query)))
        return err_set(err, ERR_INVALID, "a disk's URI is not nbd+unix:///NAME?socket=PATH: %.100s", uri);
    *ret_export = unescape(name, (size_t)(mark - name));
    *ret_socket = unescape(mark + sizeof(query) - 1, strlen(mark + sizeof(query) - 1));
    if (*ret_export && *ret_socket && (*ret_socket)[0] == '/')
        return 0;
    free(TAKE_PTR(*ret_export));
    free(TAKE_PTR(*ret_socket));
    return err_set(err, ERR_INVALID, "a disk's URI has a broken name or socket: %.100s", uri);
}

char *domain_network_forward(const char *network_xml)
{
    xmlDocPtr doc = xmlReadMemory(
        network_xml, (int)strlen(network_xml), NULL, NULL, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    xmlNodePtr root = doc ? xmlDocGetRootElement(doc) : NULL;
    char *forward = root ? mem_strdup("") : NULL;

    for (xmlNodePtr n = root ? root->children : NULL; forward && n; n = n->next)
        if (n->type == XML_ELEMENT_NODE && strcmp((const char *)n->name, "forward") == 0) {
            xmlChar *mode = xmlGetProp(n, BAD_CAST "mode");

            free(forward);
            forward = mem_strdup(mode ? (const char *)mode : "nat"); /* as libvirt reads it without a word */
            xmlFree(mode);
        }
    xmlFreeDoc(doc);
    return forward;
}

/* ---- writing ---- */

struct writer {
    xmlTextWriterPtr w;
    bool failed;
};

static void open_element(struct writer *x, const char *name)
{
    x->failed |= xmlTextWriterStartElement(x->w, BAD_CAST name) < 0;
}

static void close_element(struct writer *x)
{
    x->failed |= xmlTextWriterEndElement(x->w) < 0;
}

static void attribute(struct writer *x, const char *name, const char *value)
{
    x->failed |= xmlTextWriterWriteAttribute(x->w, BAD_CAST name, BAD_CAST value) < 0;
}

static void text_element(struct writer *x, const char *name, const char *value)
{
    x->failed |= xmlTextWriterWriteElement(x->w, BAD_CAST name, BAD_CAST value) < 0;
}

static void number_element(struct writer *x, const char *name, unsigned long long value)
{
    char text[24];

    snprintf(text, sizeof(text), "%llu", value);
    text_element(x, name, text);
}

/* An element with attributes alone: names and values in turn, ended by NULL. */
static void leaf(struct writer *x, const char *name, ...)
{
    va_list ap;

    open_element(x, name);
    va_start(ap, name);
    for (const char *key = va_arg(ap, const char *); key; key = va_arg(ap, const char *))
        attribute(x, key, va_arg(ap, const char *));
    va_end(ap);
    close_element(x);
}

static int disk(struct writer *x, const json_t *one, unsigned at, struct err *err)
{
    AUTO_FREE char *socket = NULL, *export = NULL;
    char target[8], order[8];

    if (domain_disk_source(compute_text(one, "uri", ""), &socket, &export, err) < 0)
        return -1;
    snprintf(target, sizeof(target), "vd%c", 'a' + (int)at);
    snprintf(order, sizeof(order), "%u", at + 1);
    open_element(x, "disk");
    attribute(x, "type", "network");
    attribute(x, "device", "disk");
    leaf(x, "driver", "name", "qemu", "type", "raw", "cache", "none", "discard", "unmap", NULL);
    open_element(x, "source");
    attribute(x, "protocol", "nbd");
    attribute(x, "name", export);
    leaf(x, "host", "transport", "unix", "socket", socket, NULL);
    close_element(x);
    leaf(x, "target", "dev", target, "bus", "virtio", NULL);
    leaf(x, "boot", "order", order, NULL);
    close_element(x);
    return 0;
}

static int disks(struct writer *x, const json_t *spec, struct err *err)
{
    const json_t *list = json_object_get(spec, "disks");
    unsigned at = 0;
    const json_t *one;
    size_t i;

    if (json_array_size(list) > DISKS_MAX)
        return err_set(err, ERR_TOO_LARGE, "the machine has more than %d disks", DISKS_MAX);
    for (int root = 1; root >= 0; root--)
        json_array_foreach(list, i,
            one) if (json_is_true(json_object_get(one, "is_root")) == root && disk(x, one, at++, err) < 0) return -1;
    return 0;
}

/* Their hardware addresses are those that fix-ups know them by. */
static void network_cards(struct writer *x, const json_t *spec)
{
    const json_t *one;
    size_t at;

    json_array_foreach(json_object_get(spec, "nics"), at, one)
    {
        char mac[18];

        fixup_nic_mac(compute_text(spec, "failover_id", ""), (unsigned)at, mac);
        open_element(x, "interface");
        attribute(x, "type", "network");
        leaf(x, "mac", "address", mac, NULL);
        leaf(x, "source", "network", compute_text(one, "network", ""), NULL);
        leaf(x, "model", "type", "virtio", NULL);
        close_element(x);
    }
}

static void devices_but_disks(struct writer *x, const json_t *config, const json_t *spec)
{
    const char *emulator = compute_text(config, "emulator", "");

    if (emulator[0])
        text_element(x, "emulator", emulator);
    network_cards(x, spec);
    open_element(x, "serial");
    attribute(x, "type", "pty");
    leaf(x, "target", "port", "0", NULL);
    close_element(x);
    open_element(x, "console");
    attribute(x, "type", "pty");
    leaf(x, "target", "type", "serial", "port", "0", NULL);
    close_element(x);
    open_element(x, "video");
    leaf(x, "model", "type", "vga", NULL);
    close_element(x);
    open_element(x, "rng");
    attribute(x, "model", "virtio");
    open_element(x, "backend");
    attribute(x, "model", "random");
    x->failed |= xmlTextWriterWriteString(x->w, BAD_CAST "/dev/urandom") < 0;
    close_element(x);
    close_element(x);
}

static void machine(struct writer *x, const json_t *spec)
{
    open_element(x, "os");
    if (strcmp(compute_text(spec, "firmware", "bios"), "uefi") == 0)
        attribute(x, "firmware", "efi");
    open_element(x, "type");
    attribute(x, "arch", "x86_64");
    attribute(x, "machine", "q35");
    x->failed |= xmlTextWriterWriteString(x->w, BAD_CAST "hvm") < 0;
    close_element(x);
    close_element(x);
    open_element(x, "features");
    leaf(x, "acpi", NULL);
    close_element(x);
}

static int domain(struct writer *x, const json_t *config, const json_t *spec, bool kvm, struct err *err)
{
    unsigned long long memory = (unsigned long long)json_integer_value(json_object_get(spec, "memory_bytes"));
    char name[DOMAIN_NAME_SIZE];

    domain_name(spec, name);
    open_element(x, "domain");
    attribute(x, "type", kvm ? "kvm" : "qemu");
    text_element(x, "name", name);
    text_element(x, "uuid", compute_text(spec, "failover_id", ""));
    text_element(x, "title", compute_text(json_object_get(spec, "machine"), "name", ""));
    number_element(x, "memory", (memory > MEMORY_MIN_BYTES ? memory : MEMORY_MIN_BYTES) / 1024);
    number_element(x, "vcpu", (unsigned long long)json_integer_value(json_object_get(spec, "cpus")));
    machine(x, spec);
    if (kvm)
        leaf(x, "cpu", "mode", "host-passthrough", NULL);
    leaf(x, "clock", "offset", "utc", NULL);
    text_element(x, "on_poweroff", "destroy");
    text_element(x, "on_reboot", "restart");
    text_element(x, "on_crash", "destroy");
    open_element(x, "devices");
    if (disks(x, spec, err) < 0)
        return -1;
    devices_but_disks(x, config, spec);
    close_element(x);
    close_element(x);
    return 0;
}

int domain_xml(const json_t *config, const json_t *spec, bool kvm, char **ret_xml, struct err *err)
{
    xmlBufferPtr buffer = xmlBufferCreate();
    struct writer x = {.w = buffer ? xmlNewTextWriterMemory(buffer, 0) : NULL};
    int rc;

    if (!x.w) {
        xmlBufferFree(buffer);
        return err_set(err, ERR_NOMEM, "no memory for a domain");
    }
    rc = domain(&x, config, spec, kvm, err);
    xmlFreeTextWriter(x.w); /* flushes */
    *ret_xml = rc == 0 && !x.failed ? mem_strdup((const char *)xmlBufferContent(buffer)) : NULL;
    xmlBufferFree(buffer);
    if (rc == 0 && !*ret_xml)
        return err_set(err, ERR_NOMEM, "no memory for a domain");
    return rc;
}
