/* SPDX-License-Identifier: Apache-2.0
 *
 * statx(2) with AT_STATX_DONT_SYNC asks no server about the mount point itself; on the way there the kernel may ask about each directory, so
 * the call is made on a thread that can be left behind (question.h).
 */
#include "mobility/mountpath.h"

#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "mobility/question.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define ANSWER_USEC (2 * USEC_PER_SEC)
#define LATER_ANSWER_USEC (100 * USEC_PER_MSEC)
#define SILENCE_USEC (10 * USEC_PER_SEC)

struct path_question {
    struct question q; /* first */
    char path[PATH_MAX];
    struct statx st;
    bool is_directory;
};

/* Monotonic: when one was last not answered. Many mount points may lie below one server that is gone. */
static _Atomic uint64_t silent_usec;

static void look(struct question *q)
{
    struct path_question *p = (struct path_question *)q;

    p->is_directory =
        statx(AT_FDCWD, p->path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_MNT_ID, &p->st) == 0 &&
        S_ISDIR(p->st.stx_mode);
}

static uint64_t patience_usec(void)
{
    uint64_t silent = atomic_load(&silent_usec);

    return silent > 0 && clock_mono_usec() < silent + SILENCE_USEC ? LATER_ANSWER_USEC : ANSWER_USEC;
}

/* NULL: it leads to no directory, or that cannot be told. */
static struct path_question *ask(const char *path)
{
    struct path_question *p = mem_new(struct path_question);

    if (!p)
        return NULL;
    p->q.ask = look;
    snprintf(p->path, sizeof(p->path), "%s", path);
    if (!question_put(&p->q, path, patience_usec())) {
        atomic_store(&silent_usec, clock_mono_usec());
        return NULL;
    }
    if (p->is_directory)
        return p;
    free(p);
    return NULL;
}

bool mountpath_leads_to_mount(const char *path, uint64_t mount_id)
{
    struct path_question *p AUTO_FREE = ask(path);

    return p && (p->st.stx_mask & STATX_MNT_ID) && p->st.stx_mnt_id == mount_id;
}

bool mountpath_leads_to_device(const char *path, dev_t devno)
{
    struct path_question *p AUTO_FREE = ask(path);

    return p && makedev(p->st.stx_dev_major, p->st.stx_dev_minor) == devno;
}
