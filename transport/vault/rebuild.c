/* SPDX-License-Identifier: Apache-2.0
 *
 * Which machines the bucket has, and the frame around rebuilding each: the folder's lock, so that no vault runs on it, and the key.
 */
#include "transport/vault/rebuild.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/vault/bucketmark.h"

enum { MACHINES_MAX = 65536 };

struct machines {
    struct ident *items;
    size_t count;
};

static int take_machine(void *arg, const struct object_entry *entry, struct err *err)
{
    struct machines *m = arg;
    struct ident id;
    uint64_t serial, base;

    if (bucketmark_parse_name(entry->name, &id, &serial, &base) < 0 ||
        (m->count > 0 && ident_equal(&m->items[m->count - 1], &id))) /* names come in order */
        return 0;
    if (m->count == MACHINES_MAX)
        return err_set(err, ERR_TOO_LARGE, "the bucket lists more than %d machines", MACHINES_MAX);
    struct ident *items = mem_resize(m->items, m->count + 1, sizeof(*items));
    if (items == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the machines of a bucket");
    m->items = items;
    items[m->count++] = id;
    return 0;
}

int rebuild_lock_data(const char *data_dir, int *ret_fd, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/lock", data_dir);
    AUTO_CLOSE int fd = path == NULL ? -1 : open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0)
        return err_sys(err, errno, "opening the lock of %s", data_dir);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        (void)err_set(err, ERR_CONFLICT, "a vault runs on %s", data_dir);
        return err_hint(err, "stop it, or rebuild into another folder");
    }
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int rebuild_load_key(const char *data_dir, struct vault_key *ret_key, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/vault.key", data_dir);

    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to rebuild a vault");
    if (vaultkeys_load(path, false, ret_key, err) == 0)
        return 0;
    if (err != NULL && err->code == ERR_NOT_FOUND)
        (void)err_hint(err,
            "put the lost vault's vault.key there: the bucket does not have it, and nothing can be read without it");
    return -1;
}

/* 1 rebuilt, 0 it is there. */
static int one_machine(const char *data_dir, const struct vault_key *key, const struct ident *machine,
    struct object_store *objects, struct rebuild_result *result, struct err *err)
{
    char id[IDENT_TEXT_SIZE];
    struct stat st;

    ident_to_text(machine, id);
    AUTO_FREE char *path = mem_printf("%s/machines/%s", data_dir, id);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to rebuild a vault");
    if (lstat(path, &st) == 0) {
        log_event(LOG_INFO, "machine_present", LOG_S("machine", id));
        return 0;
    }
    if (rebuild_machine(data_dir, key, machine, objects, &result->fetched_bytes, err) < 0)
        return err_wrap(err, "machine %s", id);
    return 1;
}

static int all_machines(const char *data_dir, const struct vault_key *key, const struct machines *machines,
    struct object_store *objects, struct rebuild_result *result, struct err *err)
{
    for (size_t i = 0; i < machines->count; i++) {
        int done = one_machine(data_dir, key, &machines->items[i], objects, result, err);
        if (done < 0)
            return -1;
        result->machines += done == 1;
        result->present += done == 0;
    }
    if (machines->count > 0)
        return 0;
    (void)err_set(err, ERR_NOT_FOUND, "the bucket holds no machine whose marks had arrived");
    return err_hint(err, "check the URL, its prefix above all");
}

int rebuild_run(const char *data_dir, struct object_store *objects, struct rebuild_result *ret_result, struct err *err)
{
    AUTO_FREE char *machines_dir = mem_printf("%s/machines", data_dir);
    struct machines machines = {0};
    struct vault_key key = {0};
    AUTO_CLOSE int lock = -1;

    *ret_result = (struct rebuild_result){0};
    if (machines_dir == NULL)
        return err_set(err, ERR_NOMEM, "no memory to rebuild a vault");
    if (file_make_dirs(machines_dir, 0700, err) < 0 || rebuild_lock_data(data_dir, &lock, err) < 0 ||
        rebuild_load_key(data_dir, &key, err) < 0)
        return -1;
    int rc = object_walk(objects, "machines/", take_machine, &machines, err);
    if (rc == 0)
        rc = all_machines(data_dir, &key, &machines, objects, ret_result, err);
    explicit_bzero(&key, sizeof(key));
    free(machines.items);
    return rc;
}
