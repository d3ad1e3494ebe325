/* SPDX-License-Identifier: Apache-2.0
 *
 * A port answers when a connection stands; nothing is sent. It is tried again, with a pause, until the time is over.
 */
#include "hub/fabric/boot_check.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "hub/core/json_members.h"
#include "hub/core/plain_text.h"
#include "hub/fabric/compute.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define TRY_MSEC 2000
#define PAUSE_MSEC 200

static int bad(struct err *err, const char *member, const char *how)
{
    err_set(err, ERR_INVALID, "boot_check.%s: %s", member, how);
    return err_hint(
        err, "For example {\"type\": \"tcp\", \"port\": 22} or {\"type\": \"serial\", \"pattern\": \"login:\"}.");
}

const char *boot_check_type(const json_t *check)
{
    return compute_text(check, "type", "none");
}

uint64_t boot_check_timeout_usec(const json_t *check)
{
    const json_t *seconds = json_object_get(check, "timeout_seconds");

    return (uint64_t)(json_is_integer(seconds) ? json_integer_value(seconds) : BOOT_CHECK_TIMEOUT_DEFAULT_S) *
           USEC_PER_SEC;
}

static int check_members(const json_t *check, struct err *err)
{
    static const char *const known[] = {"type", "port", "address", "pattern", "timeout_seconds", NULL};
    const char *key = json_unknown_member(check, known);

    return key ? bad(err, key, "unknown member") : 0;
}

int boot_check_validate(const json_t *check, bool has_serial, struct err *err)
{
    const char *type = boot_check_type(check);
    const json_t *port = json_object_get(check, "port"), *seconds = json_object_get(check, "timeout_seconds");

    if (!check)
        return 0;
    if (!json_is_object(check))
        return bad(err, "type", "not an object");
    if (check_members(check, err) < 0)
        return -1;
    if (seconds && (!json_is_integer(seconds) || json_integer_value(seconds) < 1 ||
                       json_integer_value(seconds) > BOOT_CHECK_TIMEOUT_MAX_S))
        return bad(err, "timeout_seconds", "not between 1 and 86400");
    if (strcmp(type, "none") == 0)
        return 0;
    if (strcmp(type, "tcp") == 0)
        return json_is_integer(port) && json_integer_value(port) > 0 && json_integer_value(port) < 65536
                   ? 0
                   : bad(err, "port", "not a port");
    if (strcmp(type, "serial") != 0)
        return bad(err, "type", "none of none, tcp, serial");
    if (!has_serial)
        return bad(err, "type", "this target has no serial line");
    return compute_text(check, "pattern", "")[0] ? 0 : bad(err, "pattern", "missing");
}

int boot_check_verdict(json_t *replica, const char *verdict, struct err *err, const char *format, ...)
{
    char text[300];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    plain_text_tidy(text);
    if (json_object_set_new(replica, "verdict", json_string(verdict)) < 0 ||
        json_object_set_new(replica, "verdict_text", json_string(text)) < 0)
        return err_set(err, ERR_NOMEM, "no memory for a verdict");
    return 0;
}

/* 1: a connection stood; 0: not now. */
static int connects(const struct addrinfo *a)
{
    int fd AUTO_CLOSE = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int error = 0;
    socklen_t size = sizeof(error);

    if (fd < 0)
        return 0;
    if (connect(fd, a->ai_addr, a->ai_addrlen) == 0)
        return 1;
    return errno == EINPROGRESS && poll(&p, 1, TRY_MSEC) == 1 &&
           getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
}

static int answers(const char *address, const char *port)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int up = 0;

    if (getaddrinfo(address, port, &hints, &list) != 0)
        return 0;
    for (const struct addrinfo *a = list; a && !up; a = a->ai_next)
        up = connects(a);
    freeaddrinfo(list);
    return up;
}

int boot_check_by_tcp(
    const json_t *check, const char *address, const atomic_bool *cancelled, json_t *replica, struct err *err)
{
    uint64_t begin = clock_mono_usec(), limit_usec = boot_check_timeout_usec(check);
    const char *where = compute_text(check, "address", address ? address : "");
    char port[16];

    if (strcmp(boot_check_type(check), "tcp") != 0)
        return boot_check_verdict(replica, "unknown", err, "no boot check was asked for");
    if (where[0] == '\0')
        return boot_check_verdict(
            replica, "unknown", err, "the replica's address is not known; boot_check.address names it");
    snprintf(port, sizeof(port), "%d", (int)json_integer_value(json_object_get(check, "port")));
    while (!answers(where, port)) {
        if (atomic_load(cancelled))
            return err_set(err, ERR_CANCELLED, "the boot check was cancelled");
        if (clock_mono_usec() - begin > limit_usec)
            return boot_check_verdict(replica, "failed", err, "%s port %s did not answer within %llu s", where, port,
                (unsigned long long)(limit_usec / USEC_PER_SEC));
        (void)poll(NULL, 0, PAUSE_MSEC);
    }
    return boot_check_verdict(replica, "passed", err, "%s port %s answered after %.1f s", where, port,
        (double)(clock_mono_usec() - begin) / (double)USEC_PER_SEC);
}
