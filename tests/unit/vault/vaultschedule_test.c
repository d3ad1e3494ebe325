/* SPDX-License-Identifier: Apache-2.0
 *
 * Thousands of short schedules against a model: random writes, points, progress marks, flushes, merges, dropped points, compaction, new
 * data keys and a branch, with the process killed at any of its named points, tails that are torn or end in rubbish, writes and syncs that fail with
 * ENOSPC or EIO, and in the end, in some, a flipped bit. After each reopening every retained point, and the branch, is compared byte for
 * byte. Behind a flipped bit a read may fail, but never gives other data.
 *
 * LEEWARD_SEED=N repeats one schedule and its like, LEEWARD_ROUNDS=N runs that many from there;
 * LEEWARD_TRACE=1 tells each step.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/vault/vaultmodel.h"
#include "transport/base/crashpoint.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/log/segment.h"
#include "transport/vault/branch.h"
#include "transport/vault/store_compact.h"
#include "transport/vault/view.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(LEEWARD_SLOW)
#define ROUNDS 400
#else
#define ROUNDS 10000
#endif
#define STEPS 14
#define COMMITS 56u  /* kinds of steps below this commit */
#define NEW_KEYS 92u /* and from here on begin a new data key */
#define DISK_0 (24u * 1024 + 512)
#define DISK_1 (8u * 1024)

/* ---- system calls that fail ---- */

static struct {
    unsigned countdown; /* the n-th call from now on fails; 0: none does */
    int error;
    bool failed;
} fault;

static bool faulty(void)
{
    if (fault.countdown == 0 || --fault.countdown > 0)
        return false;
    fault.failed = true;
    errno = fault.error;
    return true;
}

#define WRAP(type, name, parameters, arguments)                                                                        \
    type __real_##name parameters;                                                                                     \
    type __wrap_##name parameters;                                                                                     \
    type __wrap_##name parameters                                                                                      \
    {                                                                                                                  \
        return faulty() ? (type)-1 : __real_##name arguments;                                                          \
    }
WRAP(ssize_t, pwrite, (int fd, const void *data, size_t n, off_t at), (fd, data, n, at))
WRAP(ssize_t, pwritev, (int fd, const struct iovec *iov, int count, off_t at), (fd, iov, count, at))
WRAP(ssize_t, write, (int fd, const void *data, size_t n), (fd, data, n))
WRAP(int, fsync, (int fd), (fd))
WRAP(int, fdatasync, (int fd), (fd))
WRAP(int, ftruncate, (int fd, off_t n), (fd, n))
WRAP(int, rename, (const char *from, const char *to), (from, to))
WRAP(int, renameat, (int a, const char *from, int b, const char *to), (a, from, b, to))
WRAP(int, linkat, (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags))

/* ---- the world ---- */

struct world {
    struct model m;
    uint8_t *committed[MODEL_DISKS]; /* the disks as of the last commit */
    uint64_t sequence;               /* of that */
    enum mark_kind under_way;        /* of the commit that was tried last */
    bool has_branch;
    uint64_t base;
    uint8_t *branch[MODEL_DISKS];
    char branch_dir[200], snapshot[200];
    unsigned crash_in; /* named points from now on, 0: not armed */
    bool crashed;
    unsigned merged, compacted, rekeyed, crashes, faults;
};

static uint64_t number_from_env(const char *name, uint64_t fallback)
{
    const char *text = getenv(name);
    return text == NULL ? fallback : strtoull(text, NULL, 10);
}

static void trace(const struct world *w, const char *what)
{
    if (getenv("LEEWARD_TRACE") != NULL)
        (void)fprintf(stderr, "%s, committed %llu\n", what, (unsigned long long)w->sequence);
}

static void on_crashpoint(void *arg, const char *name)
{
    struct world *w = arg;
    if (w->crash_in == 0 || --w->crash_in > 0)
        return;
    trace(w, name);
    w->crashed = true;
    model_copy_tree(w->m.machine_dir, w->snapshot);
}

static void keep_committed(struct world *w)
{
    for (unsigned i = 0; i < MODEL_DISKS; i++)
        memcpy(w->committed[i], w->m.disks[i], w->m.disk_bytes[i]);
    w->sequence = store_committed(w->m.store);
}

static void back_to_committed(struct world *w)
{
    for (unsigned i = 0; i < MODEL_DISKS; i++)
        memcpy(w->m.disks[i], w->committed[i], w->m.disk_bytes[i]);
}

/* ---- comparing ---- */

