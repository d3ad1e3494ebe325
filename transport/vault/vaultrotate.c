/* SPDX-License-Identifier: Apache-2.0
 *
 * Rotation of the vault key in a running vault (rekey.h): one machine after the other, each on its lane, so that its store, which keeps
 * its wrapped key in memory, takes part. Machines that come meanwhile are made under the new key at once. A rotation that fails
 * half way leaves both keys in place; the next one, or the next start, goes on with it.
 */
#include <dirent.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/base/log.h"
#include "transport/vault/rekey.h"
#include "transport/vault/vaultd_private.h"

struct rotation {
    struct vaultd *d;
    char *command; /* id */
    char **machines;
    size_t count, next, wrapped;
    struct vault_key key, older;
};

struct rotate_job {
    struct vaultjob job;
    struct rotation *r;
    struct ident machine;
};

static void rotation_end(struct rotation *r, const struct err *err)
{
    struct vaultd *d = r->d;
    char id[VAULTKEYS_ID_SIZE];
    vaultkeys_id(&d->key, id);
    char *json AUTO_FREE = mem_printf("{\"key_id\":\"%s\",\"machines\":%zu}", id, r->wrapped);
    if (err != NULL)
        log_event(LOG_ERROR, "key_rotation_failed", LOG_E(err));
    else
        log_event(LOG_INFO, "key_rotated", LOG_S("key_id", id), LOG_U("machines", r->wrapped));
    if (d->session != NULL) {
        session_command_done(d->session, r->command, err, err == NULL ? json : NULL);
        if (err == NULL)
            session_event(d->session, "warning", "vault_key_rotated", NULL,
                "Make a safe copy of the new vault.key now: without it the data cannot be read.",
                "The vault has a new key; the old one opens nothing any more.");
    }
    for (size_t i = 0; i < r->count; i++)
        free(r->machines[i]);
    free(r->machines);
    free(r->command);
    OPENSSL_cleanse(&r->key, sizeof(r->key));
    OPENSSL_cleanse(&r->older, sizeof(r->older));
    free(r);
    d->rotation = NULL;
}

static struct rotate_job *job_new(
    struct rotation *r, int (*run)(struct vaultjob *j, struct err *err), void (*done)(struct vaultjob *j))
{
    struct rotate_job *j = mem_new(struct rotate_job);
    if (j == NULL)
        return NULL;
    j->r = r;
    j->job.run = run;
    j->job.done = done;
    return j;
}

static void no_memory(struct rotation *r)
{
    struct err err = ERR_INIT;
    (void)err_set(&err, ERR_NOMEM, "no memory to rotate the key");
    rotation_end(r, &err);
}

/* ---- the end ---- */

static int finish_run(struct vaultjob *job, struct err *err)
{
    return rekey_finish(((struct rotate_job *)job)->r->d->data_dir, err);
}

static void finish_done(struct vaultjob *job)
{
    struct rotation *r = ((struct rotate_job *)job)->r;
    if (job->result == 0) {
        r->d->has_older_key = false;
        OPENSSL_cleanse(&r->d->older_key, sizeof(r->d->older_key));
    }
    rotation_end(r, job->result < 0 ? &job->err : NULL);
    free(job);
}

/* ---- one machine ---- */

static void go_on(struct rotation *r);

/* Lane. */
static int machine_run(struct vaultjob *job, struct err *err)
{
    struct rotate_job *j = (struct rotate_job *)job;
    struct vmachine *vm = job->vm;
    const struct vault_key *next = &j->r->key;
    int result = vm->store != NULL && !store_is_broken(vm->store)
                     ? store_rewrap(vm->store, next, err)
                     : rekey_machine(vm->dir, &vm->id, &j->r->older, next, err);
    if (result >= 0) {
        vm->store_conf.vault_key = *next;
        vm->store_conf.has_older_key = false;
    }
    return result < 0 ? -1 : 0;
}

