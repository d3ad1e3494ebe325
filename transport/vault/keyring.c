/* SPDX-License-Identifier: Apache-2.0
 *
 * See keyring.h and FORMAT.md ("keys"). The file is small and replaced as a whole; it is written before the `meta` that needs it, so a file
 * may be one key ahead of `meta`, or several in a copy of the folder that was made meanwhile, but never behind.
 */
#include "transport/vault/keyring.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/base/bytes.h"
#include "transport/base/file.h"
#include "transport/base/hash.h"
#include "transport/base/mem.h"
#include "transport/vault/vaultkeys.h"

#define MAGIC "LWKEY\0\0\1"

enum {
    HEAD_SIZE = 32,
    LINK_SIZE = 4 + VAULTKEYS_WRAPPED_SIZE,
    FILE_MAX = HEAD_SIZE + (KEYRING_MAX - 1) * LINK_SIZE + HASH_SIZE,
    KEY_HEX_SIZE = 2 * SEAL_KEY_SIZE,
};

/* ---- in memory ---- */

void keyring_init(struct keyring *ring, const struct seal_key *key)
{
    *ring = (struct keyring){.count = 1};
    ring->items[0].key = *key;
}

void keyring_cleanse(struct keyring *ring)
{
    OPENSSL_cleanse(ring, sizeof(*ring));
}

const struct seal_key *keyring_newest(const struct keyring *ring)
{
    return &ring->items[ring->count - 1].key;
}

const struct seal_key *keyring_key(const struct keyring *ring, uint32_t nonce_stream)
{
    for (size_t i = 0; i + 1 < ring->count; i++)
        if (nonce_stream < ring->items[i].until)
            return &ring->items[i].key;
    return keyring_newest(ring);
}

int keyring_add(struct keyring *ring, uint32_t first_stream, const struct seal_key *key, struct err *err)
{
    if (ring->count == KEYRING_MAX) {
        (void)err_set(
            err, ERR_REFUSED, "the machine has had %u data keys, and all that was written needs them", KEYRING_MAX);
        return err_hint(
            err, "protect the machine anew under another id, and erase this one when its retention is over");
    }
    ring->items[ring->count - 1].until = first_stream;
    ring->items[ring->count++] = (struct keyring_item){.key = *key};
    return 0;
}

/* ---- the file ---- */

static void wrapper(const struct seal_key *key, struct vault_key *ret_key)
{
    static_assert(sizeof(ret_key->bytes) == sizeof(key->bytes), "a data key wraps a data key");
    memcpy(ret_key->bytes, key->bytes, sizeof(ret_key->bytes));
}

static int encode_link(const struct ident *machine, const struct keyring_item *item, const struct seal_key *next,
    uint8_t out[LINK_SIZE], struct err *err)
{
    struct vault_key by;
    wrapper(next, &by);
    put_le32(out, item->until);
    int result = vaultkeys_wrap(&by, machine, &item->key, out + 4, err);
    OPENSSL_cleanse(&by, sizeof(by));
    return result;
}

int keyring_store(const char *machine_dir, const struct ident *machine, const struct keyring *ring, struct err *err)
{
    uint8_t out[FILE_MAX] = MAGIC;
    size_t links = ring->count - 1, n = HEAD_SIZE + links * LINK_SIZE;
    char *path AUTO_FREE = mem_printf("%s/keys", machine_dir);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to write keys");
    memcpy(out + 8, machine->bytes, IDENT_SIZE);
    put_le32(out + 24, (uint32_t)links);
    for (size_t i = 0; i < links; i++)
        if (encode_link(machine, &ring->items[i], &ring->items[i + 1].key, out + HEAD_SIZE + i * LINK_SIZE, err) < 0)
            return -1;
    hash_seal(out, n);
    return file_replace(path, out, n + HASH_SIZE, 0600, err);
}

static int damaged(const char *dir, struct err *err)
{
    (void)err_set(err, ERR_CORRUPT, "the file keys in %s is damaged", dir);
    return err_hint(err, "it holds the machine's older data keys: put it back from a copy");
}

static int check_file(const char *dir, const struct ident *machine, const uint8_t *p, size_t n, struct err *err)
{
    if (n < HEAD_SIZE + HASH_SIZE || memcmp(p, MAGIC, 7) != 0)
        return damaged(dir, err);
    if (p[7] != (uint8_t)MAGIC[7])
        return err_set(err, ERR_UNSUPPORTED, "the file keys in %s has the unknown version %u", dir, p[7]);
    if (!hash_is_sealed(p, n))
        return damaged(dir, err);
    size_t links = get_le32(p + 24);
    if (links == 0 || links >= KEYRING_MAX || n != HEAD_SIZE + links * LINK_SIZE + HASH_SIZE || get_le32(p + 28) != 0)
        return damaged(dir, err);
    return memcmp(p + 8, machine->bytes, IDENT_SIZE) == 0
               ? 0
               : err_set(err, ERR_CORRUPT, "the file keys in %s is another machine's", dir);
}

static int open_link(const struct ident *machine, const struct seal_key *next, const uint8_t *link,
    struct keyring_item *ret_item, struct err *err)
{
    struct vault_key by;
    wrapper(next, &by);
    ret_item->until = get_le32(link);
    int result = vaultkeys_unwrap(&by, machine, link + 4, &ret_item->key, err);
    OPENSSL_cleanse(&by, sizeof(by));
    return result;
}

