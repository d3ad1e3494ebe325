/* SPDX-License-Identifier: Apache-2.0
 *
 * See bucketworld.h.
 */
#include "tests/unit/vault/bucketworld.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "transport/base/bytes.h"
#include "transport/log/segment.h"
#include "transport/vault/bucketstate.h"
#include "transport/vault/rebuild.h"
#include "transport/vault/store_compact.h"

#define SEGMENT_BYTES (64u << 10)

void world_ok(int result, const struct err *err)
{
    if (result < 0)
        fail_msg("%s", err->text);
}

void world_init(struct world *w, uint64_t seed)
{
    struct err err = ERR_INIT;
    memset(w, 0, sizeof(*w));
    model_init(&w->m, seed);
    w->m.conf.segment_bytes = SEGMENT_BYTES;
    model_open(&w->m);
    (void)snprintf(w->url, sizeof(w->url), "file://%s/bucket", w->m.dir);
    const struct object_conf conf = {.url = w->url};
    world_ok(object_open(&conf, &w->objects, &err), &err);
    world_ok(upload_new(&w->m.conf.machine, 0, &w->upload, &err), &err);
    ident_to_text(&w->m.conf.machine, w->id);
}

void world_done(struct world *w)
{
    upload_free(w->upload);
    object_close(w->objects);
    model_done(&w->m);
}

void world_upload_anew(struct world *w, uint64_t turn_bytes)
{
    struct err err = ERR_INIT;
    upload_free(TAKE_PTR(w->upload));
    world_ok(upload_new(&w->m.conf.machine, turn_bytes, &w->upload, &err), &err);
}

void world_upload_again(struct world *w)
{
    world_upload_anew(w, 0);
}

int world_turn(struct world *w, struct err *err)
{
    struct upload_source src;
    upload_source_init(&src);
    int rc = upload_source_take(w->m.store, &w->m.conf.machine, &src, err);
    if (rc == 0)
        rc = upload_turn(w->upload, w->objects, &src, &w->result, err);
    upload_source_done(&src);
    return rc;
}

void world_bring(struct world *w)
{
    struct err err = ERR_INIT;
    do
        world_ok(world_turn(w, &err), &err);
    while (w->result.more);
    assert_int_equal(w->result.sequence, store_committed(w->m.store));
    assert_int_equal(w->result.behind_bytes, 0);
}

void world_change(struct world *w, unsigned commits)
{
    for (unsigned i = 0; i < commits; i++) {
        for (unsigned k = 0; k < 4; k++)
            model_random_write(&w->m);
        model_commit(&w->m, MARK_CRASH);
    }
}

/* Drops `drop` of each `of` points, never the newest. How many segments were rewritten. */
unsigned world_thin_and_compact(struct world *w, unsigned drop, unsigned of)
{
    struct err err = ERR_INIT;
    struct store_compact *c AUTO_OF(store_compact) = NULL;
    struct store_merge *merge = NULL;
    uint64_t dropped[MODEL_POINTS_MAX] = {0};
    size_t count = 0, gone = 0;
    for (unsigned i = 0; i + 1 < w->m.point_count; i++)
        if (i % of < drop)
            dropped[count++] = w->m.points[i].sequence;
    world_ok(store_drop_points(w->m.store, dropped, count, &gone, &err), &err);
    for (size_t i = 0; i < count; i++)
        model_forget(&w->m, dropped[i]);
    while (store_merge_plan(w->m.store, &merge, &err) > 0) {
        world_ok(store_merge_run(merge, &err), &err);
        world_ok(store_merge_finish(w->m.store, merge, &err), &err);
        store_merge_free(TAKE_PTR(merge));
    }
    int planned = store_compact_plan(w->m.store, &(struct compact_spec){.least_percent = 1}, &c, &err);
    world_ok(planned, &err);
    unsigned rewritten = 0;
    if (planned == 0)
        return 0;
    world_ok(store_compact_look(c, &err), &err);
    store_compact_trim(w->m.store, c);
    for (; store_compact_rewrite(c, &err) > 0; rewritten++)
        world_ok(store_compact_finish(w->m.store, c, &err), &err);
    return rewritten;
}

/* ---- rebuilding ---- */

void world_data_folder(struct world *w, char out[160])
{
    (void)snprintf(out, 160, "%s/new-%u", w->m.dir, ++w->rebuilds);
    assert_int_equal(mkdir(out, 0700), 0);
}

void world_put_key(const char *data, const struct vault_key *key)
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

void world_rebuild(struct world *w, char data[160], char machine_dir[160])
{
    struct err err = ERR_INIT;
    struct rebuild_result result;
    world_data_folder(w, data);
    world_put_key(data, &w->m.conf.vault_key);
    world_ok(rebuild_run(data, w->objects, &result, &err), &err);
    assert_int_equal(result.machines, 1);
    (void)snprintf(machine_dir, 160, "%.100s/machines/%s", data, w->id);
}

void world_check_rebuilt(struct world *w, uint64_t last)
{
    world_check_rebuilt_at(w, last, 1);
}

void world_check_rebuilt_at(struct world *w, uint64_t last, uint64_t generation)
{
    struct err err = ERR_INIT;
    struct store *s AUTO_OF(store) = NULL;
    struct store_opened opened;
    char data[160], lost[160];
    memcpy(lost, w->m.machine_dir, sizeof(lost));
    world_rebuild(w, data, w->m.machine_dir);
    world_ok(store_open(&w->m.conf, &s, &err), &err);
    assert_int_equal(store_committed(s), last);
    assert_false(store_lost_commits(s));
    world_ok(store_begin(s, generation, EPOCH_AFTER_REBUILD, &opened, &err), &err);
    assert_true(opened.nonce_stream > 1u << 24);
    world_ok(store_flush(s, &err), &err);
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

void world_check_tidy(struct world *w)
{
    struct bucketstate st AUTO_BUCKETSTATE;
    struct err err = ERR_INIT;
    struct census census = {.state = &st};
    unsigned named = 0;
    bucketstate_init(&st, &w->m.conf.machine);
    world_ok(bucketstate_load(&st, w->objects, &err), &err);
    world_ok(bucketstate_check(&st, &err), &err);
    world_ok(object_walk(w->objects, "", count_object, &census, &err), &err);
    for (size_t i = 0; i < st.count; i++)
        named += (unsigned)st.files[i].count;
    assert_int_equal(census.strange, 0);
    assert_int_equal(census.pieces, named);
}

char *world_path(struct world *w, const char *folder, bool last)
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

void world_flip(const char *path, long at)
{
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, -1, SEEK_CUR), 0);
    (void)fputc(c ^ 1, f);
    assert_int_equal(fclose(f), 0);
}

void world_rebuild_fails(struct world *w, enum err_code code, const char *with)
{
    struct err err = ERR_INIT;
    struct rebuild_result result;
    char data[160];
    world_data_folder(w, data);
    world_put_key(data, &w->m.conf.vault_key);
    assert_int_equal(rebuild_run(data, w->objects, &result, &err), -1);
    if (err.code != code || strstr(err.text, with) == NULL)
        fail_msg("%s: %s", err_code_name(err.code), err.text);
}
