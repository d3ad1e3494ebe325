/* SPDX-License-Identifier: Apache-2.0
 *
 * The node between an agent and a vault: what arrives, in which order, and what happens when one of the three goes away.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/node/node_world.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/node/machine.h"
#include "transport/proto/vault.pb-c.h"
#include "transport/proto/wire.h"

static struct world *world_of(void **state)
{
    return *state;
}

static uint64_t spool_bytes(struct world *w, bool *ret_full)
{
    Leeward__Control__V1__NodeStatus s = LEEWARD__CONTROL__V1__NODE_STATUS__INIT;
    node_status(w->node, &s);
    if (ret_full != NULL)
        *ret_full = strstr(s.cause, "spool is full") != NULL && s.remedy[0] != '\0';
    return s.spool_bytes;
}

static void test_change_sets_reach_the_vault_in_order(void **state)
{
    struct world *w = world_of(state);
    world_open_agent(w);
    assert_int_equal(w->agent->expected, 1);
    for (uint64_t s = 1; s <= 10; s++)
        fake_agent_send_set(w->agent, s, (unsigned)s * 10, 30);
    world_until(w, w->agent->committed == 10);
    assert_true(world_same_disks(w));
    assert_int_equal(w->agent->refused_count, 0);
}

static void test_empty_change_set_is_a_point_too(void **state)
{
    struct world *w = world_of(state);
    world_open_agent(w);
    fake_agent_send_set(w->agent, 1, 0, 0);
    world_until(w, w->agent->committed == 1);
}

/* Change set 1 is committed; 2 to 6 are in the spool alone. */
static void spool_while_the_vault_is_away(struct world *w)
{
    world_open_agent(w);
    fake_agent_send_set(w->agent, 1, 0, 20);
    world_until(w, w->agent->committed == 1);
    fake_vault_stop(w->vault);
    for (uint64_t s = 2; s <= 6; s++)
        fake_agent_send_set(w->agent, s, (unsigned)s * 7, 40);
    world_until(w, w->agent->spooled == 6);
}

static void test_vault_that_was_away_gets_everything(void **state)
{
    struct world *w = world_of(state);
    spool_while_the_vault_is_away(w);
    assert_int_equal(w->agent->committed, 1);
    world_start_vault(w);
    fake_agent_send_set(w->agent, 7, 3, 5);
    world_until(w, w->agent->committed == 7);
    assert_true(world_same_disks(w));
}

static size_t segment_pages, cached_pages;

/* Of nftw: how much of the segments is in the page cache. */
static int count_pages(const char *path, const struct stat *st, int type, struct FTW *place)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = ((size_t)st->st_size + page - 1) / page;

    (void)place;
    if (type != FTW_F || !strstr(path, ".seg") || pages == 0)
        return 0;
    int fd AUTO_CLOSE = open(path, O_RDONLY | O_CLOEXEC);
    void *map = mmap(NULL, pages * page, PROT_READ, MAP_SHARED, fd, 0);
    AUTO_FREE unsigned char *resident = mem_alloc(pages, 1);

    if (map == MAP_FAILED || !resident || mincore(map, pages * page, resident) < 0)
        return -1;
    for (size_t i = 0; i < pages; i++)
        cached_pages += resident[i] & 1;
    segment_pages += pages;
    return munmap(map, pages * page);
}

/* Does the file system under this folder let go of clean pages when it is asked to? A tmpfs, also one under an overlay, does not. */
static bool pages_can_leave(const char *dir)
{
    static const char data[1 << 20];
    char path[96];
    struct stat st;

    (void)snprintf(path, sizeof(path), "%s/probe.seg", dir);
    int fd AUTO_CLOSE = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, data, sizeof(data)), sizeof(data));
    assert_int_equal(fdatasync(fd), 0);
    assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    assert_int_equal(fstat(fd, &st), 0);
    segment_pages = cached_pages = 0;
    assert_int_equal(count_pages(path, &st, FTW_F, NULL), 0);
    assert_int_equal(unlink(path), 0);
    return cached_pages < segment_pages / 4;
}

/* What waits for a vault that is away would only push out of memory what is read. */
static void test_what_waits_for_a_vault_does_not_stay_in_the_page_cache(void **state)
{
    struct world *w = world_of(state);

    if (!pages_can_leave(w->dir)) {
        print_message("the pages of its files do not leave the page cache here\n");
        skip();
    }
    spool_while_the_vault_is_away(w);
    segment_pages = cached_pages = 0;
    assert_int_equal(nftw(w->dir, count_pages, 8, FTW_PHYS), 0);
    assert_true(segment_pages > 100);
    assert_in_range(cached_pages, 0, segment_pages / 2); /* without the flush's end all of them are there */
}

