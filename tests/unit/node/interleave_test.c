/* SPDX-License-Identifier: Apache-2.0
 *
 * What a slow disk makes possible: things happen on the loop while jobs of the machine wait in its lane. Each test holds the lane at a gate, lets
 * the other thing happen, and opens it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <limits.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/uio.h>

#include "tests/unit/node/node_world.h"
#include "transport/base/clock.h"
#include "transport/node/machine.h"

static struct gate {
    struct worker_job job;
    sem_t opened;
    bool closed, passed;
} gate;

static void gate_run(struct worker_job *job)
{
    (void)job;
    while (sem_wait(&gate.opened) < 0)
        continue;
}

static void gate_done(struct worker_job *job)
{
    (void)job;
    gate.passed = true;
}

static struct machine *only_machine(const struct world *w)
{
    return w->node->machines;
}

/* So many of the next reads fail, as on a disk with a bad place. */
static atomic_int failing_reads;
ssize_t __real_pread(int fd, void *data, size_t n, off_t offset);
ssize_t __wrap_pread(int fd, void *data, size_t n, off_t offset);

ssize_t __wrap_pread(int fd, void *data, size_t n, off_t offset)
{
    if (atomic_load(&failing_reads) > 0 && atomic_fetch_sub(&failing_reads, 1) > 0) {
        errno = EIO;
        return -1;
    }
    return __real_pread(fd, data, n, offset);
}

static atomic_int failing_writes;
ssize_t __real_pwritev(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __wrap_pwritev(int fd, const struct iovec *iov, int count, off_t offset);

ssize_t __wrap_pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
    if (atomic_load(&failing_writes) > 0 && atomic_fetch_sub(&failing_writes, 1) > 0) {
        errno = EROFS;
        return -1;
    }
    return __real_pwritev(fd, iov, count, offset);
}

/* So is what would be deleted, and that many times it was tried. */
static atomic_int failing_unlinks, tried_unlinks;
int __real_unlinkat(int dirfd, const char *name, int flags);
int __wrap_unlinkat(int dirfd, const char *name, int flags);

int __wrap_unlinkat(int dirfd, const char *name, int flags)
{
    if (atomic_load(&failing_unlinks) > 0) {
        (void)atomic_fetch_add(&tried_unlinks, 1);
        errno = EROFS;
        return -1;
    }
    return __real_unlinkat(dirfd, name, flags);
}

/* From here on nothing is done in the lane until the gate is opened. */
static void hold(struct worker_lane *lane)
{
    gate = (struct gate){.job = {.run = gate_run, .done = gate_done}, .closed = true};
    assert_int_equal(sem_init(&gate.opened, 0, 0), 0);
    assert_int_equal(worker_lane_submit(lane, &gate.job, NULL), 0);
}

static void hold_lane(struct world *w)
{
    hold(only_machine(w)->lane);
}

static void open_gate(struct world *w)
{
    gate.closed = false;
    assert_int_equal(sem_post(&gate.opened), 0);
    world_until(w, gate.passed);
    assert_int_equal(sem_destroy(&gate.opened), 0);
}

/* A test that failed has left the gate closed, and the node waits for its workers. */
static int tear_down(void **state)
{
    atomic_store(&failing_reads, 0);
    atomic_store(&failing_unlinks, 0);
    if (gate.closed)
        (void)sem_post(&gate.opened);
    gate.closed = false;
    return world_tear_down(state);
}

/* The agent breaks off a set while the spool is being read for the vault, the open set with it. */
static void test_set_that_is_broken_off_while_it_is_read(void **state)
{
    struct world *w = *state;
    AUTO_BUF struct buf half = BUF_INIT(1u << 20);
    world_open_agent(w);
    fake_agent_send_set(w->agent, 1, 0, 4);
    world_until(w, w->agent->committed == 1);
    fake_vault_stop(w->vault);
    fake_agent_send_set(w->agent, 2, 4, 3);
    world_until(w, w->agent->spooled == 2);
    uint64_t set_start = only_machine(w)->spooled.set_start;
    fake_agent_set(w->agent, 3, 8, 3, false, &half);
    (void)fake_agent_send(w->agent, &half);
    world_until(w, only_machine(w)->spooled.tail.offset > set_start);
    hold_lane(w);
    world_start_vault(w);
    world_until(w, only_machine(w)->link.reading);
    fake_agent_open(w->agent, 1, w->agent->epoch, 3);
    world_until(w, only_machine(w)->starts > 0);
    assert_true(only_machine(w)->link.reading);
    open_gate(w);
    world_until(w, w->agent->opened_count == 1);
    assert_int_equal(w->agent->expected, 3);
    fake_agent_send_set(w->agent, 3, 8, 3);
    world_until(w, w->agent->committed == 3);
    assert_true(world_same_disks(w));
}

