/* SPDX-License-Identifier: Apache-2.0
 *
 * A replica as a domain of a libvirt host (libvirt.org/html). It is created paused, its console is opened, then it runs: so not a byte of its
 * serial line is missed. Domains are transient: what is stopped is gone, and a host that restarts does not start a replica behind anybody's back.
 * A second call for the same failover finds the domain by its UUID and goes on with the boot check; a key press makes a login prompt show again.
 */
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "hub/fabric/boot_check.h"
#include "hub/fabric/compute.h"
#include "hub/fabric/domain_xml.h"
#include "hub/fabric/screenshot.h"
#include "transport/base/clock.h"
#include "transport/base/ident.h"
#include "transport/base/mem.h"

#define CONSOLE_KEEP 32768 /* bytes of the serial line that are kept: the last ones */
#define LOOK_MSEC 100
#define KEY_PRESS_USEC (10 * USEC_PER_SEC)
#define SHUTDOWN_USEC (60 * USEC_PER_SEC)

static pthread_once_t once = PTHREAD_ONCE_INIT;

/* libvirt prints its errors on standard error unless somebody takes them. */
static void take_error(void *arg, virErrorPtr error)
{
    (void)arg;
    (void)error;
}

static void init(void)
{
    (void)virInitialize();
    virSetErrorFunc(NULL, take_error);
}

static int fail(struct err *err, enum err_code code, const char *what, const char *hint)
{
    const virError *last = virGetLastError();

    err_set(err, code, "%s: %.200s", what, last && last->message ? last->message : "libvirt does not say why");
    return err_hint(err, "%s", hint);
}

static int libvirt_configure(const json_t *config, struct err *err)
{
    static const char *const known[] = {"uri", "emulator", "accelerate", NULL};
    const json_t *accelerate = json_object_get(config, "accelerate");

    if (compute_known(config, known, err) < 0)
        return -1;
    if (accelerate && !json_is_boolean(accelerate))
        return err_set(err, ERR_INVALID, "config.accelerate: neither true nor false");
    if (strstr(compute_text(config, "uri", ""), "://") != NULL)
        return 0;
    err_set(err, ERR_INVALID, "config.uri: not a libvirt URI");
    return err_hint(err, "qemu:///system for the hub's own host, qemu+ssh://HOST/system for another one.");
}

static int connect_to(const struct compute_call *call, virConnectPtr *ret_host, struct err *err)
{
    pthread_once(&once, init);
    *ret_host = virConnectOpen(compute_text(call->config, "uri", ""));
    if (*ret_host)
        return 0;
    return fail(err, ERR_UNAVAILABLE, "the libvirt host cannot be reached",
        "Check the target's uri and that libvirtd runs there.");
}

/* A test's copy of a server must not meet the server, or those who talk to it. */
static int check_isolated(virNetworkPtr network, const char *name, struct err *err)
{
    char *xml = virNetworkGetXMLDesc(network, 0);
    AUTO_FREE char *forward = xml ? domain_network_forward(xml) : NULL;

    free(xml);
    if (!forward)
        return fail(err, ERR_UNAVAILABLE, "the libvirt host does not tell about its network", "Try again.");
    if (!forward[0])
        return 0;
    err_set(err, ERR_REFUSED, "the libvirt network %.60s is not isolated: it forwards (%.20s)", name, forward);
    return err_hint(err,
        "Give the mapping a test network without <forward> (leeward machine mapping set --test-network); "
        "or name this one for a single test with --network.");
}

static int check_network(virConnectPtr host, const json_t *nic, struct err *err)
{
    const char *name = compute_text(nic, "network", "");
    virNetworkPtr network = virNetworkLookupByName(host, name);
    int active = network ? virNetworkIsActive(network) : 0, rc = 0;

    if (active == 1 && json_is_true(json_object_get(nic, "isolated")))
        rc = check_isolated(network, name, err);
    if (network)
        virNetworkFree(network);
    if (active == 1)
        return rc;
    err_set(err, ERR_REFUSED, "the libvirt host has no active network %.60s", name);
    return err_hint(err, "Start it (virsh net-start), choose another one with --network, or change the mapping that "
                         "names it (leeward machine mapping show).");
}

