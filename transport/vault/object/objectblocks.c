/* SPDX-License-Identifier: Apache-2.0
 *
 * Large blobs in Azure: Put Block for each piece, then Put Block List, which makes the blob at once or not at all. The service keeps blocks
 * that no list names for a week, and tells them (Get Block List): an upload that broke off goes on there. A block's id has the piece's hash,
 * so a block is used again only when it is this very piece.
 */
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "transport/base/bytes.h"
#include "transport/base/hash.h"
#include "transport/vault/object/objectpieces.h"
#include "transport/vault/object/objectrest.h"

enum {
    ID_RAW = 24,  /* index, bytes, hash: all ids of a blob must be of one length */
    ID_SIZE = 33, /* in base64, with the NUL */
    LIST_MAX = 50000,
    XML_MAX = 8 << 20,
};

static void make_id(const struct object_pieces *p, unsigned index, char out[ID_SIZE])
{
    uint8_t raw[ID_RAW];
    struct hash128 hash;

    put_le32(raw, index);
    put_le32(raw + 4, (uint32_t)p->data.len);
    hash_128(p->data.data, p->data.len, &hash);
    memcpy(raw + 8, hash.bytes, HASH_SIZE);
    (void)EVP_EncodeBlock((unsigned char *)out, raw, ID_RAW);
}

/* What an earlier try left, as a page sorted by id; empty: nothing. */
static int list_blocks(struct objectrest *r, const char *path, struct object_page *page, struct err *err)
{
    static const struct list_words words = {
        .root = "BlockList", .holder = "UncommittedBlocks", .entry = "Block", .name = "Name", .size = "Size"};
    AUTO_BUF struct buf xml = BUF_INIT(XML_MAX);
    struct web_exchange x = {.ask = {.method = "GET", .path = path}, .out = &xml};

    objectweb_query(&x, "comp", "blocklist");
    objectweb_query(&x, "blocklisttype", "uncommitted");
    int found = objectweb_run(r->web, &x, err);
    if (found <= 0) /* no such blob: no block either */
        return found;
    if (objectlist_parse(xml.data, xml.len, &words, LIST_MAX, page, err) < 0)
        return -1;
    object_page_sort(page);
    return 0;
}

static bool has_block(const struct object_page *page, const char *id, size_t bytes)
{
    for (size_t low = 0, high = page->count; low < high;) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(page->entries[middle].name, id);
        if (order == 0)
            return page->entries[middle].bytes == bytes;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

static int put_block(struct objectrest *r, const char *path, const char *id, const struct buf *data, struct err *err)
{
    struct web_exchange x = {.ask = {.method = "PUT", .path = path}, .body = data->data, .body_bytes = data->len};

    objectweb_query(&x, "comp", "block");
    objectweb_query(&x, "blockid", id);
    objectweb_header(&x, "content-type", "application/octet-stream");
    return objectrest_run(r, &x, err) < 0 ? -1 : 0;
}

static int put_list(struct objectrest *r, const char *path, const struct buf *xml, bool if_absent, struct err *err)
{
    struct web_exchange x = {.ask = {.method = "PUT", .path = path}, .body = xml->data, .body_bytes = xml->len};

    objectweb_query(&x, "comp", "blocklist");
    objectweb_header(&x, "content-type", "application/xml");
    objectweb_header(&x, "x-ms-blob-content-type", "application/octet-stream");
    if (if_absent)
        objectweb_header(&x, "if-none-match", "*");
    return objectrest_run(r, &x, err);
}

static int put_all(struct objectrest *r, const char *path, struct object_pieces *p, struct buf *xml, struct err *err)
{
    struct object_page there = {0};
    char id[ID_SIZE];
    int rc = list_blocks(r, path, &there, err);

    for (unsigned i = 0; rc == 0 && i < p->count; i++) {
        rc = objectpieces_read(p, i, err);
        if (rc < 0)
            break;
        make_id(p, i, id);
        if (!has_block(&there, id, p->data.len))
            rc = put_block(r, path, id, &p->data, err);
        if (rc == 0)
            rc = buf_printf(xml, err, "<Uncommitted>%s</Uncommitted>", id);
    }
    object_page_done(&there);
    return rc;
}

int objectblocks_put(void *rest, const char *name, struct object_pieces *p, bool if_absent, struct err *err)
{
    struct objectrest *r = rest;
    char path[OBJECTREST_PATH_MAX];
    AUTO_BUF struct buf xml = BUF_INIT(XML_MAX);

    objectrest_path(r, name, path);
    if (buf_append_str(&xml, "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>", err) < 0 ||
        put_all(r, path, p, &xml, err) < 0 || buf_append_str(&xml, "</BlockList>", err) < 0)
        return -1;
    return put_list(r, path, &xml, if_absent, err);
}
