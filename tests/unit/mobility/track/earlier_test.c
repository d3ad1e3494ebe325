/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes that a disk has in flight when it is added: they are on no list, so they have landed when tracker_add returns. They are let go
 * when that has looked for them a few times.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "mobility/track/wholedisk.h"
#include "tests/unit/mobility/powerfail/fusedisk.h"
#include "tests/unit/mobility/track/trackrig.h"

#define DISK_BYTES (16u * MIB)
#define LOOKS 3u

static struct fusedisk *fuse;
static atomic_uint looks;

int __real_wholedisk_writes_in_flight(dev_t disk);
int __wrap_wholedisk_writes_in_flight(dev_t disk);
int __wrap_wholedisk_writes_in_flight(dev_t disk)
{
    if (atomic_fetch_add(&looks, 1) + 1 == LOOKS)
        fusedisk_hold(fuse, false);
    return __real_wholedisk_writes_in_flight(disk);
}

static void *write_one(void *arg)
{
    struct loopdisk *disk = arg;
    uint8_t *data = random_bytes(GRANULE);

    loopdisk_write(disk, 5 * GRANULE, data, GRANULE);
    free(data);
    return NULL;
}

static dev_t number_of(const struct loopdisk *disk)
{
    struct stat st;

    assert_int_equal(fstat(disk->fd, &st), 0);
    return st.st_rdev;
}

static void what_a_disk_has_in_flight_when_it_is_added_has_landed_then(void **state)
{
    struct fusedisk_counts before, after;
    struct loopdisk disk;
    struct trackrig r;
    pthread_t writer;
    char dir[64];

    (void)state;
    temp_init(dir);
    fuse = fusedisk_start(dir, 1, DISK_BYTES, 1);
    loopdisk_init(&disk, DISK_BYTES, 512, fusedisk_open(fuse, 0));
    trackrig_init(&r, &disk);
    assert_int_equal(tracker_remove(r.tracker, r.tracked, NULL), 0);
    fusedisk_get_counts(fuse, &before);
    fusedisk_hold(fuse, true);
    assert_int_equal(pthread_create(&writer, NULL, write_one, &r.disk), 0);
    while (__real_wholedisk_writes_in_flight(number_of(&disk)) != 1)
        usleep(1000);
    atomic_store(&looks, 0);
    assert_int_equal(tracker_add(r.tracker, disk.path, &r.tracked, NULL), 0);
    fusedisk_get_counts(fuse, &after);
    fusedisk_hold(fuse, false);
    pthread_join(writer, NULL);
    assert_int_equal(after.writes, before.writes + 1);
    trackrig_done(&r);
    fusedisk_stop(fuse);
    temp_done(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_disk_has_in_flight_when_it_is_added_has_landed_then),
    };

    if (!loopdisk_is_possible() || access("/dev/fuse", R_OK | W_OK) < 0) {
        print_message("needs root, loop devices and FUSE: not run\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