static int check_networks(virConnectPtr host, const json_t *nics, struct err *err)
{
    const json_t *one;
    size_t at;

    json_array_foreach(nics, at, one) if (check_network(host, one, err) < 0) return -1;
    return 0;
}

static bool has_kvm(const struct compute_call *call, virConnectPtr host)
{
    const json_t *accelerate = json_object_get(call->config, "accelerate");
    char *capabilities =
        json_is_false(accelerate) ? NULL : virConnectGetDomainCapabilities(host, NULL, NULL, NULL, "kvm", 0);
    bool kvm = capabilities != NULL;

    free(capabilities);
    return kvm;
}

static int libvirt_check(const struct compute_call *call, struct err *err)
{
    unsigned long long wanted = (unsigned long long)json_integer_value(json_object_get(call->spec, "memory_bytes")),
                       there;
    virConnectPtr host;
    virNodeInfo node;
    int rc = 0;

    if (boot_check_validate(json_object_get(call->spec, "boot_check"), true, err) < 0 ||
        connect_to(call, &host, err) < 0)
        return -1;
    rc = check_networks(host, json_object_get(call->spec, "nics"), err);
    if (rc == 0 && virNodeGetInfo(host, &node) == 0 && (there = (unsigned long long)node.memory * 1024) < wanted) {
        err_set(err, ERR_REFUSED, "the libvirt host has %llu MiB of memory, the replica needs %llu MiB", there >> 20,
            wanted >> 20);
        rc = err_hint(err, "Give the replica less with --memory-mib, or choose another target.");
    }
    virConnectClose(host);
    return rc;
}

/* ---- the serial line ---- */

struct console {
    virStreamPtr stream;
    char text[CONSOLE_KEEP + 1]; /* NUL-terminated; what JSON cannot hold is replaced */
    size_t length;
};

static void keep(struct console *c, const char *data, size_t n)
{
    if (n > CONSOLE_KEEP) {
        data += n - CONSOLE_KEEP;
        n = CONSOLE_KEEP;
    }
    if (c->length + n > CONSOLE_KEEP) {
        size_t drop = c->length + n - CONSOLE_KEEP;

        memmove(c->text, c->text + drop, c->length - drop);
        c->length -= drop;
    }
    for (size_t i = 0; i < n; i++)
        c->text[c->length++] = data[i] == '\n' || data[i] == '\t' || (data[i] >= 0x20 && data[i] < 0x7f) ? data[i]
                               : data[i] == '\r'                                                         ? ' '
                                                                                                         : '?';
    c->text[c->length] = '\0';
}

/* All that is there now. -1: the domain has closed it. */
static int drain(struct console *c)
{
    char data[4096];
    int n;

    while ((n = virStreamRecv(c->stream, data, sizeof(data))) > 0)
        keep(c, data, (size_t)n);
    return n == -2 ? 0 : -1;
}

static int open_console(virConnectPtr host, virDomainPtr domain, struct console *c, struct err *err)
{
    c->stream = virStreamNew(host, VIR_STREAM_NONBLOCK);
    if (c->stream && virDomainOpenConsole(domain, NULL, c->stream, VIR_DOMAIN_CONSOLE_FORCE) == 0)
        return 0;
    return fail(
        err, ERR_IO, "the replica's serial line cannot be opened", "Try again; the libvirt host's log says more.");
}

static void close_console(struct console *c)
{
    if (!c->stream)
        return;
    (void)virStreamAbort(c->stream);
    virStreamFree(c->stream);
}

static bool is_running(virDomainPtr domain)
{
    int state = 0;

    return virDomainGetState(domain, &state, NULL, 0) == 0 && state != VIR_DOMAIN_SHUTOFF &&
           state != VIR_DOMAIN_CRASHED;
}

