/* SPDX-License-Identifier: Apache-2.0
 *
 * Loaded in front of the C library (LD_PRELOAD): the program's clock of the day is off by as many seconds as the 8 bytes of the file
 * $LEEWARD_TEST_CLOCK say, now. The kernel has no clock of the day per process, and the machine's own is not a test's to set.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *offset_sec;

__attribute__((constructor)) static void map_offset(void)
{
    const char *path = getenv("LEEWARD_TEST_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *base = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);

    if (base == MAP_FAILED)
        abort();
    offset_sec = base;
    (void)close(fd);
}

/* What OpenSSL asks when it looks at a certificate. */
time_t time(time_t *ret_time)
{
    struct timespec now = {0};

    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (ret_time)
        *ret_time = now.tv_sec;
    return now.tv_sec;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    int r = (int)syscall(SYS_clock_gettime, id, t);

    if (r == 0 && id == CLOCK_REALTIME && offset_sec)
        t->tv_sec += *offset_sec;
    return r;
}
