/* SPDX-License-Identifier: Apache-2.0
 *
 * Named immutable bytes in a place that is not this machine: a local directory, Azure Blob Storage, or S3. One interface, one
 * driver per service; feature flags say what a service does, and object_probe finds out whether it keeps its word.
 *
 * URL                        endpoint when none is given                     secrets
 *     file:///PATH           -                                               -
 *     azure://ACCOUNT/CONTAINER[/PREFIX]   https://ACCOUNT.blob.core.windows.net    account key (SharedKey), or SAS
 *     s3://BUCKET[/PREFIX]   https://s3.REGION.amazonaws.com (path style)     key id and secret (SigV4)
 *
 * Names are parts of A-Z a-z 0-9 . _ - with a slash in between; no part begins with a dot; at most 512 bytes with the prefix.
 * A name in an error or a page never has the prefix of the URL.
 *
 * A store is used by one thread at a time, which waits for the service. Answers are bounded, and what can pass (a lost
 * connection, 408, 429, 5xx) is tried again with growing pauses. Errors carry a correction where there is one.
 */
#ifndef TRANSPORT_VAULT_OBJECT_OBJECT_H
#define TRANSPORT_VAULT_OBJECT_OBJECT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/buf.h"
#include "transport/base/err.h"
#include "transport/base/mem.h"

enum {
    OBJECT_NAME_MAX = 512,
    OBJECT_PAGE_MAX = 1000,        /* entries of one page: what S3 gives at most */
    OBJECT_BYTES_MAX = 1024 << 20, /* one put; far below the 5 GB that both services take in one piece */
};

enum object_feature {
    OBJECT_PUT_IF_ABSENT = 1 << 0,      /* the service knows conditional writes */
    OBJECT_CONDITION_HONOURED = 1 << 1, /* and was seen to refuse a second one (a directory: by construction) */
    OBJECT_LIST_PAGES = 1 << 2,         /* lists by prefix, in pages, sorted by name */
    OBJECT_RANGED_GET = 1 << 3,
    OBJECT_DELETE = 1 << 4,
};

struct object_conf {
    const char *url;
    const char *endpoint; /* "http://127.0.0.1:10000/devstoreaccount1"; NULL: the service's own */
    const char *region;   /* S3; NULL: us-east-1 */
    const char *key_id;   /* S3 access key */
    const char *secret;   /* S3 secret key, or Azure account key (base64) */
    const char *sas; /* Azure: shared access signature, with or without the leading question mark; then no secret */
    unsigned stall_seconds;    /* a request without any byte for so long is given up; 0: 30 */
    unsigned tries;            /* of each request; 0: 5 */
    uint64_t bytes_per_second; /* of uploads, and of downloads; 0: as fast as it goes */
    const atomic_bool *stop;   /* once it is true every call ends soon, ERR_CANCELLED; NULL: nothing stops them */
};

struct object_store;

/* Checks the configuration and remembers it; does not talk to the service. Nothing of conf is used afterwards.
 * ERR_INVALID with a correction; ERR_UNSUPPORTED: another kind of URL; ERR_NOMEM; directory: ERR_IO and the like. */
int object_open(const struct object_conf *conf, struct object_store **ret_store, struct err *err);
void object_close(struct object_store *s); /* NULL is allowed */
DEFINE_AUTO(object_store, object_close)

unsigned object_features(const struct object_store *s); /* of enum object_feature */
/* Writes a small object "leeward-probe" twice on condition that it is not there, and sets or clears OBJECT_CONDITION_HONOURED.
 * So it shows as well that the container is there and may be written and deleted. */
int object_probe(struct object_store *s, struct err *err);

/* Writes an object that is not there yet: 1 it is written, 0 the name is taken (nothing was changed; it may be by an earlier try of
 * this very call whose answer was lost), -1. Where conditions are not honoured, it asks first, which leaves a gap between the two. */
int object_put_new(struct object_store *s, const char *name, const void *data, size_t n, struct err *err);
/* The same with n bytes of a file, from offset on, which must not change meanwhile. A large object goes in pieces; a call that failed, or whose
 * process was killed, goes on where it was when it is made again. */
int object_put_file(struct object_store *s, const char *name, int fd, uint64_t offset, uint64_t n, struct err *err);
/* Writes an object, whatever was there. It is complete or not there at all. */
int object_put(struct object_store *s, const char *name, const void *data, size_t n, struct err *err);

#define OBJECT_WHOLE UINT64_MAX
/* Appends n bytes from offset on (less when the object ends before; OBJECT_WHOLE: all that there is) to out, whose maximum
 * bounds it (ERR_TOO_LARGE). 1; 0: there is no such object; -1: and out is as it was. */
int object_get(struct object_store *s, const char *name, uint64_t offset, uint64_t n, struct buf *out, struct err *err);
/* 1 and the size; 0: there is no such object. */
int object_size(struct object_store *s, const char *name, uint64_t *ret_bytes, struct err *err);
/* An object that is not there is success. */
int object_delete(struct object_store *s, const char *name, struct err *err);

struct object_entry {
    char *name;
    uint64_t bytes;
};

struct object_page {
    struct object_entry *entries; /* sorted by the bytes of the name */
    size_t count;
    char *next; /* opaque: pass as `after` for the next page; NULL: that was the last one */
};

/* One page of at most `limit` (1..OBJECT_PAGE_MAX) objects whose name begins with prefix (may be ""). A page may have fewer, even
 * none, and yet a next one. `after` NULL: from the beginning. The page is the caller's: object_page_done. */
int object_list(struct object_store *s, const char *prefix, const char *after, unsigned limit,
    struct object_page *ret_page, struct err *err);
void object_page_done(struct object_page *page);
/* Shows all objects with the prefix, in the order of their names, until visit says -1. A list that does not come to an end (names that do not
 * go up, page after page without any) is ERR_CORRUPT. Objects may be deleted meanwhile. */
int object_walk(struct object_store *s, const char *prefix,
    int (*visit)(void *arg, const struct object_entry *entry, struct err *err), void *arg, struct err *err);

/* Is this a name that objects can have? (For names that come from outside; all calls check it, too.) */
bool object_name_is_valid(const char *name);

#endif