static void test_vault_lost_in_the_middle_of_a_set(void **state)
{
    struct world *w = world_of(state);
    AUTO_BUF struct buf set = BUF_INIT(64u << 20);
    world_open_agent(w);
    fake_agent_set(w->agent, 1, 0, 100, false, &set);
    (void)fake_agent_send(w->agent, &set);
    world_until(w, w->vault->batches > 0);
    fake_vault_stop(w->vault);
    world_start_vault(w);
    buf_clear(&set);
    /* The mark of the same set, whose digest covers what was sent. */
    AUTO_BUF struct buf whole = BUF_INIT(64u << 20);
    fake_agent_set(w->agent, 1, 0, 100, true, &whole);
    size_t offset = 0, before = 0;
    struct record r;
    const uint8_t *payload;
    while (record_next(whole.data, whole.len, &offset, &r, &payload, NULL) == 1 && r.kind != RECORD_MARK)
        before = offset;
    assert_int_equal(buf_append(&set, whole.data + before, whole.len - before, NULL), 0);
    (void)fake_agent_send(w->agent, &set);
    world_until(w, w->agent->committed == 1);
    assert_true(world_same_disks(w));
}

static void test_broken_off_set_is_dropped_and_comes_again(void **state)
{
    struct world *w = world_of(state);
    AUTO_BUF struct buf half = BUF_INIT(64u << 20);
    world_open_agent(w);
    fake_agent_send_set(w->agent, 1, 0, 10);
    world_until(w, w->agent->committed == 1);
    fake_agent_set(w->agent, 2, 50, 60, false, &half);
    (void)fake_agent_send(w->agent, &half);
    unsigned batches = w->vault->batches;
    world_until(w, w->vault->batches > batches); /* some of it is at the vault already */
    fake_agent_open(w->agent, 1, w->agent->epoch, 2);
    world_until(w, w->agent->opened_count == 1);
    assert_int_equal(w->agent->expected, 2);
    fake_agent_send_set(w->agent, 2, 50, 60);
    fake_agent_send_set(w->agent, 3, 0, 3);
    world_until(w, w->agent->committed == 3);
    assert_true(world_same_disks(w));
}

static void test_restarted_node_goes_on_with_its_spool(void **state)
{
    struct world *w = world_of(state);
    world_open_agent(w);
    fake_agent_send_set(w->agent, 1, 0, 10);
    world_until(w, w->agent->committed == 1);
    fake_vault_stop(w->vault);
    fake_agent_send_set(w->agent, 2, 10, 100);
    fake_agent_send_set(w->agent, 3, 20, 100);
    world_until(w, w->agent->spooled == 3);
    world_stop_node(w);
    world_until(w, w->agent->ended);
    world_start_vault(w);
    world_start_node(w);
    world_apply(w, true);
    world_until(w, w->vault->committed == 3);
    assert_true(world_same_disks(w));
    fake_agent_open(w->agent, 1, w->agent->epoch, 4);
    world_until(w, w->agent->opened_count == 1);
    assert_int_equal(w->agent->expected, 4);
    assert_int_equal(w->agent->committed, 3);
    fake_agent_send_set(w->agent, 4, 0, 50);
    world_until(w, w->agent->committed == 4);
    assert_true(world_same_disks(w));
}

/* Nothing is an error: the agent's queue stands still until the vault takes data again. */
/* The scan of a spool takes a while; the agent is back before it is over. */
static void test_agent_that_comes_before_the_spool_was_scanned_is_served(void **state)
{
    struct world *w = world_of(state);
    world_open_agent(w);
    fake_agent_send_set(w->agent, 1, 0, 10);
    world_until(w, w->agent->committed == 1);
    fake_vault_stop(w->vault);
    for (uint64_t sequence = 2; sequence <= 9; sequence++)
        fake_agent_send_set(w->agent, sequence, 0, 200);
    world_until(w, w->agent->spooled == 9);
    world_stop_node(w);
    world_until(w, w->agent->ended);
    world_start_vault(w);
    world_start_node(w);
    world_apply(w, true);
    fake_agent_open(w->agent, 1, w->agent->epoch, 10);
    world_until(w, w->agent->opened_count == 1);
    assert_int_equal(w->agent->expected, 10);
    fake_agent_send_set(w->agent, 10, 0, 50);
    world_until(w, w->agent->committed == 10 || w->agent->ended);
    assert_false(w->agent->ended);
    assert_true(world_same_disks(w));
}

static void test_full_spool_pushes_back(void **state)
{
    struct world *w = world_of(state);
    bool full = false;
    world_stop_node(w);
    w->spool_bytes = NODE_SPOOL_MIN;
    world_start_node(w);
    world_apply(w, true);
    world_open_agent(w);
    fake_vault_stop(w->vault);
    for (uint64_t s = 1; s <= 40; s++)
        fake_agent_send_set(w->agent, s, (unsigned)s * 16, 32);
    world_until(w, (spool_bytes(w, &full), full));
    assert_true(spool_bytes(w, NULL) <= NODE_SPOOL_MIN);
    assert_true(rpc_call_queued(w->agent->call) > 0);
    assert_false(w->agent->ended);
    world_start_vault(w);
    world_until(w, w->agent->committed == 40);
    assert_int_equal(w->agent->refused_count, 0);
    assert_true(world_same_disks(w));
}

static struct machine *only_machine(const struct world *w)
{
    return w->node->machines;
}

