/* SPDX-License-Identifier: Apache-2.0
 *
 * What all services have in common: URLs, names and the prefix before them, pages, and the choice between a conditional write
 * and asking first. Names are so narrow that no driver has to encode one.
 */
#include "transport/vault/object/object.h"

#include <stdlib.h>
#include <string.h>

#include "transport/base/file.h"
#include "transport/vault/object/object_private.h"

#define PROBE_NAME "leeward-probe"

struct object_store {
    const struct object_driver *driver;
    void *d;
    unsigned features;
    char prefix[OBJECT_NAME_MAX + 2]; /* of the URL, with a slash at its end, or empty */
};

static bool part_is_valid(const char *part, size_t n)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

    return n > 0 && part[0] != '.' && strspn(part, allowed) >= n;
}

bool object_name_is_valid(const char *name)
{
    if (strlen(name) > OBJECT_NAME_MAX)
        return false;
    for (const char *part = name;;) {
        size_t n = strcspn(part, "/");

        if (!part_is_valid(part, n))
            return false;
        if (part[n] == '\0')
            return true;
        part += n + 1;
    }
}

/* A prefix may end anywhere: "" and "a/" and "a/b" are all right. */
static bool prefix_is_valid(const char *prefix)
{
    size_t n = strlen(prefix);
    char text[OBJECT_NAME_MAX + 2];

    if (n == 0)
        return true;
    if (n > OBJECT_NAME_MAX)
        return false;
    memcpy(text, prefix, n + 1);
    if (text[n - 1] == '/')
        text[n - 1] = '\0';
    return object_name_is_valid(text);
}

/* The prefix of the URL and the name. */
static int whole_name(
    const struct object_store *s, const char *name, bool is_prefix, char out[OBJECT_NAME_MAX + 1], struct err *err)
{
    if (is_prefix ? !prefix_is_valid(name) : !object_name_is_valid(name))
        return err_set(err, ERR_INVALID, "\"%.80s\" cannot be the name of an object", name);
    size_t a = strlen(s->prefix), b = strlen(name);
    if (a + b > OBJECT_NAME_MAX)
        return err_set(err, ERR_INVALID, "the object's name has more than %d bytes", OBJECT_NAME_MAX);
    memcpy(out, s->prefix, a);
    memcpy(out + a, name, b + 1);
    return 0;
}

/* ---- opening ---- */

static int bad_url(struct err *err)
{
    err_set(err, ERR_INVALID, "this is not the URL of an object store");
    return err_hint(err, "file:///PATH, azure://ACCOUNT/CONTAINER[/PREFIX] or s3://BUCKET[/PREFIX]");
}

/* Takes one part of a path; *text stands behind the slash that ended it. Accounts, containers and buckets are lower case. */
static int take_part(const char **text, char out[256], struct err *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789.-";
    size_t n = strcspn(*text, "/");

    if (n < 3 || n > 63 || strspn(*text, allowed) < n || (*text)[0] == '.' || (*text)[0] == '-')
        return bad_url(err);
    memcpy(out, *text, n);
    out[n] = '\0';
    *text += n + ((*text)[n] == '/');
    return 0;
}

static int set_prefix(struct object_store *s, const char *text, struct err *err)
{
    size_t n = strlen(text);

    if (!prefix_is_valid(text))
        return bad_url(err);
    memcpy(s->prefix, text, n + 1);
    if (n > 0 && text[n - 1] != '/')
        memcpy(s->prefix + n, "/", 2);
    return 0;
}

static int open_driver(struct object_store *s, const struct object_conf *conf, struct err *err)
{
    struct object_place at = {0};
    const char *rest = conf->url;

    if (strncmp(rest, "file:///", 8) == 0) {
        s->driver = &objectdir_driver;
        return objectdir_open(rest + 7, &s->d, err);
    }
    if (strncmp(rest, "azure://", 8) == 0) {
        rest += 8;
        s->driver = &objectazure_driver;
        if (take_part(&rest, at.first, err) < 0 || take_part(&rest, at.second, err) < 0 || set_prefix(s, rest, err) < 0)
            return -1;
        return objectazure_open(conf, &at, &s->d, err);
    }
    if (strncmp(rest, "s3://", 5) == 0) {
        rest += 5;
        s->driver = &objects3_driver;
        if (take_part(&rest, at.first, err) < 0 || set_prefix(s, rest, err) < 0)
            return -1;
        return objects3_open(conf, &at, &s->d, err);
    }
    return bad_url(err);
}

