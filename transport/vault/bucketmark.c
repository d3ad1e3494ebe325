/* SPDX-License-Identifier: Apache-2.0
 *
 * Marks and names, see FORMAT.md. A name has all that tells a piece from another one, its hash among it: two contents never have one
 * name, so nothing is ever overwritten, and a piece that is there already need not be sent again.
 */
#include "transport/vault/bucketmark.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/base/bytes.h"

#define MARK_MAGIC "LWBKT\0\0\2"
#define VERSION_WITHOUT_OWNERS 1 /* its entries are 48 bytes: what is beside the log was not in the bucket */

enum {
    HEAD_SIZE = 240,
    META_AT = 112,
    ENTRY_SIZE = 64,
    ENTRY_SIZE_1 = 48,
    HEX = 16,
};

/* How each kind is named, in the bucket and in the machine's folder. */
static const struct kind_names {
    const char *object; /* machines/<uuid>/ it / */
    bool is_owned;      /* a branch's: its id follows */
    bool is_single;     /* its number is 1 */
    const char *path;   /* behind branches/<id>/ when it is owned */
} kinds[BUCKET_KIND_LAST + 1] = {
    [BUCKET_SEGMENT] = {.object = "main", .path = "main/%016llx.seg"},
    [BUCKET_RUN] = {.object = "runs", .path = "runs/%016llx.run"},
    [BUCKET_POINTS] = {.object = "points", .path = "points-%016llx"},
    [BUCKET_LOCKS] = {.object = "locks", .is_single = true, .path = "locks"},
    [BUCKET_QUARANTINE] = {.object = "quarantine", .is_single = true, .path = "quarantine"},
    [BUCKET_MEND] = {.object = "mend", .path = "mend/%016llx-%08llx.rec"},
    [BUCKET_BRANCH] = {.object = "branch", .is_owned = true, .is_single = true, .path = "branch"},
    [BUCKET_KEYS] = {.object = "keys", .is_single = true, .path = "keys"},
    [BUCKET_BRANCH_SEGMENT] = {.object = "branches", .is_owned = true, .path = "%016llx.seg"},
};

void bucketmark_init(struct bucketmark *m)
{
    *m = (struct bucketmark){.manifest = BUF_INIT(BUCKETMARK_BYTES_MAX)};
}

void bucketmark_done(struct bucketmark *m)
{
    buf_done(&m->manifest);
    free(m->entries);
    m->entries = NULL;
    m->count = 0;
}

/* ---- bytes ---- */

static void head_encode(const struct bucketmark *m, uint8_t out[HEAD_SIZE])
{
    memset(out, 0, HEAD_SIZE);
    memcpy(out, MARK_MAGIC, 8);
    memcpy(out + 8, m->machine.bytes, IDENT_SIZE);
    put_le64(out + 24, m->serial);
    put_le64(out + 32, m->base);
    put_le64(out + 40, m->committed.sequence);
    put_le64(out + 48, m->committed.segment);
    put_le64(out + 56, m->committed.offset);
    put_le64(out + 64, m->point);
    put_le64(out + 72, m->point_time_utc_usec);
    put_le64(out + 80, m->written_utc_usec);
    put_le32(out + 88, (uint32_t)m->count);
    put_le32(out + 92, (uint32_t)m->manifest.len);
    memcpy(out + META_AT, m->meta, BUCKETMARK_META_SIZE);
}

static void entry_encode(const struct bucket_entry *e, uint8_t out[ENTRY_SIZE])
{
    memset(out, 0, ENTRY_SIZE);
    out[0] = (uint8_t)e->kind;
    out[1] = e->gone ? 1 : 0;
    put_le64(out + 8, e->number);
    put_le64(out + 16, e->offset);
    put_le64(out + 24, e->bytes);
    memcpy(out + 32, e->hash.bytes, HASH_SIZE);
    memcpy(out + 48, e->owner.bytes, IDENT_SIZE);
}

