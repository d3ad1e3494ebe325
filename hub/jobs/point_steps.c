/* SPDX-License-Identifier: Apache-2.0
 *
 * Recovery points: make one now, write a disk of one into a file.
 */
#include "hub/jobs/point_steps.h"

#include <stdio.h>
#include <string.h>

#include "hub/db/branch_store.h"
#include "hub/db/journal.h"
#include "hub/db/protection_store.h"
#include "hub/jobs/copy_steps.h"
#include "transport/base/clock.h"

/* How long a committed point may take from the vault into the hub's list before the job ends without it. */
#define LISTED_USEC (30 * USEC_PER_SEC)
#define TAG_MAX 128
#define PATH_LENGTH_MAX 4000

static int check_words(const char *member, const char *value, const char *const *words, struct err *err)
{
    char list[128] = "";
    size_t n = 0;

    for (size_t i = 0; words[i]; i++) {
        if (strcmp(words[i], value) == 0)
            return 0;
        n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "", words[i]);
    }
    err_set(err, ERR_INVALID, "%s: unknown word", member);
    return err_hint(err, "One of: %s.", list);
}

static int check_replicates(const struct machine_row *m, struct err *err)
{
    int state = machine_state_from_name(m->state);

    if (state >= 0 && machine_state_replicates((enum machine_state)state))
        return 0;
    err_set(err, ERR_REFUSED, "machine %s is not protected", m->name);
    return err_hint(err, "Protect it first: leeward machine protect %s", m->name);
}

/* The vault that has the machine's points. */
int point_steps_vault(struct db_conn *conn, const char *machine_id, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    int rc = protection_vault(conn, machine_id, ret_id, err);

    if (rc != 0)
        return rc < 0 ? -1 : 0;
    err_set(err, ERR_REFUSED, "the machine has no recovery points");
    return err_hint(err, "Protect it first: leeward machine protect");
}

#define NEAREST "The nearest that is kept is %llu, of %s."

/* The machine has no point of that number: was it dropped, or was there never one? */
static int is_not_kept(struct db_conn *conn, const struct machine_row *m, uint64_t sequence, struct err *err)
{
    struct kept_point kept;
    int there = protection_kept_point(conn, m->id, sequence, &kept, err);

    if (there < 0)
        return -1;
    if (there == 0 || sequence > kept.newest) {
        err_set(err, ERR_NOT_FOUND, "machine %s has no point %llu", m->name, (unsigned long long)sequence);
        return err_hint(err, "List its points: leeward point list %s", m->name);
    }
    err_set(err, ERR_NOT_FOUND, "machine %s has no point %llu any more", m->name, (unsigned long long)sequence);
    return kept.lock[0] ? err_hint(err, "Retention drops what is older than its lock of %s. " NEAREST, kept.lock,
                              (unsigned long long)kept.nearest, kept.time)
                        : err_hint(err, "Retention drops points as the policy says, which has no lock. " NEAREST,
                              (unsigned long long)kept.nearest, kept.time);
}

/* A sequence that was named must be a point that the hub knows; 0 needs any point at all. */
int point_steps_sequence(struct db_conn *conn, const struct machine_row *m, const json_t *params, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    uint64_t sequence;

    if (job_param_u64(params, "sequence", &sequence, err) < 0)
        return -1;
    if (sequence == 0)
        return 0;
    AUTO_FREE char *key = mem_printf("%s:%llu", m->id, (unsigned long long)sequence);
    int found = key ? db_get(conn, &db_points, key, &set, err) : err_set(err, ERR_NOMEM, "no memory");

    if (found != 0)
        return found < 0 ? -1 : 0;
    return is_not_kept(conn, m, sequence, err);
}

/* ---- point_create ---- */

static int create_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"kind", "tag", NULL};
    static const char *const kinds[] = {"crash", "filesystem", "application", NULL};

    if (job_params_known(params, known, err) < 0 ||
        check_words("kind", json_object_get(params, "kind") ? job_param_text(params, "kind") : "crash", kinds, err) <
            0 ||
        check_replicates(machine, err) < 0)
        return -1;
    if (strlen(job_param_text(params, "tag")) > TAG_MAX)
        return err_set(err, ERR_INVALID, "tag: at most %d bytes are allowed", TAG_MAX);
    return point_steps_vault(conn, machine->id, ret_vault_id, err);
}

