/* SPDX-License-Identifier: Apache-2.0
 *
 * The bucket: whatever a machine goes through and wherever an upload ends, what is rebuilt from the bucket is the machine at its newest mark.
 * The bucket is a directory here; the services are tried in tests/system.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/vault/bucketworld.h"
#include "transport/base/file.h"
#include "transport/log/segment.h"
#include "transport/vault/bucketstate.h"
#include "transport/vault/rebuild.h"
#include "transport/vault/store_compact.h"

/* ---- tests ---- */

static void at_each_mark_the_bucket_is_the_machine(void **state)
{
    struct world w;
    (void)state;
    world_init(&w, 1);
    for (unsigned round = 0; round < 12; round++) {
        world_change(&w, 1 + round % 5);
        if (round % 3 == 1)
            world_ok(store_flush(w.m.store, NULL), &(struct err)ERR_INIT);
        world_bring(&w);
        uint64_t last = store_committed(w.m.store);
        world_change(&w, 1); /* not in the bucket */
        if (round % 4 == 3)
            world_check_rebuilt(&w, last);
        if (round % 5 == 4)
            world_upload_again(&w);
    }
    world_bring(&w);
    world_check_tidy(&w);
    world_done(&w);
}

static void nothing_new_is_no_new_mark(void **state)
{
    struct world w;
    (void)state;
    world_init(&w, 2);
    world_change(&w, 3);
    world_bring(&w);
    char *before = world_path(&w, "marks", true);
    world_bring(&w);
    char *after = world_path(&w, "marks", true);
    assert_string_equal(before, after);
    assert_int_equal(w.result.sent_bytes, 0);
    free(before);
    free(after);
    world_done(&w);
}

static void thinned_and_rewritten_history_replaces_what_is_there(void **state)
{
    struct world w;
    unsigned rewritten = 0;
    (void)state;
    world_init(&w, 3);
    for (unsigned round = 0; round < 4; round++) {
        world_change(&w, 12);
        world_bring(&w);
        rewritten += world_thin_and_compact(&w, 1, 2);
        world_bring(&w);
        world_check_tidy(&w);
        world_check_rebuilt(&w, store_committed(w.m.store));
    }
    assert_true(rewritten > 0);
    world_done(&w);
}

static void a_backlog_comes_nearer_with_each_turn(void **state)
{
    struct world w;
    struct err err = ERR_INIT;
    unsigned turns = 0, nearer = 0;
    uint64_t before = 0;
    (void)state;
    world_init(&w, 11);
    world_upload_anew(&w, 1);
    world_change(&w, 6);
    world_bring(&w);
    uint64_t point = w.result.point;
    world_change(&w, 30);
    do {
        world_ok(world_turn(&w, &err), &err);
        turns++;
        if (w.result.more && w.result.sequence > before) {
            assert_true(w.result.point >= point);
            world_check_rebuilt(&w, w.result.sequence);
            nearer++;
        }
        before = w.result.sequence;
        if (turns % 4 == 0)
            world_upload_anew(&w, 1);
    } while (w.result.more);
    assert_int_equal(w.result.sequence, store_committed(w.m.store));
    assert_true(nearer > 4);
    world_check_tidy(&w);
    world_check_rebuilt(&w, store_committed(w.m.store));
    world_done(&w);
}

static unsigned revision_of(struct world *w, uint64_t segment)
{
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    struct err err = ERR_INIT;
    char path[200];
    (void)snprintf(path, sizeof(path), "%s/main", w->m.machine_dir);
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    assert_true(fd >= 0);
    world_ok(segment_open(fd, segment, &reader, &err), &err);
    (void)close(fd);
    return segment_reader_info(reader)->revision;
}

/* The segment that was open at the newest mark was sealed, thinned and rewritten while the bucket was away, and the vault was restarted. */
static void what_was_rewritten_meanwhile_is_no_other_log(void **state)
{
    struct world w;
    (void)state;
    world_init(&w, 12);
    world_change(&w, 2);
    world_bring(&w);
    char *open_one = world_path(&w, "main", true);
    world_change(&w, 20);
    assert_true(world_thin_and_compact(&w, 1, 1) > 0);
    assert_true(revision_of(&w, strtoull(strrchr(open_one, '/') + 1, NULL, 16)) > 0);
    free(open_one);
    world_upload_again(&w);
    world_bring(&w);
    world_check_tidy(&w);
    world_check_rebuilt(&w, store_committed(w.m.store));
    world_done(&w);
}

