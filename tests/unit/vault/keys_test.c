/* SPDX-License-Identifier: Apache-2.0
 *
 * The vault key: a wrong or lost one is named, and a rotation that is killed anywhere leaves every data key within reach of a key
 * that is there, and is finished by the next start. So is the erasure of a machine.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/base/crashpoint.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"
#include "transport/vault/erase.h"
#include "transport/vault/rekey.h"
#include "transport/vault/store.h"

#define MACHINES 3
#define SNAPSHOTS_MAX 16

struct folder {
    char dir[64], data[80];
    struct vault_key key;
    struct ident machines[MACHINES];
    struct seal_key data_keys[MACHINES];
    unsigned snapshots;
};

static void machine_path(const char *data, const struct ident *machine, char *out, size_t n)
{
    char text[IDENT_TEXT_SIZE];
    ident_to_text(machine, text);
    (void)snprintf(out, n, "%s/machines/%s", data, text);
}

/* Opens the machine's store; its data key, or err. */
static int data_key_of(const char *data, const struct ident *machine, const struct vault_key *key,
    const struct vault_key *older, struct seal_key *ret_key, struct err *err)
{
    char path[200];
    struct store *s = NULL;
    machine_path(data, machine, path, sizeof(path));
    struct store_conf conf = {.dir = path, .machine = *machine, .vault_key = *key, .has_older_key = older != NULL};
    if (older != NULL)
        conf.older_key = *older;
    if (store_open(&conf, &s, err) < 0)
        return -1;
    struct keyring keys;
    store_keys(s, &keys);
    *ret_key = *keyring_newest(&keys);
    store_close(s);
    return 0;
}

static void key_path(const char *data, char *out, size_t n)
{
    (void)snprintf(out, n, "%s/vault.key", data);
}

static void folder_init(struct folder *f)
{
    struct err err = ERR_INIT;
    char path[200];
    *f = (struct folder){0};
    (void)snprintf(f->dir, sizeof(f->dir), "%s/keys.XXXXXX",
        getenv("TMPDIR") != NULL && strlen(getenv("TMPDIR")) < 40 ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->data, sizeof(f->data), "%s/data", f->dir);
    (void)snprintf(path, sizeof(path), "%s/machines", f->data);
    assert_int_equal(file_make_dirs(path, 0700, &err), 0);
    key_path(f->data, path, sizeof(path));
    assert_int_equal(vaultkeys_load(path, true, &f->key, &err), 0);
    for (unsigned i = 0; i < MACHINES; i++) {
        f->machines[i].bytes[0] = (uint8_t)(i + 1);
        assert_int_equal(data_key_of(f->data, &f->machines[i], &f->key, NULL, &f->data_keys[i], &err), 0);
    }
}

static void folder_done(struct folder *f)
{
    struct err err = ERR_INIT;
    assert_int_equal(file_remove_tree(f->dir, &err), 0);
}

static void check_all_open(
    const struct folder *f, const char *data, const struct vault_key *key, const struct vault_key *older)
{
    for (unsigned i = 0; i < MACHINES; i++) {
        struct seal_key got;
        struct err err = ERR_INIT;
        if (data_key_of(data, &f->machines[i], key, older, &got, &err) < 0)
            fail_msg("machine %u: %s", i, err.text);
        assert_memory_equal(&got, &f->data_keys[i], sizeof(got));
    }
}

static void rotate(struct folder *f, struct vault_key *ret_next)
{
    struct err err = ERR_INIT;
    char path[200];
    assert_int_equal(rekey_begin(f->data, ret_next, &err), 0);
    for (unsigned i = 0; i < MACHINES; i++) {
        machine_path(f->data, &f->machines[i], path, sizeof(path));
        assert_int_equal(rekey_machine(path, &f->machines[i], &f->key, ret_next, &err), 1);
        assert_int_equal(rekey_machine(path, &f->machines[i], &f->key, ret_next, &err), 0);
    }
    assert_int_equal(rekey_finish(f->data, &err), 0);
}

/* ---- tests ---- */

static void a_wrong_key_names_the_right_one(void **state)
{
    struct folder f;
    struct vault_key other = {{7}};
    struct seal_key got;
    struct err err = ERR_INIT;
    char have[VAULTKEYS_ID_SIZE], want[VAULTKEYS_ID_SIZE];
    (void)state;
    folder_init(&f);
    vaultkeys_id(&other, have);
    vaultkeys_id(&f.key, want);
    assert_string_not_equal(have, want);
    assert_int_equal(data_key_of(f.data, &f.machines[0], &other, NULL, &got, &err), -1);
    assert_int_equal(err.code, ERR_DENIED);
    assert_non_null(strstr(err.text, have));
    assert_non_null(strstr(err.text, want));
    assert_non_null(strstr(err.correction, want));
    folder_done(&f);
}

