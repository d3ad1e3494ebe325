/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading, listing and deleting, the same for both services but for a few words (Azure's own name of the range header: a plain one is
 * part of what SharedKey signs at another place).
 */
#include "transport/vault/object/objectrest.h"

#include <inttypes.h>
#include <stdio.h>

enum { LIST_BYTES_MAX = 8 << 20 };

void objectrest_path(const struct objectrest *r, const char *name, char out[OBJECTREST_PATH_MAX])
{
    snprintf(out, OBJECTREST_PATH_MAX, "%s/%s%s%s", objectweb_base(r->web), r->place, *name ? "/" : "", name);
}

int objectrest_run(struct objectrest *r, struct web_exchange *x, struct err *err)
{
    int done = objectweb_run(r->web, x, err);

    if (done != 0 || x->status != 404)
        return done;
    err_set(err, ERR_NOT_FOUND, "there is no %s %s", r->kind, r->place);
    return err_hint(err, "make it first, or correct its name in the URL");
}

int objectrest_list(struct objectrest *r, struct web_exchange *x, const struct list_words *words, unsigned limit,
    struct object_page *page, struct err *err)
{
    AUTO_BUF struct buf xml = BUF_INIT(LIST_BYTES_MAX);

    x->out = &xml;
    int found = objectrest_run(r, x, err);
    x->out = NULL;
    return found < 0 ? -1 : objectlist_parse(xml.data, xml.len, words, limit, page, err);
}

int objectrest_get(void *rest, const char *name, uint64_t offset, uint64_t n, struct buf *out, struct err *err)
{
    struct objectrest *r = rest;
    char path[OBJECTREST_PATH_MAX], range[64];
    struct web_exchange x = {.ask = {.method = "GET", .path = path}, .out = out};

    objectrest_path(r, name, path);
    x.partial = offset > 0 || n != OBJECT_WHOLE;
    if (n == OBJECT_WHOLE)
        snprintf(range, sizeof(range), "bytes=%" PRIu64 "-", offset);
    else
        snprintf(range, sizeof(range), "bytes=%" PRIu64 "-%" PRIu64, offset, offset + n - 1);
    if (x.partial)
        objectweb_header(&x, r->range_header, range);
    int found = objectweb_run(r->web, &x, err);
    return found == 0 && x.status == 416 ? 1 : found;
}

int objectrest_size(void *rest, const char *name, uint64_t *ret_bytes, struct err *err)
{
    struct objectrest *r = rest;
    char path[OBJECTREST_PATH_MAX];
    struct web_exchange x = {.ask = {.method = "HEAD", .path = path}};

    objectrest_path(r, name, path);
    int found = objectweb_run(r->web, &x, err);
    if (found == 1 && x.content_bytes == UINT64_MAX)
        return err_set(err, ERR_CORRUPT, "the service does not tell the size of an object");
    if (found == 1)
        *ret_bytes = x.content_bytes;
    return found;
}

int objectrest_remove(void *rest, const char *name, struct err *err)
{
    struct objectrest *r = rest;
    char path[OBJECTREST_PATH_MAX];
    struct web_exchange x = {.ask = {.method = "DELETE", .path = path}};

    objectrest_path(r, name, path);
    return objectweb_run(r->web, &x, err) < 0 ? -1 : 0;
}