int point_steps_create(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__CreatePoint create = LEEWARD__CONTROL__V1__CREATE_POINT__INIT;
    const char *kind = job_param_text(run->params, "kind");

    create.kind = (char *)(kind[0] ? kind : "crash");
    create.tag = (char *)job_param_text(run->params, "tag");
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_CREATE_POINT;
    command.create_point = &create;
    return job_command_result(run, "agent", run->job->machine_id, "the agent", &command, err);
}

int point_steps_until_listed(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_FREE char *key = mem_printf("%s:%s", run->job->machine_id, job_param_text(run->result, "sequence"));
    int found = key ? db_get(run->conn, &db_points, key, &set, err) : err_set(err, ERR_NOMEM, "no memory");

    run->again_usec = 200 * USEC_PER_MSEC;
    if (found != 0)
        return found;
    return run->job->step_age_usec > LISTED_USEC ? JOB_DONE : JOB_AGAIN;
}

/* ---- export ---- */

static int export_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"sequence", "disk", "path", "format", "vault", NULL};
    bool copied = job_param_text(params, "vault")[0] != '\0';
    static const char *const formats[] = {"raw", "qcow2", "vpc", "vmdk", NULL};
    const char *path = job_param_text(params, "path");
    uint64_t disk;

    if (job_params_known(params, known, err) < 0 || (!copied && point_steps_sequence(conn, machine, params, err) < 0) ||
        job_param_u64(params, "disk", &disk, err) < 0 ||
        check_words(
            "format", json_object_get(params, "format") ? job_param_text(params, "format") : "raw", formats, err) < 0)
        return -1;
    if (path[0] != '/' || strlen(path) > PATH_LENGTH_MAX || disk > UINT32_MAX) {
        err_set(err, ERR_INVALID, "path: not an absolute path");
        return err_hint(err, "Name a file or block device on the vault's host, beginning with /.");
    }
    if (copied)
        return copy_steps_point(conn, machine, params, ret_vault_id, err);
    return point_steps_vault(conn, machine->id, ret_vault_id, err);
}

static int ask_for_export(struct job_run *run, Leeward__Control__V1__ExportDisk *export, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;

    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_EXPORT_DISK;
    command.export_disk = export;
    return job_command_result(run, "vault", run->job->vault_id, "the vault", &command, err);
}

static int export_disk(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__ExportDisk export = LEEWARD__CONTROL__V1__EXPORT_DISK__INIT;
    const char *format = job_param_text(run->params, "format");
    AUTO_PGRESULT PGresult *rows = NULL;
    uint64_t disk;
    int count = export_protected_devices(run->conn, run->job->vault_id, &rows, err);
    AUTO_FREE char **devices = count < 0 ? NULL : mem_alloc((size_t)count + 1, sizeof(*devices));

    if (count < 0 || job_param_u64(run->params, "sequence", &export.sequence, err) < 0 ||
        job_param_u64(run->params, "disk", &disk, err) < 0)
        return -1;
    if (!devices)
        return err_set(err, ERR_NOMEM, "no memory");
    for (int i = 0; i < count; i++)
        devices[i] = (char *)db_text(rows, i, 0);
    export.machine_id = (char *)run->job->machine_id;
    export.disk = (uint32_t)disk;
    export.path = (char *)job_param_text(run->params, "path");
    export.format = (char *)(format[0] ? format : "raw");
    export.protected_devices = devices;
    export.n_protected_devices = (size_t)count;
    return ask_for_export(run, &export, err);
}

static int undo_export(struct job_run *run, struct err *err)
{
    return job_command_cancel(run, "vault", run->job->vault_id, err);
}

const struct job_kind job_kind_point_create = {.name = "point_create",
    .needs_machine = true,
    .check = create_check,
    .steps = {{"create", "Make the point and commit it", point_steps_create, NULL},
        {"list", "See it in the list", point_steps_until_listed, NULL}}};

const struct job_kind job_kind_export = {.name = "export",
    .needs_machine = true,
    .may_cancel = true,
    .check = export_check,
    .cancel = undo_export,
    .steps = {{"write", "Write the disk", export_disk, NULL}}};
