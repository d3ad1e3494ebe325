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

#include "tests/unit/vault/vaultmodel.h"
#include "transport/base/bytes.h"
#include "transport/base/file.h"
#include "transport/log/segment.h"
#include "transport/vault/bucketstate.h"
#include "transport/vault/rebuild.h"
#include "transport/vault/store_compact.h"
#include "transport/vault/upload.h"

#define SEGMENT_BYTES (64u << 10)
#define EPOCH_AFTER_REBUILD (1ULL << 40) /* far above what a rebuild skips */

struct world {
    struct model m;
    char url[160];
    struct object_store *objects;
    struct upload *upload;
    struct upload_result result;
    char id[IDENT_TEXT_SIZE];
    unsigned rebuilds;
};

static void ok(int result, const struct err *err)
{
    if (result < 0)
        fail_msg("%s", err->text);
}

static void world_init(struct world *w, uint64_t seed)
{
    struct err err = ERR_INIT;
    memset(w, 0, sizeof(*w));
    model_init(&w->m, seed);
    w->m.conf.segment_bytes = SEGMENT_BYTES;
    model_open(&w->m);
    (void)snprintf(w->url, sizeof(w->url), "file://%s/bucket", w->m.dir);
    const struct object_conf conf = {.url = w->url};
    ok(object_open(&conf, &w->objects, &err), &err);
    ok(upload_new(&w->m.conf.machine, 0, &w->upload, &err), &err);
    ident_to_text(&w->m.conf.machine, w->id);
}

static void world_done(struct world *w)
{
    upload_free(w->upload);
    object_close(w->objects);
    model_done(&w->m);
}

/* As after a restart of the vault. */
static void upload_anew(struct world *w, uint64_t turn_bytes)
{
    struct err err = ERR_INIT;
    upload_free(TAKE_PTR(w->upload));
    ok(upload_new(&w->m.conf.machine, turn_bytes, &w->upload, &err), &err);
}

static void upload_again(struct world *w)
{
    upload_anew(w, 0);
}

static int turn(struct world *w, struct err *err)
{
    struct upload_source src;
    upload_source_init(&src);
    int rc = upload_source_take(w->m.store, &w->m.conf.machine, &src, err);
    if (rc == 0)
        rc = upload_turn(w->upload, w->objects, &src, &w->result, err);
    upload_source_done(&src);
    return rc;
}

static void bring(struct world *w)
{
    struct err err = ERR_INIT;
    do
        ok(turn(w, &err), &err);
    while (w->result.more);
    assert_int_equal(w->result.sequence, store_committed(w->m.store));
    assert_int_equal(w->result.behind_bytes, 0);
}

static void change(struct world *w, unsigned commits)
{
    for (unsigned i = 0; i < commits; i++) {
        for (unsigned k = 0; k < 4; k++)
            model_random_write(&w->m);
        model_commit(&w->m, MARK_CRASH);
    }
}

/* ---- rebuilding ---- */

static void data_folder(struct world *w, char out[160])
{
    (void)snprintf(out, 160, "%s/new-%u", w->m.dir, ++w->rebuilds);
    assert_int_equal(mkdir(out, 0700), 0);
}

static void put_key(const char *data, const struct vault_key *key)
{
    char path[200], hex[2 * sizeof(key->bytes) + 1];
    (void)snprintf(path, sizeof(path), "%s/vault.key", data);
    bytes_to_hex(key->bytes, sizeof(key->bytes), hex);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fchmod(fileno(f), 0600), 0);
    (void)fprintf(f, "%s\n", hex);
    assert_int_equal(fclose(f), 0);
}

/* Compares every point up to `last` with a rebuilt vault's, and that it has no other. */
static void check_rebuilt(struct world *w, uint64_t last)
{
    struct err err = ERR_INIT;
    struct rebuild_result result;
    struct store *s AUTO_OF(store) = NULL;
    struct store_opened opened;
    char data[160], lost[160];
    data_folder(w, data);
    put_key(data, &w->m.conf.vault_key);
    ok(rebuild_run(data, w->objects, &result, &err), &err);
    assert_int_equal(result.machines, 1);
    memcpy(lost, w->m.machine_dir, sizeof(lost));
    (void)snprintf(w->m.machine_dir, sizeof(w->m.machine_dir), "%.100s/machines/%s", data, w->id);
    ok(store_open(&w->m.conf, &s, &err), &err);
    assert_int_equal(store_committed(s), last);
    assert_false(store_lost_commits(s));
    ok(store_begin(s, 1, EPOCH_AFTER_REBUILD, &opened, &err), &err);
    assert_true(opened.nonce_stream > 1u << 24);
    ok(store_flush(s, &err), &err);
    unsigned points = 0;
    for (unsigned i = 0; i < w->m.point_count && w->m.points[i].sequence <= last; i++, points++)
        model_check_point(&w->m, &w->m.points[i]);
    assert_int_equal(store_points(s)->count, points);
    memcpy(w->m.machine_dir, lost, sizeof(lost));
}

