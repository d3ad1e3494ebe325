/* SPDX-License-Identifier: Apache-2.0
 *
 * Export of a disk. Prepared on the machine's lane (index brought up to the point, view opened); then raw files and block devices are
 * written by jobs of bounded size on the pool (diskcopy.c), other formats by qemu-img (imageconvert.c). While it runs retention keeps the
 * point.
 *
 * Failure modes: a file that could not be completed is removed, a block device stays as it is, which the error says; when the vault is
 * killed or ends, both stay with their note for the next run.
 */
#include "transport/vault/diskimage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/vault/diskimage_private.h"
#include "transport/vault/disktarget.h"

#define STEP_BYTES (64u << 20)
#define NOTE_EVERY_BYTES (512u << 20)
#define WRITTEN_PERMILLE 700u /* of the whole; reading back is the rest */
#define CACHE_BYTES (4u << 20)

static const char *const formats[] = {"raw", "qcow2", "vpc", "vmdk"};

static void image_free(struct diskimage *i)
{
    struct diskimage **link = &i->d->images;
    while (*link != NULL && *link != i)
        link = &(*link)->next;
    if (*link == i)
        *link = i->next;
    diskcopy_free(i->copy);
    view_close(i->view);
    if (i->fd >= 0)
        (void)close(i->fd);
    free(i->id);
    free(i->path);
    free(i->part);
    free(i->format);
    free(i);
}

static bool is_raw(const struct diskimage *i)
{
    return strcmp(i->format, "raw") == 0;
}

/* Tells how it ended, and takes away what is left of what failed. */
static void image_end(struct diskimage *i, const struct err *err)
{
    struct err why = ERR_INIT;
    err_copy(&why, err);
    if (err != NULL && !i->is_device)
        (void)unlink(i->part);
    if (err != NULL && i->is_device && i->copy != NULL)
        (void)err_hint(&why, "The device was partly overwritten.");
    imagenote_remove(i->d, i->id);
    i->spec.done(i->spec.arg, &i->result, err == NULL ? NULL : &why);
    image_free(i);
}

/* ---- the file gets its name; on the pool ---- */

/* Takes nobody else's place. */
static int rename_new(const char *from, const char *to)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL) /* of a file system that does not know it */
        return -1;
    if (access(to, F_OK) == 0) {
        errno = EEXIST;
        return -1;
    }
    return rename(from, to);
}

static int take_name(const struct diskimage *i, struct err *err)
{
    char *folder AUTO_FREE = mem_strdup(i->path);
    if (i->is_device)
        return 0;
    if (folder == NULL)
        return err_set(err, ERR_NOMEM, "no memory to export a disk");
    if (access(i->part, F_OK) < 0 && access(i->path, F_OK) == 0 && i->finished)
        return 0; /* an earlier run was killed directly behind it */
    if (imagenote_write(i, i->noted, true, err) < 0)
        return -1;
    if (rename_new(i->part, i->path) < 0)
        return err_sys(err, errno, "naming %s", i->path);
    *(strrchr(folder, '/') == folder ? folder + 1 : strrchr(folder, '/')) = '\0';
    return file_sync_dir(folder, err);
}

/* ---- writing raw, in steps on the pool ---- */

struct step_job {
    struct vaultjob job;
    struct diskimage *i;
    bool more;
};

static int step_run(struct vaultjob *job, struct err *err)
{
    struct step_job *j = (struct step_job *)job;
    struct diskimage *i = j->i;
    struct diskcopy_progress p;
    int got = i->copy == NULL ? 0 : diskcopy_step(i->copy, STEP_BYTES, err);
    if (got < 0)
        return -1;
    j->more = got > 0;
    if (!j->more)
        return take_name(i, err);
    diskcopy_progress(i->copy, &p);
    if (p.durable - i->noted < NOTE_EVERY_BYTES)
        return 0;
    i->noted = p.durable;
    return imagenote_write(i, p.durable, false, err);
}

static void step_next(struct diskimage *i);

