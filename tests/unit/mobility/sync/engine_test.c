/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent's engine over loop disks, real eBPF tracking and the real RPC, against a node that checks everything.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "mobility/sync/syncstate.h"
#include "mobility/sync/yield.h"
#include "tests/unit/mobility/sync/syncrig.h"
#include "transport/base/clock.h"

#define MIB (1u << 20)

static _Atomic uint64_t yielded_bytes; /* were about to be read when the engine looked whether others feel it */

void __real_yield_step(struct yield *y, uint64_t bytes, bool (*go_on)(void *), void *arg);
void __wrap_yield_step(struct yield *y, uint64_t bytes, bool (*go_on)(void *), void *arg);

void __wrap_yield_step(struct yield *y, uint64_t bytes, bool (*go_on)(void *), void *arg)
{
    yielded_bytes += bytes;
    __real_yield_step(y, bytes, go_on, arg);
}

static void fill(struct loopdisk *l, uint64_t from, uint64_t to)
{
    uint8_t *data = random_bytes(MIB);

    for (uint64_t at = from; at < to; at += MIB)
        loopdisk_write(l, at, data, (uint32_t)(to - at < MIB ? to - at : MIB));
    free(data);
}

static void scribble(struct loopdisk *l, unsigned writes)
{
    uint8_t *data = random_bytes(16384);

    for (unsigned i = 0; i < writes; i++) {
        uint64_t blocks = l->size_bytes / 4096 - 4;

        memcpy(data, &i, sizeof(i));
        loopdisk_write(l, (uint64_t)random() % blocks * 4096, data, 4096u * (1 + i % 4));
    }
    free(data);
}

static void a_raw_disk_is_copied_and_followed(void **state)
{
    struct syncrig rig;
    struct fakenode_facts facts;

    (void)state;
    syncrig_init(&rig, 1, 48 * MIB, 512);
    fill(&rig.disks[0], 0, 20 * MIB);
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    syncrig_assert_equal(&rig);
    fakenode_get(rig.node, &facts);
    assert_int_equal(facts.first_points, 1);
    for (int i = 0; i < 5; i++) {
        scribble(&rig.disks[0], 200);
        syncrig_assert_equal(&rig);
    }
    assert_int_equal(syncrig_events(&rig, "resync_started"), 0);
    syncrig_done(&rig);
}

static void odd_sizes_and_large_sectors_are_copied(void **state)
{
    static const struct {
        uint64_t size;
        unsigned sector;
    } rows[] = {{9 * MIB + 512 * 5, 512}, {9 * MIB + 4096 * 3, 4096}};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct syncrig rig;

        syncrig_init(&rig, 1, rows[i].size, rows[i].sector);
        fill(&rig.disks[0], 0, rows[i].size);
        syncrig_start(&rig);
        assert_true(fakenode_wait_points(rig.node, 1));
        fill(&rig.disks[0], 8 * MIB, rows[i].size);
        syncrig_assert_equal(&rig);
        syncrig_done(&rig);
    }
}

static void two_disks_are_one_log(void **state)
{
    struct syncrig rig;
    struct fakenode_facts facts;

    (void)state;
    syncrig_init(&rig, 2, 16 * MIB, 512);
    fill(&rig.disks[0], 0, 4 * MIB);
    fill(&rig.disks[1], 4 * MIB, 8 * MIB);
    syncrig_start(&rig);
    assert_true(fakenode_wait_points(rig.node, 1));
    scribble(&rig.disks[0], 50);
    scribble(&rig.disks[1], 50);
    syncrig_assert_equal(&rig);
    fakenode_get(rig.node, &facts);
    assert_int_equal(facts.last.disk_count, 2);
    syncrig_done(&rig);
}

static void a_lost_stream_loses_nothing(void **state)
{
    struct syncrig rig;
    struct fakenode_facts facts;

    (void)state;
    syncrig_init(&rig, 1, 32 * MIB, 512);
    fill(&rig.disks[0], 0, 24 * MIB);
    syncrig_start(&rig);
    for (int i = 0; i < 6; i++) {
        fakenode_get(rig.node, &facts);
        assert_true(fakenode_wait_committed(rig.node, facts.committed + 1));
        scribble(&rig.disks[0], 100);
        fakenode_drop(rig.node);
        scribble(&rig.disks[0], 100);
    }
    syncrig_assert_equal(&rig);
    assert_int_equal(syncrig_events(&rig, "resync_started"), 0);
    fakenode_get(rig.node, &facts);
    assert_true(facts.opens >= 6);
    syncrig_done(&rig);
}

