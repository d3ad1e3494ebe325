/* SPDX-License-Identifier: Apache-2.0
 *
 * See rekey.h. A machine that cannot be wrapped anew (its meta is damaged) keeps the rotation from ending: the old key may be the
 * only one that a copy of that file fits.
 */
#include "transport/vault/rekey.h"

#include <dirent.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <unistd.h>

#include "transport/base/crashpoint.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/vault/storemeta.h"

static char *next_path(const char *data_dir)
{
    return mem_printf("%s/vault.key.next", data_dir);
}

int rekey_begin(const char *data_dir, struct vault_key *ret_next, struct err *err)
{
    char *path AUTO_FREE = next_path(data_dir);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a key");
    int result = vaultkeys_load(path, true, ret_next, err);
    crashpoint_pass("rekey_begun");
    return result;
}

static int unwrap(
    const struct store_meta *meta, const struct vault_key *current, struct seal_key *ret_key, struct err *err)
{
    return vaultkeys_unwrap(current, &meta->machine, meta->wrapped_key, ret_key, err);
}

int rekey_machine(const char *machine_dir, const struct ident *machine, const struct vault_key *current,
    const struct vault_key *next, struct err *err)
{
    struct store_meta meta;
    struct seal_key key;
    struct err why = ERR_INIT;
    if (storemeta_load(machine_dir, &meta, &why) < 0) {
        if (why.code == ERR_NOT_FOUND)
            return 0;
        err_copy(err, &why);
        return -1;
    }
    if (!ident_equal(&meta.machine, machine))
        return err_set(err, ERR_CORRUPT, "the folder %s is another machine's", machine_dir);
    int result = 0;
    if (unwrap(&meta, next, &key, NULL) < 0) {
        result = unwrap(&meta, current, &key, err);
        if (result == 0)
            result = vaultkeys_wrap(next, machine, &key, meta.wrapped_key, err);
        if (result == 0)
            result = storemeta_store(machine_dir, &meta, err);
        result = result < 0 ? -1 : 1;
        crashpoint_pass("rekey_machine_wrapped");
    }
    OPENSSL_cleanse(&key, sizeof(key));
    return result;
}

int rekey_finish(const char *data_dir, struct err *err)
{
    char *next AUTO_FREE = next_path(data_dir);
    char *path AUTO_FREE = mem_printf("%s/vault.key", data_dir);
    if (next == NULL || path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a key");
    crashpoint_pass("rekey_finishing");
    if (rename(next, path) < 0)
        return err_sys(err, errno, "renaming %s", next);
    return file_sync_dir(data_dir, err);
}

/* How many could not be wrapped. */
static int wrap_all(const char *data_dir, const struct vault_key *current, const struct vault_key *next,
    size_t *ret_failed, struct err *err)
{
    char *path AUTO_FREE = mem_printf("%s/machines", data_dir);
    DIR *dir = path == NULL ? NULL : opendir(path);
    struct dirent *entry;
    if (dir == NULL)
        return errno == ENOENT ? 0 : err_sys(err, errno, "listing the machines");
    while ((entry = readdir(dir)) != NULL) {
        struct ident machine;
        struct err why = ERR_INIT;
        char *folder AUTO_FREE = mem_printf("%s/%s", path, entry->d_name);
        if (folder == NULL || ident_from_text(entry->d_name, &machine) < 0 ||
            rekey_machine(folder, &machine, current, next, &why) >= 0)
            continue;
        ++*ret_failed;
        log_event(LOG_ERROR, "key_not_rotated", LOG_S("machine", entry->d_name), LOG_E(&why));
    }
    (void)closedir(dir);
    return 0;
}

int rekey_resume(
    const char *data_dir, struct vault_key *key, struct vault_key *ret_older, bool *ret_pending, struct err *err)
{
    char *path AUTO_FREE = next_path(data_dir);
    struct vault_key next;
    size_t failed = 0;
    *ret_pending = false;
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a key");
    if (access(path, F_OK) < 0 && errno == ENOENT)
        return 0;
    if (vaultkeys_load(path, false, &next, err) < 0 || wrap_all(data_dir, key, &next, &failed, err) < 0)
        return -1;
    if (failed > 0) {
        *ret_older = *key;
        *ret_pending = true;
    } else if (rekey_finish(data_dir, err) < 0) {
        return -1;
    }
    *key = next;
    OPENSSL_cleanse(&next, sizeof(next));
    log_event(
        failed > 0 ? LOG_ERROR : LOG_INFO, failed > 0 ? "key_rotation_stuck" : "key_rotated", LOG_U("failed", failed));
    return 1;
}
