/* SPDX-License-Identifier: Apache-2.0
 *
 * Order and bookkeeping; one run is hookrun.c. The marker is made before the first freeze and goes after the last thaw.
 */
#include "mobility/hooks.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mobility/hooknote.h"
#include "mobility/hookrun.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"

struct hook {
    char path[512];
    pid_t group; /* of its freeze, which may hold something; 0: none */
};

struct hooks {
    struct hooks_conf conf;
    char marker[512];
    unsigned count;
    unsigned frozen; /* the first so many were asked to freeze */
    /* One of an earlier time cannot be ended: nothing is held or stopped beside it. Code ERR_NONE: there is none. */
    struct err endless;
    char ignored[512]; /* the first that others may write; "": none */
    struct hook list[HOOKS_MAX];
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct hook *)a)->path, ((const struct hook *)b)->path);
}

/* A hook runs as root: only root may have written it. */
static bool is_hook(struct hooks *h, const char *path)
{
    struct stat st;

    if (stat(path, &st) < 0 || !S_ISREG(st.st_mode) || !(st.st_mode & S_IXUSR))
        return false;
    if (st.st_uid == geteuid() && (st.st_mode & (S_IWGRP | S_IWOTH)) == 0)
        return true;
    log_event(
        LOG_WARN, "hook_ignored", LOG_S("hook", path), LOG_S("why", "others than root own it or may write to it"));
    if (!h->ignored[0])
        snprintf(h->ignored, sizeof(h->ignored), "%s", path);
    return false;
}

static void list_hooks(struct hooks *h, DIR *d)
{
    for (struct dirent *e; (e = readdir(d));) {
        struct hook *hook = &h->list[h->count];
        int n;

        if (e->d_name[0] == '.')
            continue;
        if (h->count == HOOKS_MAX) {
            log_event(LOG_WARN, "hooks_left_out", LOG_S("dir", h->conf.dir), LOG_U("most", HOOKS_MAX));
            return;
        }
        n = snprintf(hook->path, sizeof(hook->path), "%s/%s", h->conf.dir, e->d_name);
        if (n > 0 && (size_t)n < sizeof(hook->path) && is_hook(h, hook->path))
            h->count++;
    }
}

int hooks_load(const struct hooks_conf *conf, struct hooks **ret_hooks, struct err *err)
{
    struct hooks *h;
    DIR *d;

    h = mem_new(struct hooks);
    if (!h)
        return err_set(err, ERR_NOMEM, "no memory for hooks");
    (void)hooknote_end_all(conf->run_dir, conf->dir, &h->endless);
    h->conf = *conf;
    snprintf(h->marker, sizeof(h->marker), "%s/hooks-frozen", conf->run_dir);
    d = opendir(conf->dir);
    if (d) {
        list_hooks(h, d);
        closedir(d);
    }
    qsort(h->list, h->count, sizeof(h->list[0]), by_name);
    *ret_hooks = h;
    return 0;
}

void hooks_free(struct hooks *h)
{
    free(h);
}

unsigned hooks_count(const struct hooks *h)
{
    return h->count;
}

static int run(const struct hooks *h, const struct hook *hook, const char *verb, pid_t *keep_group, struct err *err)
{
    const struct hookrun run = {.path = hook->path,
        .verb = verb,
        .limit_usec = h->conf.limit_usec,
        .run_dir = h->conf.run_dir,
        .noted_for = h->conf.dir,
        .keep_group = keep_group};

    return hookrun(&run, err);
}

void hooks_prepare(struct hooks *h)
{
    for (unsigned i = 0; h->endless.code == ERR_NONE && i < h->count; i++) {
        struct err err = ERR_INIT;

        if (run(h, &h->list[i], "prepare", NULL, &err) < 0)
            log_event(LOG_INFO, "hook_not_prepared", LOG_E(&err));
    }
}

static int begins_alone(const struct hooks *h, struct err *err)
{
    if (h->endless.code == ERR_NONE)
        return 0;
    err_copy(err, &h->endless);
    return -1;
}

/* What was spoken to nobody is consistent for no application. */
static int speaks_to_all(const struct hooks *h, struct err *err)
{
    if (h->ignored[0]) {
        err_set(err, ERR_REFUSED, "the hook %s is not run: others than root own it or may write to it", h->ignored);
        return err_hint(err, "run 'chown root:root' and 'chmod go-w' on it");
    }
    if (h->count == 0) {
        err_set(err, ERR_NOT_FOUND, "no hook is in %s, so no application would hold still", h->conf.dir);
        return err_hint(
            err, "copy what you need there from /usr/share/leeward/hooks.d, or ask for file-system-consistent points");
    }
    return 0;
}

int hooks_freeze(struct hooks *h, struct err *err)
{
    if (begins_alone(h, err) < 0 || speaks_to_all(h, err) < 0 || file_replace(h->marker, "", 0, 0600, err) < 0)
        return -1;
    while (h->frozen < h->count) {
        struct hook *hook = &h->list[h->frozen++];

        if (run(h, hook, "freeze", &hook->group, err) < 0) {
            (void)hooks_thaw(h, NULL);
            return -1;
        }
    }
    return 0;
}

int hooks_thaw(struct hooks *h, struct err *err)
{
    int r = 0;

    while (h->frozen > 0) {
        struct hook *hook = &h->list[--h->frozen];
        struct err one = ERR_INIT;

        if (run(h, hook, "thaw", NULL, &one) < 0) {
            log_event(LOG_ERROR, "hook_thaw_failed", LOG_E(&one));
            if (r == 0)
                err_copy(err, &one);
            r = -1;
        }
        hookrun_end_group(hook->group);
        hook->group = 0;
    }
    (void)unlink(h->marker);
    return r;
}

int hooks_stop(struct hooks *h, struct err *err)
{
    if (begins_alone(h, err) < 0)
        return -1;
    for (unsigned i = 0; i < h->count; i++)
        if (run(h, &h->list[i], "stop", NULL, err) < 0)
            return -1;
    return 0;
}

int hooks_start(struct hooks *h, struct err *err)
{
    int r = 0;

    for (unsigned i = h->count; i > 0; i--) {
        struct err one = ERR_INIT;

        if (run(h, &h->list[i - 1], "start", NULL, &one) == 0)
            continue;
        if (r == 0)
            err_copy(err, &one);
        r = -1;
    }
    return r;
}

int hooks_recover(const struct hooks_conf *conf, struct err *err)
{
    struct hooks *h;
    int r;

    if (hooks_load(conf, &h, err) < 0)
        return -1;
    r = access(h->marker, F_OK) == 0;
    if (r > 0) {
        h->frozen = h->count;
        (void)hooks_thaw(h, NULL); /* most have noticed and let go by themselves */
    }
    hooks_free(h);
    return r;
}