/* ---- what is in the bucket ---- */

struct census {
    const struct bucketstate *state;
    unsigned pieces, strange;
};

static int count_object(void *arg, const struct object_entry *entry, struct err *err)
{
    struct census *c = arg;
    struct ident machine;
    struct bucket_entry e;
    uint64_t serial, base;
    (void)err;
    if (bucketmark_parse_piece_name(entry->name, &machine, &e) == 0) {
        c->pieces++;
        c->strange += !bucketstate_has(c->state, &e) || entry->bytes != e.bytes;
    } else {
        bool is_mark = bucketmark_parse_name(entry->name, &machine, &serial, &base) == 0;
        c->strange += !is_mark || serial < c->state->last.base;
    }
    return 0;
}

/* The bucket holds what its marks name and nothing else. */
static void check_tidy(struct world *w)
{
    struct bucketstate st AUTO_BUCKETSTATE;
    struct err err = ERR_INIT;
    struct census census = {.state = &st};
    unsigned named = 0;
    bucketstate_init(&st, &w->m.conf.machine);
    ok(bucketstate_load(&st, w->objects, &err), &err);
    ok(bucketstate_check(&st, &err), &err);
    ok(object_walk(w->objects, "", count_object, &census, &err), &err);
    for (size_t i = 0; i < st.count; i++)
        named += (unsigned)st.files[i].count;
    assert_int_equal(census.strange, 0);
    assert_int_equal(census.pieces, named);
}

static char *path_in_bucket(struct world *w, const char *folder, bool last)
{
    char command[400], line[400] = "";
    (void)snprintf(command, sizeof(command), "ls -d %s/bucket/machines/%s/%s/* | %s", w->m.dir, w->id, folder,
        last ? "tail -n 1" : "head -n 1");
    FILE *f = popen(command, "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof(line), f));
    (void)pclose(f);
    line[strcspn(line, "\n")] = '\0';
    return strdup(line);
}

static void flip(const char *path, long at)
{
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, -1, SEEK_CUR), 0);
    (void)fputc(c ^ 1, f);
    assert_int_equal(fclose(f), 0);
}

static void rebuild_fails(struct world *w, enum err_code code, const char *with)
{
    struct err err = ERR_INIT;
    struct rebuild_result result;
    char data[160];
    data_folder(w, data);
    put_key(data, &w->m.conf.vault_key);
    assert_int_equal(rebuild_run(data, w->objects, &result, &err), -1);
    if (err.code != code || strstr(err.text, with) == NULL)
        fail_msg("%s: %s", err_code_name(err.code), err.text);
}

/* ---- tests ---- */

static void at_each_mark_the_bucket_is_the_machine(void **state)
{
    struct world w;
    (void)state;
    world_init(&w, 1);
    for (unsigned round = 0; round < 12; round++) {
        change(&w, 1 + round % 5);
        if (round % 3 == 1)
            ok(store_flush(w.m.store, NULL), &(struct err)ERR_INIT);
        bring(&w);
        uint64_t last = store_committed(w.m.store);
        change(&w, 1); /* not in the bucket */
        if (round % 4 == 3)
            check_rebuilt(&w, last);
        if (round % 5 == 4)
            upload_again(&w);
    }
    bring(&w);
    check_tidy(&w);
    world_done(&w);
}

static void nothing_new_is_no_new_mark(void **state)
{
    struct world w;
    (void)state;
    world_init(&w, 2);
    change(&w, 3);
    bring(&w);
    char *before = path_in_bucket(&w, "marks", true);
    bring(&w);
    char *after = path_in_bucket(&w, "marks", true);
    assert_string_equal(before, after);
    assert_int_equal(w.result.sent_bytes, 0);
    free(before);
    free(after);
    world_done(&w);
}

