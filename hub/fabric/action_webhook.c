/* SPDX-License-Identifier: Apache-2.0
 *
 * POST of the context, with the step's own body as its member "body", to a URL. 2xx is taken; redirects are not followed. X-Leeward-Delivery is the
 * same when a call is repeated after a crash, so that a receiver can know it.
 */
#include <string.h>

#include "hub/fabric/action.h"
#include "hub/fabric/compute.h"
#include "hub/fabric/http_probe.h"
#include "transport/base/mem.h"

#define TIMEOUT_SEC 60L
#define BODY_MAX (16 * 1024)

static int webhook_check(const json_t *step, struct err *err)
{
    const json_t *body = json_object_get(step, "body");
    AUTO_FREE char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;

    if (http_url_check(compute_text(step, "url", ""), err) < 0)
        return err_wrap(err, "url");
    if (body && !json_is_object(body))
        return err_set(err, ERR_INVALID, "body: not an object");
    if (text && strlen(text) > BODY_MAX)
        return err_set(err, ERR_INVALID, "body: longer than %d bytes", BODY_MAX);
    return 0;
}

static char *make_body(const struct action_call *call)
{
    json_t *all = json_deep_copy(call->context), *body = json_object_get(call->step, "body");
    char *text = NULL;

    if (all && (!body || json_object_set(all, "body", body) == 0))
        text = json_dumps(all, JSON_COMPACT);
    json_decref(all);
    return text;
}

static int webhook_run(const struct action_call *call, json_t **ret_answer, struct err *err)
{
    AUTO_FREE char *body = make_body(call);
    AUTO_FREE char *delivery =
        mem_printf("%s/%s/%lld", compute_text(call->context, "run_id", ""), compute_text(call->context, "step", ""),
            (long long)json_integer_value(json_object_get(call->context, "attempt")));
    struct http_probe probe = {.url = compute_text(call->step, "url", ""),
        .body = body,
        .delivery = delivery,
        .timeout_sec = json_integer_value(json_object_get(call->context, "timeout_seconds")),
        .cancelled = call->cancelled};
    long status = 0;

    if (!body || !delivery)
        return err_set(err, ERR_NOMEM, "no memory for a webhook");
    if (probe.timeout_sec > TIMEOUT_SEC)
        probe.timeout_sec = TIMEOUT_SEC;
    if (http_probe(&probe, &status, err) < 0)
        return -1;
    if (status < 200 || status > 299) {
        err_set(err, ERR_REFUSED, "the webhook was answered with %ld: %s", status, probe.answer);
        return err_hint(err, "Anything but 2xx is a failure.");
    }
    *ret_answer = json_pack("{s:o}", "detail", json_sprintf("answered with %ld", status));
    return *ret_answer ? 0 : err_set(err, ERR_NOMEM, "no memory for a webhook");
}

const struct action action_webhook = {.type = "webhook", .check = webhook_check, .run = webhook_run};
