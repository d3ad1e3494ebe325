/* SPDX-License-Identifier: Apache-2.0
 *
 * Puts the parts of the API together and takes them apart again in the opposite order.
 */
#include "hub/api/api.h"

#include "hub/api/api_metrics.h"
#include "hub/api/event_feed.h"
#include "hub/api/http_route.h"
#include "hub/api/http_server.h"
#include "hub/api/login_gate.h"
#include "hub/api/oidc.h"
#include "hub/api/openapi.h"
#include "hub/api/rate_limit.h"
#include "hub/api/status_cache.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"

struct api {
    struct api_conf conf;
    struct api_services services;
    struct http_server *server;
    atomic_bool draining;
};

#define REQUESTS_PER_SECOND 1000u
#define FAILURES_PER_SECOND 20u

static struct rate_limit *new_limit(unsigned per_second, unsigned fallback, unsigned burst_seconds)
{
    per_second = per_second ? per_second : fallback;
    return rate_limit_new(per_second, per_second * burst_seconds);
}

int api_start(const struct api_conf *conf, struct api **ret_api, struct err *err)
{
    struct api *api = mem_new(struct api);

    if (!api)
        return err_set(err, ERR_NOMEM, "no memory for the API");
    api->conf = *conf;
    api->services.conf = &api->conf;
    api->services.draining = &api->draining;
    api->services.rates = new_limit(conf->requests_per_second, REQUESTS_PER_SECOND, 2);
    api->services.failures = new_limit(conf->failures_per_second, FAILURES_PER_SECOND, 10);
    if (!api->services.rates || !api->services.failures || !(api->services.metrics = api_metrics_new()) ||
        !(api->services.status = status_cache_new(STATUS_CACHE_AGE_USEC)) ||
        !(api->services.logins = login_gate_new(conf->handler_threads ? conf->handler_threads : 4)) ||
        !(api->services.outbound = login_gate_new(conf->handler_threads > 2 ? conf->handler_threads - 1 : 2))) {
        api_stop(api);
        return err_set(err, ERR_NOMEM, "no memory for the API");
    }
    if ((conf->oidc && oidc_new(conf->oidc, &api->services.oidc, err) < 0) ||
        openapi_load(&api->services.doc, err) < 0 || http_routes_check(api->services.doc, err) < 0 ||
        event_feed_start(conf->db, &api->services.feed, err) < 0 ||
        http_server_start(&api->services, &api->server, err) < 0) {
        api_stop(api);
        return -1;
    }
    log_event(LOG_INFO, "api_listening", LOG_S("address", conf->listen), LOG_U("port", api_port(api)));
    *ret_api = api;
    return 0;
}

void api_stop(struct api *api)
{
    if (!api)
        return;
    http_server_quiesce(api->server);
    event_feed_stop(api->services.feed);
    http_server_stop(api->server);
    event_feed_free(api->services.feed);
    openapi_free(api->services.doc);
    rate_limit_free(api->services.rates);
    rate_limit_free(api->services.failures);
    oidc_free(api->services.oidc);
    login_gate_free(api->services.outbound);
    login_gate_free(api->services.logins);
    status_cache_free(api->services.status);
    api_metrics_free(api->services.metrics);
    free(api);
}

unsigned api_port(const struct api *api)
{
    return http_server_port(api->server);
}

void api_news(struct api *api)
{
    event_feed_news(api->services.feed);
    http_server_news(api->server);
}

void api_drain(struct api *api)
{
    atomic_store(&api->draining, true);
    event_feed_end_streams(api->services.feed);
}
