/* SPDX-License-Identifier: Apache-2.0
 *
 * Formats other than raw: the point is opened for this one copy, `qemu-img convert` reads it over NBD (every record verified on the
 * way) and writes the image, `qemu-img compare` reads both again, and the point is closed. qemu-img tells its progress as
 * "(12.34/100%)" on standard output. What an earlier run left is removed first: an image cannot be gone on with.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "transport/vault/diskimage_private.h"
#include "transport/vault/opening.h"

#define CONVERTED_PERMILLE 700u /* of the whole; comparing is the rest */

struct imageconvert {
    struct diskimage *i;
    char export_id[IDENT_TEXT_SIZE];
    char *uri;
    bool cancelled, comparing;
    struct loop_child *child;
    int progress_fd;
    sd_event_source *progress;
    struct err result; /* ERR_NONE: fine so far */
};

static void progress_end(struct imageconvert *c)
{
    sd_event_source_disable_unref(TAKE_PTR(c->progress));
    if (c->progress_fd >= 0)
        (void)close(TAKE_FD(c->progress_fd));
}

static void convert_free(struct imageconvert *c)
{
    progress_end(c);
    loop_child_free(c->child);
    free(c->uri);
    free(c);
}

static void on_closed(void *arg, const struct err *err)
{
    struct imageconvert *c = arg;
    struct diskimage *i = c->i;
    struct err result = c->result;
    (void)err; /* the copy is made, or not; that is what counts */
    i->convert = NULL;
    convert_free(c);
    diskimage_written(i, result.code == ERR_NONE ? NULL : &result);
}

/* Closes the point; the end of that ends it all. */
static void finish(struct imageconvert *c)
{
    struct err err = ERR_INIT;
    if (opening_close(c->i->d, c->export_id, false, on_closed, c, &err) < 0)
        on_closed(c, NULL);
}

/* The last whole "(12.34/100%)" of what was read. */
static int on_progress(sd_event_source *source, int fd, uint32_t events, void *arg)
{
    struct imageconvert *c = arg;
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
    if (at == NULL || sscanf(at, "(%lf/100%%)", &percent) != 1 || percent < 0 || percent > 100)
        return 0;
    unsigned share = c->comparing ? 1000 - CONVERTED_PERMILLE : CONVERTED_PERMILLE;
    unsigned before = c->comparing ? CONVERTED_PERMILLE : 0;
    c->i->spec.progress(c->i->spec.arg, before + (unsigned)(percent * share / 100),
        c->comparing ? "verifying what was written" : "writing the disk");
    return 0;
}

static int progress_pipe(struct imageconvert *c, int *ret_write_fd, struct err *err)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_sys(err, errno, "making a pipe");
    c->progress_fd = fds[0];
    *ret_write_fd = fds[1];
    int failed = sd_event_add_io(c->i->d->loop, &c->progress, c->progress_fd, EPOLLIN, on_progress, c);
    return failed < 0 ? err_sys(err, -failed, "watching a pipe") : 0;
}

static void on_exit_child(void *arg, int wait_status);

static int run(struct imageconvert *c, const char *const *argv, struct err *err)
{
    int out AUTO_CLOSE = -1;
    progress_end(c);
    if (progress_pipe(c, &out, err) < 0)
        return -1;
    struct loop_child_spec spec = {
        .argv = argv, .stdout_fd = out, .stderr_fd = -1, .pass_fd = -1, .on_exit = on_exit_child, .arg = c};
    return loop_child_start(c->i->d->loop, &spec, &c->child, err) < 0 ? err_hint(err, "install qemu-utils on the vault")
                                                                      : 0;
}

static int compare(struct imageconvert *c, struct err *err)
{
    const char *argv[] = {"qemu-img", "compare", "-p", "-f", "raw", "-F", c->i->format, c->uri, c->i->part, NULL};
    c->comparing = true;
    return run(c, argv, err);
}

static int convert(struct imageconvert *c, struct err *err)
{
    bool vhd = strcmp(c->i->format, "vpc") == 0; /* else its size would be rounded to cylinders */
    const char *argv[] = {"qemu-img", "convert", "-p", "-f", "raw", "-O", c->i->format, c->uri, c->i->part,
        vhd ? "-o" : NULL, "force_size=on", NULL};
    return run(c, argv, err);
}

static void on_exit_child(void *arg, int wait_status)
{
    struct imageconvert *c = arg;
    bool good = WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0;
    loop_child_free(TAKE_PTR(c->child));
    if (c->cancelled)
        (void)err_set(&c->result, ERR_CANCELLED, "the export was cancelled");
    else if (good && !c->comparing && compare(c, &c->result) == 0)
        return;
    else if (!good && c->comparing)
        (void)err_set(&c->result, ERR_CORRUPT, "what was written to %s reads back as something else", c->i->path);
    else if (!good)
        (void)err_set(&c->result, ERR_IO, "qemu-img could not write %s", c->i->path);
    if (!good && !c->cancelled)
        (void)err_hint(&c->result, "its lines in the vault's log say why; look for room and a sound target");
    finish(c);
}

static void on_opened(void *arg, struct opening *o, const struct err *err)
{
    struct imageconvert *c = arg;
    uint32_t disk = c->i->spec.disk;
    if (o == NULL)
        err_copy(&c->result, err);
    else if (c->cancelled)
        (void)err_set(&c->result, ERR_CANCELLED, "the export was cancelled");
    else if (!opening_has_disk(o, disk))
        (void)err_set(&c->result, ERR_NOT_FOUND, "the machine had no disk %u at that point", disk);
    else if ((c->uri = mem_printf("nbd+unix:///%u?socket=%s", disk, opening_socket(o))) == NULL)
        (void)err_set(&c->result, ERR_NOMEM, "no memory to export a disk");
    else if (convert(c, &c->result) == 0)
        return;
    finish(c);
}

int imageconvert_start(struct diskimage *i, struct err *err)
{
    struct ident id;
    struct imageconvert *c = mem_new(struct imageconvert);
    if (c == NULL || ident_random(&id) < 0) {
        free(c);
        return err_set(err, ERR_NOMEM, "no memory to export a disk");
    }
    c->i = i;
    c->progress_fd = -1;
    ident_to_text(&id, c->export_id);
    if (i->again)
        (void)unlink(i->part);
    struct opening_spec open = {.export_id = c->export_id,
        .machine_id = i->vm->id_text,
        .sequence = i->sequence,
        .socket = "",
        .passing = true};
    i->convert = c;
    if (opening_open(i->d, &open, on_opened, c, err) == 0)
        return 0;
    i->convert = NULL;
    convert_free(c);
    return -1;
}

void imageconvert_cancel(struct imageconvert *c)
{
    c->cancelled = true;
    if (c->child != NULL)
        loop_child_kill(c->child, SIGTERM);
}
