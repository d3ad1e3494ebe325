/* SPDX-License-Identifier: Apache-2.0
 *
 * A list from its first page to its last one. The service is not believed that there is an end: names must go up, and pages without
 * any name of ours may come only so often in a row.
 */
#include "transport/vault/object/object.h"

#include <stdlib.h>
#include <string.h>

enum { EMPTY_PAGES_MAX = 1000 };

struct walk {
    int (*visit)(void *arg, const struct object_entry *entry, struct err *err);
    void *arg;
    char last[OBJECT_NAME_MAX + 1]; /* the name before; names of objects are not longer */
    unsigned empty_pages;
};

static int endless(struct err *err)
{
    err_set(err, ERR_CORRUPT, "the service's list of objects does not come to an end");
    return err_hint(err, "check that the endpoint is a storage service");
}

static int walk_page(struct walk *w, const struct object_page *page, struct err *err)
{
    w->empty_pages = page->count == 0 ? w->empty_pages + 1 : 0;
    if (w->empty_pages > EMPTY_PAGES_MAX)
        return endless(err);
    for (size_t i = 0; i < page->count; i++) {
        const char *name = page->entries[i].name;
        size_t n = strlen(name);
        if (n > OBJECT_NAME_MAX || strcmp(name, w->last) <= 0)
            return endless(err);
        memcpy(w->last, name, n + 1);
        if (w->visit(w->arg, &page->entries[i], err) < 0)
            return -1;
    }
    return 0;
}

int object_walk(struct object_store *s, const char *prefix,
    int (*visit)(void *arg, const struct object_entry *entry, struct err *err), void *arg, struct err *err)
{
    struct walk w = {.visit = visit, .arg = arg};
    AUTO_FREE char *after = NULL;

    do {
        struct object_page page = {0};
        if (object_list(s, prefix, after, OBJECT_PAGE_MAX, &page, err) < 0)
            return -1;
        int walked = walk_page(&w, &page, err);
        free(after);
        after = TAKE_PTR(page.next);
        object_page_done(&page);
        if (walked < 0)
            return -1;
    } while (after != NULL);
    return 0;
}