/* The same blocks once more, unless the agent has enough waiting. */
static void send_more(struct world *w, uint64_t *sequence)
{
    if (rpc_call_queued(w->agent->call) < (1u << 20))
        fake_agent_send_set(w->agent, ++*sequence, 0, 64);
}

/* A spool that was joined without any gain is looked at again only when it has grown by much; but not when that outage is over. */
static void test_joining_begins_anew_with_each_outage(void **state)
{
    struct world *w = world_of(state);
    uint64_t sequence = 0;
    world_stop_node(w);
    w->spool_bytes = NODE_SPOOL_MIN;
    world_start_node(w);
    world_apply(w, true);
    world_open_agent(w);
    fake_agent_send_set(w->agent, ++sequence, 0, 8);
    world_until(w, w->agent->committed == sequence);
    fake_vault_stop(w->vault);
    w->agent->kind = MARK_FILESYSTEM; /* points that nobody may give up */
    world_until(w, (send_more(w, &sequence), only_machine(w)->joined_bytes > 0));
    /* What had begun its way counts when joining begins, and may not be in the spool when it ends. */
    assert_true(only_machine(w)->joined_bytes >= NODE_SPOOL_MIN / 2);
    assert_int_equal(w->node->joined_bytes, 0);
    world_start_vault(w);
    world_until(w, w->agent->committed == sequence && only_machine(w)->spooled.bytes < (4u << 20));
    assert_true(only_machine(w)->joined_bytes < (4u << 20));
    fake_vault_stop(w->vault);
    w->agent->kind = MARK_CRASH;
    world_until(w, (send_more(w, &sequence), w->node->joined_bytes > 0));
    world_start_vault(w);
    world_until(w, w->agent->committed == sequence);
    assert_true(world_same_disks(w));
}

static void test_slow_vault_is_fed_from_the_spool(void **state)
{
    struct world *w = world_of(state);
    world_open_agent(w);
    w->vault->stalled = true;
    for (uint64_t s = 1; s <= 20; s++)
        fake_agent_send_set(w->agent, s, (unsigned)s * 48, 96);
    world_until(w, w->agent->spooled == 20);
    fake_vault_go_on(w->vault);
    world_until(w, w->agent->committed == 20);
    assert_true(world_same_disks(w));
}

static void test_set_larger_than_the_spool_goes_past_it(void **state)
{
    struct world *w = world_of(state);
    world_stop_node(w);
    w->spool_bytes = NODE_SPOOL_MIN;
    world_start_node(w);
    world_apply(w, true);
    world_open_agent(w);
    fake_agent_send_set(w->agent, 1, 0, 1000);
    fake_agent_send_set(w->agent, 2, 1, 10);
    world_until(w, w->agent->committed == 2);
    assert_true(world_same_disks(w));
}

/* The source's disk is the spool of a first copy: writing all of it here too would only be work. */
static void test_first_copy_goes_past_the_spool(void **state)
{
    struct world *w = world_of(state);
    w->vault->no_point = true;
    w->agent->kind = MARK_PROGRESS;
    world_open_agent(w);
    for (uint64_t s = 1; s <= 5; s++)
        fake_agent_send_set(w->agent, s, (unsigned)s * 16, 64);
    world_until(w, w->agent->committed == 5);
    assert_int_equal(spool_bytes(w, NULL), 0);
    w->agent->kind = MARK_CRASH;
    fake_agent_send_set(w->agent, 6, 0, 20);
    world_until(w, w->agent->committed == 6);
    fake_agent_send_set(w->agent, 7, 5, 20); /* behind the first point: changes are spooled */
    world_until(w, w->agent->committed == 7);
    assert_true(spool_bytes(w, NULL) > 0);
    assert_true(world_same_disks(w));
}

static void test_vault_lost_during_a_first_copy_costs_only_the_stream(void **state)
{
    struct world *w = world_of(state);
    AUTO_BUF struct buf half = BUF_INIT(64u << 20);
    w->vault->no_point = true;
    w->agent->kind = MARK_PROGRESS;
    world_open_agent(w);
    fake_agent_send_set(w->agent, 1, 0, 64);
    world_until(w, w->agent->committed == 1);
    fake_agent_set(w->agent, 2, 64, 64, false, &half);
    (void)fake_agent_send(w->agent, &half);
    unsigned batches = w->vault->batches;
    world_until(w, w->vault->batches > batches);
    fake_vault_stop(w->vault);
    world_until(w, w->agent->ended);
    assert_int_equal(w->agent->status, RPC_UNAVAILABLE);
    assert_non_null(strstr(w->agent->text, "first copy"));
    world_start_vault(w);
    fake_agent_open(w->agent, 1, w->agent->epoch, 2);
    world_until(w, w->agent->opened_count == 1);
    assert_int_equal(w->agent->expected, 2);
    fake_agent_send_set(w->agent, 2, 64, 64);
    world_until(w, w->agent->committed == 2);
    assert_true(world_same_disks(w));
}

