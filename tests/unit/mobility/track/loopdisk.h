/* SPDX-License-Identifier: Apache-2.0
 *
 * A loop disk for tests, over a sparse file in a temporary folder that has no name any more. Direct I/O, and autoclear: the disk
 * goes with the last descriptor on it, so nothing is left behind when a test is killed.
 */
#ifndef TESTS_UNIT_MOBILITY_TRACK_LOOPDISK_H
#define TESTS_UNIT_MOBILITY_TRACK_LOOPDISK_H

#include <stdbool.h>
#include <stdint.h>

struct loopdisk {
    char path[32]; /* /dev/loopN */
    int fd;        /* read-write, through the page cache; keeps the disk alive */
    int file_fd;   /* the backing file */
    uint64_t size_bytes;
};

/* Loop disks, mounts and eBPF need root; tests skip without. True: this process also has mounts of its own from now on, which go
 * with it however it ends. */
bool loopdisk_is_possible(void);
/* Fails the running test when it cannot be made. file_fd >= 0 is taken as backing file (closed by loopdisk_done). */
void loopdisk_init(struct loopdisk *l, uint64_t size_bytes, unsigned sector_bytes, int file_fd);
void loopdisk_done(struct loopdisk *l);
/* Takes its partitions away, in the end also where somebody who looks at all disks, as other tests do, has one open. */
void loopdisk_forget_partitions(const struct loopdisk *l);
/* Grows or shrinks file and disk. */
void loopdisk_resize(struct loopdisk *l, uint64_t size_bytes);
/* Writes through the disk with O_DIRECT; offset, n and data are aligned to 4096 unless the disk's sector is smaller. */
void loopdisk_write(struct loopdisk *l, uint64_t offset, const void *data, uint32_t n);
void loopdisk_read(struct loopdisk *l, uint64_t offset, void *data, uint32_t n);
/* A folder of the test's own, removed by temp_done. */
void temp_init(char path[64]);
void temp_done(const char *path);
/* A bpffs of the test's own, mounted below dir; removed by bpffs_unmount. */
void bpffs_mount(const char *dir, char path[96]);
void bpffs_unmount(const char *path);
/* Runs a shell command; fails the test if it fails. */
void must_run(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Unmounts a file system that an agent may have open for a moment: to freeze it, or to see what it is. */
void must_unmount(const char *path);
/* Mounts a file system whose server never says a word over what is at path. What it returns ends, when it is given to silent_unmount, whoever waits for it.
 * Skips the running test where there is no FUSE. */
int silent_mount(const char *path);
void silent_unmount(int silent, const char *path);
/* A page-aligned buffer of random bytes; free() it. */
uint8_t *random_bytes(uint32_t n);

#endif