/* Drops `drop` of each `of` points, never the newest. How many segments were rewritten. */
static unsigned thin_and_compact(struct world *w, unsigned drop, unsigned of)
{
    struct err err = ERR_INIT;
    struct store_compact *c AUTO_OF(store_compact) = NULL;
    struct store_merge *merge = NULL;
    uint64_t dropped[MODEL_POINTS_MAX] = {0};
    size_t count = 0, gone = 0;
    for (unsigned i = 0; i + 1 < w->m.point_count; i++)
        if (i % of < drop)
            dropped[count++] = w->m.points[i].sequence;
    ok(store_drop_points(w->m.store, dropped, count, &gone, &err), &err);
    for (size_t i = 0; i < count; i++)
        model_forget(&w->m, dropped[i]);
    while (store_merge_plan(w->m.store, &merge, &err) > 0) {
        ok(store_merge_run(merge, &err), &err);
        ok(store_merge_finish(w->m.store, merge, &err), &err);
        store_merge_free(TAKE_PTR(merge));
    }
    int planned = store_compact_plan(w->m.store, &(struct compact_spec){.least_percent = 1}, &c, &err);
    ok(planned, &err);
    unsigned rewritten = 0;
    if (planned == 0)
        return 0;
    ok(store_compact_look(c, &err), &err);
    store_compact_trim(w->m.store, c);
    for (; store_compact_rewrite(c, &err) > 0; rewritten++)
        ok(store_compact_finish(w->m.store, c, &err), &err);
    return rewritten;
}

