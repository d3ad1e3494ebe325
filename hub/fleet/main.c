/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward-fleet: simulated machines, nodes and vaults for trying the console and for load tests. Started by `leeward simulate`, which
 * makes the tokens, protects the machines, and removes everything when it ends.
 */
#include <stdio.h>

#include "hub/fleet/simfleet.h"
#include "transport/base/buf.h"
#include "transport/base/conf.h"
#include "transport/base/file.h"
#include "transport/base/log.h"

#define TOKENS_MAX (32u << 20)
#define SUMMARY "simulated machines, nodes and vaults, for trying the console and for load tests"

struct config {
    char *data, *hub, *tokens, *log_level;
    bool past, log_json;
};

#define AT(member) CONF_OFFSET(struct config, member)
static const struct conf_row rows[] = {
    {.key = "data", .type = CONF_STRING, .offset = AT(data), .required = true, .help = "folder of the certificates"},
    {.key = "hub",
        .type = CONF_STRING,
        .offset = AT(hub),
        .required = true,
        .help = "HOST:PORT of the hub's control plane (port 9442)"},
    {.key = "tokens",
        .type = CONF_STRING,
        .offset = AT(tokens),
        .required = true,
        .help = "file with a role and an enrolment token per line; its lines are the fleet"},
    {.key = "past",
        .type = CONF_BOOL,
        .offset = AT(past),
        .fallback = "true",
        .help = "machines bring recovery points of the past sixty days"},
    {.key = "log-level",
        .type = CONF_STRING,
        .offset = AT(log_level),
        .fallback = "info",
        .help = "debug, info, warn or error"},
    {.key = "log-json", .type = CONF_BOOL, .offset = AT(log_json), .help = "log JSON objects"},
};

static int serve(const struct config *c, struct err *err)
{
    const struct simfleet_conf conf = {.hub = c->hub, .data_dir = c->data, .with_past = c->past};
    AUTO_BUF struct buf tokens = BUF_INIT(TOKENS_MAX);
    struct simfleet *fleet = NULL;
    sd_event *loop = NULL;
    const char *text;
    int rc = -1;

    if (loop_new(NULL, NULL, &loop, err) == 0 && file_make_dirs(c->data, 0700, err) == 0 &&
        file_read(c->tokens, &tokens, err) == 0 && (text = buf_str(&tokens, err)) &&
        simfleet_new(loop, &conf, text, &fleet, err) == 0)
        rc = loop_run(loop, err);
    simfleet_free(fleet);
    loop_free(loop);
    return rc;
}

int main(int argc, char **argv)
{
    struct config config = {0};
    struct err err = ERR_INIT;
    int level, rc;

    log_set_daemon("leeward-fleet");
    rc = conf_load(rows, sizeof(rows) / sizeof(rows[0]), "leeward-fleet", SUMMARY, argc, argv, &config, &err);
    if (rc > 0)
        return 0;
    if (rc == 0 && (level = log_level_from_name(config.log_level)) >= 0) {
        log_set_level((enum log_level)level);
        log_set_json(config.log_json);
        rc = serve(&config, &err);
    }
    if (rc < 0)
        log_event(LOG_ERROR, "failed", LOG_E(&err));
    conf_done(rows, sizeof(rows) / sizeof(rows[0]), &config);
    return rc < 0 ? 1 : rc;
}
