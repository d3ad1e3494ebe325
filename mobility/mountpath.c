/* SPDX-License-Identifier: Apache-2.0
 *
 * statx(2) with AT_STATX_DONT_SYNC asks no server about the mount point itself; on the way there the kernel may ask about each directory, so
 * the call is made on a thread that can be left behind (question.h).
 */
#include "mobility/mountpath.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "mobility/question.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define ANSWER_USEC (2 * USEC_PER_SEC)

struct path_question {
    struct question q; /* first */
    char path[PATH_MAX];
    bool is_directory;
    dev_t devno;
};

static void look(struct question *q)
{
    struct path_question *p = (struct path_question *)q;
    struct statx st;

    if (statx(AT_FDCWD, p->path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE, &st) < 0)
        return;
    p->is_directory = S_ISDIR(st.stx_mode);
    p->devno = makedev(st.stx_dev_major, st.stx_dev_minor);
}

bool mountpath_leads_to(const char *path, dev_t devno)
{
    struct path_question *p = mem_new(struct path_question);
    bool leads;

    if (!p)
        return false;
    p->q.ask = look;
    snprintf(p->path, sizeof(p->path), "%s", path);
    if (!question_put(&p->q, path, ANSWER_USEC))
        return false;
    leads = p->is_directory && (devno == 0 || p->devno == devno);
    free(p);
    return leads;
}