int bucketmark_encode(const struct bucketmark *m, struct buf *out, struct err *err)
{
    uint8_t head[HEAD_SIZE], entry[ENTRY_SIZE];
    struct hash128 hash;

    head_encode(m, head);
    if (buf_append(out, head, sizeof(head), err) < 0)
        return -1;
    for (size_t i = 0; i < m->count; i++) {
        entry_encode(&m->entries[i], entry);
        if (buf_append(out, entry, sizeof(entry), err) < 0)
            return -1;
    }
    if (m->manifest.len > 0 && buf_append(out, m->manifest.data, m->manifest.len, err) < 0)
        return -1;
    hash_128(out->data, out->len, &hash);
    return buf_append(out, hash.bytes, HASH_SIZE, err);
}

static bool is_possible(const struct bucket_entry *e)
{
    bool is_piece = e->bytes > 0 && e->bytes <= BUCKET_FILE_BYTES_MAX && e->offset <= BUCKET_FILE_BYTES_MAX - e->bytes;

    if (e->kind < BUCKET_SEGMENT || e->kind > BUCKET_KIND_LAST || e->number == 0 ||
        ident_is_zero(&e->owner) == kinds[e->kind].is_owned || (kinds[e->kind].is_single && e->number != 1))
        return false;
    return e->gone ? e->offset == 0 && e->bytes == 0 : is_piece;
}

static int entry_decode(const uint8_t *p, size_t size, struct bucket_entry *e, struct err *err)
{
    *e = (struct bucket_entry){.kind = p[0],
        .gone = p[1] == 1,
        .number = get_le64(p + 8),
        .offset = get_le64(p + 16),
        .bytes = get_le64(p + 24)};
    memcpy(e->hash.bytes, p + 32, HASH_SIZE);
    if (size == ENTRY_SIZE)
        memcpy(e->owner.bytes, p + 48, IDENT_SIZE);
    if (p[1] > 1 || !bytes_are_zero(p + 2, 6) || !is_possible(e))
        return err_set(err, ERR_CORRUPT, "a mark in the bucket names a piece that cannot be");
    return 0;
}

static void head_decode(const uint8_t *p, struct bucketmark *m)
{
    memcpy(m->machine.bytes, p + 8, IDENT_SIZE);
    m->serial = get_le64(p + 24);
    m->base = get_le64(p + 32);
    m->committed = (struct log_position){get_le64(p + 40), get_le64(p + 48), get_le64(p + 56)};
    m->point = get_le64(p + 64);
    m->point_time_utc_usec = get_le64(p + 72);
    m->written_utc_usec = get_le64(p + 80);
    memcpy(m->meta, p + META_AT, BUCKETMARK_META_SIZE);
}

static int check_whole(const uint8_t *p, size_t n, struct err *err)
{

    if (n < HEAD_SIZE + HASH_SIZE || n > BUCKETMARK_BYTES_MAX || memcmp(p, MARK_MAGIC, 7) != 0)
        return err_set(err, ERR_CORRUPT, "a mark in the bucket is not one");
    if (p[7] != (uint8_t)MARK_MAGIC[7] && p[7] != VERSION_WITHOUT_OWNERS)
        return err_set(err, ERR_UNSUPPORTED, "a mark in the bucket has the unknown format version %u", p[7]);
    if (!hash_is_sealed(p, n))
        return err_set(err, ERR_CORRUPT, "a mark in the bucket is damaged");
    return 0;
}