static void what_was_not_committed_is_sent_again(void **state)
{
    struct syncrig rig;
    struct fakenode_facts before, after;

    (void)state;
    syncrig_init(&rig, 1, 32 * MIB, 512);
    syncrig_start(&rig);
    assert_true(fakenode_wait_points(rig.node, 2));
    for (int i = 0; i < 3; i++) {
        fakenode_set_holding(rig.node, true);
        fakenode_get(rig.node, &before);
        scribble(&rig.disks[0], 100);
        do /* until it was sent and is held */
            fakenode_get(rig.node, &after);
        while (after.held < before.held + 2 && usleep(1000) == 0);
        fakenode_drop(rig.node);
        fakenode_set_holding(rig.node, false);
        syncrig_assert_equal(&rig);
    }
    fakenode_get(rig.node, &after);
    assert_true(after.epoch >= 4);
    assert_int_equal(syncrig_events(&rig, "resync_started"), 0);
    syncrig_done(&rig);
}

/* Up to where the state that a killed agent leaves says that the disk is copied. */
static uint64_t saved_cursor(const struct syncrig *rig)
{
    struct syncstate state = {0};
    char path[128];

    assert_true(snprintf(path, sizeof(path), "%s/state", rig->dir) < (int)sizeof(path));
    assert_int_equal(syncstate_load(path, &state, NULL), 0);
    return state.disk_count == 0              ? 0
           : state.disks[0].copy == COPY_DONE ? state.disks[0].size_bytes
                                              : state.disks[0].cursor;
}

/* It saves the cursor once a second: a life that ended before would leave nothing to go on from. */
static void a_killed_agent_resumes_without_a_resync(void **state)
{
    struct syncrig rig;
    struct fakenode_facts facts;

    (void)state;
    syncrig_init(&rig, 1, 200 * MIB, 512);
    fill(&rig.disks[0], 0, 160 * MIB);
    for (int i = 0; i < 8; i++) {
        uint64_t cursor = saved_cursor(&rig);

        syncrig_start_process(&rig);
        fakenode_get(rig.node, &facts);
        assert_true(fakenode_wait_committed(rig.node, facts.committed + 1 + (uint64_t)(i % 3)));
        for (int waits = 0; cursor < rig.disks[0].size_bytes && saved_cursor(&rig) <= cursor; waits++) {
            assert_true(waits < 90000);
            (void)usleep(1000);
        }
        scribble(&rig.disks[0], 100);
        syncrig_kill_process(&rig);
        scribble(&rig.disks[0], 50);
    }
    fakenode_get(rig.node, &facts);
    assert_true(facts.record_bytes < 4 * 200ull * MIB); /* it went on where it was */
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    syncrig_assert_equal(&rig);
    assert_int_equal(syncrig_events(&rig, "resync_started"), 0);
    syncrig_done(&rig);
}

/* Two disks, one of which is often still being swept while the other makes points. */
static void kills_and_losses_in_any_order_lose_nothing(void **state)
{
    const char *given = getenv("LEEWARD_SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)getpid();
    struct fakenode_facts facts;
    struct syncrig rig;

    (void)state;
    print_message("LEEWARD_SEED=%u\n", seed);
    srandom(seed);
    syncrig_init(&rig, 2, 96 * MIB, 512);
    rig.wish.interval_usec = 20000;
    fill(&rig.disks[0], 0, 40 * MIB);
    fill(&rig.disks[1], 0, 96 * MIB);
    for (int i = 0; i < 30; i++) {
        if (rig.child == 0)
            syncrig_start_process(&rig);
        scribble(&rig.disks[0], (unsigned)random() % 60);
        scribble(&rig.disks[1], (unsigned)random() % 60);
        fakenode_get(rig.node, &facts);
        switch (random() % 5) {
        case 0:
            syncrig_kill_process(&rig);
            break;
        case 1:
            fakenode_drop(rig.node);
            break;
        case 2:
            fakenode_set_holding(rig.node, true);
            break;
        default:
            fakenode_set_holding(rig.node, false);
            assert_true(fakenode_wait_committed(rig.node, facts.committed + (uint64_t)random() % 3));
            break;
        }
    }
    syncrig_kill_process(&rig);
    fakenode_set_holding(rig.node, false);
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    syncrig_assert_equal(&rig);
    assert_int_equal(syncrig_events(&rig, "resync_started"), 0);
    syncrig_done(&rig);
}

static void a_vault_that_forgot_everything_is_filled_anew(void **state)
{
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 16 * MIB, 512);
    fill(&rig.disks[0], 0, 8 * MIB);
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    syncrig_stop(&rig);
    fakenode_forget(rig.node);
    syncrig_start(&rig);
    assert_true(syncrig_wait_event(&rig, "vault_empty"));
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    syncrig_assert_equal(&rig);
    syncrig_done(&rig);
}