/* How many of the links lead up to the newest key. */
static size_t links_before(
    const struct ident *machine, const struct seal_key *newest, const uint8_t *links, size_t count)
{
    struct keyring_item item;
    while (count > 0 && open_link(machine, newest, links + (count - 1) * LINK_SIZE, &item, NULL) < 0)
        count--;
    OPENSSL_cleanse(&item, sizeof(item));
    return count;
}

static int open_chain(const char *dir, const struct ident *machine, const struct seal_key *newest, const uint8_t *links,
    size_t count, struct keyring *ring, struct err *err)
{
    count = links_before(machine, newest, links, count);
    if (count == 0) {
        (void)err_set(err, ERR_DENIED, "the file keys in %s does not belong to the data key in meta", dir);
        return err_hint(err, "put meta and keys of the machine back from one and the same copy");
    }
    ring->count = count + 1;
    ring->items[count] = (struct keyring_item){.key = *newest};
    for (size_t i = count; i > 0; i--)
        if (open_link(machine, &ring->items[i].key, links + (i - 1) * LINK_SIZE, &ring->items[i - 1], err) < 0)
            return damaged(dir, err);
    for (size_t i = 0; i < count; i++)
        if (ring->items[i].until == 0 || (i > 0 && ring->items[i].until < ring->items[i - 1].until))
            return damaged(dir, err);
    return 0;
}

static int read_checked(const char *machine_dir, const struct ident *machine, struct buf *content, struct err *err)
{
    char *path AUTO_FREE = mem_printf("%s/keys", machine_dir);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to read keys");
    if (file_read(path, content, err) < 0)
        return err != NULL && err->code == ERR_TOO_LARGE ? damaged(machine_dir, err) : -1;
    return check_file(machine_dir, machine, content->data, content->len, err);
}

int keyring_check(const char *machine_dir, const struct ident *machine, struct err *err)
{
    struct buf content AUTO_BUF = BUF_INIT(FILE_MAX + 1);
    return read_checked(machine_dir, machine, &content, err);
}

int keyring_load(const char *machine_dir, const struct ident *machine, const struct seal_key *newest,
    struct keyring *ret_ring, struct err *err)
{
    struct buf content AUTO_BUF = BUF_INIT(FILE_MAX + 1);
    if (read_checked(machine_dir, machine, &content, err) < 0)
        return -1;
    *ret_ring = (struct keyring){0};
    int result =
        open_chain(machine_dir, machine, newest, content.data + HEAD_SIZE, get_le32(content.data + 24), ret_ring, err);
    if (result < 0)
        keyring_cleanse(ret_ring);
    return result;
}

/* ---- as text ---- */

void keyring_to_text(const struct keyring *ring, char out[KEYRING_TEXT_MAX])
{
    char hex[KEY_HEX_SIZE + 1];
    size_t at = 0;
    out[0] = '\0';
    for (size_t i = 0; i < ring->count; i++) {
        bytes_to_hex(ring->items[i].key.bytes, SEAL_KEY_SIZE, hex);
        at += (size_t)snprintf(out + at, KEYRING_TEXT_MAX - at, "%u %s\n", ring->items[i].until, hex);
    }
    OPENSSL_cleanse(hex, sizeof(hex));
}

/* A key in hex, and what stands behind it. -1: it is none. */
static int parse_hex(const char **text, struct seal_key *ret_key)
{
    char hex[KEY_HEX_SIZE + 1] = {0};
    size_t n = strspn(*text, "0123456789abcdefABCDEF");
    if (n != KEY_HEX_SIZE)
        return -1;
    memcpy(hex, *text, n);
    *text += n;
    int result = bytes_from_hex(hex, ret_key->bytes, SEAL_KEY_SIZE);
    OPENSSL_cleanse(hex, sizeof(hex));
    return result;
}

/* A whole line. */
static int parse_item(const char **text, struct keyring_item *ret_item)
{
    char *end;
    unsigned long until = strtoul(*text, &end, 10);
    if (end == *text || *end != ' ' || until > UINT32_MAX)
        return -1;
    *text = end + 1;
    ret_item->until = (uint32_t)until;
    return parse_hex(text, &ret_item->key) < 0 || *(*text)++ != '\n' ? -1 : 0;
}

static int parse_items(const char *text, struct keyring *ring)
{
    while (*text != '\0') {
        if (ring->count == KEYRING_MAX || parse_item(&text, &ring->items[ring->count]) < 0)
            return -1;
        uint32_t before = ring->count == 0 ? 1 : ring->items[ring->count - 1].until;
        uint32_t until = ring->items[ring->count++].until;
        if (before == 0 || (until != 0 && until < before))
            return -1; /* behind the newest, or out of order */
    }
    return ring->count > 0 && ring->items[ring->count - 1].until == 0 ? 0 : -1;
}

int keyring_from_text(const char *text, struct keyring *ret_ring, struct err *err)
{
    struct seal_key one;
    const char *rest = text;
    int result = 0;
    if (parse_hex(&rest, &one) == 0 && (*rest == '\0' || strcmp(rest, "\n") == 0)) {
        keyring_init(ret_ring, &one);
    } else {
        *ret_ring = (struct keyring){0};
        result = parse_items(text, ret_ring);
    }
    OPENSSL_cleanse(&one, sizeof(one));
    if (result == 0)
        return 0;
    keyring_cleanse(ret_ring);
    return err_set(err, ERR_INVALID,
        "data keys are lines of a number, a space and %d hex digits, or %d hex digits alone", KEY_HEX_SIZE,
        KEY_HEX_SIZE);
}