int bucketmark_decode(const uint8_t *p, size_t n, struct bucketmark *m, struct err *err)
{
    if (check_whole(p, n, err) < 0)
        return -1;
    uint64_t count = get_le32(p + 88), manifest = get_le32(p + 92);
    size_t size = p[7] == VERSION_WITHOUT_OWNERS ? ENTRY_SIZE_1 : ENTRY_SIZE;
    if (HEAD_SIZE + count * size + manifest + HASH_SIZE != n || !bytes_are_zero(p + 96, META_AT - 96))
        return err_set(err, ERR_CORRUPT, "a mark in the bucket has another length than it says");
    head_decode(p, m);
    if (m->serial == 0 || m->base == 0 || m->base > m->serial)
        return err_set(err, ERR_CORRUPT, "a mark in the bucket has no place in their order");
    m->entries = mem_alloc(count + 1, sizeof(*m->entries));
    if (m->entries == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a mark of the bucket");
    for (m->count = 0; m->count < count; m->count++)
        if (entry_decode(p + HEAD_SIZE + m->count * size, size, &m->entries[m->count], err) < 0)
            return -1;
    return manifest == 0 ? 0 : buf_append(&m->manifest, p + HEAD_SIZE + count * size, manifest, err);
}

/* ---- names ---- */

void bucketmark_name(const struct ident *machine, uint64_t serial, uint64_t base, char out[BUCKETMARK_NAME_SIZE])
{
    char id[IDENT_TEXT_SIZE];

    ident_to_text(machine, id);
    (void)snprintf(out, BUCKETMARK_NAME_SIZE, "machines/%s/marks/%016llx-%016llx", id, (unsigned long long)serial,
        (unsigned long long)base);
}

void bucketmark_piece_name(const struct ident *machine, const struct bucket_entry *e, char out[BUCKETMARK_NAME_SIZE])
{
    char id[IDENT_TEXT_SIZE], owner[IDENT_TEXT_SIZE] = "", hash[2 * HASH_SIZE + 1];
    bool is_owned = kinds[e->kind].is_owned;

    ident_to_text(machine, id);
    if (is_owned)
        ident_to_text(&e->owner, owner);
    bytes_to_hex(e->hash.bytes, HASH_SIZE, hash);
    (void)snprintf(out, BUCKETMARK_NAME_SIZE, "machines/%s/%s/%s%s%016llx-%016llx-%016llx-%s", id,
        kinds[e->kind].object, owner, is_owned ? "/" : "", (unsigned long long)e->number, (unsigned long long)e->offset,
        (unsigned long long)e->bytes, hash);
}

/* An id in the one form that it is written in; *text goes behind it. */
static int parse_id(const char **text, struct ident *ret_id)
{
    char id[IDENT_TEXT_SIZE] = "", again[IDENT_TEXT_SIZE];

    if (strlen(*text) < IDENT_TEXT_SIZE - 1)
        return -1;
    memcpy(id, *text, IDENT_TEXT_SIZE - 1);
    if (ident_from_text(id, ret_id) < 0)
        return -1;
    ident_to_text(ret_id, again);
    *text += IDENT_TEXT_SIZE - 1;
    return strcmp(id, again) == 0 ? 0 : -1;
}

/* "machines/<uuid>/"; *ret_rest is what follows. */
static int parse_machine(const char *name, struct ident *ret_machine, const char **ret_rest)
{
    const char *rest = name + 9;

    if (strncmp(name, "machines/", 9) != 0 || parse_id(&rest, ret_machine) < 0 || *rest != '/')
        return -1;
    *ret_rest = rest + 1;
    return 0;
}

/* 16 hex digits and what stands behind them. */
static int parse_number(const char **text, char behind, uint64_t *ret_number)
{
    uint8_t raw[8];

    if (strlen(*text) < HEX || strspn(*text, "0123456789abcdef") < HEX || (*text)[HEX] != behind)
        return -1;
    char hex[HEX + 1] = {0};
    memcpy(hex, *text, HEX);
    if (bytes_from_hex(hex, raw, sizeof(raw)) < 0)
        return -1;
    *ret_number = 0;
    for (size_t i = 0; i < sizeof(raw); i++)
        *ret_number = *ret_number << 8 | raw[i];
    *text += HEX + (behind != '\0');
    return 0;
}

int bucketmark_parse_name(const char *name, struct ident *ret_machine, uint64_t *ret_serial, uint64_t *ret_base)
{
    const char *rest;

    if (parse_machine(name, ret_machine, &rest) < 0 || strncmp(rest, "marks/", 6) != 0)
        return -1;
    rest += 6;
    if (parse_number(&rest, '-', ret_serial) < 0 || parse_number(&rest, '\0', ret_base) < 0)
        return -1;
    return *ret_base == 0 || *ret_base > *ret_serial ? -1 : 0;
}

static int parse_kind(const char **text, struct bucket_entry *e)
{
    for (unsigned kind = BUCKET_SEGMENT; kind <= BUCKET_KIND_LAST; kind++) {
        size_t n = strlen(kinds[kind].object);
        if (strncmp(*text, kinds[kind].object, n) != 0 || (*text)[n] != '/')
            continue;
        e->kind = (enum bucket_kind)kind;
        *text += n + 1;
        if (!kinds[kind].is_owned)
            return 0;
        return parse_id(text, &e->owner) < 0 || *(*text)++ != '/' ? -1 : 0;
    }
    return -1;
}

int bucketmark_parse_piece_name(const char *name, struct ident *ret_machine, struct bucket_entry *e)
{
    const char *rest;

    *e = (struct bucket_entry){0};
    if (parse_machine(name, ret_machine, &rest) < 0 || parse_kind(&rest, e) < 0 ||
        parse_number(&rest, '-', &e->number) < 0 || parse_number(&rest, '-', &e->offset) < 0 ||
        parse_number(&rest, '-', &e->bytes) < 0)
        return -1;
    return strlen(rest) == 2 * (size_t)HASH_SIZE ? bytes_from_hex(rest, e->hash.bytes, HASH_SIZE) : -1;
}

/* ---- files ---- */

void bucketmark_path(const struct bucket_entry *e, char out[BUCKETMARK_PATH_SIZE])
{
    char owner[IDENT_TEXT_SIZE];
    unsigned long long number = e->number, offset = e->number & UINT32_MAX;
    size_t n = 0;

    if (kinds[e->kind].is_owned) {
        ident_to_text(&e->owner, owner);
        n = (size_t)snprintf(out, BUCKETMARK_PATH_SIZE, "branches/%s/", owner);
    }
    if (e->kind == BUCKET_MEND)
        (void)snprintf(out, BUCKETMARK_PATH_SIZE, kinds[e->kind].path, number >> 32, offset);
    else if (kinds[e->kind].is_single)
        (void)snprintf(out + n, BUCKETMARK_PATH_SIZE - n, "%s", kinds[e->kind].path);
    else
        (void)snprintf(out + n, BUCKETMARK_PATH_SIZE - n, kinds[e->kind].path, number);
}

/* The number that a file's name begins with or, of a point list, ends with. */
static uint64_t number_in(const struct bucket_entry *e, const char *name)
{
    const char *digits = strpbrk(name, e->kind == BUCKET_POINTS ? "-" : "0123456789abcdef");
    char *end;

    if (kinds[e->kind].is_single || digits == NULL)
        return 1;
    uint64_t number = strtoull(digits + (e->kind == BUCKET_POINTS), &end, 16);
    return e->kind == BUCKET_MEND ? number << 32 | strtoull(*end == '-' ? end + 1 : end, NULL, 16) : number;
}

int bucketmark_parse_path(const char *path, struct bucket_entry *ret_entry)
{
    const char *slash = strrchr(path, '/');
    char again[BUCKETMARK_PATH_SIZE];

    for (unsigned kind = BUCKET_SEGMENT; kind <= BUCKET_KIND_LAST; kind++) {
        struct bucket_entry e = {.kind = (enum bucket_kind)kind};
        const char *owner = path + strlen("branches/");
        if (kinds[kind].is_owned && (strncmp(path, "branches/", 9) != 0 || parse_id(&owner, &e.owner) < 0))
            continue;
        e.number = number_in(&e, slash == NULL ? path : slash + 1);
        bucketmark_path(&e, again);
        if (strcmp(again, path) != 0)
            continue;
        *ret_entry = e;
        return 0;
    }
    return -1;
}
