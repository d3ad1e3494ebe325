/* SPDX-License-Identifier: Apache-2.0
 *
 * Ranges that the vault cannot read any more. They become dirty as if they had been written: the next point carries what the disk
 * holds there now, whether it has changed or not. So they are in the retained changes before anything is read, and are not lost when
 * the agent dies; an agent that forgot that it obeyed sends them once more, which does no harm.
 *
 * A range of a disk that is not attached waits for it.
 */
#include "mobility/sync/engine_internal.h"

#include "transport/base/log.h"

void engine_set_resend(struct engine *e, const struct engine_resend *resend)
{
    pthread_mutex_lock(&e->lock);
    if (resend->request != e->resend_request) {
        e->resend = *resend;
        e->resend_request = resend->request;
        e->resend_is_new = e->woken = resend->count > 0;
        pthread_cond_signal(&e->cond);
    }
    pthread_mutex_unlock(&e->lock);
}

static struct engine_disk *disk_with_number(struct engine *e, uint32_t number)
{
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++)
        if (e->disks[i].attached && e->disks[i].number == number)
            return &e->disks[i];
    return NULL;
}

static int mark_dirty(struct engine *e, const struct engine_range *range, struct err *err)
{
    struct engine_disk *d = disk_with_number(e, range->disk);
    uint64_t size = d ? tracker_disk_size_bytes(d->tracked) : 0;

    if (!d)
        return 0;
    d->resend = true;
    if (range->start >= size)
        return 1;
    return dirty_set(retained_open_set(e->retained, engine_index(e, d)), range->start,
               range->length < size - range->start ? range->length : size - range->start, err) < 0
               ? engine_drain_failed(e, err)
               : 1;
}

int engine_obey_resend(struct engine *e, struct err *err)
{
    struct engine_range waiting[ENGINE_RESEND_MAX];
    unsigned count, left = 0;
    int r = 0;

    pthread_mutex_lock(&e->lock);
    count = e->resend.count;
    for (unsigned i = 0; i < count; i++)
        waiting[i] = e->resend.ranges[i];
    e->resend.count = 0;
    pthread_mutex_unlock(&e->lock);
    for (unsigned i = 0; i < count; i++) {
        if (r >= 0)
            r = mark_dirty(e, &waiting[i], err);
        if (r <= 0)
            waiting[left++] = waiting[i];
    }
    if (count > left)
        log_event(LOG_INFO, "resending_lost_ranges", LOG_U("count", count - left));
    pthread_mutex_lock(&e->lock);
    for (unsigned i = 0; i < left && e->resend.count < ENGINE_RESEND_MAX; i++)
        e->resend.ranges[e->resend.count++] = waiting[i];
    pthread_mutex_unlock(&e->lock);
    return r < 0 ? -1 : 0;
}
