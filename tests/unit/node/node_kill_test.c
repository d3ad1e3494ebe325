/* SPDX-License-Identifier: Apache-2.0
 *
 * The node as a process of its own, killed with SIGKILL at moments that are not chosen: whatever it had in hand, the vault
 * ends up with exactly what the agent has, and nothing committed changes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/node/node_world.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/loop/loop.h"

#define ROUNDS 12u

/* The child has a loop of its own; of the world it uses paths, identities and TLS contexts only. */
static pid_t start_process(struct world *w)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test leaves nothing behind */
    struct world child = *w;
    child.node = NULL;
    if (loop_new(NULL, NULL, &child.loop, NULL) < 0)
        _exit(1);
    world_start_node(&child);
    world_apply(&child, true);
    (void)loop_run(child.loop, NULL);
    _exit(0);
}

static void kill_process(pid_t pid)
{
    int status;
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

/* As the real agent: goes on where the node expects it, else with a new epoch from what is committed. Returns the sequence
 * to send next; *ret_again tells that sets which were sent must be sent again. */
static uint64_t open_again(struct world *w, uint64_t next, bool *ret_again)
{
    struct fake_agent *a = w->agent;
    uint64_t epoch = a->epoch;
    for (;;) {
        fake_agent_open(a, 1, epoch, next);
        world_until(w, a->ended || a->opened_count == 1);
        if (a->ended)
            continue;
        *ret_again = a->expected != next;
        if (a->opened_epoch == epoch && epoch != 0)
            return a->expected;
        epoch = a->opened_epoch + 1;
        next = 0;
    }
}

/* Waits for `condition`; a stream that the node ended is a failure now and not when the time is over. */
#define until_or_ended(w, condition)                                                                                   \
    do {                                                                                                               \
        world_until(w, (condition) || (w)->agent->ended);                                                              \
        if ((w)->agent->ended)                                                                                         \
            fail_msg("the node ended the stream: %s", (w)->agent->text);                                               \
    } while (0)

/* Every round sends a few sets over the whole disk and kills the node after some of them came out at one end or the other. */
static void test_node_killed_at_any_moment(void **state)
{
    struct world *w = *state;
    world_stop_node(w);
    pid_t pid = start_process(w);
    uint64_t next = 1;
    for (unsigned round = 0; round < ROUNDS; round++) {
        bool again = false;
        AUTO_BUF struct buf half = BUF_INIT(64u << 20);
        uint64_t expected = open_again(w, next, &again);
        /* What was lost with the node is in the agent's hands still: all of it goes into the next set. */
        next = expected;
        fake_agent_send_set(w->agent, next, 0, again ? FAKE_DISK_BYTES / RECORD_BLOCK_SIZE : 40);
        fake_agent_send_set(w->agent, next + 1, round * 31, 50);
        fake_agent_set(w->agent, next + 2, round * 17, 30, false, &half);
        (void)fake_agent_send(w->agent, &half);
        if (round % 3 == 0)
            until_or_ended(w, w->vault->committed >= next);
        else if (round % 3 == 1)
            until_or_ended(w, w->agent->spooled >= next || w->agent->committed >= next);
        else
            until_or_ended(w, w->vault->batches > round * 3);
        kill_process(pid);
        world_until(w, w->agent->ended);
        if (round % 4 == 1) {
            fake_vault_stop(w->vault);
            world_start_vault(w);
        }
        pid = start_process(w);
        next += 2;
    }
    bool again = false;
    next = open_again(w, next, &again);
    fake_agent_send_set(w->agent, next, 0, FAKE_DISK_BYTES / RECORD_BLOCK_SIZE);
    until_or_ended(w, w->agent->committed == next);
    assert_true(world_same_disks(w));
    kill_process(pid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_node_killed_at_any_moment, world_set_up, world_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
