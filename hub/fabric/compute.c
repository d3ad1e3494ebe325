/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of adapters, and what they share.
 */
#include "hub/fabric/compute.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "hub/core/json_members.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

static const struct compute_adapter *const adapters[] = {&compute_disk, &compute_command, &compute_libvirt};

const struct compute_adapter *compute_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(adapters); i++)
        if (strcmp(adapters[i]->name, name) == 0)
            return adapters[i];
    return NULL;
}

int compute_configure(const char *adapter, const json_t *config, struct err *err)
{
    const struct compute_adapter *found = compute_find(adapter);

    if (found)
        return found->configure(config, err);
    err_set(err, ERR_INVALID, "adapter: there is no adapter %.40s", adapter);
    return err_hint(err, "disk, command or libvirt.");
}

/* ---- screens ---- */

/* libvirt has no deadlines: a host that accepts and does not answer holds its caller for good. So each picture has a thread of its own, which may be left
 * behind and then counts on. */
struct shot {
    const struct compute_adapter *adapter;
    json_t *config, *spec; /* its own: jansson's reference counts are not for two threads */
    atomic_bool cancelled;
    pthread_cond_t ended;
    /* under the lock */
    bool done, forgotten;
    int rc;
    struct err err;
    struct buf png;
};

/* Guards the count, and of every shot what its declaration says. */
static pthread_mutex_t screens_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned screens;

static void shot_free(struct shot *s)
{
    if (!s)
        return;
    json_decref(s->config);
    json_decref(s->spec);
    buf_done(&s->png);
    pthread_cond_destroy(&s->ended);
    free(s);
}
DEFINE_AUTO(shot, shot_free)

static struct shot *shot_new(
    const struct compute_adapter *adapter, const json_t *config, const char *failover_id, size_t png_max)
{
    struct shot *s = mem_new(struct shot);
    pthread_condattr_t attr;

    if (!s)
        return NULL;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->ended, &attr);
    pthread_condattr_destroy(&attr);
    s->adapter = adapter;
    s->png = BUF_INIT(png_max);
    s->config = json_deep_copy(config);
    s->spec = json_pack("{s:s}", "failover_id", failover_id);
    if (s->config && s->spec)
        return s;
    shot_free(s);
    return NULL;
}

static void *shot_main(void *arg)
{
    struct shot *s = arg;
    const struct compute_call call = {.config = s->config, .spec = s->spec, .cancelled = &s->cancelled};
    AUTO_BUF struct buf png = BUF_INIT(s->png.max);
    struct err err = ERR_INIT;
    int rc = s->adapter->screenshot(&call, &png, &err);

    pthread_mutex_lock(&screens_lock);
    s->rc = rc;
    s->err = err;
    buf_move(&s->png, &png);
    s->done = true;
    screens--;
    pthread_cond_signal(&s->ended);
    bool orphan = s->forgotten;
    pthread_mutex_unlock(&screens_lock);
    if (orphan)
        shot_free(s);
    return NULL;
}

/* With the lock. */
static int shot_launch(struct shot *s, unsigned at_once, struct err *err)
{
    pthread_attr_t attr;
    pthread_t thread;
    int r;

    if (screens >= at_once) {
        err_set(err, ERR_UNAVAILABLE, "the screens of other replicas are being read");
        return err_hint(err, "Ask again in a moment.");
    }
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    r = pthread_create(&thread, &attr, shot_main, s);
    pthread_attr_destroy(&attr);
    if (r != 0)
        return err_sys(err, r, "starting a thread for a screenshot");
    screens++;
    return 0;
}

/* With the lock. Whether it has ended. */
static bool shot_wait(struct shot *s, uint64_t limit_usec)
{
    uint64_t until = clock_mono_usec() + limit_usec;
    const struct timespec at = {
        .tv_sec = (time_t)(until / USEC_PER_SEC), .tv_nsec = (long)(until % USEC_PER_SEC) * 1000};

    while (!s->done && pthread_cond_timedwait(&s->ended, &screens_lock, &at) != ETIMEDOUT)
        ;
    return s->done;
}

static int shot_collect(struct shot *s, struct buf *png, struct err *err)
{
    if (s->rc < 0) {
        err_copy(err, &s->err);
        return -1;
    }
    return buf_append(png, s->png.data, s->png.len, err);
}

int compute_screenshot(const char *adapter, const json_t *config, const char *failover_id,
    const struct compute_screen_limits *limits, struct buf *png, struct err *err)
{
    const struct compute_adapter *found = compute_find(adapter);
    struct shot *s AUTO_OF(shot) = NULL;
    bool ended = false;
    int rc;

    if (!found || !found->screenshot) {
        err_set(err, ERR_REFUSED, "targets of the kind %.40s show no screens", adapter);
        return err_hint(err, "Replicas on libvirt targets have one.");
    }
    if (!(s = shot_new(found, config, failover_id, png->max)))
        return err_set(err, ERR_NOMEM, "no memory for a screenshot");
    pthread_mutex_lock(&screens_lock);
    rc = shot_launch(s, limits->at_once, err);
    if (rc == 0 && !(ended = shot_wait(s, limits->wait_usec))) {
        s->forgotten = true; /* from here on it is its thread's, which frees it */
        atomic_store(&s->cancelled, true);
    }
    pthread_mutex_unlock(&screens_lock);
    if (rc < 0)
        return -1;
    if (ended)
        return shot_collect(s, png, err);
    (void)TAKE_PTR(s);
    err_set(err, ERR_UNAVAILABLE, "the host does not show the screen in time");
    return err_hint(err, "Check that the target's host answers, then ask again.");
}

int compute_known(const json_t *config, const char *const *known, struct err *err)
{
    const char *key = json_unknown_member(config, known);

    if (!key)
        return 0;
    err_set(err, ERR_INVALID, "config.%.60s: this adapter does not know it", key);
    return err_hint(err, "Leave it out; docs/failover.md lists what each adapter takes.");
}

const char *compute_text(const json_t *object, const char *key, const char *fallback)
{
    const char *s = json_string_value(json_object_get(object, key));

    return s ? s : fallback;
}
