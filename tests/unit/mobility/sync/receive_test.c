/* SPDX-License-Identifier: Apache-2.0
 *
 * Orders to write disks back: what is in them and how many, one at a time, whose end is told once, and who ends it. The disks are real; the vault
 * is one that answers when the test wants, and then that it is away.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mobility/sync/receive.h"
#include "mobility/sync/receive_order.h"
#include "tests/unit/mobility/sync/diskkey.h"
#include "tests/unit/mobility/track/loopdisk.h"

#define FAILBACK "0B9f2c1e-7a55-4f0e-9d6c-3a0d5b1f8e21"
#define PATIENCE 120 /* seconds, on the busiest machine */

/* ---- what an order says ---- */

struct message {
    Leeward__Control__V1__ReceiveDisks m;
    Leeward__Control__V1__DesiredDisk disks[MARK_DISKS_MAX + 1], *list[MARK_DISKS_MAX + 1];
    char keys[MARK_DISKS_MAX + 1][16];
};

static struct message *message_of(size_t disks)
{
    struct message *t = calloc(1, sizeof(*t));
    assert_non_null(t);
    leeward__control__v1__receive_disks__init(&t->m);
    t->m.receive_id = (char *)(uintptr_t)FAILBACK;
    t->m.disks = t->list;
    t->m.n_disks = disks;
    for (size_t i = 0; i < disks; i++) {
        leeward__control__v1__desired_disk__init(&t->disks[i]);
        (void)snprintf(t->keys[i], sizeof(t->keys[i]), "disk-%zu", i);
        t->disks[i].number = (uint32_t)i;
        t->disks[i].key = t->keys[i];
        t->list[i] = &t->disks[i];
    }
    return t;
}