static void tell_progress(struct diskimage *i)
{
    struct diskcopy_progress p;
    diskcopy_progress(i->copy, &p);
    unsigned share = p.verifying ? 1000 - WRITTEN_PERMILLE : WRITTEN_PERMILLE;
    unsigned before = p.verifying ? WRITTEN_PERMILLE : 0;
    unsigned permille = before + (p.size_bytes == 0 ? 0 : (unsigned)((__uint128_t)p.at * share / p.size_bytes));
    i->result.size_bytes = p.size_bytes;
    i->result.written_bytes = p.written_bytes;
    i->spec.progress(
        i->spec.arg, permille > 999 ? 999 : permille, p.verifying ? "verifying what was written" : "writing the disk");
}

static void step_done(struct vaultjob *job)
{
    struct step_job *j = (struct step_job *)job;
    struct diskimage *i = j->i;
    bool more = j->more;
    int result = job->result;
    struct err err = job->err;
    free(j);
    if (i->d->stopping) {
        image_free(i); /* the note and what is written stay for the next run */
        return;
    }
    if (i->copy != NULL)
        tell_progress(i);
    if (result == 0 && more && i->cancelled)
        result = err_set(&err, ERR_CANCELLED, "the export was cancelled");
    if (result == 0 && more)
        step_next(i);
    else
        image_end(i, result < 0 ? &err : NULL);
}

static void step_next(struct diskimage *i)
{
    struct err err = ERR_INIT;
    struct step_job *j = mem_new(struct step_job);
    if (j != NULL) {
        j->job.run = step_run;
        j->job.done = step_done;
        j->i = i;
        if (vaultjob_pool(i->d, i->vm, &j->job, &err) == 0)
            return;
        free(j);
    }
    if (err.code == ERR_NONE)
        (void)err_set(&err, ERR_NOMEM, "no memory to export a disk");
    image_end(i, &err);
}

void diskimage_written(struct diskimage *i, const struct err *err)
{
    if (err != NULL)
        image_end(i, err);
    else
        step_next(i); /* which gives the file its name */
}

/* ---- preparing, on the lane ---- */

struct image_job {
    struct vaultjob job;
    struct diskimage *i;
    uint64_t sequence;
    struct view *view;
};

static int prepare_run(struct vaultjob *job, struct err *err)
{
    struct image_job *j = (struct image_job *)job;
    struct keyring keys;
    struct store *s;
    if (vmachine_store(job->vm, &s, err) < 0 || store_flush(s, err) < 0)
        return -1;
    store_keys(s, &keys);
    int result = view_open(store_dir(s), j->sequence, &keys, CACHE_BYTES, &j->view, err);
    keyring_cleanse(&keys);
    return result;
}

static int open_target(struct diskimage *i, struct err *err)
{
    const struct mark_disk *disk = view_disk(i->view, i->spec.disk);
    if (disk == NULL)
        return err_set(err, ERR_NOT_FOUND, "the machine had no disk %u at that point", i->spec.disk);
    i->result.size_bytes = disk->size_bytes;
    if (i->is_device)
        return disktarget_open_device(i->path, disk->size_bytes, &i->fd, err);
    return disktarget_open_file(i->part, i->again, &i->fd, err);
}

static int begin_raw(struct diskimage *i, struct err *err)
{
    if (open_target(i, err) < 0)
        return -1;
    struct diskcopy_spec spec = {.view = i->view,
        .disk = i->spec.disk,
        .fd = i->fd,
        .is_device = i->is_device,
        .again = i->again,
        .from = i->noted};
    i->result.resumed = i->again;
    return diskcopy_new(&spec, &i->copy, err);
}

static int part_exists(const struct diskimage *i, struct err *err)
{
    (void)err_set(err, ERR_EXISTS, "%s is there already", i->part);
    return err_hint(err, "another export may be writing it; remove it if none does");
}

static int begin(struct diskimage *i, struct err *err)
{
    if (i->cancelled)
        return err_set(err, ERR_CANCELLED, "the export was cancelled");
    if (i->finished) {
        i->result.resumed = true;
        step_next(i); /* only the name is missing, or not even that */
        return 0;
    }
    if (!i->is_device && !i->again && access(i->part, F_OK) == 0)
        return part_exists(i, err);
    /* The note comes first: killed in between, the file is known as ours. */
    if (imagenote_write(i, i->noted, false, err) < 0)
        return -1;
    if (is_raw(i) && begin_raw(i, err) < 0) {
        if (i->fd < 0 && !i->again)
            imagenote_remove(i->d, i->id);
        return -1;
    }
    i->begun = true;
    if (!is_raw(i))
        return imageconvert_start(i, err);
    step_next(i);
    return 0;
}

