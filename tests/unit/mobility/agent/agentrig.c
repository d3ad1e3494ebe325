/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/mobility/agent/agentrig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/rpc/rununtil.h"
#include "transport/base/file.h"
#include "transport/base/log.h"

int agentrig_new(void **state)
{
    struct agentrig *r = calloc(1, sizeof(*r));
    struct agent_conf conf = {.instance = "test", .group_listen = "127.0.0.1:0"};
    struct err err = ERR_INIT;

    log_set_level(LOG_ERROR);
    snprintf(r->dir, sizeof(r->dir), "/tmp/leeward-agent-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    snprintf(r->run, sizeof(r->run), "%s/run", r->dir);
    assert_int_equal(file_make_dirs(r->run, 0700, NULL), 0);
    assert_true(sd_event_new(&r->loop) >= 0);
    fakehub_init(&r->hub, r->dir);
    fakehub_start(&r->hub, r->loop, "127.0.0.1:0");
    memcpy(r->address, r->hub.address, sizeof(r->address));
    fakehub_identify(&r->hub, "agent", &r->files, &r->identity);
    conf.data_dir = conf.hooks_dir = conf.failover_dir = r->dir;
    conf.run_dir = r->run;
    conf.hub = r->address;
    conf.identity = &r->identity;
    if (agent_new(r->loop, &conf, &r->agent, &err) < 0)
        fail_msg("%s", err.text);
    RUN_UNTIL(r, r->hub.hellos == 1);
    *state = r;
    return 0;
}

int agentrig_free(void **state)
{
    struct agentrig *r = *state;

    agent_free(r->agent);
    fakehub_done(&r->hub);
    sd_event_unref(r->loop);
    assert_int_equal(file_remove_tree(r->dir, NULL), 0);
    free(r);
    return 0;
}