int object_open(const struct object_conf *conf, struct object_store **ret_store, struct err *err)
{
    struct object_store *s AUTO_OF(object_store) = mem_new(struct object_store);

    if (s == NULL)
        return err_set(err, ERR_NOMEM, "out of memory for an object store");
    if (open_driver(s, conf, err) < 0)
        return -1;
    s->features = s->driver->features;
    *ret_store = TAKE_PTR(s);
    return 0;
}

void object_close(struct object_store *s)
{
    if (s == NULL)
        return;
    if (s->d != NULL)
        s->driver->close(s->d);
    free(s);
}

unsigned object_features(const struct object_store *s)
{
    return s->features;
}

/* ---- one object ---- */

/* Where conditions are not honoured, asks first: 1 the name is free; 0; -1. */
static int name_is_free(struct object_store *s, const char *whole, struct err *err)
{
    uint64_t there;

    if ((s->features & OBJECT_CONDITION_HONOURED) != 0)
        return 1;
    int found = s->driver->size(s->d, whole, &there, err);
    return found < 0 ? -1 : !found;
}

int object_put_new(struct object_store *s, const char *name, const void *data, size_t n, struct err *err)
{
    char whole[OBJECT_NAME_MAX + 1];

    if (whole_name(s, name, false, whole, err) < 0)
        return -1;
    if (n > OBJECT_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "%zu bytes are too many for one object", n);
    int is_free = name_is_free(s, whole, err);
    return is_free <= 0 ? is_free : s->driver->put(s->d, whole, data, n, true, err);
}

int object_put_file(struct object_store *s, const char *name, int fd, uint64_t offset, uint64_t n, struct err *err)
{
    struct object_pieces pieces AUTO_PIECES;
    AUTO_BUF struct buf data = BUF_INIT(OBJECT_SINGLE_MAX);
    char whole[OBJECT_NAME_MAX + 1];

    if (objectpieces_init(&pieces, fd, offset, n, err) < 0 || whole_name(s, name, false, whole, err) < 0)
        return -1;
    int is_free = name_is_free(s, whole, err);
    if (is_free <= 0)
        return is_free;
    if (n > OBJECT_SINGLE_MAX)
        return s->driver->put_pieces(s->d, whole, &pieces, true, err);
    if (buf_reserve(&data, n, err) < 0 || file_pread_all(fd, data.data, n, offset, name, err) < 0)
        return -1;
    return s->driver->put(s->d, whole, data.data, n, true, err);
}

int object_put(struct object_store *s, const char *name, const void *data, size_t n, struct err *err)
{
    char whole[OBJECT_NAME_MAX + 1];

    if (whole_name(s, name, false, whole, err) < 0)
        return -1;
    if (n > OBJECT_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "%zu bytes are too many for one object", n);
    return s->driver->put(s->d, whole, data, n, false, err) < 0 ? -1 : 0;
}

int object_get(struct object_store *s, const char *name, uint64_t offset, uint64_t n, struct buf *out, struct err *err)
{
    char whole[OBJECT_NAME_MAX + 1];
    size_t before = out->len;

    if (whole_name(s, name, false, whole, err) < 0)
        return -1;
    if (n == 0 || (n != OBJECT_WHOLE && offset > UINT64_MAX - n))
        return err_set(err, ERR_INVALID, "no bytes are asked for");
    int found = s->driver->get(s->d, whole, offset, n, out, err);
    if (found == 1 && out->len - before > n)
        found = err_set(err, ERR_CORRUPT, "more bytes of %s came than were asked for", name);
    if (found <= 0)
        out->len = before;
    return found;
}