static void thinned_and_rewritten_history_replaces_what_is_there(void **state)
{
    struct world w;
    unsigned rewritten = 0;
    (void)state;
    world_init(&w, 3);
    for (unsigned round = 0; round < 4; round++) {
        change(&w, 12);
        bring(&w);
        rewritten += thin_and_compact(&w, 1, 2);
        bring(&w);
        check_tidy(&w);
        check_rebuilt(&w, store_committed(w.m.store));
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
    upload_anew(&w, 1);
    change(&w, 6);
    bring(&w);
    uint64_t point = w.result.point;
    change(&w, 30);
    do {
        ok(turn(&w, &err), &err);
        turns++;
        if (w.result.more && w.result.sequence > before) {
            assert_true(w.result.point >= point);
            check_rebuilt(&w, w.result.sequence);
            nearer++;
        }
        before = w.result.sequence;
        if (turns % 4 == 0)
            upload_anew(&w, 1);
    } while (w.result.more);
    assert_int_equal(w.result.sequence, store_committed(w.m.store));
    assert_true(nearer > 4);
    check_tidy(&w);
    check_rebuilt(&w, store_committed(w.m.store));
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
    ok(segment_open(fd, segment, &reader, &err), &err);
    (void)close(fd);
    return segment_reader_info(reader)->revision;
}

/* The segment that was open at the newest mark was sealed, thinned and rewritten while the bucket was away, and the vault was restarted. */
static void what_was_rewritten_meanwhile_is_no_other_log(void **state)
{
    struct world w;
    (void)state;
    world_init(&w, 12);
    change(&w, 2);
    bring(&w);
    char *open_one = path_in_bucket(&w, "main", true);
    change(&w, 20);
    assert_true(thin_and_compact(&w, 1, 1) > 0);
    assert_true(revision_of(&w, strtoull(strrchr(open_one, '/') + 1, NULL, 16)) > 0);
    free(open_one);
    upload_again(&w);
    bring(&w);
    check_tidy(&w);
    check_rebuilt(&w, store_committed(w.m.store));
    world_done(&w);
}

static void many_marks_are_gathered_in_a_full_one(void **state)
{
    struct world w;
    (void)state;
    world_init(&w, 4);
    for (unsigned i = 0; i < 150; i++) {
        change(&w, 1);
        bring(&w);
    }
    check_tidy(&w);
    struct bucketstate st AUTO_BUCKETSTATE;
    bucketstate_init(&st, &w.m.conf.machine);
    assert_int_equal(bucketstate_load(&st, w.objects, NULL), 1);
    assert_int_equal(st.last.serial, 150);
    assert_true(st.last.base > 100);
    check_rebuilt(&w, store_committed(w.m.store));
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
    change(&w, 5);
    bring(&w);
    uint64_t last = store_committed(w.m.store);
    (void)snprintf(folder, sizeof(folder), "%s/bucket/machines/%s/marks", w.m.dir, w.id);
    change(&w, 9);
    (void)snprintf(stray, sizeof(stray), "%s.away", folder);
    assert_int_equal(rename(folder, stray), 0);
    FILE *f = fopen(folder, "w");
    assert_non_null(f);
    (void)fclose(f);
    assert_int_equal(turn(&w, &err), -1);
    assert_true(w.result.sent_bytes > 0);
    assert_int_equal(unlink(folder), 0);
    assert_int_equal(rename(stray, folder), 0);
    check_rebuilt(&w, last); /* what no mark names is not there */
    (void)snprintf(stray, sizeof(stray), "machines/%s/main/%016x-%016x-%016x-%032x", w.id, 77, 0, 5, 7);
    ok(object_put(w.objects, stray, "stray", 5, &err), &err);
    upload_again(&w);
    bring(&w);
    check_tidy(&w);
    check_rebuilt(&w, store_committed(w.m.store));
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
    ok(file_remove_tree(w->m.machine_dir, &err), &err);
    assert_int_equal(rename(copy, w->m.machine_dir), 0);
    model_open(&w->m);
    upload_again(w);
}

static void a_vault_that_has_less_or_something_else_does_not_touch_the_bucket(void **state)
{
    struct world w;
    struct err err = ERR_INIT;
    char copy[200];
    (void)state;
    world_init(&w, 6);
    change(&w, 4);
    bring(&w);
    ok(store_flush(w.m.store, &err), &err);
    (void)snprintf(copy, sizeof(copy), "%s/copy", w.m.dir);
    copy_folder(w.m.machine_dir, copy);
    change(&w, 3);
    bring(&w);
    uint64_t last = store_committed(w.m.store);
    unsigned known = w.m.point_count;
    swap_in(&w, copy);
    assert_int_equal(turn(&w, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_non_null(strstr(err.text, "has lost"));
    assert_non_null(strstr(err.correction, "rebuild"));
    change(&w, 5); /* as many change sets again, and others */
    err_clear(&err);
    assert_int_equal(turn(&w, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_non_null(strstr(err.text, " log of this machine than the vault"));
    for (unsigned i = w.m.point_count; i > known; i--)
        model_forget(&w.m, w.m.points[i - 1].sequence);
    (void)last;
    check_tidy(&w);
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
    change(&w, 3);
    bring(&w);
    data_folder(&w, data);
    assert_int_equal(rebuild_run(data, w.objects, &result, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_non_null(strstr(err.correction, "vault.key"));
    put_key(data, &other);
    err_clear(&err);
    assert_int_equal(rebuild_run(data, w.objects, &result, &err), -1);
    assert_int_equal(err.code, ERR_DENIED);
    assert_non_null(strstr(err.correction, "vault.key"));
    assert_int_equal(result.fetched_bytes, 0);
    put_key(data, &w.m.conf.vault_key);
    ok(rebuild_run(data, w.objects, &result, &err), &err);
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
    change(&w, 30);
    bring(&w);
    data_folder(&w, data);
    put_key(data, &w.m.conf.vault_key);
    ok(rebuild_run(data, w.objects, &result, &err), &err);
    uint64_t all = result.fetched_bytes;
    ok(rebuild_run(data, w.objects, &result, &err), &err);
    assert_int_equal(result.present, 1);
    assert_int_equal(result.fetched_bytes, 0);
    (void)snprintf(from, sizeof(from), "%s/machines/%s", data, w.id); /* as if it had ended before it was moved in */
    (void)snprintf(to, sizeof(to), "%s/rebuild/%s", data, w.id);
    assert_int_equal(rename(from, to), 0);
    (void)snprintf(from, sizeof(from), "%s/main/%016x.seg", to, 1);
    flip(from, 5000);
    (void)snprintf(from, sizeof(from), "%s/main/%016x.seg", to, 999);
    FILE *f = fopen(from, "w");
    assert_non_null(f);
    (void)fclose(f);
    ok(rebuild_run(data, w.objects, &result, &err), &err);
    assert_int_equal(result.machines, 1);
    assert_true(result.fetched_bytes > 0 && result.fetched_bytes < all / 2);
    world_done(&w);
}

static void damage_in_the_bucket_is_named(void **state)
{
    struct world w;
    (void)state;
    world_init(&w, 9);
    change(&w, 10);
    bring(&w);
    change(&w, 2);
    bring(&w);
    char *piece = path_in_bucket(&w, "main", false);
    flip(piece, 4500);
    rebuild_fails(&w, ERR_CORRUPT, "is not what its mark says");
    flip(piece, 4500);
    assert_int_equal(truncate(piece, 4400), 0);
    rebuild_fails(&w, ERR_CORRUPT, "shorter than its mark says");
    assert_int_equal(unlink(piece), 0);
    rebuild_fails(&w, ERR_CORRUPT, "is missing in the bucket");
    char *mark = path_in_bucket(&w, "marks", true);
    flip(mark, 64);
    rebuild_fails(&w, ERR_CORRUPT, "is damaged");
    flip(mark, 64);
    char *first = path_in_bucket(&w, "marks", false);
    assert_int_equal(unlink(first), 0);
    rebuild_fails(&w, ERR_CORRUPT, "marks of the machine are missing");
    assert_int_equal(unlink(mark), 0);
    rebuild_fails(&w, ERR_NOT_FOUND, "no machine");
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
    change(&w, 2);
    bring(&w);
    char *path = path_in_bucket(&w, "marks", true);
    ok(file_read(path, &bytes, &err), &err);
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
    };
    return cmocka_run_group_tests_name("bucket", tests, NULL, NULL);
}