/* While this node was cut off with change sets in its spool, they were sent around it under a higher epoch. */
static void test_higher_epoch_fences_an_old_spool(void **state)
{
    struct world *w = world_of(state);
    world_open_agent(w);
    fake_agent_send_set(w->agent, 1, 0, 10);
    world_until(w, w->agent->committed == 1);
    fake_vault_stop(w->vault);
    fake_agent_send_set(w->agent, 2, 0, 10);
    world_until(w, w->agent->spooled == 2);
    w->vault->epoch = 5;
    w->vault->committed = 4;
    unsigned batches = w->vault->batches;
    world_start_vault(w);
    world_until(w, w->agent->ended);
    assert_int_equal(w->agent->refused_count, 1);
    assert_int_equal(w->agent->status, RPC_FAILED_PRECONDITION);
    world_until(w, spool_bytes(w, NULL) == 0);
    assert_int_equal(w->vault->batches, batches);
    memcpy(w->agent->disk, w->vault->disk, FAKE_DISK_BYTES);
    world_open_agent(w);
    assert_int_equal(w->agent->epoch, 6);
    assert_int_equal(w->agent->expected, 5);
    fake_agent_send_set(w->agent, 5, 3, 9);
    world_until(w, w->agent->committed == 5);
    assert_true(world_same_disks(w));
}

static void test_new_epoch_replaces_what_was_not_committed(void **state)
{
    struct world *w = world_of(state);
    world_open_agent(w);
    fake_agent_send_set(w->agent, 1, 0, 10);
    world_until(w, w->agent->committed == 1);
    fake_vault_stop(w->vault);
    fake_agent_send_set(w->agent, 2, 0, 10);
    world_until(w, w->agent->spooled == 2);
    fake_agent_open(w->agent, 1, 2, 2);
    world_until(w, w->agent->ended); /* a new epoch needs the vault */
    assert_int_equal(w->agent->status, RPC_UNAVAILABLE);
    world_start_vault(w);
    do {
        fake_agent_open(w->agent, 1, 2, 2);
        world_until(w, w->agent->ended || w->agent->opened_count == 1);
    } while (w->agent->ended);
    assert_int_equal(w->agent->expected, w->vault->committed + 1);
    fake_agent_send_set(w->agent, w->agent->expected, 0, 20);
    world_until(w, w->agent->committed == w->agent->expected);
    assert_true(world_same_disks(w));
}

/* Both commit twice and the node restarts; what the vault then lacks is up to the test. */
static void two_sets_and_a_restart(struct world *w, uint64_t vault_committed, bool lose_spool)
{
    char spool[96];
    world_open_agent(w);
    fake_agent_send_set(w->agent, 1, 0, 10);
    fake_agent_send_set(w->agent, 2, 5, 10);
    world_until(w, w->agent->committed == 2);
    fake_vault_stop(w->vault);
    world_stop_node(w);
    world_until(w, w->agent->ended);
    (void)snprintf(spool, sizeof(spool), "%s/spool", w->dir);
    if (lose_spool)
        assert_int_equal(file_remove_tree(spool, NULL), 0);
    w->vault->committed = vault_committed;
    memset(w->vault->disk, 0, FAKE_DISK_BYTES);
    world_start_vault(w);
    world_start_node(w);
    world_apply(w, true);
}

static void test_vault_that_went_back_is_filled_from_the_spool(void **state)
{
    struct world *w = world_of(state);
    two_sets_and_a_restart(w, 0, false);
    world_until(w, w->vault->committed == 2);
    assert_true(world_same_disks(w));
}

static void test_lost_spool_costs_only_a_new_epoch(void **state)
{
    struct world *w = world_of(state);
    two_sets_and_a_restart(w, 0, true);
    world_open_agent(w);
    assert_int_equal(w->agent->epoch, 2);
    assert_int_equal(w->agent->expected, 1);
    fake_agent_send_set(w->agent, 1, 0, 15);
    world_until(w, w->agent->committed == 1);
    assert_true(world_same_disks(w));
}

/* The agent's stream goes on in its epoch, but the vault lacks sets that the spool has given away. */
static void test_gap_before_the_spool_is_the_agents_to_fill(void **state)
{
    struct world *w = world_of(state);
    two_sets_and_a_restart(w, 2, true);
    fake_agent_open(w->agent, 1, 1, 3);
    world_until(w, w->agent->opened_count == 1);
    fake_vault_stop(w->vault);
    fake_agent_send_set(w->agent, 3, 2, 5);
    world_until(w, w->agent->spooled == 3);
    w->vault->committed = 1;
    world_start_vault(w);
    world_until(w, w->agent->ended);
    assert_string_equal(w->agent->refused_code, "refused");
    assert_int_equal(w->agent->refused_expected, 2);
}

static void test_machine_that_moved_away_leaves_no_spool(void **state)
{
    struct world *w = world_of(state);
    world_open_agent(w);
    fake_vault_stop(w->vault);
    fake_agent_send_set(w->agent, 1, 0, 10);
    world_until(w, w->agent->spooled == 1);
    world_apply(w, false);
    world_until(w, w->agent->ended);
    assert_int_equal(w->agent->status, RPC_UNAVAILABLE);
    assert_true(spool_bytes(w, NULL) > 0);
    world_start_vault(w); /* what it has is still forwarded */
    world_until(w, w->vault->committed == 1);
    world_until(w, spool_bytes(w, NULL) == 0);
    assert_true(world_same_disks(w));
}