static void a_resync_sends_what_differs(void **state)
{
    struct syncrig rig;
    struct fakenode_facts before, after;

    (void)state;
    syncrig_init(&rig, 1, 64 * MIB + 512, 512);
    fill(&rig.disks[0], 0, 32 * MIB);
    fakenode_set_hashes(rig.node, true);
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    syncrig_stop(&rig);
    must_run("rm -rf %s/run", rig.dir); /* as after a reboot: what was drained is not known */
    fill(&rig.disks[0], 40 * MIB, 41 * MIB);
    fakenode_get(rig.node, &before);
    syncrig_start(&rig);
    assert_true(syncrig_wait_event(&rig, "resync_started"));
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    syncrig_assert_equal(&rig);
    fakenode_get(rig.node, &after);
    assert_in_range(after.record_bytes - before.record_bytes, MIB, 4 * MIB);
    assert_int_equal(after.first_points, 2);
    syncrig_done(&rig);
}

static void without_hashes_a_resync_sends_everything(void **state)
{
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 16 * MIB, 512);
    fill(&rig.disks[0], 0, 8 * MIB);
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    rig.wish.version++;
    rig.wish.resync_request = 1;
    engine_set_wish(syncrig_engine(&rig), &rig.wish);
    assert_true(syncrig_wait_event(&rig, "no_hashes"));
    syncrig_assert_equal(&rig);
    syncrig_done(&rig);
}

static void a_disk_may_grow_while_it_is_replicated(void **state)
{
    struct syncrig rig;
    struct fakenode_facts facts;

    (void)state;
    syncrig_init(&rig, 1, 16 * MIB, 512);
    fill(&rig.disks[0], 0, 8 * MIB);
    syncrig_start(&rig);
    assert_true(fakenode_wait_points(rig.node, 2));
    loopdisk_resize(&rig.disks[0], 24 * MIB);
    fill(&rig.disks[0], 15 * MIB, 24 * MIB);
    assert_true(syncrig_wait_event(&rig, "disk_resized"));
    syncrig_assert_equal(&rig);
    fakenode_get(rig.node, &facts);
    assert_int_equal(facts.last.disks[0].size_bytes, 24 * MIB);
    syncrig_done(&rig);
}

/* Protected, with a file system on its disk. */
static void protect_mounted(struct syncrig *rig)
{
    syncrig_init(rig, 1, 64 * MIB, 512);
    syncrig_mount(rig, 0);
    syncrig_start(rig);
    assert_true(syncrig_wait_phase(rig, PHASE_PROTECTED));
}

/* What comes of asking for a point. */
static struct engine_output ask_for_point(struct syncrig *rig, const char *command_id, const char *kind)
{
    struct engine_output o;
    struct err err = ERR_INIT;

    assert_int_equal(engine_create_point(syncrig_engine(rig), command_id, kind, "before upgrade", &err), 0);
    assert_true(syncrig_result(rig, command_id, &o));
    return o;
}

static void points_are_made_on_request(void **state)
{
    struct syncrig rig;
    struct engine_output o;
    struct err err = ERR_INIT;

    (void)state;
    protect_mounted(&rig);
    assert_int_equal(ask_for_point(&rig, "c1", "crash").error.code, ERR_NONE);
    must_run("echo one > %s/mnt0/file", rig.dir);
    o = ask_for_point(&rig, "c2", "filesystem");
    assert_string_equal(o.error.text, "");
    assert_true(o.sequence > 0);
    must_run("cp %s/0.img %s/copy.img && e2fsck -fn %s/copy.img > /dev/null 2>&1", rig.dir, rig.dir, rig.dir);
    must_run("debugfs -R 'cat /file' %s/copy.img 2>/dev/null | grep -q one", rig.dir);
    assert_int_equal(engine_create_point(syncrig_engine(&rig), "c3", "nonsense", "", &err), -1);
    syncrig_unmount(&rig, 0);
    syncrig_done(&rig);
}