/* Where the first record ends at or behind `from`. */
static size_t record_end(const struct buf *records, size_t from)
{
    size_t offset = 0;
    struct record r;
    const uint8_t *payload;
    while (offset < from && record_next(records->data, records->len, &offset, &r, &payload, NULL) == 1)
        continue;
    return offset;
}

/* Batches are on their way into the spool when it becomes full, and those behind them go past it, so that the spool forgets what it has. The
 * vault does not keep up just then. */
static void test_batches_before_the_first_that_goes_past_the_disk(void **state)
{
    struct world *w = *state;
    AUTO_BUF struct buf set = BUF_INIT(32u << 20), begin = BUF_INIT(32u << 20), rest = BUF_INIT(32u << 20);
    world_open_agent(w);
    rpc_channel_set_send_queue(only_machine(w)->peer->channel, 64u << 10); /* less than a batch */
    fake_vault_stop(w->vault);
    world_start_vault(w);
    fake_agent_send_set(w->agent, 1, 0, 4);
    world_until(w, w->agent->committed == 1 && only_machine(w)->link.feed == FEED_LIVE);
    fake_agent_set(w->agent, 2, 0, 200, true, &set);
    size_t cut = record_end(&set, 3u << 20);
    assert_int_equal(buf_append(&begin, set.data, cut, NULL), 0);
    assert_int_equal(buf_append(&rest, set.data + cut, set.len - cut, NULL), 0);
    hold_lane(w);
    (void)fake_agent_send(w->agent, &begin);
    world_until(w, only_machine(w)->batches >= 3 && only_machine(w)->queue_head == NULL);
    w->node->conf.spool_bytes = w->node->spool_bytes + w->node->admitted_bytes;
    (void)fake_agent_send(w->agent, &rest);
    world_until(w, only_machine(w)->passing > 0);
    assert_true(only_machine(w)->batches >= only_machine(w)->passing + 3);
    open_gate(w);
    world_until(w, w->agent->committed == 2 || w->agent->ended);
    assert_false(w->agent->ended);
    assert_true(world_same_disks(w));
}

/* Each is a few bytes of the agent's window and would be a kilobyte here. */
static void test_small_batches_wait_together(void **state)
{
    struct world *w = *state;
    uint64_t last = 1 + 2000;
    world_open_agent(w);
    fake_agent_send_set(w->agent, 1, 0, 4);
    world_until(w, w->agent->committed == 1);
    hold_lane(w);
    for (uint64_t s = 2; s <= last; s++)
        fake_agent_send_set(w->agent, s, 0, 0);
    world_until(w, only_machine(w)->received == last);
    assert_in_range(only_machine(w)->batches, 1, 40);
    open_gate(w);
    world_until(w, w->agent->committed == last);
    assert_true(world_same_disks(w));
}

/* Change set 1 is committed, 2 to 6 are in the spool, and the vault is back. */
static void begin_reading(struct world *w, int failures)
{
    world_open_agent(w);
    fake_agent_send_set(w->agent, 1, 0, 4);
    world_until(w, w->agent->committed == 1);
    fake_vault_stop(w->vault);
    for (uint64_t s = 2; s <= 6; s++)
        fake_agent_send_set(w->agent, s, (unsigned)s * 4, 4);
    world_until(w, w->agent->spooled == 6);
    atomic_store(&failing_reads, failures);
    world_start_vault(w);
}

/* The points that are in the spool alone are not given up for that. */
static void test_spool_that_cannot_be_read_once(void **state)
{
    struct world *w = *state;
    begin_reading(w, 1);
    world_until(w, w->agent->committed == 6 || w->agent->ended);
    assert_false(w->agent->ended);
    assert_int_equal(atomic_load(&failing_reads), 0);
    assert_int_equal(only_machine(w)->link.cause.code, ERR_NONE);
    assert_true(world_same_disks(w));
}

static void test_spool_that_cannot_be_read_any_more(void **state)
{
    struct world *w = *state;
    begin_reading(w, INT_MAX);
    world_until(w, only_machine(w)->link.cause.code == ERR_IO);
    assert_non_null(strstr(only_machine(w)->link.cause.correction, "disk"));
    world_until(w, w->agent->ended);
    assert_string_equal(w->agent->refused_code, "refused");
    assert_int_equal(w->agent->refused_expected, 2);
    atomic_store(&failing_reads, 0);
    fake_agent_open(w->agent, 1, w->agent->epoch + 1, 2);
    world_until(w, w->agent->opened_count == 1);
    fake_agent_send_set(w->agent, 2, 0, 40);
    world_until(w, w->agent->committed == 2);
    assert_true(world_same_disks(w));
}