/* Change sets 2 to 6 are here alone, their agent has gone, and the hub wants the machine here no more. */
static void leave_sets_behind(struct world *w)
{
    spool_while_the_vault_is_away(w);
    rpc_call_cancel(TAKE_PTR(w->agent->call));
    world_until(w, only_machine(w)->intake == NULL);
    world_apply(w, false);
    assert_non_null(only_machine(w));
}

static void nothing_is_left_behind(struct world *w)
{
    Leeward__Control__V1__NodeStatus s = LEEWARD__CONTROL__V1__NODE_STATUS__INIT;
    world_until(w, only_machine(w) == NULL);
    node_status(w->node, &s);
    assert_int_equal(s.spool_bytes, 0);
    assert_string_equal(s.cause, "");
    assert_int_equal(w->vault->committed, 1);
}

static void test_what_is_left_of_a_machine_whose_vault_stays_away_is_dropped(void **state)
{
    struct world *w = world_of(state);
    w->node->stranded_limit_usec = 100 * USEC_PER_MSEC;
    leave_sets_behind(w);
    nothing_is_left_behind(w);
}

static void test_what_is_left_of_a_machine_that_its_vault_has_no_more_is_dropped(void **state)
{
    struct world *w = world_of(state);
    leave_sets_behind(w);
    w->vault->not_given = true;
    world_start_vault(w);
    world_until(w, w->vault->refused > 1);
    assert_non_null(only_machine(w)); /* the vault may be about to hear otherwise */
    w->node->stranded_limit_usec = 0;
    nothing_is_left_behind(w);
}

static void test_machine_that_comes_back_keeps_its_sets(void **state)
{
    struct world *w = world_of(state);
    leave_sets_behind(w);
    world_apply(w, true);
    w->node->stranded_limit_usec = 0;
    uint64_t before = only_machine(w)->served_usec;
    world_until(w, only_machine(w)->served_usec > before); /* it was looked at */
    world_start_vault(w);
    world_until(w, w->vault->committed == 6);
    assert_true(world_same_disks(w));
}

/* ---- refusals ---- */

static void test_old_generation_is_refused(void **state)
{
    struct world *w = world_of(state);
    w->generation = 3;
    world_apply(w, true);
    fake_agent_open(w->agent, 2, 0, 0);
    world_until(w, w->agent->ended);
    assert_int_equal(w->agent->status, RPC_FAILED_PRECONDITION);
    assert_non_null(strstr(w->agent->text, "Reprotect"));
    world_open_agent(w);
    w->generation = 4;
    world_apply(w, true); /* failed over while the stream was open */
    world_until(w, w->agent->ended);
    assert_int_equal(w->agent->status, RPC_FAILED_PRECONDITION);
}

/* Flips a bit in the payload of the first data record of this codec; again to undo it. */
static void flip_payload(struct buf *set, enum record_codec codec)
{
    size_t offset = 0;
    struct record r;
    const uint8_t *payload;
    while (record_next(set->data, set->len, &offset, &r, &payload, NULL) == 1) {
        if (r.kind == RECORD_DATA && r.codec == codec) {
            set->data[(size_t)(payload - set->data) + r.stored / 2] ^= 1;
            return;
        }
    }
    fail_msg("no such record");
}

static void damaged_batch(struct world *w, enum record_codec codec)
{
    AUTO_BUF struct buf set = BUF_INIT(64u << 20);
    world_open_agent(w);
    fake_agent_send_set(w->agent, 1, 0, 4);
    world_until(w, w->agent->committed == 1);
    fake_agent_set(w->agent, 2, 4, 20, true, &set);
    flip_payload(&set, codec);
    (void)fake_agent_send(w->agent, &set);
    world_until(w, w->agent->ended);
    assert_int_equal(w->agent->refused_count, 1);
    assert_string_equal(w->agent->refused_code, "corrupt");
    assert_int_equal(w->agent->refused_expected, 2);
    do {
        fake_agent_open(w->agent, 1, w->agent->epoch, 2);
        world_until(w, w->agent->ended || w->agent->opened_count == 1);
    } while (w->agent->ended);
    assert_int_equal(w->agent->expected, 2);
    flip_payload(&set, codec);
    (void)fake_agent_send(w->agent, &set);
    world_until(w, w->agent->committed == 2);
    assert_true(world_same_disks(w));
}

static void test_damaged_raw_record_is_refused_by_the_node(void **state)
{
    struct world *w = world_of(state);
    damaged_batch(w, RECORD_RAW);
    assert_int_equal(w->vault->refused, 0);
}

/* Whoever decompresses it first finds it, the vault at the latest; the agent hears the same. */
static void test_damaged_compressed_record_is_never_committed(void **state)
{
    damaged_batch(world_of(state), RECORD_ZSTD);
}