static void a_lost_key_is_not_replaced(void **state)
{
    struct folder f;
    struct vault_key got;
    struct err err = ERR_INIT;
    char path[200];
    (void)state;
    folder_init(&f);
    key_path(f.data, path, sizeof(path));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(vaultkeys_load(path, false, &got, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_true(err.correction[0] != '\0');
    folder_done(&f);
}

static void rotation_changes_the_vault_key_alone(void **state)
{
    struct folder f;
    struct vault_key next, stored;
    struct seal_key got;
    struct err err = ERR_INIT;
    char path[200];
    (void)state;
    folder_init(&f);
    rotate(&f, &next);
    assert_memory_not_equal(&next, &f.key, sizeof(next));
    key_path(f.data, path, sizeof(path));
    assert_int_equal(vaultkeys_load(path, false, &stored, &err), 0);
    assert_memory_equal(&stored, &next, sizeof(next));
    check_all_open(&f, f.data, &next, NULL);
    assert_int_equal(data_key_of(f.data, &f.machines[0], &f.key, NULL, &got, &err), -1);
    folder_done(&f);
}

static void keep_snapshot(void *arg, const char *name)
{
    struct folder *f = arg;
    if (strncmp(name, "rekey_", 6) != 0 && strncmp(name, "erase_", 6) != 0)
        return;
    assert_true(f->snapshots < SNAPSHOTS_MAX);
    char *command = mem_printf("cp -a %s %s/%u", f->data, f->dir, f->snapshots++);
    assert_non_null(command);
    assert_int_equal(system(command), 0);
    free(command);
}

static void a_killed_rotation_is_finished_at_the_next_start(void **state)
{
    struct folder f;
    struct vault_key next;
    (void)state;
    folder_init(&f);
    crashpoint_watch(keep_snapshot, &f);
    rotate(&f, &next);
    crashpoint_watch(NULL, NULL);
    assert_int_equal(f.snapshots, MACHINES + 2);
    for (unsigned i = 0; i < f.snapshots; i++) {
        struct err err = ERR_INIT;
        struct vault_key key, older;
        bool pending = true;
        char data[100], path[200];
        (void)snprintf(data, sizeof(data), "%s/%u", f.dir, i);
        key_path(data, path, sizeof(path));
        assert_int_equal(vaultkeys_load(path, false, &key, &err), 0);
        check_all_open(&f, data, &next, &key); /* as in a vault that goes on with both */
        assert_int_equal(rekey_resume(data, &key, &older, &pending, &err), 1);
        assert_false(pending);
        assert_memory_equal(&key, &next, sizeof(key));
        check_all_open(&f, data, &key, NULL);
        assert_int_equal(rekey_resume(data, &key, &older, &pending, &err), 0);
    }
    folder_done(&f);
}

static void a_machine_that_cannot_be_wrapped_keeps_the_old_key(void **state)
{
    struct folder f;
    struct err err = ERR_INIT;
    struct vault_key next, key, older;
    bool pending = false;
    char path[220], meta[240];
    (void)state;
    folder_init(&f);
    assert_int_equal(rekey_begin(f.data, &next, &err), 0);
    machine_path(f.data, &f.machines[1], path, sizeof(path));
    (void)snprintf(meta, sizeof(meta), "%s/meta", path);
    FILE *file = fopen(meta, "r+");
    assert_non_null(file);
    assert_int_equal(fseek(file, 60, SEEK_SET), 0);
    int was = fgetc(file);
    assert_int_equal(fseek(file, 60, SEEK_SET), 0);
    (void)fputc(was ^ 1, file);
    assert_int_equal(fclose(file), 0);
    key = f.key;
    assert_int_equal(rekey_resume(f.data, &key, &older, &pending, &err), 1);
    assert_true(pending);
    assert_memory_equal(&older, &f.key, sizeof(older));
    key_path(f.data, path, sizeof(path));
    assert_int_equal(vaultkeys_load(path, false, &key, &err), 0);
    assert_memory_equal(&key, &f.key, sizeof(key));
    folder_done(&f);
}

static void a_killed_erasure_is_finished_at_the_next_start(void **state)
{
    struct folder f;
    struct err err = ERR_INIT;
    (void)state;
    folder_init(&f);
    crashpoint_watch(keep_snapshot, &f);
    assert_int_equal(erase_key(f.data, &f.machines[0], &err), 0);
    crashpoint_watch(NULL, NULL);
    assert_int_equal(f.snapshots, 2);
    for (unsigned i = 0; i < f.snapshots; i++) {
        char data[100], path[200], meta[240];
        struct seal_key got;
        (void)snprintf(data, sizeof(data), "%s/%u", f.dir, i);
        machine_path(data, &f.machines[0], path, sizeof(path));
        assert_int_equal(access(path, F_OK), -1);
        assert_int_equal(erase_sweep(data, false, &err), 0);
        (void)snprintf(meta, sizeof(meta), "%s/machines", data);
        char *command = mem_printf("test $(ls -A %s | wc -l) = %d", meta, MACHINES - 1);
        assert_non_null(command);
        assert_int_equal(system(command), 0);
        free(command);
        assert_int_equal(data_key_of(data, &f.machines[1], &f.key, NULL, &got, &err), 0);
        assert_memory_equal(&got, &f.data_keys[1], sizeof(got));
    }
    folder_done(&f);
}

/* The disk refused to overwrite the key, and the machine is erased once more: the blocks of the file must not go with the key in them. */
static void a_failed_erasure_is_made_good_for_by_the_next_one(void **state)
{
    struct folder f;
    struct err err = ERR_INIT;
    struct seal_key got;
    char id[IDENT_TEXT_SIZE], path[200], aside[240], meta[260], witness[240];
    (void)state;
    folder_init(&f);
    ident_to_text(&f.machines[0], id);
    machine_path(f.data, &f.machines[0], path, sizeof(path));
    (void)snprintf(aside, sizeof(aside), "%s/machines/.erased-%s", f.data, id);
    assert_int_equal(rename(path, aside), 0); /* so far it came */
    (void)snprintf(meta, sizeof(meta), "%s/meta", aside);
    (void)snprintf(witness, sizeof(witness), "%s/witness", f.dir);
    assert_int_equal(link(meta, witness), 0);
    assert_int_equal(mkdir(path, 0700), 0); /* the store was opened in between */
    assert_int_equal(erase_key(f.data, &f.machines[0], &err), 0);
    (void)snprintf(path, sizeof(path), "%s/machines/%s", f.data, id);
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(meta, sizeof(meta), "%s/meta", path);
    assert_int_equal(rename(witness, meta), 0);
    assert_int_equal(data_key_of(f.data, &f.machines[0], &f.key, NULL, &got, &err), -1);
    folder_done(&f);
}

/* What has copies elsewhere stays in mind until those are gone. */
static void an_erased_machine_is_kept_in_mind_for_its_copies(void **state)
{
    struct folder f;
    struct err err = ERR_INIT;
    struct ident *kept;
    size_t count;
    (void)state;
    folder_init(&f);
    assert_int_equal(erase_key(f.data, &f.machines[0], &err), 0);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(erase_sweep(f.data, true, &err), 0);
        assert_int_equal(erase_kept(f.data, &kept, &count, &err), 0);
        assert_int_equal(count, 1);
        assert_true(ident_equal(&kept[0], &f.machines[0]));
        free(kept);
        assert_true(erase_is_kept(f.data, &f.machines[0]));
        assert_false(erase_is_kept(f.data, &f.machines[1]));
    }
    assert_int_equal(erase_finish(f.data, &f.machines[0], &err), 0);
    assert_int_equal(erase_finish(f.data, &f.machines[0], &err), 0);
    assert_false(erase_is_kept(f.data, &f.machines[0]));
    assert_int_equal(erase_kept(f.data, &kept, &count, &err), 0);
    assert_int_equal(count, 0);
    free(kept);
    folder_done(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_erased_machine_is_kept_in_mind_for_its_copies),
        cmocka_unit_test(a_wrong_key_names_the_right_one),
        cmocka_unit_test(a_lost_key_is_not_replaced),
        cmocka_unit_test(rotation_changes_the_vault_key_alone),
        cmocka_unit_test(a_killed_rotation_is_finished_at_the_next_start),
        cmocka_unit_test(a_machine_that_cannot_be_wrapped_keeps_the_old_key),
        cmocka_unit_test(a_killed_erasure_is_finished_at_the_next_start),
        cmocka_unit_test(a_failed_erasure_is_made_good_for_by_the_next_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