/* A freeze would flush all of it, and read it while everything stands still. */
static void what_is_in_memory_only_does_not_hold_up_a_freeze(void **state)
{
    struct engine_output o;
    struct syncrig rig;

    (void)state;
    protect_mounted(&rig);
    for (unsigned i = 0; i < 3; i++) {
        must_run("head -c 20000000 /dev/urandom > %s/mnt0/large", rig.dir);
        o = ask_for_point(&rig, (const char *[]){"c1", "c2", "c3"}[i], "filesystem");
        assert_string_equal(o.error.text, "");
    }
    must_run("cp %s/0.img %s/copy.img && e2fsck -fn %s/copy.img > /dev/null 2>&1", rig.dir, rig.dir, rig.dir);
    syncrig_unmount(&rig, 0);
    syncrig_done(&rig);
}

/* Another file system is mounted over it: what cannot be frozen is not called consistent. */
static void a_file_system_that_is_hidden_is_not_called_frozen(void **state)
{
    struct engine_output o;
    struct syncrig rig;

    (void)state;
    protect_mounted(&rig);
    must_run("mount -t tmpfs over %s/mnt0", rig.dir);
    o = ask_for_point(&rig, "c1", "filesystem");
    assert_non_null(strstr(o.error.text, "/mnt0 cannot be frozen: another one is mounted over it"));
    must_run("umount %s/mnt0", rig.dir);
    o = ask_for_point(&rig, "c2", "filesystem");
    assert_string_equal(o.error.text, "");
    syncrig_unmount(&rig, 0);
    syncrig_done(&rig);
}

static void application_hooks_run_around_the_freeze(void **state)
{
    struct engine_output o;
    struct syncrig rig;

    (void)state;
    protect_mounted(&rig);
    must_run("printf '#!/bin/sh\\necho $1 >> %s/hook.log\\n' > %s/10-hook && chmod 755 %s/10-hook", rig.dir, rig.dir,
        rig.dir);
    o = ask_for_point(&rig, "c1", "application");
    assert_string_equal(o.error.text, "");
    must_run("test \"$(tr '\\n' ' ' < %s/hook.log)\" = 'prepare freeze thaw '", rig.dir);
    must_run("printf '#!/bin/sh\\nexit 3\\n' > %s/20-bad && chmod 755 %s/20-bad", rig.dir, rig.dir);
    assert_true(ask_for_point(&rig, "c2", "application").error.code != ERR_NONE);
    must_run("test \"$(tr '\\n' ' ' < %s/hook.log)\" = 'prepare freeze thaw prepare freeze thaw '", rig.dir);
    syncrig_unmount(&rig, 0);
    syncrig_done(&rig);
}

/* Another line is saved at once: waits until what is saved in memory is there, or is there no more. */
static void let_it_save(struct syncrig *rig, const char *spare, bool in_memory)
{
    uint64_t end = clock_mono_usec() + 90 * USEC_PER_SEC;

    rig->wish.version++;
    rig->wish.generation++;
    engine_set_wish(syncrig_engine(rig), &rig->wish);
    while ((access(spare, F_OK) == 0) != in_memory) {
        assert_true(clock_mono_usec() < end);
        (void)usleep(5000);
    }
}

/* What is mounted below stays writable, and so does what is open; what is just being written has to end first. */
static void set_read_only(const struct syncrig *rig, bool read_only)
{
    if (read_only)
        must_run("mount --rbind %s %s && timeout 90 sh -c 'until mount -o remount,bind,ro %s 2>/dev/null; do sleep "
                 "0.02; done'",
            rig->dir, rig->dir, rig->dir);
    else
        must_run("umount -l %s", rig->dir);
}