static void check_branch(struct world *w)
{
    struct view *v AUTO_OF(view) = NULL;
    struct branch *b AUTO_OF(branch) = NULL;
    struct err err = ERR_INIT;
    uint32_t stream;
    uint8_t got[DISK_0];
    assert_int_equal(store_flush(w->m.store, &err), 0);
    assert_int_equal(store_take_nonce_stream(w->m.store, &stream, &err), 0);
    struct branch_conf conf = {
        .dir = w->branch_dir, .keys = &w->m.opened.keys, .nonce_stream = stream, .cache_bytes = 1};
    if (view_open(w->m.machine_dir, w->base, &w->m.opened.keys, 1, &v, &err) < 0)
        fail_msg("the branch's point %llu: %s", (unsigned long long)w->base, err.text);
    conf.base = v;
    if (branch_open(&conf, &b, &err) < 0)
        fail_msg("the branch: %s", err.text);
    for (unsigned i = 0; i < MODEL_DISKS; i++) {
        assert_int_equal(branch_read(b, i, 0, w->m.disk_bytes[i], got, &err), 0);
        assert_memory_equal(got, w->branch[i], w->m.disk_bytes[i]);
    }
}

static void check_everything(struct world *w)
{
    model_check_all(&w->m);
    if (w->has_branch)
        check_branch(w);
}

/* Opens the store after whatever happened to it. The last commit is there, or one more that was under way. */
static void reopen(struct world *w, bool mark_under_way)
{
    struct model *m = &w->m;
    fault.countdown = 0;
    model_open(m);
    uint64_t committed = store_committed(m->store);
    if (mark_under_way && committed == w->sequence + 1) {
        keep_committed(w);
        if (w->under_way != MARK_PROGRESS)
            model_keep_point(m, committed);
    } else {
        if (committed != w->sequence)
            fail_msg("committed %llu, not %llu", (unsigned long long)committed, (unsigned long long)w->sequence);
        back_to_committed(w);
    }
    check_everything(w);
}

/* ---- what may fail: 0, or -1 when it did ---- */

static int merge_all(struct world *w)
{
    struct store_merge *merge = NULL;
    int got;
    while ((got = store_merge_plan(w->m.store, &merge, NULL)) > 0) {
        int result = store_merge_run(merge, NULL);
        if (store_merge_finish(w->m.store, merge, NULL) < 0)
            result = -1;
        store_merge_free(merge);
        merge = NULL;
        if (result < 0)
            return -1;
        w->merged++;
    }
    return got;
}

static int compact(struct world *w)
{
    struct store_compact *c AUTO_OF(store_compact) = NULL;
    struct compact_spec spec = {
        .least_percent = model_random(&w->m, 2) == 0 ? 1 : 50, .refs_max = model_random(&w->m, 2) == 0 ? 16 : 0};
    int got = store_compact_plan(w->m.store, &spec, &c, NULL);
    if (got <= 0 || store_compact_look(c, NULL) < 0)
        return got;
    store_compact_trim(w->m.store, c);
    while ((got = store_compact_rewrite(c, NULL)) > 0) {
        if (store_compact_finish(w->m.store, c, NULL) < 0)
            return -1;
        w->compacted++;
    }
    return got;
}

static int drop_some(struct world *w)
{
    struct model *m = &w->m;
    uint64_t drop[4 * STEPS] = {0};
    size_t count = 0, dropped = 0;
    for (unsigned i = 0; i + 1 < m->point_count; i++)
        if (model_random(m, 3) > 0 && !(w->has_branch && m->points[i].sequence == w->base))
            drop[count++] = m->points[i].sequence;
    int result = store_drop_points(m->store, drop, count, &dropped, NULL);
    for (size_t i = 0; i < count; i++)
        model_forget(m, drop[i]); /* also when it failed: nobody knows, and nothing is promised of them any more */
    return result;
}

static int commit(struct world *w, enum mark_kind kind)
{
    struct model *m = &w->m;
    uint64_t committed = 0;
    for (uint64_t i = model_random(m, 3) + 1; i > 0; i--) {
        unsigned disk = (unsigned)model_random(m, MODEL_DISKS);
        uint64_t sectors = m->disk_bytes[disk] / 512;
        uint64_t at = model_random(m, sectors), n = model_random(m, 8) + 1;
        n = n < sectors - at ? n : sectors - at;
        if (model_random(m, 8) == 0)
            model_zero(m, disk, at * 512, n * 512);
        else
            model_write(m, disk, at * 512, (uint32_t)(n * 512), model_random(m, 2) == 0);
    }
    w->under_way = kind;
    model_mark(m, kind);
    int result = store_append(m->store, m->batch.data, m->batch.len, &committed, NULL);
    if (result == 0) {
        assert_int_equal(committed, w->sequence + 1);
        model_batch_reset(m);
        if (kind != MARK_PROGRESS)
            model_keep_point(m, committed);
        keep_committed(w);
    }
    if (result == 0 && store_wants_flush(m->store))
        result = store_flush(m->store, NULL);
    return result;
}