/* Whoever reads it at the agent or the hub is told where to look. */
static void test_spool_that_cannot_be_written_once(void **state)
{
    struct world *w = *state;
    world_open_agent(w);
    fake_agent_send_set(w->agent, 1, 0, 4);
    world_until(w, w->agent->committed == 1);
    atomic_store(&failing_writes, 1);
    fake_agent_send_set(w->agent, 2, 0, 4);
    world_until(w, w->agent->ended);
    assert_non_null(strstr(w->agent->text, "Read-only file system"));
    assert_non_null(strstr(w->agent->text, "Check the disk that holds the node's data folder"));
    fake_agent_open(w->agent, 1, w->agent->epoch, 2);
    world_until(w, w->agent->opened_count == 1);
    assert_int_equal(w->agent->expected, 2);
    fake_agent_send_set(w->agent, 2, 0, 4);
    world_until(w, w->agent->committed == 2);
    assert_true(world_same_disks(w));
}

/* The vault has lost its end meanwhile, and the spool's file system has become read-only: it can neither give what is expected nor begin there. */
static void test_spool_that_cannot_be_begun_anew_is_tried_ever_more_seldom(void **state)
{
    struct world *w = *state;
    world_open_agent(w);
    fake_agent_send_set(w->agent, 1, 0, 4);
    world_until(w, w->agent->committed == 1);
    world_until(w, (machine_trim(only_machine(w), true), only_machine(w)->spooled.bytes == 0));
    fake_vault_stop(w->vault);
    for (uint64_t s = 2; s <= 4; s++)
        fake_agent_send_set(w->agent, s, (unsigned)s * 4, 4);
    world_until(w, w->agent->spooled == 4);
    w->vault->committed = 0;
    atomic_store(&tried_unlinks, 0);
    atomic_store(&failing_unlinks, 1);
    uint64_t began = clock_mono_usec();
    world_start_vault(w);
    world_until(w, atomic_load(&tried_unlinks) >= 6);
    assert_true(clock_mono_usec() - began > USEC_PER_SEC);
    assert_true(w->agent->ended);
    world_until(w, only_machine(w)->link.cause.code != ERR_NONE);
    assert_non_null(strstr(only_machine(w)->link.cause.text, "Read-only file system"));
    assert_non_null(strstr(only_machine(w)->link.cause.correction, "disk"));
    atomic_store(&failing_unlinks, 0);
    fake_agent_open(w->agent, 1, w->agent->epoch + 1, 1);
    world_until(w, w->agent->opened_count == 1);
    fake_agent_send_set(w->agent, 1, 0, 40);
    world_until(w, w->agent->committed == 1);
    assert_true(world_same_disks(w));
    assert_int_equal(only_machine(w)->link.cause.code, ERR_NONE);
}

static void nothing(struct worker_job *job)
{
    (void)job;
}

/* Spools of other machines are being read, from a slow disk: more jobs than batches may be on their way. */
static void test_other_work_keeps_no_batch_waiting(void **state)
{
    struct world *w = *state;
    struct worker_job reads[20];
    struct worker_lane *other = worker_lane_new(w->node->pool);
    world_open_agent(w);
    hold(other);
    for (size_t i = 0; i < ARRAY_LEN(reads); i++) {
        reads[i] = (struct worker_job){.run = nothing, .done = nothing};
        assert_int_equal(worker_lane_submit(other, &reads[i], NULL), 0);
    }
    fake_agent_send_set(w->agent, 1, 0, 4);
    uint64_t until = clock_mono_usec() + 30 * USEC_PER_SEC;
    while (w->agent->committed < 1 && clock_mono_usec() < until)
        (void)sd_event_run(w->loop, 50000);
    open_gate(w);
    world_until(w, worker_pending(w->node->pool) == 0);
    worker_lane_free(other);
    assert_true(w->agent->committed == 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_set_that_is_broken_off_while_it_is_read),
        TEST(test_batches_before_the_first_that_goes_past_the_disk),
        TEST(test_small_batches_wait_together),
        TEST(test_other_work_keeps_no_batch_waiting),
        TEST(test_spool_that_cannot_be_read_once),
        TEST(test_spool_that_cannot_be_read_any_more),
        TEST(test_spool_that_cannot_be_written_once),
        TEST(test_spool_that_cannot_be_begun_anew_is_tried_ever_more_seldom),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
