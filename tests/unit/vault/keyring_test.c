/* SPDX-License-Identifier: Apache-2.0
 *
 * A machine's data keys: what was written before a new key and behind it is read, whatever was interrupted; who has an older key learns
 * nothing newer; a file of keys that is lost, damaged or another's is a clear error.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/vault/vaultmodel.h"
#include "transport/base/crashpoint.h"
#include "transport/base/file.h"
#include "transport/vault/keyring.h"
#include "transport/vault/rekey.h"
#include "transport/vault/storemeta.h"
#include "transport/vault/view.h"

static void key_of(uint8_t fill, struct seal_key *key)
{
    memset(key->bytes, fill, sizeof(key->bytes));
}

static void writes(struct model *m, unsigned points)
{
    for (unsigned p = 0; p < points; p++) {
        for (unsigned i = 0; i < 5; i++)
            model_random_write(m);
        model_commit(m, MARK_CRASH);
    }
}

static void file_of(const struct model *m, const char *name, char out[256])
{
    (void)snprintf(out, 256, "%s/%s", m->machine_dir, name);
}

static void open_fails(struct model *m, enum err_code code, const char *with)
{
    struct err err = ERR_INIT;
    struct store *s = NULL;
    assert_int_equal(store_open(&m->conf, &s, &err), -1);
    if (err.code != code || strstr(err.text, with) == NULL)
        fail_msg("not the error that names it: %s", err.text);
    assert_true(err.correction[0] != '\0');
}

static void flip_byte(const char *path, long at)
{
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    int was = fgetc(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    (void)fputc(was ^ 1, f);
    assert_int_equal(fclose(f), 0);
}

/* ---- the ring ---- */

