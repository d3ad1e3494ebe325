/* SPDX-License-Identifier: Apache-2.0
 *
 * A list of tasks under one mutex. Each has a detached thread; whoever comes last, the collector or the thread, frees it. One that was cancelled stays on the list
 * until it has ended: no other about the same failover begins before.
 */
#include "hub/fabric/fabric_task.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "hub/fabric/action.h"
#include "hub/fabric/compute.h"
#include "hub/fabric/fixup_vm.h"
#include "transport/base/clock.h"
#include "transport/base/ident.h"
#include "transport/base/mem.h"

#define END_WAIT_S 10

struct task {
    struct task *next;
    char key[64];
    char failover_id[IDENT_TEXT_SIZE]; /* "": it is about none */
    enum fabric_verb verb;
    const struct compute_adapter *adapter;
    const struct action *action; /* FABRIC_ACT */
    json_t *config, *spec, *replica;
    bool graceful;
    atomic_bool cancelled;
    /* under the lock */
    bool done, forgotten;
    int rc;
    struct err err;
    json_t *answer;
};

/* Guards the list, the counts, and done, forgotten, rc, err and answer of every task. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;
static struct task *tasks;
static unsigned running, preparing; /* all, and those that have a machine for fix-ups */

static void task_free(struct task *t)
{
    if (!t)
        return;
    json_decref(t->config);
    json_decref(t->spec);
    json_decref(t->replica);
    json_decref(t->answer);
    free(t);
}
DEFINE_AUTO(task, task_free)

static bool has_machine(enum fabric_verb verb)
{
    return verb == FABRIC_FIXUP || verb == FABRIC_PREVIEW || verb == FABRIC_TAKE_BACK;
}

/* A machine that prepares the branch may have outlived its hub. Whether the disks can be reached at all is the adapter's matter. */
static int wait_for_fixups(const json_t *spec, struct err *err)
{
    if (!json_object_get(spec, "fixups") || fixup_machine_check_idle(json_object_get(spec, "disks"), err) == 0)
        return 0;
    if (err->code == ERR_CONFLICT)
        return -1;
    err_clear(err);
    return 0;
}

static int work(struct task *t, json_t **ret_answer, struct err *err)
{
    const struct compute_call call = {.config = t->config,
        .spec = t->spec,
        .replica = t->replica,
        .graceful = t->graceful,
        .cancelled = &t->cancelled};

    if (t->verb == FABRIC_ACT)
        return t->action->run(&(struct action_call){t->config, t->spec, &t->cancelled}, ret_answer, err);
    if (t->verb == FABRIC_START && wait_for_fixups(t->spec, err) < 0)
        return -1;
    if (t->verb == FABRIC_START)
        return t->adapter->start(&call, ret_answer, err);
    if (has_machine(t->verb))
        return fixup_vm_run(&call,
            t->verb == FABRIC_FIXUP     ? FIXUP_CHANGE
            : t->verb == FABRIC_PREVIEW ? FIXUP_LIST
                                        : FIXUP_TAKE_BACK,
            ret_answer, err);
    if ((t->verb == FABRIC_CHECK || t->verb == FABRIC_TRY) && fixup_vm_check(&call, err) < 0)
        return -1;
    if (t->verb != FABRIC_TRY && (t->verb == FABRIC_CHECK ? t->adapter->check : t->adapter->stop)(&call, err) < 0)
        return -1;
    *ret_answer = json_object();
    return *ret_answer ? 0 : err_set(err, ERR_NOMEM, "no memory for an answer");
}

/* With the lock. */
static void drop(struct task *t)
{
    struct task **at = &tasks;

    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    task_free(t);
}

