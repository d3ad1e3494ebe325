/* SPDX-License-Identifier: Apache-2.0
 *
 * How fast connections are let in: by the moments that are passed in, and by a server to which many come at once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/loop/loop.h"
#include "transport/rpc/admission.h"
#include "transport/rpc/rpc.h"

#define PER_SEC 10u
#define COMERS 25u

static void a_burst_and_then_evenly(void **state)
{
    struct admission a = {.per_sec = 100};
    uint64_t now = 5 * USEC_PER_SEC;
    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(admission_wait(&a, now), 0);
        admission_note(&a, now);
    }
    assert_int_equal(admission_wait(&a, now), 10000);
    assert_int_equal(admission_wait(&a, now + 9999), 1);
    for (unsigned i = 1; i <= 50; i++) {
        assert_int_equal(admission_wait(&a, now + i * 10000), 0);
        admission_note(&a, now + i * 10000);
        assert_int_equal(admission_wait(&a, now + i * 10000), 10000);
    }
    assert_int_equal(admission_wait(&a, now + 60 * USEC_PER_SEC), 0); /* a quiet minute is worth one burst, not sixty */
    for (unsigned i = 0; i < 100; i++)
        admission_note(&a, now + 60 * USEC_PER_SEC);
    assert_int_equal(admission_wait(&a, now + 60 * USEC_PER_SEC), 10000);
}

static void without_a_limit_nobody_waits(void **state)
{
    struct admission none = {0}, many = {.per_sec = 4000000};
    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        admission_note(&none, 1);
        admission_note(&many, 1);
    }
    assert_int_equal(admission_wait(&none, 1), 0);
    assert_int_equal(admission_wait(&many, 1), 0);
}

static int connect_to(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    (void)snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
    assert_int_equal(connect(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
    return fd;
}

/* A server that has taken a connection sends its SETTINGS. */
static unsigned taken(const int *fds)
{
    struct pollfd polled[COMERS];
    unsigned n = 0;
    for (unsigned i = 0; i < COMERS; i++)
        polled[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    assert_true(poll(polled, COMERS, 0) >= 0);
    for (unsigned i = 0; i < COMERS; i++)
        n += (polled[i].revents & POLLIN) != 0;
    return n;
}

static void a_server_lets_all_in_but_not_at_once(void **state)
{
    char dir[] = "/tmp/leeward-admission-XXXXXX", path[64], address[80];
    const struct rpc_limits limits = {.accepts_per_sec = PER_SEC};
    struct rpc_server *server = NULL;
    sd_event *loop = NULL;
    int fds[COMERS];
    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/s", dir);
    (void)snprintf(address, sizeof(address), "unix:%s", path);
    assert_int_equal(loop_new(NULL, NULL, &loop, NULL), 0);
    assert_int_equal(rpc_server_new(loop, address, NULL, NULL, 0, NULL, &limits, &server, NULL), 0);
    for (unsigned i = 0; i < COMERS; i++)
        fds[i] = connect_to(path);
    uint64_t begin = clock_mono_usec();
    while (taken(fds) < COMERS) {
        if (clock_mono_usec() > begin + 60 * USEC_PER_SEC)
            fail_msg("%u of %u were let in after a minute", taken(fds), COMERS);
        (void)sd_event_run(loop, 20000);
    }
    assert_true(clock_mono_usec() - begin >= (COMERS - PER_SEC) * USEC_PER_SEC / PER_SEC);
    for (unsigned i = 0; i < COMERS; i++)
        (void)close(fds[i]);
    rpc_server_free(server);
    loop_free(loop);
    (void)unlink(path);
    (void)rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_burst_and_then_evenly),
        cmocka_unit_test(without_a_limit_nobody_waits),
        cmocka_unit_test(a_server_lets_all_in_but_not_at_once),
    };
    return cmocka_run_group_tests_name("rpc/admission", tests, NULL, NULL);
}