static void test_set_with_a_missing_record_is_refused(void **state)
{
    struct world *w = world_of(state);
    AUTO_BUF struct buf set = BUF_INIT(64u << 20);
    struct record r;
    const uint8_t *payload;
    size_t first = 0;
    world_open_agent(w);
    fake_agent_set(w->agent, 1, 0, 10, true, &set);
    assert_int_equal(record_next(set.data, set.len, &first, &r, &payload, NULL), 1);
    buf_consume(&set, first);
    (void)fake_agent_send(w->agent, &set);
    world_until(w, w->agent->ended);
    assert_string_equal(w->agent->refused_code, "corrupt");
    assert_int_equal(w->vault->committed, 0);
}

static void test_batch_out_of_sequence_is_refused(void **state)
{
    struct world *w = world_of(state);
    world_open_agent(w);
    fake_agent_send_set(w->agent, 2, 0, 4);
    world_until(w, w->agent->ended);
    assert_string_equal(w->agent->refused_code, "refused");
    assert_int_equal(w->agent->refused_expected, 1);
    assert_int_equal(w->agent->status, RPC_FAILED_PRECONDITION);
}

/* Sends n bytes as they are on a new stream; with open, after a good Open. */
static void send_bytes(struct world *w, bool open, const uint8_t *data, size_t n)
{
    AUTO_BUF struct buf b = BUF_INIT(16u << 20);
    if (open)
        world_open_agent(w);
    else
        fake_agent_open(w->agent, 1, 0, 0);
    assert_int_equal(buf_append(&b, data, n, NULL), 0);
    assert_true(rpc_call_send(w->agent->call, &b, NULL) >= 0);
    world_until(w, w->agent->ended);
}

static void test_malformed_messages_end_the_stream_and_nothing_else(void **state)
{
    struct world *w = world_of(state);
    static uint8_t large[5u << 20];
    static const uint8_t garbage[] = {0xff, 0xff, 0xff, 0xff, 0x07, 0x01};
    static const uint8_t batch[] = {0x12, 0x04, 1, 2, 3, 4};
    send_bytes(w, true, garbage, sizeof(garbage));
    assert_int_equal(w->agent->status, RPC_INVALID_ARGUMENT);
    send_bytes(w, true, batch, sizeof(batch)); /* not records */
    assert_string_equal(w->agent->refused_code, "corrupt");
    send_bytes(w, true, batch, 0); /* an empty message is no request */
    assert_int_equal(w->agent->status, RPC_INVALID_ARGUMENT);
    send_bytes(w, false, batch, sizeof(batch)); /* before Opened */
    assert_int_equal(w->agent->status, RPC_FAILED_PRECONDITION);
    send_bytes(w, true, large, sizeof(large));
    assert_int_equal(w->agent->status, RPC_RESOURCE_EXHAUSTED);
    world_open_agent(w);
    fake_agent_send_set(w->agent, w->agent->expected, 0, 10);
    world_until(w, w->agent->committed == w->agent->expected);
    assert_true(world_same_disks(w));
}

/* They wait for room in the spool, joined, and come out one by one. */
static void test_many_tiny_batches_wait_together(void **state)
{
    struct world *w = world_of(state);
    bool full = false;
    uint64_t s = 0;
    world_stop_node(w);
    w->spool_bytes = NODE_SPOOL_MIN;
    world_start_node(w);
    world_apply(w, true);
    world_open_agent(w);
    fake_vault_stop(w->vault);
    for (; s < 40; s++)
        fake_agent_send_set(w->agent, s + 1, (unsigned)s * 16, 32);
    world_until(w, (spool_bytes(w, &full), full));
    for (; s < 2040; s++)
        fake_agent_send_set(w->agent, s + 1, 0, 0);
    world_start_vault(w);
    world_until(w, w->agent->committed == s);
    assert_true(world_same_disks(w));
}

static void test_another_machine_is_denied(void **state)
{
    struct world *w = world_of(state);
    assert_int_equal(ident_random(&w->agent->machine), 0);
    fake_agent_open(w->agent, 1, 0, 0);
    world_until(w, w->agent->ended);
    assert_int_equal(w->agent->status, RPC_PERMISSION_DENIED);
}

static void test_machine_that_is_not_served_here(void **state)
{
    struct world *w = world_of(state);
    world_apply(w, false);
    fake_agent_open(w->agent, 1, 0, 0);
    world_until(w, w->agent->ended);
    assert_int_equal(w->agent->status, RPC_UNAVAILABLE);
    assert_non_null(strstr(w->agent->text, "does not serve"));
}

static void test_only_agents_replicate_to_a_node(void **state)
{
    struct world *w = world_of(state);
    struct fake_agent *stranger =
        fake_agent_new(w->loop, w->node_address, w->stranger_tls, &w->node_files.id, &w->stranger_files.id);
    fake_agent_open(stranger, 1, 0, 0);
    world_until(w, stranger->ended);
    assert_int_equal(stranger->status, RPC_PERMISSION_DENIED);
    fake_agent_free(stranger);
}

static void test_vault_away_at_the_first_open_is_unavailable(void **state)
{
    struct world *w = world_of(state);
    fake_vault_stop(w->vault);
    fake_agent_open(w->agent, 1, 0, 0);
    world_until(w, w->agent->ended);
    assert_int_equal(w->agent->status, RPC_UNAVAILABLE);
    world_start_vault(w);
    do {
        fake_agent_open(w->agent, 1, 0, 0);
        world_until(w, w->agent->ended || w->agent->opened_count == 1);
    } while (w->agent->ended);
}

