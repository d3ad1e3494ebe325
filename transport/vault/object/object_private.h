/* SPDX-License-Identifier: Apache-2.0
 *
 * What a driver is. object.c checks names and puts the prefix of the URL before them; a driver sees whole names that are
 * valid, and pages of it have whole names, too. Result alphabets are those of object.h.
 */
#ifndef TRANSPORT_VAULT_OBJECT_OBJECT_PRIVATE_H
#define TRANSPORT_VAULT_OBJECT_OBJECT_PRIVATE_H

#include "transport/vault/object/object.h"
#include "transport/vault/object/objectpieces.h"

struct object_driver {
    unsigned features;
    void (*close)(void *d);
    /* if_absent: 1 written, 0 taken. Otherwise 1. */
    int (*put)(void *d, const char *name, const void *data, size_t n, bool if_absent, struct err *err);
    /* The same with more than OBJECT_SINGLE_MAX bytes, in pieces; goes on where an earlier try broke off, if the service can tell. */
    int (*put_pieces)(void *d, const char *name, struct object_pieces *pieces, bool if_absent, struct err *err);
    int (*get)(void *d, const char *name, uint64_t offset, uint64_t n, struct buf *out, struct err *err);
    int (*size)(void *d, const char *name, uint64_t *ret_bytes, struct err *err);
    int (*remove)(void *d, const char *name, struct err *err);
    int (*list)(
        void *d, const char *prefix, const char *after, unsigned limit, struct object_page *page, struct err *err);
};

/* The place that a URL names, cut up. */
struct object_place {
    char first[256];  /* account, or bucket */
    char second[256]; /* container; empty for S3 */
};

int objectdir_open(const char *path, void **ret_driver, struct err *err);
int objectazure_open(const struct object_conf *conf, const struct object_place *at, void **ret_driver, struct err *err);
int objects3_open(const struct object_conf *conf, const struct object_place *at, void **ret_driver, struct err *err);
extern const struct object_driver objectdir_driver, objectazure_driver, objects3_driver;

/* Adds an entry; the page keeps a copy of the name. */
int object_page_add(struct object_page *page, const char *name, uint64_t bytes, struct err *err);
void object_page_sort(struct object_page *page);

#endif