static void machine_done(struct vaultjob *job)
{
    struct rotation *r = ((struct rotate_job *)job)->r;
    struct err err = job->err;
    bool done = job->result == 0;
    if (!done)
        (void)err_wrap(&err, "machine %s", job->vm->id_text);
    free(job);
    if (!done) {
        rotation_end(r, &err);
        return;
    }
    r->wrapped++;
    go_on(r);
}

static void go_on(struct rotation *r)
{
    struct err err = ERR_INIT;
    struct ident id;
    bool last = r->next == r->count;
    struct rotate_job *j = last ? job_new(r, finish_run, finish_done) : job_new(r, machine_run, machine_done);
    if (j == NULL) {
        no_memory(r);
        return;
    }
    int result = -1;
    if (r->d->stopping) {
        (void)err_set(&err, ERR_CANCELLED, "the vault is ending; it goes on at the next start");
    } else if (last) {
        result = vaultjob_pool(r->d, NULL, &j->job, &err);
    } else if (ident_from_text(r->machines[r->next++], &id) == 0) {
        struct vmachine *vm = vaultd_machine_add(r->d, &id, &err);
        result = vm == NULL ? -1 : vaultjob_lane(vm, &j->job, &err);
    }
    if (result == 0)
        return;
    free(j);
    rotation_end(r, &err);
}

/* ---- the beginning ---- */

static int add_machine(struct rotation *r, const char *name, struct err *err)
{
    char **machines = mem_resize(r->machines, r->count + 1, sizeof(*machines));
    if (machines == NULL)
        return err_set(err, ERR_NOMEM, "no memory to rotate the key");
    r->machines = machines;
    machines[r->count] = mem_strdup(name);
    if (machines[r->count] == NULL)
        return err_set(err, ERR_NOMEM, "no memory to rotate the key");
    r->count++;
    return 0;
}

/* The new key is durable before anything is wrapped under it. */
static int begin_run(struct vaultjob *job, struct err *err)
{
    struct rotation *r = ((struct rotate_job *)job)->r;
    char *path AUTO_FREE = mem_printf("%s/machines", r->d->data_dir);
    DIR *dir = NULL;
    struct dirent *entry;
    struct ident id;
    int result = path == NULL ? -1 : rekey_begin(r->d->data_dir, &r->key, err);
    if (result == 0 && (dir = opendir(path)) == NULL)
        result = err_set(err, ERR_IO, "listing the machines failed");
    while (result == 0 && (entry = readdir(dir)) != NULL)
        if (ident_from_text(entry->d_name, &id) == 0)
            result = add_machine(r, entry->d_name, err);
    if (dir != NULL)
        (void)closedir(dir);
    return result;
}

static void begin_done(struct vaultjob *job)
{
    struct rotation *r = ((struct rotate_job *)job)->r;
    struct err err = job->err;
    bool begun = job->result == 0;
    free(job);
    if (!begun) {
        rotation_end(r, &err);
        return;
    }
    if (!r->d->has_older_key)
        r->d->older_key = r->d->key;
    r->d->has_older_key = true;
    r->older = r->d->older_key;
    r->d->key = r->key;
    go_on(r);
}

void vaultrotate_start(struct vaultd *d, const char *command_id)
{
    struct err err = ERR_INIT;
    if (d->rotation != NULL && strcmp(d->rotation->command, command_id) == 0)
        return; /* asked for again: its end answers */
    struct rotation *r = d->rotation != NULL ? NULL : mem_new(struct rotation);
    struct rotate_job *j = r == NULL ? NULL : job_new(r, begin_run, begin_done);
    char *command = j == NULL ? NULL : mem_strdup(command_id);
    if (command == NULL) {
        if (d->rotation != NULL)
            (void)err_set(&err, ERR_CONFLICT, "the vault's key is being rotated already");
        else
            (void)err_set(&err, ERR_NOMEM, "no memory to rotate the key");
        if (d->session != NULL)
            session_command_done(d->session, command_id, &err, NULL);
        free(j);
        free(r);
        return;
    }
    r->d = d;
    r->command = command;
    d->rotation = r;
    if (vaultjob_pool(d, NULL, &j->job, &err) == 0)
        return;
    free(j);
    rotation_end(r, &err);
}
