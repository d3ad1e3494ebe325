/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * The few kernel types that the program looks at, written by hand. preserve_access_index makes libbpf find each member's
 * place in the running kernel's own BTF when the program is loaded, so only names matter here, not offsets, and the build
 * needs no kernel headers. All names are the same from 5.15 to 6.18.
 */
#ifndef MOBILITY_TRACK_BLOCKTRACK_KERNEL_H
#define MOBILITY_TRACK_BLOCKTRACK_KERNEL_H

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct gendisk {
    int major;
    int first_minor;
};

struct block_device {
    struct gendisk *bd_disk;
};

struct request_queue {
    struct gendisk *disk;
};

struct bvec_iter {
    unsigned long long bi_sector;
    unsigned int bi_size;
};

struct bio {
    struct bio *bi_next;
    struct block_device *bi_bdev;
    unsigned int bi_opf;
    struct bvec_iter bi_iter;
};

struct request {
    struct request_queue *q;
    unsigned int cmd_flags;
    unsigned int __data_len;
    unsigned long long __sector;
    unsigned short nr_phys_segments;
    struct bio *bio;
};

#pragma clang attribute pop

/* Numbers of flags differ between kernels: read from BTF. */
enum req_flag_bits { __REQ_FUA = 17, __REQ_PREFLUSH = 18 };

/* Numbers of operations that have never changed. All operations that change content are odd. */
#define OP_MASK 0xff
#define OP_WRITE 1
#define OP_FLUSH 2
#define OP_DISCARD 3
#define OP_SECURE_ERASE 5
#define OP_WRITE_ZEROES 9
#define OP_DRV_OUT 35

#endif
