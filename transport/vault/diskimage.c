/* SPDX-License-Identifier: Apache-2.0
 *
 * Export of a disk: the point is opened for this one copy, `qemu-img convert` reads it over NBD (every record verified on the
 * way) and writes the image, and the point is closed again. qemu-img tells its progress as "(12.34/100%)" on standard output.
 * An image that was not finished is removed; a block device is left as it is, which the error says.
 */
#include "transport/vault/diskimage.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "transport/base/log.h"
#include "transport/vault/opening.h"
#include "transport/vault/vaultd_private.h"

struct diskimage {
    struct vaultd *d;
    struct diskimage_spec spec;
    char *path;
    char *format;
    char export_id[IDENT_TEXT_SIZE];
    bool is_device, cancelled, created;
    struct loop_child *child;
    int progress_fd;
    sd_event_source *progress;
    struct err result; /* ERR_NONE: fine so far */
};

static const char *const formats[] = {"raw", "qcow2", "vpc", "vmdk"};

static void image_free(struct diskimage *i)
{
    sd_event_source_disable_unref(i->progress);
    if (i->progress_fd >= 0)
        (void)close(i->progress_fd);
    loop_child_free(i->child);
    free(i->path);
    free(i->format);
    free(i);
}

static void on_closed(void *arg, const struct err *err)
{
    struct diskimage *i = arg;
    (void)err; /* the copy is made, or not; that is what counts */
    if (i->result.code != ERR_NONE && i->created && !i->is_device)
        (void)unlink(i->path);
    i->spec.done(i->spec.arg, i->result.code == ERR_NONE ? NULL : &i->result);
    image_free(i);
}

/* Remembers the outcome and closes the point; the end of that ends it all. */
static void finish(struct diskimage *i)
{
    struct err err = ERR_INIT;
    if (opening_close(i->d, i->export_id, false, on_closed, i, &err) < 0)
        on_closed(i, NULL);
}

static void on_exit_child(void *arg, int wait_status)
{
    struct diskimage *i = arg;
    loop_child_free(TAKE_PTR(i->child));
    if (i->cancelled) {
        (void)err_set(&i->result, ERR_CANCELLED, "the export was cancelled");
    } else if (!WIFEXITED(wait_status) || WEXITSTATUS(wait_status) != 0) {
        (void)err_set(&i->result, ERR_IO, "qemu-img could not write %s", i->path);
        (void)err_hint(&i->result, "its lines in the vault's log say why; look for room and a sound target%s",
            i->is_device ? " (the device was partly overwritten)" : "");
    }
    finish(i);
}

/* The last whole "(12.34/100%)" of what was read. */
static int on_progress(sd_event_source *source, int fd, uint32_t events, void *arg)
{
    struct diskimage *i = arg;
    char text[512];
    (void)events;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    if (n <= 0) {
        (void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
        return 0;
    }
    text[n] = '\0';
    const char *at = strrchr(text, '(');
    double percent;
    if (at != NULL && sscanf(at, "(%lf/100%%)", &percent) == 1 && percent >= 0 && percent <= 100)
        i->spec.progress(i->spec.arg, (unsigned)(percent * 10));
    return 0;
}

static int progress_pipe(struct diskimage *i, int *ret_write_fd, struct err *err)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_sys(err, errno, "making a pipe");
    i->progress_fd = fds[0];
    *ret_write_fd = fds[1];
    int failed = sd_event_add_io(i->d->loop, &i->progress, i->progress_fd, EPOLLIN, on_progress, i);
    return failed < 0 ? err_sys(err, -failed, "watching a pipe") : 0;
}

static int convert(struct diskimage *i, struct opening *o, struct err *err)
{
    int out AUTO_CLOSE = -1;
    char *uri AUTO_FREE = mem_printf("nbd+unix:///%u?socket=%s", i->spec.disk, opening_socket(o));
    const char *argv[12] = {"qemu-img", "convert", "-p", "-f", "raw", "-O", i->format};
    size_t n = 7;
    if (i->is_device)
        argv[n++] = "-n";
    argv[n++] = uri;
    argv[n++] = i->path;
    if (uri == NULL)
        return err_set(err, ERR_NOMEM, "no memory to export a disk");
    if (progress_pipe(i, &out, err) < 0)
        return -1;
    struct loop_child_spec spec = {
        .argv = argv, .stdout_fd = out, .stderr_fd = -1, .pass_fd = -1, .on_exit = on_exit_child, .arg = i};
    i->created = true;
    if (loop_child_start(i->d->loop, &spec, &i->child, err) < 0)
        return err_hint(err, "install qemu-utils on the vault");
    return 0;
}

static void on_opened(void *arg, struct opening *o, const struct err *err)
{
    struct diskimage *i = arg;
    if (o == NULL)
        err_copy(&i->result, err);
    else if (i->cancelled)
        (void)err_set(&i->result, ERR_CANCELLED, "the export was cancelled");
    else if (!opening_has_disk(o, i->spec.disk))
        (void)err_set(&i->result, ERR_NOT_FOUND, "the machine had no disk %u at that point", i->spec.disk);
    else if (convert(i, o, &i->result) == 0)
        return;
    finish(i);
}

static bool format_is_known(const char *format)
{
    for (size_t n = 0; n < ARRAY_LEN(formats); n++)
        if (strcmp(format, formats[n]) == 0)
            return true;
    return false;
}

static int check_target(struct diskimage *i, struct err *err)
{
    struct stat st;
    if (i->path[0] != '/')
        return err_set(err, ERR_INVALID, "the path of an export must be absolute");
    if (!format_is_known(i->format))
        return err_set(err, ERR_INVALID, "the format of an export is raw, qcow2, vpc or vmdk, not '%s'", i->format);
    if (stat(i->path, &st) < 0)
        return errno == ENOENT ? 0 : err_sys(err, errno, "looking at %s", i->path);
    i->is_device = S_ISBLK(st.st_mode);
    if (i->is_device)
        return 0;
    (void)err_set(err, ERR_EXISTS, "%s is there already", i->path);
    return err_hint(err, "remove it, or name another file");
}

int diskimage_start(struct vaultd *d, const struct diskimage_spec *spec, struct diskimage **ret_image, struct err *err)
{
    struct ident id;
    struct diskimage *i = mem_new(struct diskimage);
    if (i == NULL)
        return err_set(err, ERR_NOMEM, "no memory to export a disk");
    i->d = d;
    i->spec = *spec;
    i->progress_fd = -1;
    i->path = mem_strdup(spec->path);
    i->format = mem_strdup(spec->format[0] == '\0' ? "raw" : spec->format);
    int result = i->path == NULL || i->format == NULL || ident_random(&id) < 0
                     ? err_set(err, ERR_NOMEM, "no memory to export a disk")
                     : check_target(i, err);
    if (result == 0) {
        ident_to_text(&id, i->export_id);
        struct opening_spec open = {.export_id = i->export_id,
            .machine_id = spec->machine_id,
            .sequence = spec->sequence,
            .socket = "",
            .passing = true};
        *ret_image = i;
        result = opening_open(d, &open, on_opened, i, err);
    }
    if (result < 0)
        image_free(i);
    return result;
}

void diskimage_cancel(struct diskimage *i)
{
    i->cancelled = true;
    if (i->child != NULL)
        loop_child_kill(i->child, SIGTERM);
}