static void many_marks_are_gathered_in_a_full_one(void **state)
{
    struct world w;
    (void)state;
    world_init(&w, 4);
    for (unsigned i = 0; i < 150; i++) {
        world_change(&w, 1);
        world_bring(&w);
    }
    world_check_tidy(&w);
    struct bucketstate st AUTO_BUCKETSTATE;
    bucketstate_init(&st, &w.m.conf.machine);
    assert_int_equal(bucketstate_load(&st, w.objects, NULL), 1);
    assert_int_equal(st.last.serial, 150);
    assert_true(st.last.base > 100);
    world_check_rebuilt(&w, store_committed(w.m.store));
    world_done(&w);
}

/* A turn that cannot write its mark has sent its pieces all the same; then the vault is killed. */
static void an_upload_that_was_killed_goes_on_and_leaves_nothing_behind(void **state)
{
    struct world w;
    struct err err = ERR_INIT;
    char folder[200], stray[300];
    (void)state;
    world_init(&w, 5);
    world_change(&w, 5);
    world_bring(&w);
    uint64_t last = store_committed(w.m.store);
    (void)snprintf(folder, sizeof(folder), "%s/bucket/machines/%s/marks", w.m.dir, w.id);
    world_change(&w, 9);
    (void)snprintf(stray, sizeof(stray), "%s.away", folder);
    assert_int_equal(rename(folder, stray), 0);
    FILE *f = fopen(folder, "w");
    assert_non_null(f);
    (void)fclose(f);
    assert_int_equal(world_turn(&w, &err), -1);
    assert_true(w.result.sent_bytes > 0);
    assert_int_equal(unlink(folder), 0);
    assert_int_equal(rename(stray, folder), 0);
    world_check_rebuilt(&w, last); /* what no mark names is not there */
    (void)snprintf(stray, sizeof(stray), "machines/%s/main/%016x-%016x-%016x-%032x", w.id, 77, 0, 5, 7);
    world_ok(object_put(w.objects, stray, "stray", 5, &err), &err);
    world_upload_again(&w);
    world_bring(&w);
    world_check_tidy(&w);
    world_check_rebuilt(&w, store_committed(w.m.store));
    world_done(&w);
}

static void copy_folder(const char *from, const char *to)
{
    char command[400];
    (void)snprintf(command, sizeof(command), "cp -a %s %s", from, to);
    assert_int_equal(system(command), 0);
}

static void swap_in(struct world *w, const char *copy)
{
    struct err err = ERR_INIT;
    model_close(&w->m);
    world_ok(file_remove_tree(w->m.machine_dir, &err), &err);
    assert_int_equal(rename(copy, w->m.machine_dir), 0);
    model_open(&w->m);
    world_upload_again(w);
}

