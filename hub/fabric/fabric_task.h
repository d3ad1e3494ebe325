/* SPDX-License-Identifier: Apache-2.0
 *
 * What adapters do, on threads of its own, asked for and collected by job steps that never wait. A task belongs to this process: when the
 * hub is killed its step asks again, here or at another hub, and the adapter finds what is there already. Any thread.
 */
#ifndef HUB_FABRIC_FABRIC_TASK_H
#define HUB_FABRIC_FABRIC_TASK_H

#include <jansson.h>
#include <stdbool.h>

#include "transport/base/err.h"

#define FABRIC_TASKS_MAX 64

/* FABRIC_ACT: `adapter` is the type of an action (action.h), `config` its step, `spec` its context. FABRIC_FIXUP prepares the disks of spec for the replica,
 * FABRIC_PREVIEW lists what that would change, FABRIC_TAKE_BACK takes it back, FABRIC_TRY tries what they need of this host (fixup_vm.h). */
enum fabric_verb {
    FABRIC_CHECK,
    FABRIC_START,
    FABRIC_STOP,
    FABRIC_ACT,
    FABRIC_FIXUP,
    FABRIC_PREVIEW,
    FABRIC_TAKE_BACK,
    FABRIC_TRY
};

struct fabric_ask {
    const char *key; /* of the task: job id and step; at most 63 bytes */
    enum fabric_verb verb;
    const char *adapter;
    const json_t *config, *spec, *replica; /* copied; replica may be NULL */
    bool graceful;
};

/* Begins the task unless it is there. 0: not done yet, or not begun because too many run, or because one about the same failover (spec.failover_id) was cancelled and has
 * not ended yet; 1: done, *ret_answer (a new reference; {} for check
 * and stop) and the task is forgotten; -1: it failed and is forgotten. */
int fabric_task(const struct fabric_ask *ask, json_t **ret_answer, struct err *err);
/* Why a task is not begun yet: as many fix-ups as may run at once (fixup_vm.h) do; how many. 0: for another reason, or it is begun. */
unsigned fabric_task_others(const struct fabric_ask *ask);
/* Asks tasks whose key begins so to give up, and forgets them. "": all; waits for those, up to ten seconds. */
void fabric_task_cancel(const char *prefix);

#endif