/* ---- hashes ---- */

struct hashes {
    unsigned chunks;
    bool ended;
    enum rpc_status status;
};

static void hashes_message(struct rpc_call *call, void *arg, struct buf *message)
{
    (void)call;
    (void)message;
    ((struct hashes *)arg)->chunks++;
}

static void hashes_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct hashes *h = arg;
    (void)call;
    (void)text;
    h->ended = true;
    h->status = status;
}

static void ask(struct world *w, const char *path, const struct ident *machine, struct hashes *h)
{
    static const struct rpc_call_ops ops = {.on_message = hashes_message, .on_end = hashes_end, .auto_consume = true};
    Leeward__Vault__V1__HashesRequest r = LEEWARD__VAULT__V1__HASHES_REQUEST__INIT;
    AUTO_BUF struct buf b = BUF_INIT(4096);
    struct rpc_call *call;
    *h = (struct hashes){0};
    r.machine_id = (ProtobufCBinaryData){.len = IDENT_SIZE, .data = (uint8_t *)machine->bytes};
    r.block_bytes = 65536;
    assert_int_equal(wire_pack(&r.base, &b, NULL), 0);
    assert_int_equal(rpc_call_start(w->agent->channel, path, 0, false, &ops, h, &call, NULL), 0);
    assert_true(rpc_call_send(call, &b, NULL) >= 0);
    rpc_call_half_close(call);
    world_until(w, h->ended);
}

static void ask_hashes(struct world *w, const struct ident *machine, struct hashes *h)
{
    ask(w, "/leeward.vault.v1.Vault/Hashes", machine, h);
}

/* A request for hashes reads as one for the others, too: the machine stands first in all of them. */
static void test_content_is_passed_on_only_where_the_hub_says_so(void **state)
{
    static const char *const paths[] = {"/leeward.vault.v1.Vault/Changes", "/leeward.vault.v1.Vault/Blocks"};
    struct world *w = world_of(state);
    struct hashes h;
    for (size_t i = 0; i < 2; i++) {
        ask(w, paths[i], &w->agent_files.id, &h);
        assert_int_equal(h.status, RPC_PERMISSION_DENIED);
    }
    w->may_receive = true;
    world_apply(w, true);
    for (size_t i = 0; i < 2; i++) {
        ask(w, paths[i], &w->agent_files.id, &h);
        assert_int_equal(h.status, RPC_UNIMPLEMENTED); /* the vault's word: this one knows hashes alone */
    }
}

/* The machine whose disks are written with another one's points may ask about that one, as long as the hub says so. */
static void test_a_receiver_may_ask_about_the_machine_it_receives(void **state)
{
    struct world *w = world_of(state);
    struct hashes h;
    assert_int_equal(ident_random(&w->other), 0);
    world_apply(w, true);
    ask_hashes(w, &w->other, &h);
    assert_int_equal(h.status, RPC_PERMISSION_DENIED);
    ident_to_text(&w->agent_files.id, w->receiver);
    world_apply(w, true);
    ask_hashes(w, &w->other, &h);
    assert_int_equal(h.status, RPC_OK);
    ask(w, "/leeward.vault.v1.Vault/Blocks", &w->other, &h);
    assert_int_equal(h.status, RPC_UNIMPLEMENTED); /* passed on */
    ident_to_text(&w->other, w->receiver);
    world_apply(w, true);
    ask_hashes(w, &w->other, &h);
    assert_int_equal(h.status, RPC_PERMISSION_DENIED);
}

/* Nobody has cancelled the call: who asks tries again. */
static void test_vault_away_when_an_agent_asks_is_unavailable(void **state)
{
    struct world *w = world_of(state);
    struct hashes h;
    fake_vault_stop(w->vault);
    for (int i = 0; i < 5; i++) {
        ask_hashes(w, &w->agent_files.id, &h);
        assert_int_equal(h.status, RPC_UNAVAILABLE);
    }
    world_start_vault(w);
    do
        ask_hashes(w, &w->agent_files.id, &h);
    while (h.status == RPC_UNAVAILABLE);
    assert_int_equal(h.status, RPC_OK);
    assert_int_equal(h.chunks, 3);
}

/* It is reached, and its connection answers PINGs. */
static void test_vault_that_does_not_answer_is_asked_again(void **state)
{
    struct world *w = world_of(state);
    Leeward__Control__V1__NodeStatus s = LEEWARD__CONTROL__V1__NODE_STATUS__INIT;
    w->node->open_limit_usec = 300 * USEC_PER_MSEC;
    w->vault->silent = true;
    fake_agent_open(w->agent, 1, 0, 0);
    world_until(w, w->agent->ended);
    assert_int_equal(w->agent->status, RPC_UNAVAILABLE);
    assert_non_null(strstr(w->agent->text, "did not answer"));
    node_status(w->node, &s);
    assert_non_null(strstr(s.cause, "did not answer"));
    assert_string_not_equal(s.remedy, "");
    w->vault->silent = false;
    world_open_agent(w);
    fake_agent_send_set(w->agent, 1, 0, 20);
    world_until(w, w->agent->committed == 1);
    fake_vault_stop(w->vault);
    fake_agent_send_set(w->agent, 2, 7, 20);
    world_until(w, w->agent->spooled == 2);
    w->vault->silent = true;
    unsigned opens = w->vault->opens;
    world_start_vault(w);
    world_until(w, w->vault->opens >= opens + 2); /* what is in the spool is not left there */
    w->vault->silent = false;
    world_until(w, w->agent->committed == 2);
    assert_true(world_same_disks(w));
}