static void a_vault_that_has_less_or_something_else_does_not_touch_the_bucket(void **state)
{
    struct world w;
    struct err err = ERR_INIT;
    char copy[200];
    (void)state;
    world_init(&w, 6);
    world_change(&w, 4);
    world_bring(&w);
    world_ok(store_flush(w.m.store, &err), &err);
    (void)snprintf(copy, sizeof(copy), "%s/copy", w.m.dir);
    copy_folder(w.m.machine_dir, copy);
    world_change(&w, 3);
    world_bring(&w);
    uint64_t last = store_committed(w.m.store);
    unsigned known = w.m.point_count;
    swap_in(&w, copy);
    assert_int_equal(world_turn(&w, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_non_null(strstr(err.text, "has lost"));
    assert_non_null(strstr(err.correction, "rebuild"));
    world_change(&w, 5); /* as many change sets again, and others */
    err_clear(&err);
    assert_int_equal(world_turn(&w, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_non_null(strstr(err.text, " log of this machine than the vault"));
    for (unsigned i = w.m.point_count; i > known; i--)
        model_forget(&w.m, w.m.points[i - 1].sequence);
    (void)last;
    world_check_tidy(&w);
    world_done(&w);
}

static void without_the_right_key_nothing_is_fetched(void **state)
{
    struct world w;
    struct err err = ERR_INIT;
    struct rebuild_result result;
    struct vault_key other = {{1}};
    char data[160];
    (void)state;
    world_init(&w, 7);
    world_change(&w, 3);
    world_bring(&w);
    world_data_folder(&w, data);
    assert_int_equal(rebuild_run(data, w.objects, &result, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_non_null(strstr(err.correction, "vault.key"));
    world_put_key(data, &other);
    err_clear(&err);
    assert_int_equal(rebuild_run(data, w.objects, &result, &err), -1);
    assert_int_equal(err.code, ERR_DENIED);
    assert_non_null(strstr(err.correction, "vault.key"));
    assert_int_equal(result.fetched_bytes, 0);
    world_put_key(data, &w.m.conf.vault_key);
    world_ok(rebuild_run(data, w.objects, &result, &err), &err);
    world_done(&w);
}

static void what_was_fetched_before_is_not_fetched_again(void **state)
{
    struct world w;
    struct err err = ERR_INIT;
    struct rebuild_result result;
    char data[160], from[400], to[300];
    (void)state;
    world_init(&w, 8);
    world_change(&w, 30);
    world_bring(&w);
    world_data_folder(&w, data);
    world_put_key(data, &w.m.conf.vault_key);
    world_ok(rebuild_run(data, w.objects, &result, &err), &err);
    uint64_t all = result.fetched_bytes;
    world_ok(rebuild_run(data, w.objects, &result, &err), &err);
    assert_int_equal(result.present, 1);
    assert_int_equal(result.fetched_bytes, 0);
    (void)snprintf(from, sizeof(from), "%s/machines/%s", data, w.id); /* as if it had ended before it was moved in */
    (void)snprintf(to, sizeof(to), "%s/rebuild/%s", data, w.id);
    assert_int_equal(rename(from, to), 0);
    (void)snprintf(from, sizeof(from), "%s/main/%016x.seg", to, 1);
    world_flip(from, 5000);
    (void)snprintf(from, sizeof(from), "%s/main/%016x.seg", to, 999);
    FILE *f = fopen(from, "w");
    assert_non_null(f);
    (void)fclose(f);
    world_ok(rebuild_run(data, w.objects, &result, &err), &err);
    assert_int_equal(result.machines, 1);
    assert_true(result.fetched_bytes > 0 && result.fetched_bytes < all / 2);
    world_done(&w);
}

static void damage_in_the_bucket_is_named(void **state)
{
    struct world w;
    (void)state;
    world_init(&w, 9);
    world_change(&w, 10);
    world_bring(&w);
    world_change(&w, 2);
    world_bring(&w);
    char *piece = world_path(&w, "main", false);
    world_flip(piece, 4500);
    world_rebuild_fails(&w, ERR_CORRUPT, "is not what its mark says");
    world_flip(piece, 4500);
    assert_int_equal(truncate(piece, 4400), 0);
    world_rebuild_fails(&w, ERR_CORRUPT, "shorter than its mark says");
    assert_int_equal(unlink(piece), 0);
    world_rebuild_fails(&w, ERR_CORRUPT, "is missing in the bucket");
    char *mark = world_path(&w, "marks", true);
    world_flip(mark, 64);
    world_rebuild_fails(&w, ERR_CORRUPT, "is damaged");
    world_flip(mark, 64);
    char *first = world_path(&w, "marks", false);
    assert_int_equal(unlink(first), 0);
    world_rebuild_fails(&w, ERR_CORRUPT, "marks of the machine are missing");
    assert_int_equal(unlink(mark), 0);
    world_rebuild_fails(&w, ERR_NOT_FOUND, "no machine");
    free(piece);
    free(mark);
    free(first);
    world_done(&w);
}

static void marks_that_are_none_are_refused(void **state)
{
    struct world w;
    struct err err = ERR_INIT;
    AUTO_BUF struct buf bytes = BUF_INIT(1 << 20);
    (void)state;
    world_init(&w, 10);
    world_change(&w, 2);
    world_bring(&w);
    char *path = world_path(&w, "marks", true);
    world_ok(file_read(path, &bytes, &err), &err);
    for (size_t i = 0; i < bytes.len; i++) {
        struct bucketmark m AUTO_BUCKETMARK;
        bucketmark_init(&m);
        bytes.data[i] ^= 1;
        assert_int_equal(bucketmark_decode(bytes.data, bytes.len, &m, &err), -1);
        bytes.data[i] ^= 1;
        assert_int_equal(bucketmark_decode(bytes.data, i, &m, &err), -1);
    }
    free(path);
    world_done(&w);
}

static void names_of_others_are_no_names_of_ours(void **state)
{
    static const char *const names[] = {"", "machines/", "machines/../marks/x",
        "machines/07000000-0000-0000-0000-000000000000/marks/0000000000000001-0000000000000002",
        "machines/07000000-0000-0000-0000-000000000000/marks/0000000000000001-0000000000000000",
        "machines/07000000-0000-0000-0000-000000000000/marks/0000000000000001-0000000000000001x",
        "machines/07000000-0000-0000-0000-000000000000/marks/000000000000000A-0000000000000001",
        "machines/07000000-0000-0000-0000-00000000000A/marks/0000000000000001-0000000000000001",
        "machines/07000000-0000-0000-0000-000000000000/branches/"
        "0000000000000001-0000000000000000-0000000000000005-00000000000000000000000000000007",
        "machines/07000000-0000-0000-0000-000000000000/branches/07000000-0000-0000-0000-00000000000A/"
        "0000000000000001-0000000000000000-0000000000000005-00000000000000000000000000000007",
        "machines/07000000-0000-0000-0000-000000000000/main/1-2-3-4", "machines/07000000-0000-0000-0000-000000000000"};
    struct ident id;
    struct bucket_entry e;
    uint64_t serial, base;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        assert_int_equal(bucketmark_parse_name(names[i], &id, &serial, &base), -1);
        assert_int_equal(bucketmark_parse_piece_name(names[i], &id, &e), -1);
    }
}

static struct bucket_entry entry_of_kind(enum bucket_kind kind)
{
    struct bucket_entry e = {.kind = kind, .number = 7, .offset = 4096, .bytes = 5};
    if (kind == BUCKET_LOCKS || kind == BUCKET_QUARANTINE || kind == BUCKET_BRANCH || kind == BUCKET_KEYS)
        e.number = 1;
    if (kind == BUCKET_MEND)
        e.number = 3ULL << 32 | 0xabcdef;
    if (kind == BUCKET_BRANCH || kind == BUCKET_BRANCH_SEGMENT)
        memset(e.owner.bytes, 0x5a, IDENT_SIZE);
    memset(e.hash.bytes, 0x11 * (int)kind, HASH_SIZE);
    return e;
}

static bool is_same_entry(const struct bucket_entry *a, const struct bucket_entry *b)
{
    return a->kind == b->kind && a->number == b->number && ident_equal(&a->owner, &b->owner) &&
           a->offset == b->offset && a->bytes == b->bytes && hash_equal(&a->hash, &b->hash);
}

static void each_kind_has_a_name_and_a_path_of_its_own(void **state)
{
    char names[BUCKET_KIND_LAST + 1][BUCKETMARK_NAME_SIZE] = {{0}}, path[BUCKETMARK_PATH_SIZE];
    const struct ident machine = {{7}};
    struct ident again;
    struct bucket_entry e, file;
    (void)state;
    for (unsigned kind = BUCKET_SEGMENT; kind <= BUCKET_KIND_LAST; kind++) {
        struct bucket_entry wanted = entry_of_kind((enum bucket_kind)kind);
        bucketmark_piece_name(&machine, &wanted, names[kind]);
        assert_int_equal(bucketmark_parse_piece_name(names[kind], &again, &e), 0);
        assert_true(ident_equal(&again, &machine) && is_same_entry(&e, &wanted));
        for (unsigned other = BUCKET_SEGMENT; other < kind; other++)
            assert_string_not_equal(names[other], names[kind]);
        bucketmark_path(&wanted, path);
        assert_int_equal(bucketmark_parse_path(path, &file), 0);
        assert_true(
            file.kind == wanted.kind && file.number == wanted.number && ident_equal(&file.owner, &wanted.owner));
        path[strlen(path) - 1] = 'x';
        assert_int_equal(bucketmark_parse_path(path, &file), -1);
    }
}

#define HEAD 240
#define ENTRY 64
#define ENTRY_1 48

/* A mark with an entry of each kind up to `last`, as bytes. */
static void mark_bytes(enum bucket_kind last, struct buf *out)
{
    struct bucketmark m AUTO_BUCKETMARK;
    struct err err = ERR_INIT;
    bucketmark_init(&m);
    m.machine = (struct ident){{7}};
    m.serial = m.base = 5;
    m.entries = calloc(last, sizeof(*m.entries));
    for (; m.count < last; m.count++) {
        m.entries[m.count] = entry_of_kind((enum bucket_kind)(m.count + 1));
        m.entries[m.count].offset = 0;
    }
    world_ok(bucketmark_encode(&m, out, &err), &err);
}

static void seal_bytes(struct buf *b)
{
    struct hash128 hash;
    hash_128(b->data, b->len - HASH_SIZE, &hash);
    memcpy(b->data + b->len - HASH_SIZE, hash.bytes, HASH_SIZE);
}

/* As the version before wrote it: entries without the branch id. */
static void a_mark_of_version_1_is_read(void **state)
{
    struct bucketmark m AUTO_BUCKETMARK;
    struct err err = ERR_INIT;
    AUTO_BUF struct buf bytes = BUF_INIT(1 << 20);
    (void)state;
    mark_bytes(BUCKET_POINTS, &bytes);
    bytes.data[7] = 1;
    for (size_t i = 0; i < BUCKET_POINTS; i++)
        memmove(bytes.data + HEAD + i * ENTRY_1, bytes.data + HEAD + i * ENTRY, ENTRY_1);
    bytes.len -= (ENTRY - ENTRY_1) * BUCKET_POINTS;
    seal_bytes(&bytes);
    bucketmark_init(&m);
    world_ok(bucketmark_decode(bytes.data, bytes.len, &m, &err), &err);
    assert_int_equal(m.count, BUCKET_POINTS);
    for (size_t i = 0; i < m.count; i++)
        assert_true(m.entries[i].kind == i + 1 && m.entries[i].bytes == 5 && ident_is_zero(&m.entries[i].owner));
}

static void entries_that_cannot_be_are_refused(void **state)
{
    static const struct {
        size_t entry, at;
        uint8_t byte;
    } wrongs[] = {
        {0, 0, 0},
        {0, 0, BUCKET_KIND_LAST + 1},
        {0, 1, 2},
        {0, 2, 1},
        {0, 48, 1} /* a segment with an owner */,
        {3, 8, 2} /* a second lock */,
        {6, 8, 2},
        {0, 8, 0},
        {0, 24, 0},
        {0, 31, 1} /* 2^56 bytes */,
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrongs); i++) {
        struct bucketmark m AUTO_BUCKETMARK;
        struct err err = ERR_INIT;
        AUTO_BUF struct buf bytes = BUF_INIT(1 << 20);
        mark_bytes(BUCKET_KIND_LAST, &bytes);
        bucketmark_init(&m);
        world_ok(bucketmark_decode(bytes.data, bytes.len, &m, &err), &err);
        bucketmark_done(&m);
        bucketmark_init(&m);
        bytes.data[HEAD + wrongs[i].entry * ENTRY + wrongs[i].at] = wrongs[i].byte;
        seal_bytes(&bytes);
        if (bucketmark_decode(bytes.data, bytes.len, &m, &err) == 0)
            fail_msg("case %zu", i);
        assert_int_equal(err.code, ERR_CORRUPT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_each_mark_the_bucket_is_the_machine),
        cmocka_unit_test(nothing_new_is_no_new_mark),
        cmocka_unit_test(thinned_and_rewritten_history_replaces_what_is_there),
        cmocka_unit_test(a_backlog_comes_nearer_with_each_turn),
        cmocka_unit_test(what_was_rewritten_meanwhile_is_no_other_log),
        cmocka_unit_test(many_marks_are_gathered_in_a_full_one),
        cmocka_unit_test(an_upload_that_was_killed_goes_on_and_leaves_nothing_behind),
        cmocka_unit_test(a_vault_that_has_less_or_something_else_does_not_touch_the_bucket),
        cmocka_unit_test(without_the_right_key_nothing_is_fetched),
        cmocka_unit_test(what_was_fetched_before_is_not_fetched_again),
        cmocka_unit_test(damage_in_the_bucket_is_named),
        cmocka_unit_test(marks_that_are_none_are_refused),
        cmocka_unit_test(names_of_others_are_no_names_of_ours),
        cmocka_unit_test(each_kind_has_a_name_and_a_path_of_its_own),
        cmocka_unit_test(a_mark_of_version_1_is_read),
        cmocka_unit_test(entries_that_cannot_be_are_refused),
    };
    return cmocka_run_group_tests_name("bucket", tests, NULL, NULL);
}
