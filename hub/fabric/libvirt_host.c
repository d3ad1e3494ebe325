/* SPDX-License-Identifier: Apache-2.0
 *
 * A replica as a domain of a libvirt host (libvirt.org/html). It is created paused, its console is opened, then it runs: so not a byte of its
 * serial line is missed. Domains are transient: what is stopped is gone, and a host that restarts does not start a replica behind anybody's back.
 * A second call for the same failover finds the domain by its UUID and goes on with the boot check; a key press makes a login prompt show again.
 *
 * A daemon that stands still is noticed by libvirt's keepalive, which needs an event loop; one that does not get as far as that, or lives and does not answer,
 * by the time that libvirt_child.c gives. A host that was not heard is never taken for one that says no: whether a domain is there is known only from
 * its own answer. What was asked of a daemon that stands still it may do when it goes on, with nobody there any more: a domain that is created so stays
 * paused, and whoever asks next finds it.
 */
#include "hub/fabric/libvirt_host.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/fabric/boot_check.h"
#include "hub/fabric/domain_xml.h"
#include "hub/fabric/screenshot.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define CONSOLE_KEEP 32768 /* bytes of the serial line that are kept: the last ones */
#define LOOK_MSEC 100
#define KEY_PRESS_USEC (10 * USEC_PER_SEC)
#define SHUTDOWN_USEC (60 * USEC_PER_SEC)
/* The daemon answers these in its main loop, which waits for nothing: after twenty seconds (virConnectSetKeepAlive: interval * (count + 1)) it stands still. */
#define KEEPALIVE_SEC 5
#define KEEPALIVE_COUNT 3
/* A connection that was lost is made anew for a minute: a daemon that is restarted (an upgrade) is back in some seconds. */
#define BACK_USEC (60 * USEC_PER_SEC)
#define BACK_PAUSE_MSEC 1000
#define LOSSES_MAX 5 /* and then it is lost by what is asked */

#define CHECK_HOST "Check that libvirtd on the target's host runs and answers, then try again."

/* A verb on its host. */
struct host {
    const struct compute_call *call;
    const struct libvirt_limits *limits;
    virConnectPtr link;
    uint64_t begun_usec; /* of the boot check, whatever is lost meanwhile; 0: not yet */
    json_t *answer;
    struct buf *picture;
};

/* ---- the connection ---- */

/* libvirt prints its errors on standard error unless somebody takes them. */
static void ignore_error(void *arg, virErrorPtr error)
{
    (void)arg;
    (void)error;
}

static void *run_events(void *arg)
{
    while (virEventRunDefaultImpl() == 0)
        ;
    return arg;
}

/* The loop must be there before the first connection is opened. */
static int init(struct err *err)
{
    pthread_t thread;
    int r;

    virSetErrorFunc(NULL, ignore_error);
    if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0)
        return err_set(err, ERR_INTERNAL, "libvirt cannot be used");
    r = pthread_create(&thread, NULL, run_events, NULL);
    return r != 0 ? err_sys(err, r, "starting a thread for libvirt") : pthread_detach(thread);
}

/* The words of the last failure, kept: the next call of libvirt, whichever it is, forgets them. */
static const char *said_last(void)
{
    static char said[220] = "libvirt does not say why";
    const virError *last = virGetLastError();

    if (last && last->message)
        (void)snprintf(said, sizeof(said), "%s", last->message);
    return said;
}

/* Asked after a failure. */
static bool is_lost(const struct host *h)
{
    (void)said_last();
    return virConnectIsAlive(h->link) != 1;
}

/* What the host refused; or that it did not answer, which is another thing. */
static int fail(const struct host *h, struct err *err, enum err_code code, const char *what, const char *hint)
{
    if (is_lost(h)) {
        err_set(err, ERR_UNAVAILABLE, "the connection to the libvirt host was lost: %.200s", said_last());
        return err_hint(err, "%s", CHECK_HOST);
    }
    err_set(err, code, "%s: %.200s", what, said_last());
    return err_hint(err, "%s", hint);
}