/* Somebody else answers at the vault's address: for the agent it is a vault that is away, and not a certificate of its own that is wrong. */
static void test_vault_that_is_none_is_unavailable_to_an_agent(void **state)
{
    struct world *w = world_of(state);
    struct hashes h;
    fake_vault_stop(w->vault);
    fake_vault_serve(w->vault, w->loop, w->vault_address, w->node_server_tls);
    for (int i = 0; i < 20; i++) {
        ask_hashes(w, &w->agent_files.id, &h);
        assert_int_equal(h.status, RPC_UNAVAILABLE);
    }
    fake_vault_stop(w->vault);
}

static void test_hashes_are_passed_on_for_the_own_machine_only(void **state)
{
    struct world *w = world_of(state);
    struct hashes h;
    struct ident other;
    ask_hashes(w, &w->agent_files.id, &h);
    assert_int_equal(h.status, RPC_OK);
    assert_int_equal(h.chunks, 3);
    assert_int_equal(ident_random(&other), 0);
    ask_hashes(w, &other, &h);
    assert_int_equal(h.status, RPC_PERMISSION_DENIED);
    assert_int_equal(w->vault->hashes_asked, 1);
}

int main(void)
{
#define NODE_TEST(name) cmocka_unit_test_setup_teardown(name, world_set_up, world_tear_down)
    const struct CMUnitTest tests[] = {
        NODE_TEST(test_change_sets_reach_the_vault_in_order),
        NODE_TEST(test_empty_change_set_is_a_point_too),
        NODE_TEST(test_vault_that_was_away_gets_everything),
        NODE_TEST(test_what_waits_for_a_vault_does_not_stay_in_the_page_cache),
        NODE_TEST(test_vault_lost_in_the_middle_of_a_set),
        NODE_TEST(test_broken_off_set_is_dropped_and_comes_again),
        NODE_TEST(test_restarted_node_goes_on_with_its_spool),
        NODE_TEST(test_agent_that_comes_before_the_spool_was_scanned_is_served),
        NODE_TEST(test_full_spool_pushes_back),
        NODE_TEST(test_joining_begins_anew_with_each_outage),
        NODE_TEST(test_slow_vault_is_fed_from_the_spool),
        NODE_TEST(test_set_larger_than_the_spool_goes_past_it),
        NODE_TEST(test_first_copy_goes_past_the_spool),
        NODE_TEST(test_vault_lost_during_a_first_copy_costs_only_the_stream),
        NODE_TEST(test_higher_epoch_fences_an_old_spool),
        NODE_TEST(test_new_epoch_replaces_what_was_not_committed),
        NODE_TEST(test_vault_that_went_back_is_filled_from_the_spool),
        NODE_TEST(test_lost_spool_costs_only_a_new_epoch),
        NODE_TEST(test_gap_before_the_spool_is_the_agents_to_fill),
        NODE_TEST(test_machine_that_moved_away_leaves_no_spool),
        NODE_TEST(test_what_is_left_of_a_machine_whose_vault_stays_away_is_dropped),
        NODE_TEST(test_what_is_left_of_a_machine_that_its_vault_has_no_more_is_dropped),
        NODE_TEST(test_machine_that_comes_back_keeps_its_sets),
        NODE_TEST(test_old_generation_is_refused),
        NODE_TEST(test_damaged_raw_record_is_refused_by_the_node),
        NODE_TEST(test_damaged_compressed_record_is_never_committed),
        NODE_TEST(test_set_with_a_missing_record_is_refused),
        NODE_TEST(test_batch_out_of_sequence_is_refused),
        NODE_TEST(test_malformed_messages_end_the_stream_and_nothing_else),
        NODE_TEST(test_many_tiny_batches_wait_together),
        NODE_TEST(test_another_machine_is_denied),
        NODE_TEST(test_machine_that_is_not_served_here),
        NODE_TEST(test_only_agents_replicate_to_a_node),
        NODE_TEST(test_vault_away_at_the_first_open_is_unavailable),
        NODE_TEST(test_vault_away_when_an_agent_asks_is_unavailable),
        NODE_TEST(test_vault_that_does_not_answer_is_asked_again),
        NODE_TEST(test_vault_that_is_none_is_unavailable_to_an_agent),
        NODE_TEST(test_hashes_are_passed_on_for_the_own_machine_only),
        NODE_TEST(test_content_is_passed_on_only_where_the_hub_says_so),
        NODE_TEST(test_a_receiver_may_ask_about_the_machine_it_receives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