static void a_stream_says_which_key(void **state)
{
    struct keyring ring;
    struct seal_key a, b, c;
    struct err err = ERR_INIT;
    (void)state;
    key_of(1, &a);
    key_of(2, &b);
    key_of(3, &c);
    keyring_init(&ring, &a);
    assert_int_equal(keyring_key(&ring, UINT32_MAX)->bytes[0], 1);
    assert_int_equal(keyring_add(&ring, 5, &b, &err), 0);
    assert_int_equal(keyring_add(&ring, 9, &c, &err), 0);
    static const struct {
        uint32_t stream;
        uint8_t key;
    } rows[] = {{1, 1}, {4, 1}, {5, 2}, {8, 2}, {9, 3}, {UINT32_MAX, 3}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(keyring_key(&ring, rows[i].stream)->bytes[0], rows[i].key);
    assert_int_equal(keyring_newest(&ring)->bytes[0], 3);
}

static void a_full_ring_is_refused(void **state)
{
    struct keyring ring;
    struct seal_key key;
    struct err err = ERR_INIT;
    (void)state;
    key_of(1, &key);
    keyring_init(&ring, &key);
    for (uint32_t i = 1; i < KEYRING_MAX; i++)
        assert_int_equal(keyring_add(&ring, i + 1, &key, &err), 0);
    assert_int_equal(keyring_add(&ring, 1000, &key, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_int_equal(ring.count, KEYRING_MAX);
    char *text = malloc(KEYRING_TEXT_MAX);
    struct keyring again;
    keyring_to_text(&ring, text);
    assert_int_equal(keyring_from_text(text, &again, &err), 0);
    assert_memory_equal(&ring, &again, sizeof(ring));
    free(text);
}

static void text_that_is_no_ring_is_refused(void **state)
{
    static const char hex[] = "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20";
    static const char *const forms[] = {"", "\n", "0", "0 ", "zz", "%s%s", "0 %s", "5 %s\n", "0 %s\n0 %s\n",
        "9 %s\n5 %s\n0 %s\n", "0 %s\nx", "4294967296 %s\n0 %s\n", "-1 %s\n0 %s\n", "0 %.63s\n", "%.63s", "%s x"};
    struct keyring ring;
    struct err err = ERR_INIT;
    (void)state;
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        char text[300];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        (void)snprintf(text, sizeof(text), forms[i], hex, hex, hex);
#pragma GCC diagnostic pop
        if (keyring_from_text(text, &ring, &err) == 0)
            fail_msg("taken: %s", text);
        assert_int_equal(err.code, ERR_INVALID);
    }
    assert_int_equal(keyring_from_text(hex, &ring, &err), 0);
    assert_int_equal(ring.count, 1);
    assert_int_equal(ring.items[0].key.bytes[31], 0x20);
}

/* ---- a machine ---- */

static void what_was_written_under_each_key_is_read(void **state)
{
    struct model m;
    struct keyring keys;
    (void)state;
    model_init(&m, 51);
    model_open(&m);
    writes(&m, 3);
    for (unsigned i = 2; i <= 4; i++) {
        struct seal_key before = m.opened.data_key;
        uint32_t stream = m.opened.nonce_stream;
        model_new_key(&m);
        assert_memory_not_equal(&before, &m.opened.data_key, sizeof(before));
        assert_memory_equal(&before, keyring_key(&m.opened.keys, stream), sizeof(before));
        writes(&m, 2);
        store_keys(m.store, &keys);
        assert_int_equal(keys.count, i);
    }
    model_check_all(&m);
    model_close(&m);
    model_open(&m);
    store_keys(m.store, &keys);
    assert_int_equal(keys.count, 4);
    model_check_all(&m);
    writes(&m, 1);
    model_check_all(&m);
    model_done(&m);
}

/* Records that wait in a node's spool were sealed under the older key and its stream. */
static void what_was_sealed_before_is_taken_afterwards(void **state)
{
    struct model m;
    struct err err = ERR_INIT;
    (void)state;
    model_init(&m, 52);
    model_open(&m);
    writes(&m, 1);
    const struct store_opened spooled = m.opened;
    uint64_t nonce = m.nonce;
    assert_int_equal(store_new_data_key(m.store, &m.conf.vault_key, &err), 0);
    m.opened = spooled;
    m.nonce = nonce;
    writes(&m, 1);
    store_keys(m.store, &m.opened.keys);
    model_check_all(&m);
    model_done(&m);
}

static void an_older_key_opens_nothing_newer(void **state)
{
    struct model m;
    struct view *v AUTO_OF(view) = NULL;
    struct err err = ERR_INIT;
    uint8_t got[4096];
    (void)state;
    model_init(&m, 53);
    model_open(&m);
    writes(&m, 1);
    const struct keyring older = m.opened.keys;
    model_new_key(&m);
    model_write(&m, 0, 0, 4096, false);
    model_commit(&m, MARK_CRASH);
    assert_int_equal(store_flush(m.store, &err), 0);
    assert_int_equal(view_open(m.machine_dir, 2, &older, 1, &v, &err), 0);
    assert_int_equal(view_read(v, 0, 0, sizeof(got), got, &err), -1);
    assert_int_equal(err.code, ERR_DENIED);
    /* nor does it open the file of the older keys */
    struct keyring ring;
    assert_int_equal(keyring_load(m.machine_dir, &m.conf.machine, keyring_newest(&older), &ring, &err), -1);
    assert_int_equal(err.code, ERR_DENIED);
    model_done(&m);
}

struct crash {
    struct model *m;
    char copy[2][256];
    unsigned count;
};

static void keep_copy(void *arg, const char *name)
{
    struct crash *c = arg;
    if (strncmp(name, "newkey_", 7) != 0)
        return;
    assert_true(c->count < 2);
    (void)snprintf(c->copy[c->count], sizeof(c->copy[0]), "%s/copy-%u", c->m->dir, c->count);
    model_copy_tree(c->m->machine_dir, c->copy[c->count++]);
}

/* First key or third: killed before meta has the new one, the older goes on; the next try succeeds. */
static void a_kill_leaves_the_one_key_or_the_other(void **state)
{
    (void)state;
    for (unsigned before = 0; before < 3; before++) {
        struct model m;
        struct crash c = {.m = &m};
        struct err err = ERR_INIT;
        struct keyring keys;
        model_init(&m, 54 + before);
        model_open(&m);
        writes(&m, 2);
        for (unsigned i = 0; i < before; i++) {
            model_new_key(&m);
            writes(&m, 1);
        }
        crashpoint_watch(keep_copy, &c);
        assert_int_equal(store_new_data_key(m.store, &m.conf.vault_key, &err), 0);
        crashpoint_watch(NULL, NULL);
        assert_int_equal(c.count, 2);
        for (unsigned i = 0; i < 2; i++) {
            model_close(&m);
            assert_int_equal(file_remove_tree(m.machine_dir, &err), 0);
            assert_int_equal(rename(c.copy[i], m.machine_dir), 0);
            model_open(&m);
            store_keys(m.store, &keys);
            assert_int_equal(keys.count, before + 1 + i);
            model_check_all(&m);
            if (i == 0)
                continue;
            model_new_key(&m);
            writes(&m, 1);
            model_check_all(&m);
        }
        model_done(&m);
    }
}

static void a_try_that_was_killed_is_begun_again(void **state)
{
    struct model m;
    struct crash c = {.m = &m};
    struct err err = ERR_INIT;
    struct keyring keys;
    (void)state;
    model_init(&m, 58);
    model_open(&m);
    writes(&m, 2);
    model_new_key(&m);
    writes(&m, 1);
    crashpoint_watch(keep_copy, &c);
    assert_int_equal(store_new_data_key(m.store, &m.conf.vault_key, &err), 0);
    crashpoint_watch(NULL, NULL);
    model_close(&m);
    assert_int_equal(file_remove_tree(m.machine_dir, &err), 0);
    assert_int_equal(rename(c.copy[0], m.machine_dir), 0);
    model_open(&m);
    writes(&m, 1);
    model_new_key(&m);
    writes(&m, 1);
    model_close(&m);
    model_open(&m);
    store_keys(m.store, &keys);
    assert_int_equal(keys.count, 3);
    model_check_all(&m);
    model_done(&m);
}

static void lost_or_damaged_keys_are_a_clear_error(void **state)
{
    struct model m;
    struct err err = ERR_INIT;
    char keys[256], aside[256], copy[256];
    (void)state;
    model_init(&m, 59);
    model_open(&m);
    writes(&m, 1);
    model_new_key(&m);
    writes(&m, 1);
    file_of(&m, "keys", keys);
    file_of(&m, "aside", aside);
    (void)snprintf(copy, sizeof(copy), "%s/older", m.dir);
    model_copy_tree(m.machine_dir, copy);
    model_new_key(&m);
    model_new_key(&m);
    model_close(&m);
    assert_int_equal(rename(keys, aside), 0);
    open_fails(&m, ERR_CORRUPT, "keys in");
    assert_int_equal(rename(aside, keys), 0);
    for (long at = 0; at < 32 + 3 * 64 + 16; at += 7) {
        flip_byte(keys, at);
        struct store *s = NULL;
        assert_int_equal(store_open(&m.conf, &s, &err), -1);
        assert_true(err.code == ERR_CORRUPT || err.code == ERR_UNSUPPORTED);
        assert_non_null(strstr(err.text, "keys in"));
        flip_byte(keys, at);
    }
    /* an older copy of the file */
    (void)snprintf(copy, sizeof(copy), "%s/older/keys", m.dir);
    assert_int_equal(rename(keys, aside), 0);
    assert_int_equal(rename(copy, keys), 0);
    open_fails(&m, ERR_DENIED, "does not belong");
    assert_int_equal(rename(aside, keys), 0);
    model_open(&m);
    model_check_all(&m);
    model_done(&m);
}

static void another_machines_keys_are_noticed(void **state)
{
    struct keyring ring, got;
    struct seal_key a, b;
    struct ident one = {{1}}, two = {{2}};
    struct err err = ERR_INIT;
    char dir[] = "/tmp/leeward-keys-XXXXXX";
    (void)state;
    key_of(1, &a);
    key_of(2, &b);
    keyring_init(&ring, &a);
    assert_int_equal(keyring_add(&ring, 5, &b, &err), 0);
    assert_non_null(mkdtemp(dir));
    assert_int_equal(keyring_load(dir, &one, &b, &got, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(keyring_store(dir, &one, &ring, &err), 0);
    assert_int_equal(keyring_load(dir, &two, &b, &got, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    assert_int_equal(keyring_load(dir, &one, &b, &got, &err), 0);
    assert_memory_equal(&ring, &got, sizeof(ring));
    assert_int_equal(file_remove_tree(dir, &err), 0);
}

static void a_new_vault_key_leaves_the_older_keys_alone(void **state)
{
    struct model m;
    struct vault_key next = {{9}};
    struct err err = ERR_INIT;
    struct buf before AUTO_BUF = BUF_INIT(1u << 16), after AUTO_BUF = BUF_INIT(1u << 16);
    char keys[256];
    (void)state;
    model_init(&m, 60);
    model_open(&m);
    writes(&m, 1);
    model_new_key(&m);
    writes(&m, 1);
    model_close(&m);
    file_of(&m, "keys", keys);
    assert_int_equal(file_read(keys, &before, &err), 0);
    assert_int_equal(rekey_machine(m.machine_dir, &m.conf.machine, &m.conf.vault_key, &next, &err), 1);
    open_fails(&m, ERR_DENIED, "vault key");
    m.conf.vault_key = next;
    model_open(&m);
    assert_int_equal(file_read(keys, &after, &err), 0);
    assert_int_equal(before.len, after.len);
    assert_memory_equal(before.data, after.data, before.len);
    model_check_all(&m);
    model_new_key(&m);
    writes(&m, 1);
    struct vault_key third = {{11}};
    assert_int_equal(store_rewrap(m.store, &third, &err), 0);
    m.conf.vault_key = third;
    model_close(&m);
    model_open(&m);
    model_check_all(&m);
    model_done(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_says_which_key),
        cmocka_unit_test(a_full_ring_is_refused),
        cmocka_unit_test(text_that_is_no_ring_is_refused),
        cmocka_unit_test(what_was_written_under_each_key_is_read),
        cmocka_unit_test(what_was_sealed_before_is_taken_afterwards),
        cmocka_unit_test(an_older_key_opens_nothing_newer),
        cmocka_unit_test(a_kill_leaves_the_one_key_or_the_other),
        cmocka_unit_test(a_try_that_was_killed_is_begun_again),
        cmocka_unit_test(lost_or_damaged_keys_are_a_clear_error),
        cmocka_unit_test(another_machines_keys_are_noticed),
        cmocka_unit_test(a_new_vault_key_leaves_the_older_keys_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