static void *task_main(void *arg)
{
    struct task *t = arg;
    struct err err = ERR_INIT;
    json_t *answer = NULL;
    int rc = work(t, &answer, &err);

    pthread_mutex_lock(&lock);
    t->rc = rc;
    t->err = err;
    t->answer = answer;
    t->done = true;
    running--;
    preparing -= has_machine(t->verb);
    pthread_cond_broadcast(&ended);
    if (t->forgotten)
        drop(t);
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* The adapters' JSON is their own: jansson's reference counts are not for two threads. */
static int make(const struct fabric_ask *ask, struct task **ret_task, struct err *err)
{
    struct task *t AUTO_OF(task) = mem_new(struct task);

    if (!t)
        return err_set(err, ERR_NOMEM, "no memory for a task");
    snprintf(t->key, sizeof(t->key), "%s", ask->key);
    snprintf(t->failover_id, sizeof(t->failover_id), "%s", compute_text(ask->spec, "failover_id", ""));
    t->verb = ask->verb;
    t->graceful = ask->graceful;
    if (ask->verb == FABRIC_ACT)
        t->action = action_find(ask->adapter);
    else
        t->adapter = compute_find(ask->adapter);
    if (!t->adapter && !t->action)
        return err_set(err, ERR_UNSUPPORTED, "this hub has no adapter %.40s", ask->adapter);
    t->config = json_deep_copy(ask->config);
    t->spec = json_deep_copy(ask->spec);
    t->replica = ask->replica ? json_deep_copy(ask->replica) : json_object();
    if (!t->config || !t->spec || !t->replica)
        return err_set(err, ERR_NOMEM, "no memory for a task");
    *ret_task = TAKE_PTR(t);
    return 0;
}

/* With the lock. A replica that is taken away while its start, which was cancelled, is still at work would be started after that. */
static bool is_awaited(const char *failover_id)
{
    for (const struct task *t = tasks; t; t = t->next)
        if (t->forgotten && failover_id[0] && strcmp(t->failover_id, failover_id) == 0)
            return true;
    return false;
}

/* With the lock. 1: it runs; 0: too many do, or another has to end before. */
static int launch(struct task *t, struct err *err)
{
    pthread_attr_t attr;
    pthread_t thread;
    int r;

    if (is_awaited(t->failover_id))
        return 0;
    if (running >= FABRIC_TASKS_MAX || (has_machine(t->verb) && preparing >= fixup_vm_machines()))
        return 0;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    r = pthread_create(&thread, &attr, task_main, t);
    pthread_attr_destroy(&attr);
    if (r != 0)
        return err_sys(err, r, "starting a thread for a target");
    running++;
    preparing += has_machine(t->verb);
    t->next = tasks;
    tasks = t;
    return 1;
}

/* With the lock. */
static struct task **find(const char *key)
{
    struct task **at = &tasks;

    while (*at && ((*at)->forgotten || strcmp((*at)->key, key) != 0))
        at = &(*at)->next;
    return at;
}

static int begin(const struct fabric_ask *ask, struct err *err)
{
    struct task *t AUTO_OF(task) = NULL;
    int rc;

    if (make(ask, &t, err) < 0)
        return -1;
    pthread_mutex_lock(&lock);
    rc = launch(t, err);
    if (rc == 1)
        (void)TAKE_PTR(t);
    pthread_mutex_unlock(&lock);
    return rc < 0 ? -1 : 0;
}

int fabric_task(const struct fabric_ask *ask, json_t **ret_answer, struct err *err)
{
    struct task *t AUTO_OF(task) = NULL;

    pthread_mutex_lock(&lock);
    struct task **at = find(ask->key);
    bool there = *at != NULL;

    if (there && (*at)->done) {
        t = *at;
        *at = t->next;
    }
    pthread_mutex_unlock(&lock);
    if (!there)
        return begin(ask, err);
    if (!t)
        return 0;
    if (t->rc < 0) {
        err_copy(err, &t->err);
        return -1;
    }
    *ret_answer = TAKE_PTR(t->answer);
    return 1;
}

unsigned fabric_task_others(const struct fabric_ask *ask)
{
    unsigned others = 0;

    pthread_mutex_lock(&lock);
    if (has_machine(ask->verb) && !*find(ask->key) && preparing >= fixup_vm_machines())
        others = preparing;
    pthread_mutex_unlock(&lock);
    return others;
}

void fabric_task_cancel(const char *prefix)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += END_WAIT_S;
    pthread_mutex_lock(&lock);
    for (struct task *t = tasks, *next; t; t = next) {
        next = t->next;
        if (t->forgotten || strncmp(t->key, prefix, strlen(prefix)) != 0)
            continue;
        atomic_store(&t->cancelled, true);
        t->forgotten = true;
        if (t->done)
            drop(t);
    }
    while (prefix[0] == '\0' && running > 0 && pthread_cond_timedwait(&ended, &lock, &until) == 0)
        ;
    pthread_mutex_unlock(&lock);
}
