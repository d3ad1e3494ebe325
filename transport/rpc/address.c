/* SPDX-License-Identifier: Apache-2.0
 *
 * Addresses. A look-up runs getaddrinfo on a detached thread that owns one half of the work; the other half belongs to
 * the loop. Whoever comes last frees it: a look-up that hangs for a minute in a dead resolver must not hold up a shutdown.
 */
#include "transport/rpc/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "transport/base/mem.h"

static int port_check(const char *port)
{
    unsigned value = 0;
    size_t n = strlen(port);
    for (size_t i = 0; i < n; i++) {
        if (port[i] < '0' || port[i] > '9')
            return -1;
        value = value * 10 + (unsigned)(port[i] - '0');
    }
    return n >= 1 && n <= 5 && value <= 65535 ? 0 : -1;
}

int address_parse(const char *text, struct address *ret_address, struct err *err)
{
    struct address a = {0};
    if (strncmp(text, "unix:", 5) == 0) {
        a.is_unix = true;
        if (text[5] == '\0' || strlen(text + 5) >= sizeof(((struct sockaddr_un *)0)->sun_path))
            return err_set(err, ERR_INVALID, "the path of a unix socket has 1 to 107 bytes: %s", text);
        (void)snprintf(a.host, sizeof(a.host), "%s", text + 5);
        *ret_address = a;
        return 0;
    }
    const char *colon = strrchr(text, ':');
    size_t host_len = colon != NULL ? (size_t)(colon - text) : 0;
    bool bracketed = host_len >= 2 && text[0] == '[' && text[host_len - 1] == ']';
    const char *host = bracketed ? text + 1 : text;
    host_len -= bracketed ? 2 : 0;
    if (colon == NULL || host_len == 0 || host_len >= sizeof(a.host) || port_check(colon + 1) < 0 ||
        (!bracketed && memchr(host, ':', host_len) != NULL)) {
        err_set(err, ERR_INVALID, "not an address: %s", text);
        return err_hint(err, "write HOST:PORT, [IPV6]:PORT or unix:/PATH");
    }
    memcpy(a.host, host, host_len);
    memcpy(a.port, colon + 1, strlen(colon + 1));
    *ret_address = a;
    return 0;
}

void address_format(const struct address_socket *s, char out[ADDRESS_TEXT_SIZE])
{
    char host[INET6_ADDRSTRLEN] = "";
    if (s->sa.any.sa_family == AF_INET) {
        (void)inet_ntop(AF_INET, &s->sa.in.sin_addr, host, sizeof(host));
        (void)snprintf(out, ADDRESS_TEXT_SIZE, "%s:%u", host, ntohs(s->sa.in.sin_port));
    } else if (s->sa.any.sa_family == AF_INET6) {
        (void)inet_ntop(AF_INET6, &s->sa.in6.sin6_addr, host, sizeof(host));
        (void)snprintf(out, ADDRESS_TEXT_SIZE, "[%s]:%u", host, ntohs(s->sa.in6.sin6_port));
    } else {
        (void)snprintf(out, ADDRESS_TEXT_SIZE, "unix");
    }
}

static unsigned results_copy(const struct addrinfo *list, struct address_socket *out, unsigned max)
{
    unsigned n = 0;
    for (; list != NULL && n < max; list = list->ai_next)
        if (list->ai_addrlen <= sizeof(out->sa)) {
            out[n].len = list->ai_addrlen;
            memcpy(&out[n++].sa, list->ai_addr, list->ai_addrlen);
        }
    return n;
}

int address_numeric(const struct address *a, struct address_socket *ret_socket, struct err *err)
{
    if (a->is_unix) {
        *ret_socket = (struct address_socket){.len = sizeof(struct sockaddr_un), .sa.un = {.sun_family = AF_UNIX}};
        /* address_parse has held the path to this size. */
        memcpy(ret_socket->sa.un.sun_path, a->host, sizeof(ret_socket->sa.un.sun_path) - 1);
        return 1;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(a->host, a->port, &hints, &list);
    if (rc == EAI_NONAME)
        return 0;
    if (rc != 0)
        return err_set(err, ERR_INVALID, "%s: %s", a->host, gai_strerror(rc));
    unsigned n = results_copy(list, ret_socket, 1);
    freeaddrinfo(list);
    return (int)n;
}

/* ---- look-ups ---- */

struct address_lookup {
    atomic_uint refs;                                   /* the thread's and the loop's */
    struct address address;                             /* the thread reads it, */
    struct address_socket results[ADDRESS_RESULTS_MAX]; /* and writes these before it rings the eventfd */
    unsigned count;
    struct err why;
    atomic_bool answered; /* orders those writes before the loop's reading */
    int ring;
    sd_event_source *source; /* the loop's from here on */
    void (*done)(void *arg, const struct address_socket *results, unsigned count, const struct err *why);
    void *arg;
};

static void lookup_unref(struct address_lookup *l)
{
    if (atomic_fetch_sub(&l->refs, 1) > 1)
        return;
    if (l->ring >= 0)
        (void)close(l->ring);
    free(l);
}

static void *lookup_thread(void *arg)
{
    struct address_lookup *l = arg;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG};
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(l->address.host, l->address.port, &hints, &list);
    if (rc == 0) {
        l->count = results_copy(list, l->results, ADDRESS_RESULTS_MAX);
        freeaddrinfo(list);
    }
    if (l->count == 0) {
        err_set(&l->why, ERR_UNAVAILABLE, "looking up %s: %s", l->address.host, gai_strerror(rc));
        err_hint(&l->why, "check the host name and the name service of this machine");
    }
    atomic_store_explicit(&l->answered, true, memory_order_release);
    uint64_t one = 1;
    ssize_t n = write(l->ring, &one, sizeof(one));
    (void)n; /* an eventfd with room for one takes it always */
    lookup_unref(l);
    return NULL;
}

static int on_ring(sd_event_source *source, int fd, uint32_t events, void *arg)
{
    struct address_lookup *l = arg;
    (void)source;
    (void)fd;
    (void)events;
    if (!atomic_load_explicit(&l->answered, memory_order_acquire))
        return 0;
    l->source = sd_event_source_disable_unref(l->source);
    l->done(l->arg, l->results, l->count, &l->why);
    lookup_unref(l);
    return 0;
}

void address_lookup_cancel(struct address_lookup *l)
{
    if (l == NULL)
        return;
    l->source = sd_event_source_disable_unref(l->source);
    lookup_unref(l);
}

int address_lookup_start(sd_event *loop, const struct address *address,
    void (*done)(void *arg, const struct address_socket *results, unsigned count, const struct err *why), void *arg,
    struct address_lookup **ret_lookup, struct err *err)
{
    struct address_lookup *l = mem_new(struct address_lookup);
    if (l == NULL)
        return err_set(err, ERR_NOMEM, "no memory to look up %s", address->host);
    l->address = *address;
    l->done = done;
    l->arg = arg;
    atomic_init(&l->refs, 1);
    l->ring = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = l->ring < 0 ? -errno : sd_event_add_io(loop, &l->source, l->ring, EPOLLIN, on_ring, l);
    if (rc >= 0) {
        pthread_t thread;
        atomic_store(&l->refs, 2);
        rc = -pthread_create(&thread, NULL, lookup_thread, l);
        if (rc == 0) {
            (void)pthread_detach(thread);
            *ret_lookup = l;
            return 0;
        }
        atomic_store(&l->refs, 1);
    }
    address_lookup_cancel(l);
    return err_sys(err, -rc, "looking up %s", address->host);
}
