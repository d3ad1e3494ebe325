/* SPDX-License-Identifier: Apache-2.0
 *
 * A disk under the tracker, for tests.
 */
#include "tests/unit/mobility/track/trackrig.h"

#include <bpf/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

void trackrig_open(struct trackrig *r)
{
    struct err err = ERR_INIT;

    if (tracker_open(&r->config, &r->tracker, &err) < 0 || tracker_add(r->tracker, r->disk.path, &r->tracked, &err) < 0)
        fail_msg("%s", err.text);
}

void trackrig_remember(struct trackrig *r)
{
    loopdisk_read(&r->disk, 0, r->shadow, (uint32_t)r->disk_bytes);
}

void trackrig_init(struct trackrig *r, const struct loopdisk *disk)
{
    memset(r, 0, sizeof(*r));
    temp_init(r->dir);
    bpffs_mount(r->dir, r->bpf);
    r->disk = *disk;
    r->disk_bytes = disk->size_bytes;
    r->config = (struct tracker_config){.pin_root = r->bpf, .instance = "test"};
    r->shadow = aligned_alloc(4096, r->disk_bytes);
    r->now = aligned_alloc(4096, r->disk_bytes);
    assert_true(r->shadow && r->now);
    must_run("dd if=/dev/urandom of=%s bs=1M count=16 conv=fsync status=none", r->disk.path);
    trackrig_open(r);
    assert_int_equal(dirty_new(r->disk_bytes, 12, &r->round, NULL), 0);
    trackrig_remember(r);
}

void trackrig_done(struct trackrig *r)
{
    tracker_close(r->tracker);
    (void)tracker_destroy(&r->config, NULL);
    dirty_close(r->round);
    loopdisk_done(&r->disk);
    bpffs_unmount(r->bpf);
    temp_done(r->dir);
    free(r->shadow);
    free(r->now);
}

uint64_t trackrig_drain(struct trackrig *r)
{
    struct err err = ERR_INIT;
    uint64_t granules = 0;

    dirty_clear_all(r->round);
    if (tracker_drain(r->tracker, r->tracked, r->round, NULL, &granules, &err) < 0)
        fail_msg("%s", err.text);
    return granules;
}

unsigned trackrig_expect_superset(struct trackrig *r)
{
    unsigned changed = 0;

    loopdisk_read(&r->disk, 0, r->now, (uint32_t)r->disk_bytes);
    for (uint64_t at = 0; at < r->disk_bytes; at += GRANULE) {
        if (memcmp(r->shadow + at, r->now + at, GRANULE) == 0)
            continue;
        changed++;
        if (!dirty_test(r->round, at))
            fail_msg("the change at %llu is not marked", (unsigned long long)at);
    }
    memcpy(r->shadow, r->now, r->disk_bytes);
    return changed;
}

void trackrig_expect_marked(struct trackrig *r, uint64_t start, uint64_t length)
{
    uint64_t cursor = 0, s, l;

    assert_int_equal(dirty_next(r->round, &cursor, 0, &s, &l), 1);
    assert_int_equal(s, start);
    assert_int_equal(l, length);
    assert_int_equal(dirty_next(r->round, &cursor, 0, &s, &l), 0);
}

int trackrig_pin(const struct trackrig *r, const char *name)
{
    char path[160];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/test/%s", r->bpf, name);
    fd = bpf_obj_get(path);
    assert_true(fd >= 0);
    return fd;
}

uint32_t trackrig_key(const struct loopdisk *disk)
{
    struct stat st;

    assert_int_equal(fstat(disk->fd, &st), 0);
    return ((uint32_t)major(st.st_rdev) << 20) | (uint32_t)minor(st.st_rdev);
}

int trackrig_array(const struct trackrig *r, const struct loopdisk *disk)
{
    char name[32];

    (void)snprintf(name, sizeof(name), "disk-%08x", trackrig_key(disk));
    return trackrig_pin(r, name);
}
