/* SPDX-License-Identifier: Apache-2.0
 *
 * A client of the hub for each question: the CA may only just have been made. Polling is every 100 ms, since the hub tells
 * nobody that it is ready before it is.
 */
#include "hub/cli/firststart.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "hub/cli/client.h"
#include "hub/cli/profile.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"

static int connect_hub(const struct firststart *f, struct client **ret_client, char **ret_token, struct err *err)
{
    AUTO_FREE char *ca = mem_printf("%s/hub/ca/ca.pem", f->data);
    AUTO_FREE char *token_path = mem_printf("%s/hub/admin.token", f->data);
    AUTO_FREE char *token = NULL;
    struct client_settings settings = {.url = f->url, .ca = ca};

    if (!ca || !token_path)
        return err_set(err, ERR_NOMEM, "no memory for a client");
    if (profile_read_secret(token_path, &token, err) < 0)
        return -1;
    settings.token = token;
    if (access(ca, R_OK) < 0)
        return err_set(err, ERR_NOT_FOUND, "%s is not there yet", ca);
    if (client_new(&settings, ret_client, err) < 0)
        return -1;
    if (ret_token)
        *ret_token = TAKE_PTR(token);
    return 0;
}

/* Asks `is_so` every 100 ms until it answers 1; 0 and -1 mean not yet, the last reason is in err at the end. */
static int poll_until(const struct firststart *f, int (*is_so)(const struct firststart *f, bool flag, struct err *err),
    bool flag, const char *what, uint64_t timeout_usec, struct err *err)
{
    uint64_t until = clock_mono_usec() + timeout_usec;
    struct err why = ERR_INIT;

    for (;;) {
        err_clear(&why);
        if (is_so(f, flag, &why) == 1)
            return 0;
        if (atomic_load(f->cancel))
            return err_set(err, ERR_CANCELLED, "asked to stop");
        if (clock_mono_usec() > until)
            return err_set(err, ERR_TIMEOUT, "waited %llu s for %s%s%s",
                (unsigned long long)(timeout_usec / USEC_PER_SEC), what, why.code ? ": " : "",
                why.code ? why.text : "");
        (void)nanosleep(&(struct timespec){0, 100 * 1000 * 1000}, NULL);
    }
}

static int hub_is_ready(const struct firststart *f, bool flag, struct err *err)
{
    struct client *client AUTO_OF(client) = NULL;
    AUTO_ANSWER struct client_answer answer = {0};

    (void)flag;
    if (connect_hub(f, &client, NULL, err) < 0 || client_get(client, "/readyz", &answer, err) < 0)
        return -1;
    return answer.status == 200;
}

int firststart_wait_hub(const struct firststart *f, uint64_t timeout_usec, struct err *err)
{
    return poll_until(f, hub_is_ready, false, "the hub to be ready", timeout_usec, err);
}

int firststart_make_token(const struct firststart *f, const char *role, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/%s.token", f->data, role);
    struct client *client AUTO_OF(client) = NULL;
    AUTO_ANSWER struct client_answer answer = {0};
    json_t *body;
    const char *token;
    int rc;

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a token");
    if (connect_hub(f, &client, NULL, err) < 0)
        return -1;
    body = json_pack("{s:s, s:s}", "role", role, "name", "leeward up");
    rc = client_call(client, "POST", "/api/v1/enrolment-tokens", body, NULL, &answer, err);
    json_decref(body);
    if (rc < 0)
        return -1;
    token = json_string_value(json_object_get(answer.json, "token"));
    return token ? file_replace(path, token, strlen(token), 0600, err)
                 : err_set(err, ERR_CORRUPT, "the hub's answer has no token");
}

static long long online(const json_t *status, const char *group)
{
    return (long long)json_integer_value(json_object_get(json_object_get(status, group), "online"));
}

static int all_are_online(const struct firststart *f, bool without_agent, struct err *err)
{
    struct client *client AUTO_OF(client) = NULL;
    AUTO_ANSWER struct client_answer status = {0};
    AUTO_ANSWER struct client_answer machines = {0};

    if (connect_hub(f, &client, NULL, err) < 0 || client_get(client, "/api/v1/status", &status, err) < 0 ||
        client_get(client, "/api/v1/machines?online=true&limit=1", &machines, err) < 0)
        return -1;
    return online(status.json, "nodes") > 0 && online(status.json, "vaults") > 0 &&
           (without_agent || json_array_size(json_object_get(machines.json, "items")) > 0);
}

int firststart_wait_all(const struct firststart *f, bool without_agent, uint64_t timeout_usec, struct err *err)
{
    return poll_until(f, all_are_online, without_agent, "node, vault and agent to be online", timeout_usec, err);
}

int firststart_write_env(const struct firststart *f, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/cli.env", f->data);
    struct client *client AUTO_OF(client) = NULL;
    AUTO_FREE char *token = NULL;
    AUTO_FREE char *text = NULL;

    if (connect_hub(f, &client, &token, err) < 0)
        return -1;
    text = mem_printf("export LEEWARD_URL='%s'\nexport LEEWARD_TOKEN='%s'\nexport LEEWARD_CA='%s/hub/ca/ca.pem'\n",
        f->url, token, f->data);
    if (!path || !text)
        return err_set(err, ERR_NOMEM, "no memory for cli.env");
    return file_replace(path, text, strlen(text), 0600, err);
}
