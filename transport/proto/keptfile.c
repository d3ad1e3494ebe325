/* SPDX-License-Identifier: Apache-2.0
 *
 * A change sets a timer, and when it is due all of it is written anew; with nothing to keep the file goes. What cannot be written is tried again for as long as
 * the process lives. A file that is none is replaced; one that cannot be read now stays until there is something to write.
 */
#include "transport/proto/keptfile.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/loop/loop.h"

#define SAVE_USEC (2 * USEC_PER_SEC)
#define SAVE_AGAIN_USEC (10 * USEC_PER_SEC) /* a disk may be full, or held still */

struct keptfile {
    char *path, *teller;
    struct kept *kept;
    struct loop_timer *timer;
    bool waits;   /* the timer is set */
    bool exists;  /* the file, as far as we know */
    bool failing; /* and that was logged */
};

static int remove_file(struct keptfile *f, struct err *err)
{
    if (f->exists && unlink(f->path) < 0 && errno != ENOENT)
        return err_sys(err, errno, "%s", f->path);
    f->exists = false;
    return 0;
}

static int save(struct keptfile *f, struct err *err)
{
    AUTO_BUF struct buf bytes = BUF_INIT(KEPT_FILE_MAX);

    if (kept_pack(f->kept, f->teller, &bytes, err) < 0)
        return -1;
    if (bytes.len == 0)
        return remove_file(f, err);
    f->exists = true;
    return file_replace(f->path, bytes.data, bytes.len, 0600, err);
}

/* Tries it; false: it is to be tried again. */
static bool is_saved(struct keptfile *f)
{
    struct err err = ERR_INIT;

    if (save(f, &err) == 0) {
        if (f->failing)
            log_event(LOG_INFO, "events_saved", LOG_S("path", f->path));
        f->kept->unsaved = f->failing = false;
        return true;
    }
    if (!f->failing)
        log_event(err.sys_errno == EROFS ? LOG_INFO : LOG_WARN, "events_not_saved", LOG_E(&err));
    f->failing = true;
    return false;
}

static void set(struct keptfile *f, uint64_t usec)
{
    f->waits = true;
    loop_timer_set(f->timer, usec);
}

static void on_timer(void *arg)
{
    struct keptfile *f = arg;

    f->waits = false;
    if (f->kept->unsaved && !is_saved(f))
        set(f, SAVE_AGAIN_USEC);
}

void keptfile_changed(struct keptfile *f)
{
    if (f->kept->unsaved && !f->waits)
        set(f, SAVE_USEC);
}

static void load(struct keptfile *f)
{
    AUTO_BUF struct buf bytes = BUF_INIT(KEPT_FILE_MAX);
    struct err err = ERR_INIT;

    if (file_read(f->path, &bytes, &err) == 0 && kept_unpack(f->kept, f->teller, &bytes, &err) == 0) {
        f->exists = true;
        return;
    }
    if (err.code == ERR_NOT_FOUND)
        return;
    log_event(LOG_WARN, "kept_events_unreadable", LOG_S("path", f->path), LOG_E(&err));
    f->exists = true;
    if (err.code == ERR_INVALID || err.code == ERR_TOO_LARGE)
        f->kept->unsaved = true;
}

int keptfile_new(sd_event *loop, const char *path, const char *teller, struct kept *kept, struct keptfile **ret_file,
    struct err *err)
{
    struct keptfile *f = mem_new(struct keptfile);

    if (f == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %s", path);
    f->kept = kept;
    f->path = mem_strdup(path);
    f->teller = mem_strdup(teller);
    if (f->path == NULL || f->teller == NULL) {
        keptfile_free(f);
        return err_set(err, ERR_NOMEM, "no memory for %s", path);
    }
    if (loop_timer_new(loop, SAVE_USEC, 0, on_timer, f, &f->timer, err) < 0) {
        keptfile_free(f);
        return -1;
    }
    f->waits = true;
    load(f);
    *ret_file = f;
    return 0;
}

void keptfile_free(struct keptfile *f)
{
    if (f == NULL)
        return;
    if (f->timer != NULL && f->kept->unsaved)
        (void)is_saved(f);
    loop_timer_free(f->timer);
    free(f->path);
    free(f->teller);
    free(f);
}
