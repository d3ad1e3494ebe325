/* SPDX-License-Identifier: Apache-2.0
 *
 * One request after the other: the hub shall be tried by the fleet, not by what prepares it. A hub that says "not now" is asked
 * again after a second.
 */
#include "hub/cli/simulation.h"

#include <string.h>
#include <time.h>

#include "transport/base/mem.h"

#define UNPROTECTED_EVERY 25u

static const char *const site_names[3] = {"sim-north", "sim-south", "sim-recovery"};
static const struct {
    const char *name;
    double interval, rpo_target;
} policies[3] = {{"sim-gold", 5, 30}, {"sim-silver", 30, 120}, {"sim-bronze", 300, 900}};

static bool is_stopped(const struct simulation *s)
{
    return s->stop && s->stop(s->stop_arg);
}

/* client_call, with patience. */
static int call(struct simulation *s, const char *method, const char *path, const json_t *body, const char *if_match,
    struct client_answer *answer, struct err *err)
{
    for (unsigned i = 0;; i++) {
        err_clear(err);
        if (client_call(s->client, method, path, body, if_match, answer, err) == 0)
            return 0;
        if (is_stopped(s))
            return err_set(err, ERR_CANCELLED, "asked to stop");
        if (!err_is_retryable(err->code) || i >= s->tries)
            return -1;
        client_answer_done(answer);
        (void)nanosleep(&(struct timespec){1, 0}, NULL);
    }
}

/* ---- removal ---- */

/* An item that others use by now stays. */
static int remove_named(struct simulation *s, const char *collection, const char *name, struct err *err)
{
    AUTO_FREE char *path = mem_printf("/api/v1/%s/%s", collection, name);
    AUTO_ANSWER struct client_answer item = {0};
    AUTO_ANSWER struct client_answer gone = {0};

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (call(s, "GET", path, NULL, NULL, &item, err) < 0) {
        if (err->code != ERR_NOT_FOUND)
            return -1;
    } else if (call(s, "DELETE", path, NULL, item.etag, &gone, err) < 0 && err->code != ERR_REFUSED &&
               err->code != ERR_CONFLICT && err->code != ERR_NOT_FOUND)
        return -1;
    err_clear(err);
    return 0;
}

int simulation_remove_all(struct simulation *s, unsigned long long *ret_machines, struct err *err)
{
    unsigned long long machines = 0;
    bool more = true;

    while (more) {
        AUTO_ANSWER struct client_answer answer = {0};

        if (call(s, "DELETE", "/api/v1/simulation", NULL, NULL, &answer, err) < 0)
            return -1;
        machines += (unsigned long long)json_integer_value(json_object_get(answer.json, "machines"));
        more = json_integer_value(json_object_get(answer.json, "remaining")) > 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(site_names); i++)
        if (remove_named(s, "sites", site_names[i], err) < 0 || remove_named(s, "policies", policies[i].name, err) < 0)
            return -1;
    if (ret_machines)
        *ret_machines = machines;
    return 0;
}

/* ---- sites and policies ---- */

/* The id of the item with that name, made from body (taken over) if it is not there. */
static int ensure(
    struct simulation *s, const char *collection, const char *name, json_t *body, char ret_id[40], struct err *err)
{
    AUTO_FREE char *path = mem_printf("/api/v1/%s/%s", collection, name);
    AUTO_FREE char *list = mem_printf("/api/v1/%s", collection);
    AUTO_ANSWER struct client_answer answer = {0};
    int rc = path && list && body ? call(s, "GET", path, NULL, NULL, &answer, err)
                                  : err_set(err, ERR_NOMEM, "no memory for a request");

    if (rc < 0 && err->code == ERR_NOT_FOUND) {
        client_answer_done(&answer);
        rc = call(s, "POST", list, body, NULL, &answer, err);
    }
    json_decref(body);
    if (rc == 0)
        (void)snprintf(ret_id, 40, "%s", json_string_value(json_object_get(answer.json, "id")) ?: "");
    return rc;
}

int simulation_prepare(struct simulation *s, struct err *err)
{
    static const char about[] = "Of a simulation; it goes with it.";

    for (size_t i = 0; i < ARRAY_LEN(site_names); i++) {
        if (ensure(s, "sites", site_names[i], json_pack("{s:s, s:s}", "name", site_names[i], "description", about),
                s->sites[i], err) < 0)
            return -1;
        if (ensure(s, "policies", policies[i].name,
                json_pack("{s:s, s:s, s:f, s:f}", "name", policies[i].name, "description", about, "interval_seconds",
                    policies[i].interval, "rpo_target_seconds", policies[i].rpo_target),
                s->policies[i], err) < 0)
            return -1;
    }
    return 0;
}

