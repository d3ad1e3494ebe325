/* SPDX-License-Identifier: Apache-2.0
 *
 * The standard health service. Its two messages are one field each, so they are read and written by hand here:
 * HealthCheckRequest{service = 1: string}, HealthCheckResponse{status = 1: enum}.
 */
#include "transport/rpc/serving.h"

#include <string.h>

#include "transport/base/mem.h"

#define SERVICE_NAME_MAX 200u
#define SERVICES_MAX 32u
#define WATCHES_MAX 1024u

enum health_status { HEALTH_SERVING = 1, HEALTH_NOT_SERVING = 2, HEALTH_SERVICE_UNKNOWN = 3 };

struct health_service {
    char name[SERVICE_NAME_MAX + 1];
    bool serving;
};

struct health_call {
    struct health_call *next, *prev; /* among the watches */
    struct serving *health;
    struct rpc_call *call;
    bool is_watch, asked;
    char name[SERVICE_NAME_MAX + 1];
    enum health_status told; /* 0: nothing yet */
};

struct serving {
    struct health_service services[SERVICES_MAX]; /* [0] is "": the whole server */
    unsigned count;
    unsigned watches;
    struct health_call *first;
    bool shut;
};

/* Reads the one field; other fields are skipped as protobuf asks. -1: not a message. */
static int request_parse(const uint8_t *p, size_t n, char name[SERVICE_NAME_MAX + 1])
{
    name[0] = '\0';
    for (size_t at = 0; at < n;) {
        uint8_t tag = p[at++];
        uint64_t value = 0;
        unsigned shift = 0;
        if ((tag & 0x80) != 0 || ((tag & 7) != 0 && (tag & 7) != 2))
            return -1;
        for (;; shift += 7) {
            if (at >= n || shift > 28)
                return -1;
            value |= (uint64_t)(p[at] & 0x7f) << shift;
            if ((p[at++] & 0x80) == 0)
                break;
        }
        if ((tag & 7) == 0)
            continue;
        if (value > n - at)
            return -1;
        if (tag == 0x0a) {
            if (value > SERVICE_NAME_MAX || memchr(p + at, '\0', value) != NULL)
                return -1;
            memcpy(name, p + at, value);
            name[value] = '\0';
        }
        at += value;
    }
    return 0;
}

static enum health_status status_of(const struct serving *h, const char *name)
{
    for (unsigned i = 0; i < h->count; i++)
        if (strcmp(h->services[i].name, name) == 0)
            return h->services[i].serving && !h->shut ? HEALTH_SERVING : HEALTH_NOT_SERVING;
    return HEALTH_SERVICE_UNKNOWN;
}

static int answer(struct health_call *hc, enum health_status status)
{
    const uint8_t bytes[2] = {0x08, (uint8_t)status};
    AUTO_BUF struct buf message = BUF_INIT(sizeof(bytes));
    struct err err = ERR_INIT;
    hc->told = status;
    if (buf_append(&message, bytes, sizeof(bytes), &err) < 0 || rpc_call_send(hc->call, &message, &err) < 0) {
        rpc_call_fail(hc->call, &err);
        return -1;
    }
    return 0;
}

static void on_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct health_call *hc = arg;
    if (hc->asked || request_parse(message->data, message->len, hc->name) < 0) {
        rpc_call_finish(call, RPC_INVALID_ARGUMENT, "not one HealthCheckRequest");
        return;
    }
    hc->asked = true;
    enum health_status status = status_of(hc->health, hc->name);
    if (hc->is_watch) {
        (void)answer(hc, status);
    } else if (status == HEALTH_SERVICE_UNKNOWN) {
        rpc_call_finish(call, RPC_NOT_FOUND, "no such service");
    } else if (answer(hc, status) == 0) {
        rpc_call_finish(call, RPC_OK, NULL);
    }
}

static void on_half(struct rpc_call *call, void *arg)
{
    struct health_call *hc = arg;
    if (!hc->asked)
        rpc_call_finish(call, RPC_INVALID_ARGUMENT, "not one HealthCheckRequest");
}

static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct health_call *hc = arg;
    (void)call;
    (void)status;
    (void)text;
    if (hc->is_watch) {
        if (hc->prev != NULL)
            hc->prev->next = hc->next;
        else
            hc->health->first = hc->next;
        if (hc->next != NULL)
            hc->next->prev = hc->prev;
        hc->health->watches--;
    }
    free(hc);
}

static const struct rpc_call_ops health_ops = {
    .on_message = on_message,
    .on_half = on_half,
    .on_end = on_end,
    .auto_consume = true,
};

static int health_accept(struct rpc_call *call, struct serving *h, bool is_watch, const struct rpc_call_ops **ret_ops,
    void **ret_arg, struct err *err)
{
    if (is_watch && h->watches >= WATCHES_MAX)
        return err_set(err, ERR_NOMEM, "too many health watches");
    struct health_call *hc = mem_new(struct health_call);
    if (hc == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a health call");
    hc->health = h;
    hc->call = call;
    hc->is_watch = is_watch;
    if (is_watch) {
        hc->next = h->first;
        if (h->first != NULL)
            h->first->prev = hc;
        h->first = hc;
        h->watches++;
    }
    *ret_ops = &health_ops;
    *ret_arg = hc;
    return 0;
}

static int accept_check(
    struct rpc_call *call, void *arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    return health_accept(call, arg, false, ret_ops, ret_arg, err);
}

static int accept_watch(
    struct rpc_call *call, void *arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    return health_accept(call, arg, true, ret_ops, ret_arg, err);
}

static const struct rpc_method health_methods[] = {
    {"/grpc.health.v1.Health/Check", accept_check, true},
    {"/grpc.health.v1.Health/Watch", accept_watch, true},
};

const struct rpc_method *serving_method(const char *path)
{
    for (size_t i = 0; i < ARRAY_LEN(health_methods); i++)
        if (strcmp(health_methods[i].path, path) == 0)
            return &health_methods[i];
    return NULL;
}

static void watches_tell(struct serving *h)
{
    for (struct health_call *hc = h->first; hc != NULL; hc = hc->next) {
        enum health_status status = status_of(h, hc->name);
        if (hc->asked && status != hc->told)
            (void)answer(hc, status);
    }
}

void serving_set(struct serving *h, const char *service, bool serving)
{
    unsigned i = 0;
    while (i < h->count && strcmp(h->services[i].name, service) != 0)
        i++;
    if (i == h->count) {
        if (h->count == SERVICES_MAX || strlen(service) > SERVICE_NAME_MAX)
            return;
        memcpy(h->services[i].name, service, strlen(service) + 1);
        h->count++;
    }
    h->services[i].serving = serving;
    watches_tell(h);
}

void serving_shut(struct serving *h)
{
    h->shut = true;
    watches_tell(h);
    for (struct health_call *hc = h->first; hc != NULL; hc = hc->next)
        rpc_call_finish(hc->call, RPC_UNAVAILABLE, "the server is shutting down");
}

int serving_new(struct serving **ret_health, struct err *err)
{
    struct serving *h = mem_new(struct serving);
    if (h == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the health service");
    h->count = 1;
    h->services[0].serving = true;
    *ret_health = h;
    return 0;
}

void serving_free(struct serving *h)
{
    free(h);
}