static void prepare_done(struct vaultjob *job)
{
    struct image_job *j = (struct image_job *)job;
    struct diskimage *i = j->i;
    int result = job->result;
    struct err err = job->err;
    i->view = TAKE_PTR(j->view);
    free(j);
    if (i->d->stopping) {
        image_free(i);
        return;
    }
    if (result == 0)
        i->sequence = view_mark(i->view)->sequence;
    if (result == 0 && (result = begin(i, &err)) == 0)
        return;
    /* A target that was refused is somebody else's: nothing of it is removed. */
    if (!i->begun && !i->again && i->fd < 0) {
        i->spec.done(i->spec.arg, NULL, &err);
        image_free(i);
    } else {
        image_end(i, &err);
    }
}

static int prepare(struct diskimage *i, struct err *err)
{
    struct image_job *j = mem_new(struct image_job);
    if (j == NULL)
        return err_set(err, ERR_NOMEM, "no memory to export a disk");
    j->job.run = prepare_run;
    j->job.done = prepare_done;
    j->i = i;
    j->sequence = i->sequence;
    if (vaultjob_lane(i->vm, &j->job, err) == 0)
        return 0;
    free(j);
    return -1;
}

/* ---- asking for it ---- */

static int check_format(const struct diskimage *i, struct err *err)
{
    for (size_t n = 0; n < ARRAY_LEN(formats); n++)
        if (strcmp(i->format, formats[n]) == 0)
            return 0;
    return err_set(err, ERR_INVALID, "the format of an export is raw, qcow2, vpc or vmdk, not '%s'", i->format);
}

static int check_request(struct diskimage *i, struct err *err)
{
    struct ident machine;
    struct err why = ERR_INIT;
    if (ident_from_text(i->spec.machine_id, &machine) < 0)
        return err_set(err, ERR_INVALID, "the machine is named by a UUID");
    i->vm = vaultd_machine(i->d, &machine);
    if (i->vm == NULL)
        return err_set(err, ERR_NOT_FOUND, "this vault does not hold the machine %s", i->spec.machine_id);
    if (check_format(i, err) < 0)
        return -1;
    int noted = imagenote_load(i, err);
    if (noted < 0)
        return -1;
    i->again = noted > 0;
    if (disktarget_check(i->path, i->spec.protected_devices, i->spec.protected_count, &i->is_device, &why) < 0 &&
        !(i->finished && why.code == ERR_EXISTS)) {
        err_copy(err, &why);
        return -1;
    }
    if (i->is_device && !is_raw(i))
        return err_set(err, ERR_INVALID, "a block device takes the format raw, not '%s'", i->format);
    return 0;
}

int diskimage_start(struct vaultd *d, const struct diskimage_spec *spec, struct diskimage **ret_image, struct err *err)
{
    struct diskimage *i = mem_new(struct diskimage);
    if (i == NULL)
        return err_set(err, ERR_NOMEM, "no memory to export a disk");
    i->d = d;
    i->spec = *spec;
    i->fd = -1;
    i->sequence = spec->sequence;
    i->id = mem_strdup(spec->id);
    i->path = mem_strdup(spec->path);
    i->part = mem_printf("%s" DISKTARGET_PART_SUFFIX, spec->path);
    i->format = mem_strdup(spec->format[0] == '\0' ? "raw" : spec->format);
    int result = i->id == NULL || i->path == NULL || i->part == NULL || i->format == NULL
                     ? err_set(err, ERR_NOMEM, "no memory to export a disk")
                     : check_request(i, err);
    if (result == 0) {
        i->next = d->images;
        d->images = i;
        result = prepare(i, err);
    }
    if (result < 0)
        image_free(i);
    else
        *ret_image = i;
    return result;
}

void diskimage_cancel(struct diskimage *i)
{
    i->cancelled = true;
    if (i->convert != NULL)
        imageconvert_cancel(i->convert);
}

void diskimage_forget(const struct vaultd *d, const char *id)
{
    char *part AUTO_FREE = imagenote_part(d, id);
    if (part != NULL)
        (void)unlink(part);
    imagenote_remove(d, id);
}