static int new_key(struct world *w)
{
    if (w->m.opened.keys.count == KEYRING_MAX)
        return 0;
    if (model_try_new_key(&w->m, NULL) < 0)
        return -1;
    w->rekeyed++;
    return 0;
}

/* ---- steps ---- */

static int do_step(struct world *w, uint64_t kind)
{
    if (kind < 48)
        return commit(w, MARK_CRASH);
    if (kind < COMMITS)
        return commit(w, w->m.first_sent ? MARK_PROGRESS : MARK_CRASH);
    if (kind < 62)
        return store_flush(w->m.store, NULL);
    if (kind < 70)
        return merge_all(w);
    if (kind < 76)
        return drop_some(w);
    if (kind >= NEW_KEYS)
        return new_key(w);
    return drop_some(w) < 0 ? -1 : compact(w);
}

/* What was in the files at some moment is all that there is. */
static void put_snapshot_back(struct world *w)
{
    struct err err = ERR_INIT;
    store_close(w->m.store);
    w->m.store = NULL;
    assert_int_equal(file_remove_tree(w->m.machine_dir, &err), 0);
    assert_int_equal(rename(w->snapshot, w->m.machine_dir), 0);
}

static void step_killed(struct world *w, uint64_t kind)
{
    w->crashed = false;
    w->crash_in = (unsigned)model_random(&w->m, 4) + 1;
    assert_int_equal(do_step(w, kind), 0);
    w->crash_in = 0;
    if (!w->crashed)
        return;
    w->crashes++;
    put_snapshot_back(w);
    reopen(w, false); /* in a commit, all named points are behind the mark */
}

static void step_with_fault(struct world *w, uint64_t kind)
{
    uint64_t before = w->sequence;
    fault.failed = false;
    fault.error = model_random(&w->m, 2) == 0 ? ENOSPC : EIO;
    fault.countdown = (unsigned)model_random(&w->m, 8) + 1;
    int result = do_step(w, kind);
    fault.countdown = 0;
    if (result == 0)
        return;
    assert_true(fault.failed);
    trace(w, "fault");
    w->faults++;
    store_close(w->m.store);
    w->m.store = NULL;
    reopen(w, kind < COMMITS && w->sequence == before);
}

static off_t last_segment(const struct world *w, char *out, size_t n)
{
    char name[SEGMENT_NAME_SIZE];
    struct stat st;
    uint64_t number = 0;
    off_t size = 0;
    for (;;) {
        char path[300];
        segment_name(++number, name);
        (void)snprintf(path, sizeof(path), "%s/main/%s", w->m.machine_dir, name);
        if (stat(path, &st) < 0)
            return size;
        (void)snprintf(out, n, "%s", path);
        size = st.st_size;
    }
}

/* Killed, or without power, in the middle of a change set: of its bytes some are there, or rubbish is. */
static void step_torn(struct world *w)
{
    struct model *m = &w->m;
    char before_path[300] = "", path[300] = "";
    uint64_t ignored;
    off_t before = last_segment(w, before_path, sizeof(before_path));
    model_write(m, 0, model_random(m, 40) * 512, 512 * (uint32_t)(model_random(m, 8) + 1), false);
    assert_int_equal(store_append(m->store, m->batch.data, m->batch.len, &ignored, NULL), 0);
    model_copy_tree(m->machine_dir, w->snapshot);
    put_snapshot_back(w);
    off_t after = last_segment(w, path, sizeof(path));
    before = strcmp(path, before_path) == 0 ? before : (off_t)SEGMENT_HEADER_SIZE;
    if (after > before)
        assert_int_equal(truncate(path, after - (off_t)model_random(m, (uint64_t)(after - before))), 0);
    if (model_random(m, 2) == 0) {
        FILE *f = fopen(path, "a");
        for (uint64_t i = model_random(m, 600); i > 0; i--)
            (void)fputc(model_random(m, 2) == 0 ? 0 : (int)model_random(m, 256), f);
        assert_int_equal(fclose(f), 0);
    }
    w->crashes++;
    reopen(w, false);
}

