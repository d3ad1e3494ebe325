/* SPDX-License-Identifier: Apache-2.0
 *
 * The file system under the spools, which may be full although they are below their limit: too small, shared, or under a quota. A write
 * that fails for want of room, of space or of inodes, costs the stream that it belongs to, whose agent begins again behind the last whole change set. From then on
 * the spool counts as full for everybody: machines whose vault keeps up go past the disk, the others wait, and nobody tries in vain. There is
 * room again when the file system says so; where it said so at the failure, too, (a quota) some time must have passed.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/statvfs.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/node/machine.h"

/* For some batches that are on their way, and the segments that they begin: space, and names (inodes) for files and folders. */
#define ROOM_BYTES (4ULL * SEALING_BATCH_MAX)
#define ROOM_FILES 16u
#define LOOK_USEC (200 * USEC_PER_MSEC)
#define QUOTA_USEC (15 * USEC_PER_SEC)

struct room {
    uint64_t bytes, files; /* files: as many as one likes where the file system does not count them */
};

static struct room room_of(const struct node *node)
{
    struct statvfs v;
    if (statvfs(node->spool_dir, &v) < 0)
        return (struct room){0};
    return (struct room){
        .bytes = (uint64_t)v.f_bavail * v.f_frsize, .files = v.f_files == 0 ? UINT64_MAX : (uint64_t)v.f_favail};
}

static bool room_is_enough(const struct room *r)
{
    return r->bytes >= ROOM_BYTES && r->files >= ROOM_FILES;
}

void spooldisk_failed(struct node *node, const struct err *err)
{
    struct spooldisk *d = &node->disk;
    uint64_t now = clock_mono_usec();
    struct room left = room_of(node);
    if (err->code != ERR_NOSPACE)
        return;
    if (!d->full)
        log_event(LOG_ERROR, "spool_disk_full", LOG_S("folder", node->spool_dir), LOG_U("free_bytes", left.bytes),
            LOG_U("free_files", left.files), LOG_U("spool_bytes", node->spool_bytes),
            LOG_U("spool_limit_bytes", node->conf.spool_bytes));
    d->full = true;
    d->not_before_usec = now + (room_is_enough(&left) ? QUOTA_USEC : LOOK_USEC);
}

void spooldisk_hint(struct err *err)
{
    if (err->code == ERR_NOMEM)
        (void)err_hint(err, "Give the node more memory or descriptors; it goes on by itself.");
    else if (err->sys_errno != 0)
        (void)err_hint(err, "Check the disk that holds the node's data folder; all goes on by itself when it works.");
}

void spooldisk_copy_failed(struct node *node, const struct err *err)
{
    struct room left = room_of(node);
    if (!room_is_enough(&left))
        spooldisk_failed(node, err);
}

bool spooldisk_has_room(struct node *node)
{
    struct spooldisk *d = &node->disk;
    uint64_t now;
    if (!d->full)
        return true;
    now = clock_mono_usec();
    if (now < d->not_before_usec)
        return false;
    d->not_before_usec = now + LOOK_USEC;
    struct room left = room_of(node);
    if (!room_is_enough(&left))
        return false;
    d->full = false;
    log_event(LOG_INFO, "spool_disk_has_room", LOG_S("folder", node->spool_dir), LOG_U("free_bytes", left.bytes),
        LOG_U("free_files", left.files));
    return true;
}

void spooldisk_describe(const struct node *node, char *cause, size_t cause_size, char *remedy, size_t remedy_size)
{
    struct room left = room_of(node);
    (void)snprintf(cause, cause_size,
        "The file system of the spool is full: the spool has %llu of its %llu MiB and there is no room for more. "
        "Agents wait and collect changes, unless their vault keeps up.",
        (unsigned long long)(node->spool_bytes >> 20), (unsigned long long)(node->conf.spool_bytes >> 20));
    (void)snprintf(remedy, remedy_size,
        "Free %s under %.120s, or give it a file system of its own; or set spool-bytes to what there is. "
        "All goes on by itself.",
        left.files < ROOM_FILES ? "inodes (df -i)" : "space", node->spool_dir);
}
