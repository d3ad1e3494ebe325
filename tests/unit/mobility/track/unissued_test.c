/* SPDX-License-Identifier: Apache-2.0
 *
 * A kernel that skips the completion of one request and the issue of the next one, which uses the same memory: with the variant `unissued` of the tracking
 * program (tests/unit/mobility/powerfail/tracker_variant.py), at the sectors that are written here.
 */
#include <stdlib.h>

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/mobility/track/trackrig.h"

#define DISK_BYTES (64u * MIB)
#define SECTOR 512u
#define PAIR_BYTES (64u * KIB)
#define PAIRS 500u

/* A tracked disk; returns a sector to write, which is the caller's to free. */
static uint8_t *track(struct trackrig *r)
{
    struct loopdisk disk;

    loopdisk_init(&disk, DISK_BYTES, SECTOR, -1);
    trackrig_init(r, &disk);
    return random_bytes(SECTOR);
}

static void what_completed_unseen_is_not_forgotten_for_the_next_request(void **state)
{
    struct trackrig r;
    uint8_t *data = track(&r);

    (void)state;
    for (uint64_t at = 0; at < PAIRS * PAIR_BYTES; at += PAIR_BYTES) {
        loopdisk_write(&r.disk, at + 5 * SECTOR, data, SECTOR);                  /* completes unseen */
        loopdisk_write(&r.disk, at + PAIR_BYTES / 2 + 6 * SECTOR, data, SECTOR); /* is issued unseen */
    }
    assert_true(trackrig_drain(&r) >= 2 * PAIRS);
    assert_int_equal(trackrig_expect_superset(&r), 2 * PAIRS);
    trackrig_done(&r);
    free(data);
}

/* The list is the new array's from then on: what was in flight on the old one, or seems to be, is on it. */
static void what_completed_unseen_is_not_forgotten_when_the_disk_grows(void **state)
{
    const uint64_t unseen = PAIR_BYTES + 5 * SECTOR;
    struct trackrig r;
    uint8_t *data = track(&r);

    (void)state;
    loopdisk_write(&r.disk, unseen, data, SECTOR);
    loopdisk_resize(&r.disk, DISK_BYTES + PAIR_BYTES);
    assert_int_equal(tracker_resize(r.tracker, r.tracked, NULL), 0);
    assert_int_equal(dirty_resize(r.round, DISK_BYTES + PAIR_BYTES, NULL), 0);
    for (int i = 0; i < 2; i++) { /* nobody can know that the device has done it by now */
        (void)trackrig_drain(&r);
        assert_true(dirty_test(r.round, unseen));
    }
    trackrig_done(&r);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_completed_unseen_is_not_forgotten_for_the_next_request),
        cmocka_unit_test(what_completed_unseen_is_not_forgotten_when_the_disk_grows)};

    if (!loopdisk_is_possible()) {
        print_message("needs root and loop devices: not run\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