/* A sign of life of this process: the next stretch may take as long as a call. */
static void go_on(const struct host *h)
{
    libvirt_child_within(h->limits->call_sec, "a call");
}

static int open_link(struct host *h, struct err *err)
{
    libvirt_child_within(h->limits->open_sec, "opening a connection");
    h->link = virConnectOpen(compute_text(h->call->config, "uri", ""));
    if (!h->link) {
        err_set(err, ERR_UNAVAILABLE, "the libvirt host cannot be reached: %.200s", said_last());
        return err_hint(err, "Check the target's uri and that libvirtd runs there.");
    }
    /* A driver within this process knows no keepalive, and needs none. */
    (void)virConnectSetKeepAlive(h->link, KEEPALIVE_SEC, KEEPALIVE_COUNT);
    go_on(h);
    return 0;
}

static void close_link(struct host *h)
{
    if (h->link)
        (void)virConnectClose(h->link);
    h->link = NULL;
}

/* 1: *ret_domain is there; 0: there is none; -1: the host does not tell. */
static int find_domain(const struct host *h, virDomainPtr *ret_domain, struct err *err)
{
    *ret_domain = virDomainLookupByUUIDString(h->link, compute_text(h->call->spec, "failover_id", ""));
    if (*ret_domain)
        return 1;
    if (virGetLastErrorCode() == VIR_ERR_NO_DOMAIN)
        return 0;
    return fail(h, err, ERR_UNAVAILABLE, "the libvirt host does not tell about the replica", CHECK_HOST);
}

/* 1: it runs, or is paused; 0: it does not, or is gone; -1: the host does not tell. */
static int is_up(const struct host *h, virDomainPtr domain, struct err *err)
{
    int state = 0;

    if (virDomainGetState(domain, &state, NULL, 0) == 0)
        return state != VIR_DOMAIN_SHUTOFF && state != VIR_DOMAIN_CRASHED;
    if (virGetLastErrorCode() == VIR_ERR_NO_DOMAIN)
        return 0;
    return fail(h, err, ERR_UNAVAILABLE, "the libvirt host does not tell about the replica", CHECK_HOST);
}

/* ---- checks ---- */

/* A test's copy of a server must not meet the server, or those who talk to it. */
static int check_isolated(const struct host *h, virNetworkPtr network, const char *name, struct err *err)
{
    char *xml = virNetworkGetXMLDesc(network, 0);
    AUTO_FREE char *forward = xml ? domain_network_forward(xml) : NULL;

    free(xml);
    if (!forward)
        return fail(h, err, ERR_UNAVAILABLE, "the libvirt host does not tell about its network", "Try again.");
    if (!forward[0])
        return 0;
    err_set(err, ERR_REFUSED, "the libvirt network %.60s is not isolated: it forwards (%.20s)", name, forward);
    return err_hint(err,
        "Give the mapping a test network without <forward> (leeward machine mapping set --test-network); "
        "or name this one for a single test with --network.");
}

static int check_network(const struct host *h, const json_t *nic, struct err *err)
{
    const char *name = compute_text(nic, "network", "");
    virNetworkPtr network = virNetworkLookupByName(h->link, name);
    int active = network ? virNetworkIsActive(network) : 0, rc = 0;

    if (active == 1 && json_is_true(json_object_get(nic, "isolated")))
        rc = check_isolated(h, network, name, err);
    if (active != 1 && is_lost(h))
        rc = fail(h, err, ERR_UNAVAILABLE, "", "");
    if (network)
        virNetworkFree(network);
    if (active == 1 || rc < 0)
        return rc;
    err_set(err, ERR_REFUSED, "the libvirt host has no active network %.60s", name);
    return err_hint(err, "Start it (virsh net-start), choose another one with --network, or change the mapping that "
                         "names it (leeward machine mapping show).");
}

static int check_networks(const struct host *h, struct err *err)
{
    const json_t *nics = json_object_get(h->call->spec, "nics"), *one;
    size_t at;

    json_array_foreach(nics, at, one) if (check_network(h, one, err) < 0) return -1;
    return 0;
}

