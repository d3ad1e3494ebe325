/* SPDX-License-Identifier: Apache-2.0
 *
 * The command NewDataKey: a job on the machine's lane (store_new_data_key), after which the machine's stream is ended, so that its node opens
 * another one and gets the new key at once. Branches that are open go on under the key that they began with until they are opened again.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/log.h"
#include "transport/vault/vaultd_private.h"

struct newkey_job {
    struct vaultjob job;
    char *command; /* id */
    size_t keys;
};

static void job_free(struct newkey_job *j)
{
    free(j->command);
    free(j);
}

/* A machine of which nothing was ever stored has no key yet, and asking must not make its folder. */
static int check_known(const struct vmachine *vm, struct err *err)
{
    char *path AUTO_FREE = mem_printf("%s/meta", vm->dir);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a data key");
    if (vm->store != NULL || access(path, F_OK) == 0)
        return 0;
    return err_set(err, ERR_NOT_FOUND, "the vault holds nothing of the machine yet");
}

static int newkey_run(struct vaultjob *job, struct err *err)
{
    struct newkey_job *j = (struct newkey_job *)job;
    struct vmachine *vm = job->vm;
    struct keyring keys;
    struct store *s;
    if (check_known(vm, err) < 0 || vmachine_store(vm, &s, err) < 0 ||
        store_new_data_key(s, &vm->store_conf.vault_key, err) < 0)
        return -1;
    vm->lane_token = 0;
    store_drop_open(s);
    store_keys(s, &keys);
    j->keys = keys.count;
    keyring_cleanse(&keys);
    return 0;
}

static void end_stream(struct vmachine *vm)
{
    struct err why = ERR_INIT;
    if (vm->stream == NULL)
        return;
    (void)err_set(&why, ERR_UNAVAILABLE, "the machine has a new data key");
    (void)err_hint(&why, "open the stream again to get it");
    replicate_refuse(vm->stream, &why);
}

static void newkey_done(struct vaultjob *job)
{
    struct newkey_job *j = (struct newkey_job *)job;
    struct vmachine *vm = job->vm;
    const struct err *err = job->result < 0 ? &job->err : NULL;
    char *json AUTO_FREE = mem_printf("{\"data_keys\":%zu}", j->keys);
    if (err == NULL) {
        log_event(LOG_INFO, "data_key_changed", LOG_S("machine", vm->id_text), LOG_U("data_keys", j->keys));
        end_stream(vm);
    } else {
        log_event(LOG_WARN, "data_key_not_changed", LOG_S("machine", vm->id_text), LOG_E(err));
    }
    if (vm->d->session != NULL)
        session_command_done(vm->d->session, j->command, err, err == NULL ? json : NULL);
    vm->newkey = NULL;
    job_free(j);
}

static int start(struct vaultd *d, const char *command_id, const char *machine_id, struct err *err)
{
    struct ident id;
    if (ident_from_text(machine_id, &id) < 0)
        return err_set(err, ERR_INVALID, "a machine is named by a UUID");
    struct vmachine *vm = vaultd_machine(d, &id);
    if (vm == NULL)
        return err_set(err, ERR_NOT_FOUND, "this vault does not hold the machine %s", machine_id);
    if (vm->newkey != NULL && strcmp(vm->newkey->command, command_id) == 0)
        return 0; /* asked for again: its end answers */
    if (vm->newkey != NULL)
        return err_set(err, ERR_CONFLICT, "the machine is being given a new data key already");
    struct newkey_job *j = mem_new(struct newkey_job);
    if (j == NULL || (j->command = mem_strdup(command_id)) == NULL) {
        free(j);
        return err_set(err, ERR_NOMEM, "no memory for a data key");
    }
    j->job.run = newkey_run;
    j->job.done = newkey_done;
    vm->newkey = j;
    if (vaultjob_lane(vm, &j->job, err) == 0)
        return 0;
    vm->newkey = NULL;
    job_free(j);
    return -1;
}

void vaultnewkey_start(struct vaultd *d, const char *command_id, const char *machine_id)
{
    struct err err = ERR_INIT;
    if (start(d, command_id, machine_id, &err) < 0 && d->session != NULL)
        session_command_done(d->session, command_id, &err, NULL);
}