static void make_branch(struct world *w)
{
    struct model *m = &w->m;
    const struct model_point *p = &m->points[model_random(m, m->point_count)];
    struct view *v AUTO_OF(view) = NULL;
    struct branch *b AUTO_OF(branch) = NULL;
    struct err err = ERR_INIT;
    uint32_t stream;
    struct branch_info info = {.id.bytes = {9}, .machine = m->conf.machine, .base_sequence = p->sequence};
    assert_int_equal(store_flush(m->store, &err), 0);
    assert_int_equal(view_open(m->machine_dir, p->sequence, &m->opened.keys, 1, &v, &err), 0);
    assert_int_equal(branch_base_check(view_mark(v), &info.base_check, &err), 0);
    assert_int_equal(branch_create(w->branch_dir, &info, &err), 0);
    assert_int_equal(store_take_nonce_stream(m->store, &stream, &err), 0);
    struct branch_conf conf = {
        .dir = w->branch_dir, .base = v, .keys = &m->opened.keys, .nonce_stream = stream, .cache_bytes = 1};
    if (branch_open(&conf, &b, &err) < 0)
        fail_msg("%s", err.text);
    for (unsigned i = 0; i < MODEL_DISKS; i++)
        memcpy(w->branch[i], p->disks[i], m->disk_bytes[i]);
    for (unsigned i = 0; i < 3; i++) {
        uint64_t at = model_random(m, DISK_1 - 700);
        memset(w->branch[1] + at, (int)i + 1, 700);
        assert_int_equal(branch_write(b, 1, at, 700, w->branch[1] + at, &err), 0);
    }
    assert_int_equal(branch_flush(b, &err), 0);
    w->has_branch = true;
    w->base = p->sequence;
}

static void step(struct world *w)
{
    struct model *m = &w->m;
    uint64_t kind = model_random(m, 100), how = model_random(m, 12);
    char what[60];
    (void)snprintf(what, sizeof(what), "step %u, %s", (unsigned)kind,
        how == 0   ? "torn"
        : how <= 2 ? "killed"
        : how <= 4 ? "with a fault"
        : how == 5 ? "restarted"
                   : "");
    trace(w, what);
    if (how == 0 && w->sequence > 0) {
        step_torn(w);
    } else if (how <= 2) {
        step_killed(w, kind);
    } else if (how <= 4) {
        step_with_fault(w, kind);
    } else if (how == 5) {
        model_close(m);
        reopen(w, false);
    } else if (how == 6 && !w->has_branch && m->point_count > 0) {
        make_branch(w);
    } else {
        assert_int_equal(do_step(w, kind), 0);
    }
}

/* ---- in the end: a damaged disk ---- */

static void choose_file(struct world *w, char *out, size_t n)
{
    static const char *const folders[] = {"main", "runs", "."};
    char folder[300];
    unsigned chosen = 0;
    (void)snprintf(folder, sizeof(folder), "%s/%s", w->m.machine_dir, folders[model_random(&w->m, 3)]);
    DIR *dir = opendir(folder);
    struct dirent *entry;
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL)
        if (entry->d_type == DT_REG && model_random(&w->m, ++chosen) == 0)
            (void)snprintf(out, n, "%s/%s", folder, entry->d_name);
    (void)closedir(dir);
}

static void flip_a_bit(struct world *w)
{
    char path[600] = "";
    struct stat st;
    uint8_t byte;
    choose_file(w, path, sizeof(path));
    if (path[0] == '\0' || stat(path, &st) < 0 || st.st_size == 0)
        return;
    trace(w, path);
    off_t at = (off_t)model_random(&w->m, (uint64_t)st.st_size);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= (uint8_t)(1u << model_random(&w->m, 8));
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    (void)close(fd);
}

/* What can be read is what it was. */
static void check_damaged(struct world *w)
{
    struct model *m = &w->m;
    struct store *s AUTO_OF(store) = NULL;
    uint8_t got[DISK_0];
    if (store_open(&m->conf, &s, NULL) < 0 || store_flush(s, NULL) < 0)
        return;
    uint64_t committed = store_committed(s);
    for (unsigned p = 0; p < m->point_count; p++) {
        struct view *v AUTO_OF(view) = NULL;
        if (m->points[p].sequence > committed ||
            view_open(m->machine_dir, m->points[p].sequence, &m->opened.keys, 1, &v, NULL) < 0)
            continue;
        for (unsigned i = 0; i < MODEL_DISKS; i++)
            for (uint64_t at = 0; at < m->disk_bytes[i]; at += 4096) {
                size_t n = m->disk_bytes[i] - at < 4096 ? (size_t)(m->disk_bytes[i] - at) : 4096;
                if (view_read(v, i, at, n, got, NULL) == 0)
                    assert_memory_equal(got, m->points[p].disks[i] + at, n);
            }
    }
}

