/* SPDX-License-Identifier: Apache-2.0
 *
 * Events on disk until the hub has them: what a process that ended left behind, and what is in the file when it is no such file.
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

#include "tests/unit/rpc/rununtil.h"
#include "transport/base/file.h"
#include "transport/base/ident.h"
#include "transport/base/log.h"
#include "transport/proto/keptfile.h"

#define TELLER "11111111-2222-4333-8444-555555555555"
#define OTHER "11111111-2222-4333-8444-666666666666"
#define SAVE_USEC (2 * USEC_PER_SEC) /* keptfile.c */

struct fixture {
    char dir[64], path[80];
    sd_event *loop;
    struct kept kept;
    struct keptfile *file;
};

static void open_of(struct fixture *f, const char *teller)
{
    struct err err = ERR_INIT;

    kept_init(&f->kept);
    if (keptfile_new(f->loop, f->path, teller, &f->kept, &f->file, &err) < 0)
        fail_msg("%s", err.text);
}

static void end(struct fixture *f)
{
    keptfile_free(f->file);
    kept_done(&f->kept);
    f->file = NULL;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    log_set_level(LOG_ERROR);
    snprintf(f->dir, sizeof(f->dir), "/tmp/leeward-kept-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof(f->path), "%s/events.pb", f->dir);
    assert_true(sd_event_new(&f->loop) >= 0);
    open_of(f, TELLER);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    end(f);
    sd_event_unref(f->loop);
    assert_int_equal(file_remove_tree(f->dir, NULL), 0);
    free(f);
    return 0;
}

static struct ident add(struct fixture *f, const char *severity, const char *code)
{
    Leeward__Control__V1__Event event = LEEWARD__CONTROL__V1__EVENT__INIT;
    Leeward__Control__V1__Report report = LEEWARD__CONTROL__V1__REPORT__INIT;
    struct ident id;

    assert_int_equal(ident_random(&id), 0);
    event.id = (ProtobufCBinaryData){.len = IDENT_SIZE, .data = id.bytes};
    event.severity = (char *)(uintptr_t)severity;
    event.code = (char *)(uintptr_t)code;
    event.text = (char *)"it looks encrypted";
    report.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_EVENT;
    report.event = &event;
    assert_int_equal(kept_add(&f->kept, &report, NULL, true, NULL), 0);
    keptfile_changed(f->file);
    return id;
}

static void stored(struct fixture *f, struct ident *id)
{
    assert_true(kept_stored(&f->kept, &(ProtobufCBinaryData){.len = IDENT_SIZE, .data = id->bytes}));
    keptfile_changed(f->file);
}

static bool is_there(const struct fixture *f)
{
    return access(f->path, F_OK) == 0;
}

static void run_for(struct fixture *f, uint64_t usec)
{
    for (uint64_t until = clock_mono_usec() + usec; clock_mono_usec() < until;)
        assert_true(sd_event_run(f->loop, 100000) >= 0);
}

struct told {
    unsigned infos, warnings, alarms;
};

static int tell(void *arg, const struct buf *bytes)
{
    struct told *told = arg;

    told->infos += memmem(bytes->data, bytes->len, "point_made", 10) != NULL;
    told->warnings += memmem(bytes->data, bytes->len, "disk_slow", 9) != NULL;
    told->alarms += memmem(bytes->data, bytes->len, "looks_encrypted", 15) != NULL;
    return 0;
}

static struct told tell_all(struct fixture *f)
{
    struct told told = {0};

    kept_untold(&f->kept);
    kept_flush(&f->kept, true, tell, &told);
    return told;
}

/* A hub may be away for days, and what is told again and again meanwhile must not push out the one alarm. */
static void what_matters_least_makes_room(void **state)
{
    struct fixture *f = *state;
    struct told told;

    (void)add(f, "error", "looks_encrypted");
    for (unsigned i = 0; i < KEPT_EVENTS_MAX; i++)
        (void)add(f, "info", "point_made");
    (void)add(f, "warning", "disk_slow");
    told = tell_all(f);
    assert_int_equal(told.infos, KEPT_EVENTS_MAX - 2);
    assert_int_equal(told.warnings + told.alarms, 2);
    for (unsigned i = 0; i < 2 * KEPT_EVENTS_MAX; i++)
        (void)add(f, i % 2 == 0 ? "warning" : "info", i % 2 == 0 ? "disk_slow" : "point_made");
    told = tell_all(f);
    assert_int_equal(told.infos, 0);
    assert_int_equal(told.warnings, KEPT_EVENTS_MAX - 1);
    assert_int_equal(told.alarms, 1);
    for (unsigned i = 0; i < 2 * KEPT_EVENTS_MAX; i++)
        (void)add(f, "error", "looks_encrypted");
    assert_int_equal(tell_all(f).alarms, KEPT_EVENTS_MAX);
}

static void events_outlive_a_process_that_is_killed(void **state)
{
    struct fixture *f = *state, next = *f; /* which finds what the first one left, for that is never tidied up */
    struct ident alarm, slow;

    alarm = add(f, "error", "looks_encrypted");
    (void)add(f, "info", "point_made");
    slow = add(f, "warning", "disk_slow");
    assert_false(is_there(f));
    RUN_UNTIL(f, is_there(f));
    open_of(&next, TELLER);
    assert_int_equal(next.kept.events, 2);
    assert_true(kept_waits(&next.kept));
    stored(&next, &alarm);
    stored(&next, &slow);
    RUN_UNTIL(f, !is_there(f));
    end(&next);
    assert_false(is_there(f));
}

static void what_a_hub_stores_at_once_is_never_written(void **state)
{
    struct fixture *f = *state;
    struct ident id = add(f, "error", "looks_encrypted");
    struct stat before, after;

    assert_int_equal(stat(f->dir, &before), 0);
    stored(f, &id);
    run_for(f, SAVE_USEC + USEC_PER_SEC);
    end(f);
    assert_int_equal(stat(f->dir, &after), 0);
    assert_int_equal(before.st_mtim.tv_sec, after.st_mtim.tv_sec);
    assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
    open_of(f, TELLER);
}

static void a_process_that_ends_writes_what_is_due(void **state)
{
    struct fixture *f = *state;

    (void)add(f, "warning", "disk_slow");
    (void)add(f, "info", "point_made");
    end(f);
    assert_true(is_there(f));
    open_of(f, TELLER);
    assert_int_equal(f->kept.events, 1);
}

static void a_disk_that_is_full_is_tried_again(void **state)
{
    struct fixture *f = *state;
    char in_the_way[100];

    snprintf(in_the_way, sizeof(in_the_way), "%s.tmp", f->path);
    assert_int_equal(mkdir(in_the_way, 0700), 0);
    (void)add(f, "error", "looks_encrypted");
    run_for(f, SAVE_USEC + USEC_PER_SEC / 2);
    assert_int_equal(rmdir(in_the_way), 0);
    assert_false(is_there(f));
    RUN_UNTIL(f, is_there(f));
}

static void another_tellers_events_are_not_told(void **state)
{
    struct fixture *f = *state;

    (void)add(f, "error", "looks_encrypted");
    end(f);
    open_of(f, OTHER);
    assert_int_equal(f->kept.events, 0);
    RUN_UNTIL(f, !is_there(f));
}

/* What can be read of a file that was damaged is kept; the rest is no reason to stop. */
static void a_damaged_file_is_replaced(void **state)
{
    struct fixture *f = *state;
    unsigned seed = (unsigned)clock_mono_usec(), tried = 0;
    uint8_t good[1000], bad[1000];
    size_t n;
    FILE *file;

    printf("seed %u\n", seed);
    for (unsigned i = 0; i < 3; i++)
        (void)add(f, "error", "looks_encrypted");
    end(f);
    file = fopen(f->path, "r");
    assert_non_null(file);
    n = fread(good, 1, sizeof(good), file);
    fclose(file);
    assert_in_range(n, 100, sizeof(good) - 1);
    for (; tried < 200; tried++) {
        size_t length = tried % 2 == 0 ? n : (size_t)rand_r(&seed) % (n + 1);

        memcpy(bad, good, n);
        for (unsigned i = 0; length > 0 && i <= tried % 4; i++)
            bad[(size_t)rand_r(&seed) % length] = (uint8_t)rand_r(&seed);
        assert_int_equal(file_replace(f->path, bad, length, 0600, NULL), 0);
        log_set_level(LOG_ERROR);
        open_of(f, TELLER);
        assert_true(f->kept.events <= 3);
        end(f);
    }
    assert_int_equal(file_replace(f->path, "", 0, 0600, NULL), 0);
    open_of(f, TELLER);
    RUN_UNTIL(f, !is_there(f));
}

/* Its disk may only be slow to come. */
static void what_cannot_be_read_now_stays(void **state)
{
    struct fixture *f = *state;
    struct stat st;

    end(f);
    assert_int_equal(symlink(f->path, f->path), 0);
    open_of(f, TELLER);
    run_for(f, SAVE_USEC + USEC_PER_SEC);
    assert_int_equal(lstat(f->path, &st), 0);
    (void)add(f, "error", "looks_encrypted"); /* and is replaced when there is something to write */
    RUN_UNTIL(f, lstat(f->path, &st) == 0 && S_ISREG(st.st_mode));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_matters_least_makes_room),
        TEST(events_outlive_a_process_that_is_killed),
        TEST(what_a_hub_stores_at_once_is_never_written),
        TEST(a_process_that_ends_writes_what_is_due),
        TEST(a_disk_that_is_full_is_tried_again),
        TEST(another_tellers_events_are_not_told),
        TEST(a_damaged_file_is_replaced),
        TEST(what_cannot_be_read_now_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
