/* SPDX-License-Identifier: Apache-2.0
 *
 * A program of the user's: PROGRAM check|start|stop, with {"config", "spec", "replica", "graceful"} as JSON on standard input. start answers with
 * the replica as a JSON object on standard output (nothing: {}); exit status 0 is success; the last line of standard error is the reason for any
 * other. It runs in a process group of its own, which is ended when the time is over or the hub stops; it must take being started again.
 */
#include <stdint.h>
#include <string.h>

#include "hub/fabric/boot_check.h"
#include "hub/fabric/compute.h"
#include "hub/fabric/program.h"
#include "transport/base/buf.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define OUTPUT_MAX (64 * 1024)
#define TIMEOUT_DEFAULT_S 600
#define TIMEOUT_MAX_S 86400

static int command_configure(const json_t *config, struct err *err)
{
    static const char *const known[] = {"program", "timeout_seconds", NULL};
    const char *program = compute_text(config, "program", "");
    const json_t *seconds = json_object_get(config, "timeout_seconds");

    if (compute_known(config, known, err) < 0)
        return -1;
    if (program[0] != '/') {
        err_set(err, ERR_INVALID, "config.program: not an absolute path");
        return err_hint(err, "Name the program on the hub's host, beginning with /.");
    }
    if (seconds &&
        (!json_is_integer(seconds) || json_integer_value(seconds) < 1 || json_integer_value(seconds) > TIMEOUT_MAX_S))
        return err_set(err, ERR_INVALID, "config.timeout_seconds: not between 1 and %d", TIMEOUT_MAX_S);
    return 0;
}

static int run(const struct compute_call *call, const char *verb, json_t **ret_answer, struct err *err)
{
    const json_t *seconds = json_object_get(call->config, "timeout_seconds");
    uint64_t limit_s = json_is_integer(seconds) ? (uint64_t)json_integer_value(seconds) : TIMEOUT_DEFAULT_S;
    json_t *input = json_pack("{s:O, s:O, s:O?, s:b}", "config", call->config, "spec", call->spec, "replica",
        call->replica, "graceful", (int)call->graceful);
    AUTO_FREE char *text = input ? json_dumps(input, JSON_COMPACT) : NULL;
    AUTO_FREE char *who = mem_printf("the target's program at %s", verb);
    AUTO_BUF struct buf output = BUF_INIT(OUTPUT_MAX);
    const char *const argv[] = {compute_text(call->config, "program", ""), verb, NULL};
    int rc;

    json_decref(input);
    if (!text || !who)
        return err_set(err, ERR_NOMEM, "no memory for a target's program");
    rc = program_run(&(struct program_run){.who = who,
                         .argv = argv,
                         .input = text,
                         .limit_usec = limit_s * USEC_PER_SEC,
                         .cancelled = call->cancelled,
                         .output = &output},
        err);
    if (rc == 0 && ret_answer) {
        *ret_answer =
            output.len ? json_loadb((char *)output.data, output.len, JSON_REJECT_DUPLICATES, NULL) : json_object();
        if (!json_is_object(*ret_answer)) {
            json_decref(TAKE_PTR(*ret_answer));
            rc = err_set(err, ERR_INVALID, "the target's program did not answer with a JSON object at %s", verb);
        }
    }
    return rc;
}

static int command_check(const struct compute_call *call, struct err *err)
{
    if (boot_check_validate(json_object_get(call->spec, "boot_check"), false, err) < 0)
        return -1;
    return run(call, "check", NULL, err);
}

/* The program may give a verdict of its own; else a boot check by TCP, at the address that it gave, does. */
static int command_start(const struct compute_call *call, json_t **ret_replica, struct err *err)
{
    json_t *replica = NULL;

    if (run(call, "start", &replica, err) < 0)
        return -1;
    if (!json_object_get(replica, "verdict") &&
        boot_check_by_tcp(json_object_get(call->spec, "boot_check"), compute_text(replica, "address", NULL),
            call->cancelled, replica, err) < 0) {
        json_decref(replica);
        return -1;
    }
    *ret_replica = replica;
    return 0;
}

static int command_stop(const struct compute_call *call, struct err *err)
{
    return run(call, "stop", NULL, err);
}

const struct compute_adapter compute_command = {
    .name = "command",
    .configure = command_configure,
    .check = command_check,
    .start = command_start,
    .stop = command_stop,
};