/* As ext4 does it after an error, and as a planned failover does it to the disk of the running system. */
static void a_folder_that_is_read_only_is_told_unless_it_is_held(void **state)
{
    struct syncrig rig;
    char spare[128];

    (void)state;
    syncrig_init(&rig, 1, 16 * MIB, 512);
    must_run("mkdir %s/run && mount -t tmpfs tmpfs %s/run", rig.dir, rig.dir);
    snprintf(spare, sizeof(spare), "%s/run/spare-state", rig.dir);
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    must_run("touch %s/run/held", rig.dir);
    set_read_only(&rig, true);
    let_it_save(&rig, spare, true);
    set_read_only(&rig, false);
    must_run("rm %s/run/held", rig.dir);
    let_it_save(&rig, spare, false);
    set_read_only(&rig, true);
    let_it_save(&rig, spare, true);
    assert_true(syncrig_wait_event(&rig, "state_not_saved"));
    assert_int_equal(unlink(spare), 0);
    let_it_save(&rig, spare, true);
    set_read_only(&rig, false);
    let_it_save(&rig, spare, false);
    assert_int_equal(syncrig_events(&rig, "state_not_saved"), 1); /* once, and not while it was held */
    syncrig_stop(&rig);
    must_run("umount %s/run", rig.dir);
    syncrig_done(&rig);
}

static void unprotecting_leaves_no_trace(void **state)
{
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 16 * MIB, 512);
    syncrig_start(&rig);
    assert_true(fakenode_wait_points(rig.node, 1));
    rig.wish.version++;
    rig.wish.protect = false;
    engine_set_wish(syncrig_engine(&rig), &rig.wish);
    assert_true(syncrig_wait_phase(&rig, PHASE_IDLE));
    must_run("test ! -e %s/run/retained", rig.dir);
    must_run("test -z \"$(ls %s | grep ^leeward)\"", rig.bpf);
    syncrig_done(&rig);
}

static void a_vanished_disk_is_an_error_and_heals_when_it_is_back(void **state)
{
    struct engine_status status;
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 16 * MIB, 512);
    fakenode_set_hashes(rig.node, true);
    fill(&rig.disks[0], 0, 8 * MIB);
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    loopdisk_resize(&rig.disks[0], 0); /* what a disk that was pulled looks like to those who have it open */
    assert_true(syncrig_wait_phase(&rig, PHASE_ERROR));
    engine_get_status(syncrig_engine(&rig), &status);
    assert_non_null(strstr(status.cause, rig.wish.disks[0].key));
    assert_non_null(strstr(status.cause, rig.disks[0].path));
    assert_non_null(strstr(status.remedy, "leeward disk exclude MACHINE "));
    loopdisk_resize(&rig.disks[0], 16 * MIB);
    scribble(&rig.disks[0], 10);
    assert_true(syncrig_wait_event(&rig, "resync_started"));
    syncrig_assert_equal(&rig);
    syncrig_done(&rig);
}

static void a_large_backlog_gets_through_a_line_that_breaks(void **state)
{
    struct fakenode_facts before, after;
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 400 * MIB, 512);
    rig.wish.yield_to_workload = true;
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    fakenode_set_refusing(rig.node, true);
    fakenode_drop(rig.node);
    fill(&rig.disks[0], 0, 390 * MIB);
    fakenode_get(rig.node, &before);
    yielded_bytes = 0;
    fakenode_set_refusing(rig.node, false);
    for (uint64_t i = 1; i <= 5; i++) { /* it breaks after each piece of the way */
        assert_true(fakenode_wait_committed(rig.node, before.committed + i));
        fakenode_drop(rig.node);
    }
    syncrig_assert_equal(&rig);
    fakenode_get(rig.node, &after);
    assert_true(after.record_bytes - before.record_bytes < 390ull * MIB + 6 * 64ull * MIB);
    assert_true(yielded_bytes >= 390ull * MIB); /* all of it gave way to others */
    assert_int_equal(syncrig_events(&rig, "resync_started"), 0);
    syncrig_done(&rig);
}

