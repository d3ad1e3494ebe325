/* SPDX-License-Identifier: Apache-2.0
 *
 * Happy path: the vault has heard of the machine, is asked once for all disks, answers; then the agent may begin. Failure modes: a seed
 * that the vault refuses fails the job, which leaves the machine unprotected; what the vault has taken by then is as good a base as any.
 */
#include "hub/jobs/seed_steps.h"

#include <stdio.h>
#include <string.h>

#include "hub/db/protection_store.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define PATH_LENGTH_MAX 4000
#define KNOWS_AGAIN_USEC (200 * USEC_PER_MSEC)

static const json_t *seeds_of(const json_t *params)
{
    const json_t *seeds = json_object_get(params, "seeds");

    return json_array_size(seeds) > 0 ? seeds : NULL;
}

bool seed_steps_wanted(const json_t *params)
{
    return seeds_of(params) != NULL;
}

static int check_seed(const json_t *seed, size_t i, struct err *err)
{
    static const char *const known[] = {"disk", "path", NULL};
    const char *path = job_param_text(seed, "path");

    if (!json_is_object(seed))
        return err_set(err, ERR_INVALID, "seeds/%zu: not an object", i);
    if (job_params_known(seed, known, err) < 0)
        return err_wrap(err, "seeds/%zu", i);
    if (job_param_text(seed, "disk")[0] && path[0] == '/' && strlen(path) <= PATH_LENGTH_MAX)
        return 0;
    err_set(err, ERR_INVALID, "seeds/%zu: not a disk and an absolute path", i);
    return err_hint(
        err, "Name a disk by its key and a raw image or block device on the vault's host, beginning with /.");
}

int seed_steps_check(const struct machine_row *machine, const json_t *params, struct err *err)
{
    const json_t *seeds = json_object_get(params, "seeds"), *seed;
    size_t i;

    if (!seeds)
        return 0;
    if (!json_is_array(seeds) || json_array_size(seeds) > 256)
        return err_set(err, ERR_INVALID, "seeds: not an array of seeds");
    json_array_foreach(seeds, i, seed) if (check_seed(seed, i, err) < 0) return -1;
    if (json_array_size(seeds) == 0 || strcmp(machine->state, "unprotected") == 0)
        return 0;
    err_set(err, ERR_REFUSED, "machine %s is protected already: a seed comes before that", machine->name);
    return err_hint(err, "Leave the seed out: only what differs is sent.");
}

/* The path that was named for that disk; "": none. Counts those that were found. */
static const char *path_for(const json_t *params, const char *key, size_t *found)
{
    const json_t *seeds = seeds_of(params), *seed;
    size_t i;

    json_array_foreach(seeds, i, seed) if (strcmp(job_param_text(seed, "disk"), key) == 0)
    {
        ++*found;
        return job_param_text(seed, "path");
    }
    return "";
}

static int check_all_found(const json_t *params, size_t found, struct err *err)
{
    if (found == json_array_size(seeds_of(params)))
        return 0;
    err_set(err, ERR_INVALID, "a seed is of a disk that is not protected, or two are of the same one");
    return err_hint(err, "Name each protected disk once at most: leeward disk list");
}

static int ask_vault(struct job_run *run, const PGresult *rows, int count, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__SeedMachine seed = LEEWARD__CONTROL__V1__SEED_MACHINE__INIT;
    AUTO_FREE Leeward__Control__V1__SeedDisk *disks = mem_alloc((size_t)count + 1, sizeof(*disks));
    AUTO_FREE Leeward__Control__V1__SeedDisk **list = mem_alloc((size_t)count + 1, sizeof(*list));
    char vault[IDENT_TEXT_SIZE];
    size_t found = 0;
    int rc;

    if (!disks || !list)
        return err_set(err, ERR_NOMEM, "no memory");
    for (int i = 0; i < count; i++) {
        const char *device = db_text(rows, i, 3);

        disks[i] = (Leeward__Control__V1__SeedDisk)LEEWARD__CONTROL__V1__SEED_DISK__INIT;
        disks[i].number = (uint32_t)db_u64(rows, i, 0);
        disks[i].size_bytes = db_u64(rows, i, 1);
        disks[i].sector_bytes = (uint32_t)db_u64(rows, i, 2);
        disks[i].name = (char *)(strncmp(device, "/dev/", 5) == 0 ? device + 5 : device);
        disks[i].path = (char *)path_for(run->params, db_text(rows, i, 4), &found);
        list[i] = &disks[i];
    }
    if (check_all_found(run->params, found, err) < 0 ||
        (rc = protection_vault(run->conn, run->job->machine_id, vault, err)) < 0)
        return -1;
    if (rc == 0)
        return err_set(err, ERR_CANCELLED, "the machine was unprotected meanwhile");
    seed.machine_id = (char *)run->job->machine_id;
    seed.disks = list;
    seed.n_disks = (size_t)count;
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_SEED_MACHINE;
    command.seed_machine = &seed;
    return job_command_result(run, "vault", vault, "the vault", &command, err);
}

/* A vault is asked only once it knows the machine; when it was asked, its answer counts whatever else it has to hear of. */
static int vault_knows(struct job_run *run, struct err *err)
{
    int knows = job_state_u64(run, "asked") ? 1 : protection_vault_knows(run->conn, run->job->machine_id, err);

    if (knows > 0)
        return job_state_put(run, "asked", json_true(), err) < 0 ? -1 : 1;
    snprintf(run->detail, sizeof(run->detail), "waiting for the vault to hear of the machine");
    run->again_usec = KNOWS_AGAIN_USEC;
    return knows;
}

int seed_steps_take(struct job_run *run, struct err *err)
{
    AUTO_PGRESULT PGresult *rows = NULL;
    uint64_t version;
    int count, rc;

    if (!seed_steps_wanted(run->params)) {
        snprintf(run->detail, sizeof(run->detail), "there are none");
        return JOB_DONE;
    }
    if ((rc = vault_knows(run, err)) <= 0)
        return rc < 0 ? -1 : JOB_AGAIN;
    count = protection_disks(run->conn, run->job->machine_id, &rows, err);
    rc = count < 0 ? -1 : ask_vault(run, rows, count, err);
    if (rc != JOB_DONE)
        return rc;
    if (protection_seeded(run->conn, run->job->machine_id, &version, err) < 0)
        return -1;
    return job_state_put(run, "version", json_integer((json_int_t)version), err) < 0 ? -1 : JOB_DONE;
}

int seed_steps_undo(struct job_run *run, struct err *err)
{
    char vault[IDENT_TEXT_SIZE];
    int rc;

    if (!seed_steps_wanted(run->params))
        return 0;
    rc = protection_vault(run->conn, run->job->machine_id, vault, err);
    return rc > 0 ? job_command_cancel(run, "vault", vault, err) : rc;
}
