/* SPDX-License-Identifier: Apache-2.0
 *
 * What upload.c (the turn), upload_folder.c (the machine's files), upload_segment.c (its log), upload_side.c and upload_branch.c (what is beside its log) and
 * upload_send.c (pieces and marks) share.
 */
#ifndef TRANSPORT_VAULT_UPLOAD_PRIVATE_H
#define TRANSPORT_VAULT_UPLOAD_PRIVATE_H

#include <sys/types.h>
#include <time.h>

#include "transport/log/segment.h"
#include "transport/vault/bucketstate.h"
#include "transport/vault/upload.h"

#define UPLOAD_PIECES_MAX 256u /* of a file that grows, before it becomes one object again */

struct entry_list {
    struct bucket_entry *items;
    size_t count;
};

/* The log's files at the moment of the source. */
struct segment_file {
    uint64_t number, bytes;
    ino_t inode;
};

struct upload {
    struct ident machine;
    uint64_t turn_bytes;
    bool loaded;           /* state is what the bucket's marks say, and the changes since */
    bool swept;            /* what no mark names was looked for */
    bool branches_checked; /* what the bucket has of branches that grow is what the vault has */
    bool mends_known;      /* as they were when their folder had this time */
    struct timespec mends_time;
    struct segment_file *held; /* files that are damaged: the bucket keeps what it has of these segments */
    size_t held_count;
    struct bucketstate state;
    struct entry_list changes; /* since the newest mark */
    struct entry_list doomed;  /* pieces to delete once a mark is there that does not name them */
};

/* One turn's things. */
struct upload_turn {
    struct upload *u;
    struct object_store *objects;
    const struct upload_source *src;
    struct upload_result *result;
    bool moved_on; /* the folder is not what the source says any more */
};

struct folder {
    int main_fd;                   /* -1: not open */
    struct segment_file *segments; /* by number */
    size_t count;
};

/* upload_folder.c */
/* Sets t->moved_on when the folder is not what the source says any more; so do the other two. */
int upload_folder_open(struct folder *f, struct upload_turn *t, struct err *err);
void upload_folder_done(struct folder *f);
const struct segment_file *upload_folder_find(const struct folder *f, uint64_t number); /* NULL: no such segment */
int upload_open_segment(struct upload_turn *t, const struct folder *f, const struct segment_file *seg, struct err *err);
int upload_open_file(struct upload_turn *t, const char *name, struct err *err);

/* Says that the folder is not what the source says any more; -1. */
int upload_moved_on(struct upload_turn *t, struct err *err);

/* upload_segment.c */
/* Bytes of a segment that count: of the last one those up to the last mark. */
uint64_t upload_bytes_wanted(const struct upload_turn *t, const struct segment_file *seg);
int upload_segment(struct upload_turn *t, const struct folder *folder, const struct segment_file *seg, struct err *err);

/* upload_side.c */
int upload_side(struct upload_turn *t, struct err *err);
/* A file that is replaced as a whole, as one piece, when the bucket has another or none. 1; 0: there is no such file. */
int upload_send_small(struct upload_turn *t, const struct bucket_entry *file, struct err *err);

/* upload_branch.c */
/* 1: all that grows is there up to its last mark; 0: the turn's share is used up, and what is there is older. */
int upload_branches(struct upload_turn *t, struct err *err);

/* upload_send.c */
int upload_list_add(struct entry_list *l, const struct bucket_entry *e, struct err *err);
int upload_hash(int fd, uint64_t from, uint64_t bytes, struct hash128 *ret_hash, struct err *err);
/* Makes bytes [from, to) of a file (kind, owner and number of `file`) pieces in the bucket; from 0: instead of what is there of it.
 * is_whole: as one piece. */
int upload_send_file(struct upload_turn *t, const struct bucket_entry *file, int fd, uint64_t from, uint64_t to,
    bool is_whole, struct err *err);
int upload_send_gone(struct upload_turn *t, const struct bucket_entry *file, struct err *err);
/* Writes the mark over what was sent, and deletes what it replaces. */
int upload_send_mark(struct upload_turn *t, struct err *err);

#endif