static uint64_t memory_bytes(void)
{
    unsigned long long pages;
    FILE *f = fopen("/proc/self/statm", "re");

    assert_non_null(f);
    assert_int_equal(fscanf(f, "%*u %llu", &pages), 1);
    fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

#define AGAIN_BYTES (8u * MIB)
#define AGAIN 20u
/* For what the link's attempts and the status take; a queue of what was written would take twenty times as much. */
#define GROWTH_BYTES ((uint64_t)AGAIN_BYTES)

/* The same 8 MiB, again and again; the memory that the engine and this test took before and after. */
static void write_again(struct syncrig *rig, uint64_t *ret_before, uint64_t *ret_after)
{
    uint8_t *data = random_bytes(AGAIN_BYTES);
    struct engine_status status;

    for (unsigned i = 0; i <= AGAIN; i++) {
        for (unsigned at = 0; at < AGAIN_BYTES; at += MIB) {
            memcpy(data + at, &i, sizeof(i));
            loopdisk_write(&rig->disks[0], at, data + at, MIB);
        }
        do { /* until the engine has seen it */
            engine_wake(syncrig_engine(rig));
            (void)usleep(10000);
            engine_get_status(syncrig_engine(rig), &status);
        } while (status.changed_bytes < (uint64_t)(i + 1) * AGAIN_BYTES);
        *(i == 0 ? ret_before : ret_after) = memory_bytes();
    }
    free(data);
}

/* Until the stream is known to be gone: another one was asked for. */
static void send_away(struct fakenode *node)
{
    struct fakenode_facts before, now;

    fakenode_get(node, &before);
    fakenode_set_refusing(node, true);
    fakenode_drop(node);
    do
        fakenode_get(node, &now);
    while (now.opens == before.opens && usleep(10000) == 0);
}

/* What is written over and over meanwhile is kept as one change, of which the last content is sent. */
static void without_a_node_tracking_goes_on_and_memory_does_not_grow(void **state)
{
    struct fakenode_facts before, after;
    struct engine_status status;
    uint64_t first, last;
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 48 * MIB, 512);
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    syncrig_assert_equal(&rig);
    send_away(rig.node);
    fakenode_get(rig.node, &before);
    write_again(&rig, &first, &last);
    print_message(
        "%llu KiB of memory, then %llu KiB\n", (unsigned long long)first >> 10, (unsigned long long)last >> 10);
    assert_true(last < first + GROWTH_BYTES);
    engine_get_status(syncrig_engine(&rig), &status);
    assert_int_equal(status.phase, PHASE_PROTECTED);
    assert_true(status.backlog_bytes >= AGAIN_BYTES);
    fakenode_set_refusing(rig.node, false);
    syncrig_assert_equal(&rig);
    fakenode_get(rig.node, &after);
    assert_in_range(after.record_bytes - before.record_bytes, AGAIN_BYTES, 2 * AGAIN_BYTES - 1);
    syncrig_done(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_raw_disk_is_copied_and_followed),
        cmocka_unit_test(odd_sizes_and_large_sectors_are_copied),
        cmocka_unit_test(two_disks_are_one_log),
        cmocka_unit_test(a_lost_stream_loses_nothing),
        cmocka_unit_test(what_was_not_committed_is_sent_again),
        cmocka_unit_test(a_killed_agent_resumes_without_a_resync),
        cmocka_unit_test(kills_and_losses_in_any_order_lose_nothing),
        cmocka_unit_test(a_vault_that_forgot_everything_is_filled_anew),
        cmocka_unit_test(a_resync_sends_what_differs),
        cmocka_unit_test(without_hashes_a_resync_sends_everything),
        cmocka_unit_test(a_disk_may_grow_while_it_is_replicated),
        cmocka_unit_test(points_are_made_on_request),
        cmocka_unit_test(what_is_in_memory_only_does_not_hold_up_a_freeze),
        cmocka_unit_test(a_file_system_that_is_hidden_is_not_called_frozen),
        cmocka_unit_test(application_hooks_run_around_the_freeze),
        cmocka_unit_test(a_vanished_disk_is_an_error_and_heals_when_it_is_back),
        cmocka_unit_test(a_large_backlog_gets_through_a_line_that_breaks),
        cmocka_unit_test(without_a_node_tracking_goes_on_and_memory_does_not_grow),
        cmocka_unit_test(a_folder_that_is_read_only_is_told_unless_it_is_held),
        cmocka_unit_test(unprotecting_leaves_no_trace),
    };

    if (!loopdisk_is_possible())
        return 77;
    if (getenv("LEEWARD_TEST"))
        cmocka_set_test_filter(getenv("LEEWARD_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
