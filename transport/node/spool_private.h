/* SPDX-License-Identifier: Apache-2.0
 *
 * The inside of a spool, shared by its writing, scanning and reading halves.
 */
#ifndef TRANSPORT_NODE_SPOOL_PRIVATE_H
#define TRANSPORT_NODE_SPOOL_PRIVATE_H

#include "transport/log/segment.h"
#include "transport/node/spool.h"

/* Where segments are written anew (spool_join.c); what is there is not part of the spool. */
#define SPOOL_JOIN_FOLDER ".join"

struct spool_segment {
    uint64_t number;
    uint64_t end;           /* of its records */
    uint64_t last_sequence; /* of the last whole set in it, 0: none */
};

struct spool_set {
    uint64_t segment;
    uint64_t start, end;
};

struct spool {
    int dirfd;
    struct ident machine;
    uint64_t segment_bytes;
    uint64_t generation, epoch;
    uint64_t next_sequence;
    struct segment_writer *writer;  /* of the last segment; NULL: the next append makes a new one */
    struct spool_segment *segments; /* ascending */
    size_t segment_count, segment_cap;
    struct spool_set *sets; /* the last one is of next_sequence - 1 */
    size_t set_count, set_cap;
    uint64_t next_number;
    uint64_t begun;     /* how often it was begun anew */
    bool half_begun;    /* beginning anew failed: some of it may be gone, nothing may be appended before that is done */
    bool ends_segment;  /* the next mark ends the segment, however short */
    uint64_t set_start; /* offset behind the last mark in the last segment */
    struct segment_reader *reader; /* of segment reader_number; NULL: none */
    uint64_t reader_number;
};

int spool_add_segment(struct spool *s, uint64_t number, struct err *err);
int spool_add_set(struct spool *s, uint64_t segment, uint64_t start, uint64_t end, struct err *err);
void spool_forget_reader(struct spool *s);
int spool_remove_segment_file(struct spool *s, uint64_t number, struct err *err);
/* Cuts the file of a segment, sealed or not, behind a mark; deletes it where that fails. What is behind the cut, a seal even, would be found by the
 * next scan and take newer sets with it. */
void spool_cut_segment(const struct spool *s, uint64_t number, uint64_t end);
/* Ends the segment that grows: at once when it ends in a mark, else behind the next one. */
int spool_end_segment(struct spool *s, struct err *err);
/* Fills an empty spool from the files in its folder. */
int spool_scan(struct spool *s, struct err *err);

#endif