static int watch_serial(
    const struct compute_call *call, virDomainPtr domain, struct console *c, json_t *replica, struct err *err)
{
    const json_t *check = json_object_get(call->spec, "boot_check");
    const char *pattern = compute_text(check, "pattern", "");
    uint64_t begin = clock_mono_usec(), pressed = begin, limit_usec = boot_check_timeout_usec(check);

    for (;;) {
        int over = drain(c);
        uint64_t now = clock_mono_usec();

        if (strstr(c->text, pattern))
            return boot_check_verdict(replica, "passed", err, "\"%.60s\" on the serial line after %.1f s", pattern,
                (double)(now - begin) / (double)USEC_PER_SEC);
        if (over < 0 || !is_running(domain))
            return boot_check_verdict(replica, "failed", err, "the replica ended before it came up");
        if (now - begin > limit_usec)
            return boot_check_verdict(replica, "failed", err, "\"%.60s\" was not seen on the serial line within %llu s",
                pattern, (unsigned long long)(limit_usec / USEC_PER_SEC));
        if (atomic_load(call->cancelled))
            return err_set(err, ERR_CANCELLED, "the boot check was cancelled");
        if (now - pressed > KEY_PRESS_USEC) {
            (void)virStreamSend(c->stream, "\n", 1);
            pressed = now;
        }
        (void)poll(NULL, 0, LOOK_MSEC);
    }
}

/* The first address that a lease or the guest's agent tells. */
static char *find_address(virDomainPtr domain)
{
    virDomainInterfacePtr *list = NULL;
    char *address = NULL;
    int n = virDomainInterfaceAddresses(domain, &list, VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE, 0);

    for (int i = 0; i < n; i++) {
        if (!address && list[i]->naddrs > 0)
            address = mem_strdup(list[i]->addrs[0].addr);
        virDomainInterfaceFree(list[i]);
    }
    free(list);
    return address;
}

/* A guest takes a while to ask for an address; its check's own time is the limit for that as well. */
static int watch_tcp(const struct compute_call *call, virDomainPtr domain, json_t *replica, struct err *err)
{
    const json_t *check = json_object_get(call->spec, "boot_check");
    uint64_t begin = clock_mono_usec();
    AUTO_FREE char *address = NULL;

    while (!json_object_get(check, "address") && !(address = find_address(domain)) && is_running(domain) &&
           clock_mono_usec() - begin < boot_check_timeout_usec(check) && !atomic_load(call->cancelled))
        (void)poll(NULL, 0, LOOK_MSEC);
    if (address && json_object_set_new(replica, "address", json_string(address)) < 0)
        return err_set(err, ERR_NOMEM, "no memory for a replica");
    return boot_check_by_tcp(check, address, call->cancelled, replica, err);
}

/* ---- starting ---- */

static int create(const struct compute_call *call, virConnectPtr host, virDomainPtr *ret_domain, struct err *err)
{
    AUTO_FREE char *xml = NULL;

    *ret_domain = virDomainLookupByUUIDString(host, compute_text(call->spec, "failover_id", ""));
    if (*ret_domain)
        return 0;
    /* Again: the fix-ups took a while since the check, and networks are changed by people. */
    if (check_networks(host, json_object_get(call->spec, "nics"), err) < 0 ||
        domain_xml(call->config, call->spec, has_kvm(call, host), &xml, err) < 0)
        return -1;
    *ret_domain = virDomainCreateXML(host, xml, VIR_DOMAIN_START_PAUSED);
    if (*ret_domain)
        return 0;
    return fail(err, ERR_REFUSED, "the replica could not be started",
        "The libvirt host's log says more: journalctl -u libvirtd.");
}

static int boot(
    const struct compute_call *call, virConnectPtr host, virDomainPtr domain, json_t *replica, struct err *err)
{
    struct console *c = mem_new(struct console);
    int rc = c ? open_console(host, domain, c, err) : err_set(err, ERR_NOMEM, "no memory for a serial line");
    int state = 0;

    if (rc == 0 && virDomainGetState(domain, &state, NULL, 0) == 0 && state == VIR_DOMAIN_PAUSED &&
        virDomainResume(domain) < 0)
        rc = fail(err, ERR_REFUSED, "the replica could not be resumed",
            "The libvirt host's log says more: journalctl -u libvirtd.");
    if (rc == 0)
        rc = strcmp(boot_check_type(json_object_get(call->spec, "boot_check")), "serial") == 0
                 ? watch_serial(call, domain, c, replica, err)
                 : watch_tcp(call, domain, replica, err);
    if (rc == 0) {
        (void)drain(c);
        if (json_object_set_new(replica, "console", json_string(c->text)) < 0)
            rc = err_set(err, ERR_NOMEM, "no memory for a serial line");
    }
    if (c)
        close_console(c);
    free(c);
    return rc;
}