/* ---- tokens ---- */

static int write_token(struct simulation *s, FILE *out, const char *role, const char *site, struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};
    json_t *body = json_pack("{s:s, s:s, s:s}", "role", role, "name", "simulation", "site_id", site);
    int rc = body ? call(s, "POST", "/api/v1/enrolment-tokens", body, NULL, &answer, err)
                  : err_set(err, ERR_NOMEM, "no memory for a request");

    json_decref(body);
    if (rc < 0)
        return -1;
    if (fprintf(out, "%s %s\n", role, json_string_value(json_object_get(answer.json, "token")) ?: "") < 0)
        return err_set(err, ERR_IO, "the tokens cannot be written");
    return is_stopped(s) ? err_set(err, ERR_CANCELLED, "asked to stop") : 0;
}

int simulation_write_tokens(struct simulation *s, FILE *out, struct err *err)
{
    for (unsigned i = 0; i < s->vaults; i++)
        if (write_token(s, out, "vault", s->sites[2], err) < 0)
            return -1;
    for (unsigned i = 0; i < s->nodes; i++)
        if (write_token(s, out, "node", s->sites[i % 2], err) < 0)
            return -1;
    for (unsigned i = 0; i < s->machines; i++)
        if (write_token(s, out, "agent", s->sites[i % 2], err) < 0)
            return -1;
    return 0;
}

/* ---- protection ---- */

/* "sim-db-0050" -> 50 */
static unsigned number_of(const char *name)
{
    const char *dash = strrchr(name, '-');

    return dash ? (unsigned)strtoul(dash + 1, NULL, 10) : 0;
}

unsigned simulation_protected_goal(const struct simulation *s)
{
    return s->machines - s->machines / UNPROTECTED_EVERY;
}

/* One of ten every few seconds, three every few minutes, the rest between. */
static const char *policy_of(const struct simulation *s, unsigned number)
{
    return s->policies[number % 10 == 0 ? 0 : number % 10 < 4 ? 2 : 1];
}

static int protect(struct simulation *s, const char *id, unsigned number, struct err *err)
{
    AUTO_FREE char *path = mem_printf("/api/v1/machines/%s/protect", id);
    AUTO_ANSWER struct client_answer answer = {0};
    json_t *body = json_pack("{s:s, s:s}", "disks", "all-eligible", "policy_id", policy_of(s, number));
    int rc = path && body ? call(s, "POST", path, body, NULL, &answer, err)
                          : err_set(err, ERR_NOMEM, "no memory for a request");

    json_decref(body);
    return rc;
}

/* 1: it was asked for; 0: not this one, or not yet. */
static int protect_one(struct simulation *s, const json_t *machine, json_t *known, struct err *err)
{
    const char *id = json_string_value(json_object_get(machine, "id"));
    const char *name = json_string_value(json_object_get(machine, "name"));
    unsigned number = name ? number_of(name) : 0;

    if (!id || number == 0 || number % UNPROTECTED_EVERY == 0 || json_object_get(known, id) ||
        json_integer_value(json_object_get(machine, "disk_count")) == 0)
        return 0;
    if (protect(s, id, number, err) < 0)
        return -1;
    json_object_set_new(known, id, json_true());
    return 1;
}

int simulation_protect_some(struct simulation *s, json_t *known, unsigned *ret_asked, struct err *err)
{
    AUTO_FREE char *cursor = NULL;

    do {
        AUTO_FREE char *path = mem_printf("/api/v1/machines?simulated=true&state=unprotected&online=true&limit=500%s%s",
            cursor ? "&cursor=" : "", cursor ? cursor : "");
        AUTO_ANSWER struct client_answer answer = {0};
        const json_t *machine;
        const char *next;
        size_t i;

        if (!path)
            return err_set(err, ERR_NOMEM, "no memory for a request");
        if (call(s, "GET", path, NULL, NULL, &answer, err) < 0)
            return -1;
        json_array_foreach(json_object_get(answer.json, "items"), i, machine)
        {
            int rc = is_stopped(s) ? err_set(err, ERR_CANCELLED, "asked to stop") : protect_one(s, machine, known, err);

            if (rc < 0)
                return -1;
            *ret_asked += (unsigned)rc;
        }
        next = json_string_value(json_object_get(answer.json, "next"));
        free(cursor);
        cursor = next ? mem_strdup(next) : NULL;
    } while (cursor);
    return 0;
}