/* Dropped points may be listed again after the index was made anew, but none that has holes. */
static void check_readable(struct world *w)
{
    const struct pointlist *points = store_points(w->m.store);
    struct err err = ERR_INIT;
    uint8_t got[DISK_0];
    for (size_t p = 0; p < points->count; p++) {
        struct view *v AUTO_OF(view) = NULL;
        if (view_open(w->m.machine_dir, points->items[p].sequence, &w->m.opened.keys, 1, &v, &err) < 0)
            fail_msg("a listed point: %s", err.text);
        for (unsigned i = 0; i < MODEL_DISKS; i++)
            if (view_read(v, i, 0, w->m.disk_bytes[i], got, &err) < 0)
                fail_msg("a listed point: %s", err.text);
    }
}

static void unlink_index(const struct world *w)
{
    char path[300];
    (void)snprintf(path, sizeof(path), "%s/manifest", w->m.machine_dir);
    (void)unlink(path);
}

static uint64_t print_seed_if_it_fails;

static void one_schedule(struct world *w, uint64_t seed)
{
    struct model *m = &w->m;
    model_init_sized(m, seed, DISK_0, DISK_1);
    m->conf.flush_extents = 4 + (uint32_t)(seed % 12);
    m->conf.segment_bytes = 4096 + 1024 * (seed % 4);
    (void)snprintf(w->branch_dir, sizeof(w->branch_dir), "%s/branch", m->dir);
    (void)snprintf(w->snapshot, sizeof(w->snapshot), "%s/snapshot", m->dir);
    w->sequence = w->crash_in = 0;
    w->has_branch = false;
    for (unsigned i = 0; i < MODEL_DISKS; i++)
        memset(w->committed[i], 0, DISK_0);
    model_open(m);
    for (int i = 0; i < STEPS; i++)
        step(w);
    check_everything(w);
    model_close(m);
    if (seed % 3 == 0)
        unlink_index(w);
    reopen(w, false);
    check_readable(w);
    model_close(m);
    if (seed % 2 == 0) {
        flip_a_bit(w);
        check_damaged(w);
    }
    model_done(m);
}

static void every_retained_point_survives_every_schedule(void **state)
{
    static struct world w;
    uint64_t rounds = number_from_env("LEEWARD_ROUNDS", ROUNDS);
    uint64_t first = number_from_env("LEEWARD_SEED", 1);
    (void)state;
    for (unsigned i = 0; i < MODEL_DISKS; i++) {
        w.committed[i] = calloc(1, DISK_0);
        w.branch[i] = calloc(1, DISK_0);
    }
    crashpoint_watch(on_crashpoint, &w);
    for (uint64_t i = 0; i < rounds; i++) {
        print_seed_if_it_fails = first + i;
        one_schedule(&w, first + i);
    }
    crashpoint_watch(NULL, NULL);
    for (unsigned i = 0; i < MODEL_DISKS; i++) {
        free(w.committed[i]);
        free(w.branch[i]);
    }
    print_message("%llu schedules from seed %llu: %u kills, %u faults, %u merges, %u segments rewritten, %u new keys\n",
        (unsigned long long)rounds, (unsigned long long)first, w.crashes, w.faults, w.merged, w.compacted, w.rekeyed);
    assert_true(rounds < 100 || (w.crashes > rounds / 10 && w.faults > rounds / 10 && w.compacted > rounds / 10 &&
                                    w.rekeyed > rounds / 10));
}

static int say_seed(void **state)
{
    (void)state;
    print_message("last seed: %llu\n", (unsigned long long)print_seed_if_it_fails);
    return 0;
}

/* Damage is logged thousands of times; what the test itself says goes on to the old place. */
static void quiet_log(void)
{
    int said = dup(STDERR_FILENO), nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (said >= 0 && nothing >= 0 && dup2(nothing, STDERR_FILENO) >= 0)
        stderr = fdopen(said, "w");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_retained_point_survives_every_schedule, say_seed),
    };
    log_set_level(LOG_ERROR);
    if (getenv("LEEWARD_TRACE") == NULL)
        quiet_log();
    return cmocka_run_group_tests_name("schedule", tests, NULL, NULL);
}