static void is_refused(const char *command_id, const struct message *t)
{
    struct receive_order o;
    struct err err = ERR_INIT;
    assert_int_equal(receive_order_read(command_id, &t->m, &o, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void an_order_is_taken_as_it_is(void **state)
{
    struct receive_order o, other;
    struct err err = ERR_INIT;
    struct message *t = message_of(MARK_DISKS_MAX);
    (void)state;
    t->m.sequence = 9;
    t->m.last = true;
    assert_int_equal(receive_order_read("a-command", &t->m, &o, &err), 0);
    assert_int_equal(o.disk_count, MARK_DISKS_MAX);
    assert_string_equal(o.disks[63].key, "disk-63");
    assert_int_equal(o.disks[63].number, 63);
    assert_string_equal(o.command_id, "a-command");
    assert_string_equal(o.receive_id, "0b9f2c1e-7a55-4f0e-9d6c-3a0d5b1f8e21"); /* in one form */
    assert_true(o.last && !o.release && !o.check_only && o.sequence == 9);
    assert_int_equal(receive_order_read("another", &t->m, &other, &err), 0);
    assert_true(receive_order_same_disks(&o, &other));
    (void)strcpy(t->keys[7], "disk-x");
    assert_int_equal(receive_order_read("another", &t->m, &other, &err), 0);
    assert_false(receive_order_same_disks(&o, &other));
    t->m.n_disks = 63;
    assert_int_equal(receive_order_read("another", &t->m, &other, &err), 0);
    assert_false(receive_order_same_disks(&o, &other));
    t->m.release = true; /* whatever else it says */
    assert_int_equal(receive_order_read("another", &t->m, &other, &err), 0);
    assert_int_equal(other.disk_count, 0);
    free(t);
}

static void what_is_wrong_in_an_order_is_refused(void **state)
{
    char long_text[300];
    struct message *t = message_of(2);
    (void)state;
    memset(long_text, 'k', sizeof(long_text));
    long_text[256] = '\0';
    is_refused("", t);
    is_refused(long_text, t);
    t->disks[1].key = long_text;
    is_refused("c", t);
    long_text[255] = '\0'; /* just short enough */
    struct receive_order o;
    assert_int_equal(receive_order_read("c", &t->m, &o, NULL), 0);
    assert_int_equal(strlen(o.disks[1].key), 255);
    t->disks[1].key = t->keys[0];
    is_refused("c", t);
    t->disks[1].key = (char *)(uintptr_t) "";
    is_refused("c", t);
    t->disks[1].key = t->keys[1];
    t->disks[1].number = 0;
    is_refused("c", t);
    t->disks[1].number = RECORD_DISK_MAX + 1;
    is_refused("c", t);
    t->disks[1].number = RECORD_DISK_MAX;
    t->m.last = true; /* to no point */
    is_refused("c", t);
    t->m.last = false;
    t->m.n_disks = 0;
    is_refused("c", t);
    t->m.n_disks = 2;
    t->m.receive_id = (char *)(uintptr_t) "0b9f2c1e-7a55-4f0e-9d6c";
    is_refused("c", t);
    t->m.release = true;
    is_refused("c", t);
    free(t);
    t = message_of(MARK_DISKS_MAX + 1);
    is_refused("c", t);
    free(t);
}

/* ---- orders under way ---- */

struct fixture {
    struct loopdisk loop_disk;
    char key[256];
    sem_t asked, told; /* of the vault; an output is there */
    struct vaultask *ask;
    struct receive *receive;
};

static void on_asked(void *arg)
{
    (void)sem_post(&((struct fixture *)arg)->asked);
}

static void on_told(void *arg)
{
    (void)sem_post(&((struct fixture *)arg)->told);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err = ERR_INIT;
    loopdisk_init(&f->loop_disk, 1u << 20, 512, -1);
    disk_key_of(f->loop_disk.path, f->key, sizeof(f->key));
    assert_int_equal(sem_init(&f->asked, 0, 0), 0);
    assert_int_equal(sem_init(&f->told, 0, 0), 0);
    assert_int_equal(vaultask_new(on_asked, f, 0, &f->ask, &err), 0);
    const struct receive_conf conf = {.machine = {{7}}, .ask = f->ask, .to_loop = on_told, .arg = f};
    assert_int_equal(receive_new(&conf, &f->receive, &err), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    receive_free(f->receive);
    vaultask_free(f->ask);
    loopdisk_done(&f->loop_disk);
    (void)sem_destroy(&f->asked);
    (void)sem_destroy(&f->told);
    free(f);
    return 0;
}

static void await(sem_t *what, const char *name)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE;
    if (sem_timedwait(what, &until) < 0)
        fail_msg("it waited in vain for %s", name);
}

static int order(struct fixture *f, const char *command_id, const char *key, bool release, struct err *err)
{
    struct message *t = message_of(1);
    t->disks[0].key = (char *)(uintptr_t)key;
    t->m.release = release;
    err_clear(err);
    int rc = receive_command(f->receive, command_id, &t->m, err);
    free(t);
    return rc;
}

/* The end of that command. */
static void ends(struct fixture *f, const char *command_id, enum err_code code)
{
    struct receive_output o;
    do
        await(&f->told, command_id);
    while (!receive_take(f->receive, &o));
    assert_true(o.done);
    assert_string_equal(o.command_id, command_id);
    if (o.error.code != code)
        fail_msg("%s ended with: %s %s", command_id, err_code_name(o.error.code), o.error.text);
    assert_false(receive_take(f->receive, &o)); /* once */
}

/* The disk is taken, and the vault is asked for. */
static void is_under_way(struct fixture *f)
{
    await(&f->asked, "the vault to be asked");
    assert_true(vaultask_wants_channel(f->ask));
}

static bool is_free(const struct fixture *f)
{
    int fd = open(f->loop_disk.path, O_RDWR | O_EXCL | O_CLOEXEC);
    if (fd < 0)
        return false;
    (void)close(fd);
    return true;
}

static void one_order_at_a_time(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    assert_int_equal(order(f, "first", f->key, false, &err), 0);
    is_under_way(f);
    assert_false(is_free(f));
    assert_int_equal(order(f, "first", f->key, false, &err), 0); /* the hub repeats what it has no answer to */
    assert_int_equal(order(f, "second", f->key, false, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_true(err.correction[0] != '\0');
    assert_int_equal(receive_cancel(f->receive, "second"), 0);
    assert_int_equal(receive_cancel(f->receive, ""), 0);
    vaultask_kick(f->ask, NULL); /* it is away */
    ends(f, "first", ERR_UNAVAILABLE);
    assert_true(is_free(f)); /* an order that fails gives the disks back */
    assert_int_equal(order(f, "second", f->key, false, &err), 0);
    is_under_way(f);
    vaultask_kick(f->ask, NULL);
    ends(f, "second", ERR_UNAVAILABLE);
}

static void an_order_for_a_disk_that_is_not_there_ends(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    assert_int_equal(order(f, "absent", "no-such-disk", false, &err), 0);
    ends(f, "absent", ERR_NOT_FOUND);
    assert_int_equal(order(f, "back", f->key, true, &err), 0); /* nothing is held */
    ends(f, "back", ERR_NONE);
}

static void protecting_the_machine_ends_what_was_ordered(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    for (int i = 0; i < 20; i++) { /* whether the thread has begun it yet or not */
        char command[16];
        (void)snprintf(command, sizeof(command), "order-%d", i);
        assert_int_equal(order(f, command, f->key, false, &err), 0);
        if (i % 2)
            is_under_way(f);
        receive_release(f->receive);
        struct receive_output o = {0};
        while (!o.done) {
            if (vaultask_wants_channel(f->ask))
                vaultask_kick(f->ask, NULL);
            if (!receive_take(f->receive, &o))
                (void)usleep(1000);
        }
        assert_string_equal(o.command_id, command);
        assert_true(o.error.code == ERR_CANCELLED || o.error.code == ERR_UNAVAILABLE);
        assert_true(is_free(f));
        while (sem_trywait(&f->asked) == 0)
            ;
        while (sem_trywait(&f->told) == 0)
            ;
    }
}

/* What one job leaves behind says nothing of the disks that another one writes now. */
static void only_its_own_release_ends_an_order(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct message *late = message_of(0);
    late->m.receive_id = (char *)(uintptr_t) "11111111-1111-4111-8111-111111111111";
    late->m.release = true;
    for (int i = 0; i < 20; i++) { /* at once: nearly always before the thread has begun it */
        assert_int_equal(order(f, "first", f->key, false, &err), 0);
        assert_int_equal(receive_command(f->receive, "late", &late->m, &err), -1);
        assert_int_equal(err.code, ERR_CONFLICT);
        is_under_way(f);
        assert_false(is_free(f));
        vaultask_kick(f->ask, NULL);
        ends(f, "first", ERR_UNAVAILABLE);
    }
    /* With nothing under way it is done, for it has nothing. */
    err_clear(&err);
    assert_int_equal(receive_command(f->receive, "late", &late->m, &err), 0);
    ends(f, "late", ERR_NONE);
    free(late);
}

static void an_order_that_was_cancelled_before_it_began_asks_nobody(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    assert_int_equal(order(f, "first", f->key, false, &err), 0);
    is_under_way(f);
    assert_int_equal(receive_cancel(f->receive, "first"), 1);
    ends(f, "first", ERR_CANCELLED); /* and does not wait for the vault's answer */
    assert_false(vaultask_wants_channel(f->ask));
    assert_true(is_free(f));
    assert_int_equal(receive_cancel(f->receive, "first"), 0); /* it is over */
    assert_int_equal(order(f, "next", f->key, false, &err), 0);
    is_under_way(f); /* and not cancelled with it */
    vaultask_kick(f->ask, NULL);
    ends(f, "next", ERR_UNAVAILABLE);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest pure[] = {
        cmocka_unit_test(an_order_is_taken_as_it_is), cmocka_unit_test(what_is_wrong_in_an_order_is_refused)};
    const struct CMUnitTest tests[] = {TEST(one_order_at_a_time), TEST(an_order_for_a_disk_that_is_not_there_ends),
        TEST(protecting_the_machine_ends_what_was_ordered), TEST(only_its_own_release_ends_an_order),
        TEST(an_order_that_was_cancelled_before_it_began_asks_nobody)};
    int failed = cmocka_run_group_tests(pure, NULL, NULL);
    if (!loopdisk_is_possible())
        return failed == 0 ? 77 : failed;
    return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
