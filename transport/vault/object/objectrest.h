/* SPDX-License-Identifier: Apache-2.0
 *
 * What the REST interfaces of Azure Blob and S3 have in common: an object is ENDPOINT/PLACE/NAME, GET with a range, HEAD, DELETE, and
 * lists in XML. A driver's struct begins with an objectrest, so that these functions stand in its table as they are.
 */
#ifndef TRANSPORT_VAULT_OBJECT_OBJECTREST_H
#define TRANSPORT_VAULT_OBJECT_OBJECTREST_H

#include "transport/vault/object/object_private.h"
#include "transport/vault/object/objectlist.h"
#include "transport/vault/object/objectweb.h"

enum { OBJECTREST_PATH_MAX = 1536 };

struct objectrest {
    struct objectweb *web;
    const char *kind;         /* "container" or "bucket": for errors */
    const char *place;        /* its name */
    const char *range_header; /* "range", or the service's own */
};

/* The path of an object; of the container or bucket itself when the name is empty. */
void objectrest_path(const struct objectrest *r, const char *name, char out[OBJECTREST_PATH_MAX]);
/* Runs a request that needs nothing but the container or bucket to be there: a 404 means that it is not, ERR_NOT_FOUND with a
 * correction. Else as objectweb_run. */
int objectrest_run(struct objectrest *r, struct web_exchange *x, struct err *err);
/* Runs the request of one page of a list and reads the answer. */
int objectrest_list(struct objectrest *r, struct web_exchange *x, const struct list_words *words, unsigned limit,
    struct object_page *page, struct err *err);

/* As of struct object_driver; rest is a driver's struct. */
int objectrest_get(void *rest, const char *name, uint64_t offset, uint64_t n, struct buf *out, struct err *err);
int objectrest_size(void *rest, const char *name, uint64_t *ret_bytes, struct err *err);
int objectrest_remove(void *rest, const char *name, struct err *err);

/* objectblocks.c, objectmultipart.c: put_pieces of Azure and of S3 */
int objectblocks_put(void *rest, const char *name, struct object_pieces *p, bool if_absent, struct err *err);
int objectmultipart_put(void *rest, const char *name, struct object_pieces *p, bool if_absent, struct err *err);

#endif