int object_size(struct object_store *s, const char *name, uint64_t *ret_bytes, struct err *err)
{
    char whole[OBJECT_NAME_MAX + 1];

    if (whole_name(s, name, false, whole, err) < 0)
        return -1;
    return s->driver->size(s->d, whole, ret_bytes, err);
}

int object_delete(struct object_store *s, const char *name, struct err *err)
{
    char whole[OBJECT_NAME_MAX + 1];

    if (whole_name(s, name, false, whole, err) < 0)
        return -1;
    return s->driver->remove(s->d, whole, err);
}

int object_probe(struct object_store *s, struct err *err)
{
    char whole[OBJECT_NAME_MAX + 1];

    if (whole_name(s, PROBE_NAME, false, whole, err) < 0 || s->driver->remove(s->d, whole, err) < 0)
        return -1;
    int first = s->driver->put(s->d, whole, "1", 1, true, err);
    int second = first < 0 ? -1 : s->driver->put(s->d, whole, "2", 1, true, err);
    if (second < 0 || s->driver->remove(s->d, whole, err) < 0)
        return -1;
    /* Somebody else's probe at the same moment makes both refused, which shows the same. */
    if (second == 0)
        s->features |= OBJECT_CONDITION_HONOURED;
    else
        s->features &= ~(unsigned)OBJECT_CONDITION_HONOURED;
    return 0;
}

/* ---- pages ---- */

int object_page_add(struct object_page *page, const char *name, uint64_t bytes, struct err *err)
{
    if (page->count % 64 == 0) {
        struct object_entry *more = mem_resize(page->entries, page->count + 64, sizeof(*more));
        if (more == NULL)
            return err_set(err, ERR_NOMEM, "out of memory for a list of objects");
        page->entries = more;
    }
    char *copy = mem_strdup(name);
    if (copy == NULL)
        return err_set(err, ERR_NOMEM, "out of memory for a list of objects");
    page->entries[page->count++] = (struct object_entry){.name = copy, .bytes = bytes};
    return 0;
}

static int entry_order(const void *a, const void *b)
{
    return strcmp(((const struct object_entry *)a)->name, ((const struct object_entry *)b)->name);
}

void object_page_sort(struct object_page *page)
{
    if (page->count > 1)
        qsort(page->entries, page->count, sizeof(*page->entries), entry_order);
}

void object_page_done(struct object_page *page)
{
    for (size_t i = 0; i < page->count; i++)
        free(page->entries[i].name);
    free(page->entries);
    free(page->next);
    *page = (struct object_page){0};
}

/* Takes the prefix of the URL off. What others put into the container under names that we cannot have is passed over. */
static void keep_ours(const struct object_store *s, struct object_page *page)
{
    size_t n = strlen(s->prefix), kept = 0;

    for (size_t i = 0; i < page->count; i++) {
        struct object_entry e = page->entries[i];

        if (strncmp(e.name, s->prefix, n) != 0 || !object_name_is_valid(e.name + n)) {
            free(e.name);
            continue;
        }
        memmove(e.name, e.name + n, strlen(e.name + n) + 1);
        page->entries[kept++] = e;
    }
    page->count = kept;
    object_page_sort(page);
}

int object_list(struct object_store *s, const char *prefix, const char *after, unsigned limit,
    struct object_page *ret_page, struct err *err)
{
    char whole[OBJECT_NAME_MAX + 1];
    struct object_page page = {0};

    if (limit < 1 || limit > OBJECT_PAGE_MAX)
        return err_set(err, ERR_INVALID, "a page has 1 to %d objects", OBJECT_PAGE_MAX);
    if (whole_name(s, prefix, true, whole, err) < 0)
        return -1;
    if (s->driver->list(s->d, whole, after, limit, &page, err) < 0) {
        object_page_done(&page);
        return -1;
    }
    keep_ours(s, &page);
    *ret_page = page;
    return 0;
}