static bool has_kvm(const struct host *h)
{
    const json_t *accelerate = json_object_get(h->call->config, "accelerate");
    char *capabilities =
        json_is_false(accelerate) ? NULL : virConnectGetDomainCapabilities(h->link, NULL, NULL, NULL, "kvm", 0);
    bool kvm = capabilities != NULL;

    free(capabilities);
    return kvm;
}

static int check(struct host *h, struct err *err)
{
    unsigned long long there,
        wanted = (unsigned long long)json_integer_value(json_object_get(h->call->spec, "memory_bytes"));
    virNodeInfo node;

    if (check_networks(h, err) < 0)
        return -1;
    if (virNodeGetInfo(h->link, &node) < 0)
        return is_lost(h) ? fail(h, err, ERR_UNAVAILABLE, "", "") : 0;
    there = (unsigned long long)node.memory * 1024;
    if (there >= wanted)
        return 0;
    err_set(err, ERR_REFUSED, "the libvirt host has %llu MiB of memory, the replica needs %llu MiB", there >> 20,
        wanted >> 20);
    return err_hint(err, "Give the replica less with --memory-mib, or choose another target.");
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

static int open_console(const struct host *h, virDomainPtr domain, struct console *c, struct err *err)
{
    c->stream = virStreamNew(h->link, VIR_STREAM_NONBLOCK);
    if (c->stream && virDomainOpenConsole(domain, NULL, c->stream, VIR_DOMAIN_CONSOLE_FORCE) == 0)
        return 0;
    return fail(
        h, err, ERR_IO, "the replica's serial line cannot be opened", "Try again; the libvirt host's log says more.");
}

static void close_console(struct console *c)
{
    if (!c->stream)
        return;
    (void)virStreamAbort(c->stream);
    virStreamFree(c->stream);
}

static int watch_serial(const struct host *h, virDomainPtr domain, struct console *c, struct err *err)
{
    const json_t *check = json_object_get(h->call->spec, "boot_check");
    const char *pattern = compute_text(check, "pattern", "");
    uint64_t begin = h->begun_usec, pressed = clock_mono_usec(), limit_usec = boot_check_timeout_usec(check);

    for (;;) {
        int over = drain(c), up = is_up(h, domain, err);
        uint64_t now = clock_mono_usec();

        go_on(h);
        if (strstr(c->text, pattern))
            return boot_check_verdict(h->answer, "passed", err, "\"%.60s\" on the serial line after %.1f s", pattern,
                (double)(now - begin) / (double)USEC_PER_SEC);
        if (up < 0)
            return -1;
        if (over < 0 || !up)
            return boot_check_verdict(h->answer, "failed", err, "the replica ended before it came up");
        if (now - begin > limit_usec)
            return boot_check_verdict(h->answer, "failed", err,
                "\"%.60s\" was not seen on the serial line within %llu s", pattern,
                (unsigned long long)(limit_usec / USEC_PER_SEC));
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

/* A port of the replica's own is to answer, and it may be told an address. */
static bool needs_address(const json_t *spec)
{
    const json_t *check = json_object_get(spec, "boot_check");

    return strcmp(boot_check_type(check), "tcp") == 0 && !json_object_get(check, "address") &&
           json_array_size(json_object_get(spec, "nics")) > 0;
}

/* A guest takes a while to ask for an address; its check's own time is the limit for that as well. Where nothing depends on it, it is not waited for: a replica
 * runs as soon as it does. */
static int watch_tcp(const struct host *h, virDomainPtr domain, struct err *err)
{
    const json_t *check = json_object_get(h->call->spec, "boot_check");
    bool needed = needs_address(h->call->spec);
    AUTO_FREE char *address = NULL;
    int up = 1;

    while (!(address = find_address(domain)) && needed && (up = is_up(h, domain, err)) > 0 &&
           clock_mono_usec() - h->begun_usec < boot_check_timeout_usec(check)) {
        go_on(h);
        (void)poll(NULL, 0, LOOK_MSEC);
    }
    if (up < 0)
        return -1;
    if (address && json_object_set_new(h->answer, "address", json_string(address)) < 0)
        return err_set(err, ERR_NOMEM, "no memory for a replica");
    libvirt_child_within(0, ""); /* it has a limit of its own, and asks nothing of libvirt */
    return boot_check_by_tcp(check, address, h->call->cancelled, h->answer, err);
}

/* ---- starting ---- */

static int create(const struct host *h, virDomainPtr *ret_domain, struct err *err)
{
    AUTO_FREE char *xml = NULL;
    int found = find_domain(h, ret_domain, err);

    if (found != 0)
        return found < 0 ? -1 : 0;
    /* Again: the fix-ups took a while since the check, and networks are changed by people. */
    if (check_networks(h, err) < 0 || domain_xml(h->call->config, h->call->spec, has_kvm(h), &xml, err) < 0)
        return -1;
    *ret_domain = virDomainCreateXML(h->link, xml, VIR_DOMAIN_START_PAUSED);
    if (*ret_domain)
        return 0;
    (void)fail(h, err, ERR_REFUSED, "the replica could not be started",
        "The libvirt host's log says more: journalctl -u libvirtd.");
    /* What an earlier call asked for may have been done only now, before this one's turn. */
    if (is_lost(h) || find_domain(h, ret_domain, NULL) <= 0)
        return -1;
    err_clear(err);
    return 0;
}

/* One that is being created by an earlier call is not there yet. */
static int resume(const struct host *h, virDomainPtr domain, struct console *c, struct err *err)
{
    int state = 0, reason = 0;

    while (virDomainGetState(domain, &state, &reason, 0) == 0 && state == VIR_DOMAIN_PAUSED &&
           reason == VIR_DOMAIN_PAUSED_STARTING_UP)
        (void)poll(NULL, 0, LOOK_MSEC);
    if (open_console(h, domain, c, err) < 0)
        return -1;
    if (state != VIR_DOMAIN_PAUSED || virDomainResume(domain) == 0)
        return 0;
    return fail(h, err, ERR_REFUSED, "the replica could not be resumed",
        "The libvirt host's log says more: journalctl -u libvirtd.");
}

static int boot(struct host *h, virDomainPtr domain, struct err *err)
{
    struct console *c = mem_new(struct console);
    int rc = c ? resume(h, domain, c, err) : err_set(err, ERR_NOMEM, "no memory for a serial line");

    if (rc == 0 && h->begun_usec == 0)
        h->begun_usec = clock_mono_usec();
    if (rc == 0)
        rc = strcmp(boot_check_type(json_object_get(h->call->spec, "boot_check")), "serial") == 0
                 ? watch_serial(h, domain, c, err)
                 : watch_tcp(h, domain, err);
    go_on(h);
    if (rc == 0) {
        (void)drain(c);
        if (json_object_set_new(h->answer, "console", json_string(c->text)) < 0)
            rc = err_set(err, ERR_NOMEM, "no memory for a serial line");
    }
    if (c)
        close_console(c);
    free(c);
    return rc;
}

static int start(struct host *h, struct err *err)
{
    virDomainPtr domain = NULL;
    json_t *replica;
    int rc;

    if (create(h, &domain, err) < 0)
        return -1;
    replica = json_pack("{s:s, s:s, s:s}", "name", virDomainGetName(domain), "uri",
        compute_text(h->call->config, "uri", ""), "domain", compute_text(h->call->spec, "failover_id", ""));
    rc = replica && json_object_update(h->answer, replica) == 0 ? boot(h, domain, err)
                                                                : err_set(err, ERR_NOMEM, "no memory for a replica");
    json_decref(replica);
    virDomainFree(domain);
    return rc;
}

/* ---- stopping ---- */

/* Whether or not the guest does as it is asked. */
static void shut_down(const struct host *h, virDomainPtr domain)
{
    uint64_t begin = clock_mono_usec();

    if (virDomainShutdown(domain) < 0)
        return;
    while (is_up(h, domain, NULL) > 0 && clock_mono_usec() - begin < SHUTDOWN_USEC)
        (void)poll(NULL, 0, LOOK_MSEC);
}

static int destroy(const struct host *h, virDomainPtr domain, struct err *err)
{
    int up;

    if (virDomainDestroy(domain) == 0)
        return 0;
    (void)fail(h, err, ERR_IO, "the replica could not be stopped", "Stop it with virsh destroy, then try again.");
    up = is_lost(h) ? -1 : is_up(h, domain, NULL);
    if (up != 0)
        return -1;
    err_clear(err);
    return 0;
}

static int stop(struct host *h, struct err *err)
{
    virDomainPtr domain;
    int rc = find_domain(h, &domain, err);

    if (rc <= 0)
        return rc;
    if (h->call->graceful)
        shut_down(h, domain);
    rc = destroy(h, domain, err);
    virDomainFree(domain);
    return rc;
}

/* ---- its screen ---- */

static int receive(const struct host *h, virStreamPtr stream, struct buf *image, struct err *err)
{
    char data[65536];
    int n;

    while ((n = virStreamRecv(stream, data, sizeof(data))) > 0)
        if (buf_append(image, data, (size_t)n, err) < 0)
            return err_set(err, ERR_REFUSED, "the picture of the replica's screen is too large");
    return n == 0 ? 0
                  : fail(h, err, ERR_IO, "the replica's screen cannot be read",
                        "Try again; the libvirt host's log says more.");
}

static int take_screenshot(const struct host *h, virDomainPtr domain, struct buf *image, struct err *err)
{
    virStreamPtr stream = virStreamNew(h->link, 0);
    char *type = stream ? virDomainScreenshot(domain, stream, 0, 0) : NULL;
    int rc =
        type ? receive(h, stream, image, err)
             : fail(h, err, ERR_REFUSED, "the replica shows no screen", "It may have ended: leeward failover show.");

    if (type)
        (void)(rc == 0 ? virStreamFinish(stream) : virStreamAbort(stream));
    if (stream)
        virStreamFree(stream);
    free(type);
    return rc;
}

static int screenshot(struct host *h, struct err *err)
{
    AUTO_BUF struct buf image = BUF_INIT(SCREENSHOT_BYTES_MAX);
    virDomainPtr domain;
    int rc = find_domain(h, &domain, err);

    if (rc == 0)
        rc = fail(h, err, ERR_REFUSED, "the replica does not run", "leeward failover show says what became of it.");
    if (rc < 0)
        return -1;
    rc = take_screenshot(h, domain, &image, err);
    virDomainFree(domain);
    return rc < 0 ? -1 : screenshot_png(&image, h->picture, err);
}

/* ---- verbs ---- */

typedef int host_verb(struct host *h, struct err *err);

static host_verb *verb_of(const char *name)
{
    static const struct {
        const char *name;
        host_verb *run;
    } verbs[] = {{"check", check}, {"start", start}, {"stop", stop}, {"screenshot", screenshot}};

    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (strcmp(verbs[i].name, name) == 0)
            return verbs[i].run;
    return NULL;
}

static int open_again(struct host *h, struct err *err)
{
    uint64_t begin = clock_mono_usec();
    int rc;

    while ((rc = open_link(h, err)) < 0 && clock_mono_usec() - begin < BACK_USEC) {
        libvirt_child_within(0, "");
        (void)poll(NULL, 0, BACK_PAUSE_MSEC);
    }
    return rc;
}

int libvirt_host_work(const char *verb, const struct compute_call *call, const struct libvirt_limits *limits,
    json_t *answer, struct buf *picture, struct err *err)
{
    struct host h = {.call = call, .limits = limits, .answer = answer, .picture = picture};
    host_verb *run = verb_of(verb);
    int rc;

    if (!run)
        return err_set(err, ERR_INVALID, "a libvirt host is asked for nothing like %.20s", verb);
    if (init(err) < 0 || open_link(&h, err) < 0)
        return -1;
    for (unsigned losses = 0;; losses++) {
        bool lost;

        rc = run(&h, err);
        lost = rc < 0 && is_lost(&h);
        close_link(&h);
        if (!lost || losses == LOSSES_MAX || open_again(&h, err) < 0)
            return rc;
    }
}
