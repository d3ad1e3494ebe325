/* SPDX-License-Identifier: Apache-2.0
 *
 * Waits until a port takes a connection or a URL answers as it should, and asks again until then, as long as the step may take.
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "hub/fabric/action.h"
#include "hub/fabric/boot_check.h"
#include "hub/fabric/compute.h"
#include "hub/fabric/http_probe.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define ASK_TIMEOUT_SEC 10L
#define PAUSE_MSEC 500

static int wait_check(const json_t *step, struct err *err)
{
    static const char *const tcp_known[] = {"type", "address", "port", NULL};
    static const char *const http_known[] = {"type", "url", "status", NULL};
    const json_t *check = json_object_get(step, "check");
    const char *type = compute_text(check, "type", "");
    const json_t *status = json_object_get(check, "status"), *port = json_object_get(check, "port");

    if (strcmp(type, "tcp") == 0) {
        if (compute_known(check, tcp_known, err) < 0)
            return err_wrap(err, "check");
        if (!compute_text(check, "address", "")[0])
            return err_set(err, ERR_INVALID, "check.address: missing");
        return json_is_integer(port) && json_integer_value(port) > 0 && json_integer_value(port) < 65536
                   ? 0
                   : err_set(err, ERR_INVALID, "check.port: not a port");
    }
    if (strcmp(type, "http") != 0) {
        err_set(err, ERR_INVALID, "check.type: tcp or http");
        return err_hint(err, "For example {\"type\": \"tcp\", \"address\": \"192.0.2.7\", \"port\": 5432}");
    }
    if (compute_known(check, http_known, err) < 0 || http_url_check(compute_text(check, "url", ""), err) < 0)
        return err_wrap(err, "check");
    if (status && (!json_is_integer(status) || json_integer_value(status) < 100 || json_integer_value(status) > 599))
        return err_set(err, ERR_INVALID, "check.status: not an HTTP status");
    return 0;
}

static bool is_wanted(const json_t *check, long status)
{
    const json_t *wanted = json_object_get(check, "status");

    return json_is_integer(wanted) ? json_integer_value(wanted) == status : status >= 200 && status < 300;
}

static int wait_for_http(
    const struct action_call *call, uint64_t limit_usec, char *detail, size_t size, struct err *err)
{
    const json_t *check = json_object_get(call->step, "check");
    struct http_probe probe = {
        .url = compute_text(check, "url", ""), .timeout_sec = ASK_TIMEOUT_SEC, .cancelled = call->cancelled};
    uint64_t end = clock_mono_usec() + limit_usec;
    char last[220] = "";

    while (!atomic_load(call->cancelled)) {
        struct err why = ERR_INIT;
        long status = 0;
        int rc = http_probe(&probe, &status, &why);

        if (rc == 0 && is_wanted(check, status)) {
            snprintf(detail, size, "answered with %ld", status);
            return 0;
        }
        if (rc == 0)
            snprintf(last, sizeof(last), "it answers with %ld", status);
        else
            snprintf(last, sizeof(last), "%.200s", why.text);
        if (clock_mono_usec() >= end) {
            err_set(err, ERR_TIMEOUT, "%.120s is not well: %s", probe.url, last);
            return err_hint(err, "See what runs there; then repeat the run.");
        }
        (void)poll(NULL, 0, PAUSE_MSEC);
    }
    return err_set(err, ERR_CANCELLED, "the wait was stopped");
}

static int wait_for_tcp(const struct action_call *call, uint64_t limit_usec, char *detail, size_t size, struct err *err)
{
    const json_t *check = json_object_get(call->step, "check");
    json_t *boot = json_pack("{s:s, s:O, s:O, s:I}", "type", "tcp", "address", json_object_get(check, "address"),
        "port", json_object_get(check, "port"), "timeout_seconds", (json_int_t)(limit_usec / USEC_PER_SEC));
    json_t *verdict = json_object();
    int rc = boot && verdict ? boot_check_by_tcp(boot, NULL, call->cancelled, verdict, err)
                             : err_set(err, ERR_NOMEM, "no memory for a wait");

    if (rc == 0 && strcmp(compute_text(verdict, "verdict", ""), "passed") != 0)
        rc = err_set(err, ERR_TIMEOUT, "%.200s", compute_text(verdict, "verdict_text", ""));
    snprintf(detail, size, "%s", compute_text(verdict, "verdict_text", ""));
    json_decref(boot);
    json_decref(verdict);
    return rc;
}

static int wait_run(const struct action_call *call, json_t **ret_answer, struct err *err)
{
    uint64_t limit = (uint64_t)json_integer_value(json_object_get(call->context, "timeout_seconds")) * USEC_PER_SEC;
    bool tcp = strcmp(compute_text(json_object_get(call->step, "check"), "type", ""), "tcp") == 0;
    char detail[300] = "";

    if ((tcp ? wait_for_tcp : wait_for_http)(call, limit, detail, sizeof(detail), err) < 0)
        return -1;
    *ret_answer = json_pack("{s:s}", "detail", detail);
    return *ret_answer ? 0 : err_set(err, ERR_NOMEM, "no memory for a wait");
}

const struct action action_wait = {.type = "wait", .check = wait_check, .run = wait_run};