static int libvirt_start(const struct compute_call *call, json_t **ret_replica, struct err *err)
{
    virDomainPtr domain = NULL;
    virConnectPtr host;
    json_t *replica;
    int rc;

    if (connect_to(call, &host, err) < 0)
        return -1;
    rc = create(call, host, &domain, err);
    replica = rc == 0
                  ? json_pack("{s:s, s:s, s:s}", "name", virDomainGetName(domain), "uri",
                        compute_text(call->config, "uri", ""), "domain", compute_text(call->spec, "failover_id", ""))
                  : NULL;
    if (rc == 0)
        rc = replica ? boot(call, host, domain, replica, err) : err_set(err, ERR_NOMEM, "no memory for a replica");
    if (domain)
        virDomainFree(domain);
    virConnectClose(host);
    if (rc == 0)
        *ret_replica = TAKE_PTR(replica);
    json_decref(replica);
    return rc;
}

/* ---- stopping ---- */

static void shut_down(const struct compute_call *call, virDomainPtr domain)
{
    uint64_t begin = clock_mono_usec();

    if (virDomainShutdown(domain) < 0)
        return;
    while (is_running(domain) && clock_mono_usec() - begin < SHUTDOWN_USEC && !atomic_load(call->cancelled))
        (void)poll(NULL, 0, LOOK_MSEC);
}

static int libvirt_stop(const struct compute_call *call, struct err *err)
{
    virDomainPtr domain;
    virConnectPtr host;
    int rc = 0;

    if (connect_to(call, &host, err) < 0)
        return -1;
    domain = virDomainLookupByUUIDString(host, compute_text(call->spec, "failover_id", ""));
    if (domain) {
        if (call->graceful)
            shut_down(call, domain);
        if (is_running(domain) && virDomainDestroy(domain) < 0 && is_running(domain))
            rc = fail(err, ERR_IO, "the replica could not be stopped", "Stop it with virsh destroy, then try again.");
        virDomainFree(domain);
    }
    virConnectClose(host);
    return rc;
}

/* ---- its screen ---- */

static int receive(virStreamPtr stream, struct buf *image, struct err *err)
{
    char data[65536];
    int n;

    while ((n = virStreamRecv(stream, data, sizeof(data))) > 0)
        if (buf_append(image, data, (size_t)n, err) < 0)
            return err_set(err, ERR_REFUSED, "the picture of the replica's screen is too large");
    return n == 0 ? 0
                  : fail(err, ERR_IO, "the replica's screen cannot be read",
                        "Try again; the libvirt host's log says more.");
}

static int take_screenshot(virConnectPtr host, virDomainPtr domain, struct buf *image, struct err *err)
{
    virStreamPtr stream = virStreamNew(host, 0);
    char *type = stream ? virDomainScreenshot(domain, stream, 0, 0) : NULL;
    int rc = type ? receive(stream, image, err)
                  : fail(err, ERR_REFUSED, "the replica shows no screen", "It may have ended: leeward failover show.");

    if (type)
        (void)(rc == 0 ? virStreamFinish(stream) : virStreamAbort(stream));
    if (stream)
        virStreamFree(stream);
    free(type);
    return rc;
}

static int libvirt_screenshot(const struct compute_call *call, struct buf *png, struct err *err)
{
    AUTO_BUF struct buf image = BUF_INIT(SCREENSHOT_BYTES_MAX);
    virDomainPtr domain;
    virConnectPtr host;
    int rc;

    if (connect_to(call, &host, err) < 0)
        return -1;
    domain = virDomainLookupByUUIDString(host, compute_text(call->spec, "failover_id", ""));
    rc = domain ? take_screenshot(host, domain, &image, err)
                : fail(err, ERR_REFUSED, "the replica does not run", "leeward failover show says what became of it.");
    if (domain)
        virDomainFree(domain);
    virConnectClose(host);
    return rc < 0 ? -1 : screenshot_png(&image, png, err);
}

const struct compute_adapter compute_libvirt = {
    .name = "libvirt",
    .configure = libvirt_configure,
    .check = libvirt_check,
    .start = libvirt_start,
    .stop = libvirt_stop,
    .screenshot = libvirt_screenshot,
};
