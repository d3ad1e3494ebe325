/* SPDX-License-Identifier: Apache-2.0
 *
 * Encoding and decoding of mark payloads (layout in mark.h). The decoder takes exactly the bytes that the
 * encoder would write for the same mark: padding must be zero and nothing may follow, so that one mark has
 * one form only. For the same reason a mark without ranges is always written as version 1, as it was before there were any:
 * only a program that has something to list needs readers that know version 2.
 */
#include "transport/log/mark.h"

#include <assert.h>
#include <string.h>

#include "transport/base/bytes.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define MARK_VERSION 1u
#define MARK_VERSION_RANGES 2u
#define FIXED_SIZE 120u
#define DISK_FIXED_SIZE 24u
#define RANGE_SIZE 24u
#define FLAGS_KNOWN (MARK_FROZEN | MARK_FIRST | MARK_ASKED)
#define SECTOR_MAX 65536u
#define DISK_BYTES_MAX (1ULL << 62)
#define UPGRADE_HINT "Upgrade in the order vault, node, agent: this program is older than the one that wrote it."

static_assert(FIXED_SIZE + MARK_TAG_MAX + 1 + MARK_DISKS_MAX * (DISK_FIXED_SIZE + MARK_NAME_MAX + 1) +
                      MARK_RANGES_MAX * RANGE_SIZE <=
                  MARK_PAYLOAD_MAX,
    "every mark fits");

static const char *const kind_names[] = {
    [MARK_PROGRESS] = "progress",
    [MARK_CRASH] = "crash",
    [MARK_FILESYSTEM] = "filesystem",
    [MARK_APPLICATION] = "application",
};

static size_t padded(size_t n)
{
    return (n + 7) & ~(size_t)7;
}

static size_t payload_size(const struct mark *m)
{
    size_t size = FIXED_SIZE + padded(strnlen(m->tag, MARK_TAG_MAX));
    for (uint32_t i = 0; i < m->disk_count; i++)
        size += DISK_FIXED_SIZE + padded(strnlen(m->disks[i].name, MARK_NAME_MAX));
    return size + m->range_count * RANGE_SIZE;
}

static const struct mark_disk *disk_of(const struct mark *m, const struct mark_range *r)
{
    for (uint32_t i = 0; i < m->disk_count; i++) {
        if (m->disks[i].number == r->disk)
            return &m->disks[i];
    }
    return NULL;
}

static uint64_t range_blocks(const struct mark_range *r)
{
    return r->length / MARK_BLOCK + (r->length % MARK_BLOCK != 0);
}

static uint64_t listed_blocks(const struct mark *m)
{
    uint64_t blocks = 0;
    for (uint32_t i = 0; i < m->range_count; i++)
        blocks += range_blocks(&m->ranges[i]);
    return blocks;
}

static int check_disk(const struct mark *m, uint32_t i, enum err_code code, struct err *err)
{
    const struct mark_disk *d = &m->disks[i];
    if (d->number > RECORD_DISK_MAX || (i > 0 && d->number <= m->disks[i - 1].number))
        return err_set(err, code, "disk numbers of a mark are not ascending or too large");
    if (d->sector_bytes < RECORD_SECTOR || d->sector_bytes > SECTOR_MAX ||
        (d->sector_bytes & (d->sector_bytes - 1)) != 0)
        return err_set(err, code, "disk %u of a mark has sectors of %u bytes", d->number, d->sector_bytes);
    if (d->size_bytes == 0 || d->size_bytes > DISK_BYTES_MAX || d->size_bytes % RECORD_SECTOR != 0)
        return err_set(err, code, "disk %u of a mark has an impossible size", d->number);
    if (d->name[0] == '\0' || strnlen(d->name, MARK_NAME_MAX + 1) > MARK_NAME_MAX)
        return err_set(err, code, "disk %u of a mark has no name", d->number);
    return 0;
}

static int check_range(const struct mark *m, uint32_t i, enum err_code code, struct err *err)
{
    const struct mark_range *r = &m->ranges[i], *before = i > 0 ? r - 1 : NULL;
    const struct mark_disk *d = disk_of(m, r);
    if (d == NULL || r->start >= d->size_bytes || r->length == 0 || r->length > d->size_bytes - r->start)
        return err_set(err, code, "range %u of a mark is none of its disks", i);
    if (r->start % MARK_BLOCK != 0 || (r->length % MARK_BLOCK != 0 && r->start + r->length != d->size_bytes))
        return err_set(err, code, "range %u of a mark is not of whole blocks", i);
    if (before != NULL &&
        (r->disk < before->disk || (r->disk == before->disk && r->start <= before->start + before->length)))
        return err_set(err, code, "ranges of a mark are not ascending, or could be one");
    return 0;
}

static int check_ranges(const struct mark *m, enum err_code code, struct err *err)
{
    if (m->range_count > MARK_RANGES_MAX)
        return err_set(err, code, "a mark lists up to %u ranges, not %u", MARK_RANGES_MAX, m->range_count);
    for (uint32_t i = 0; i < m->range_count; i++) {
        if (check_range(m, i, code, err) < 0)
            return -1;
    }
    if (listed_blocks(m) > m->unreadable_blocks)
        return err_set(err, code, "a mark lists more unreadable blocks than it counts");
    return 0;
}

static int check_mark(const struct mark *m, enum err_code code, struct err *err)
{
    if ((unsigned)m->kind >= ARRAY_LEN(kind_names))
        return err_set(err, code, "unknown kind of mark: %u", (unsigned)m->kind);
    if ((m->flags & ~FLAGS_KNOWN) != 0)
        return err_set(err, code, "unknown flags of a mark: 0x%x", m->flags);
    if (m->sequence == 0 || m->generation == 0 || m->epoch == 0)
        return err_set(err, code, "sequence, generation and epoch of a mark begin at 1");
    if (m->disk_count == 0 || m->disk_count > MARK_DISKS_MAX)
        return err_set(err, code, "a mark names 1 to %u disks, not %u", MARK_DISKS_MAX, m->disk_count);
    if (strnlen(m->tag, MARK_TAG_MAX + 1) > MARK_TAG_MAX)
        return err_set(err, code, "the tag of a mark is too long");
    for (uint32_t i = 0; i < m->disk_count; i++) {
        if (check_disk(m, i, code, err) < 0)
            return -1;
    }
    return check_ranges(m, code, err);
}

/* A later version may say more in a mark than this one knows. That is no damage, and it goes on by itself once this program knows it too. */
static int check_known(const struct mark *m, struct err *err)
{
    if ((unsigned)m->kind < ARRAY_LEN(kind_names) && (m->flags & ~FLAGS_KNOWN) == 0)
        return 0;
    (void)err_set(err, ERR_UNSUPPORTED, "a mark of a later version: its kind is %u, its flags are 0x%x",
        (unsigned)m->kind, m->flags);
    return err_hint(err, UPGRADE_HINT);
}

static void encode_fixed(const struct mark *m, uint8_t *p)
{
    put_le16(p, m->range_count == 0 ? MARK_VERSION : MARK_VERSION_RANGES);
    p[2] = (uint8_t)m->kind;
    p[3] = (uint8_t)m->flags;
    put_le32(p + 4, m->disk_count);
    put_le64(p + 8, m->sequence);
    put_le64(p + 16, m->generation);
    put_le64(p + 24, m->epoch);
    put_le64(p + 32, m->time_utc_usec);
    memcpy(p + 40, m->machine.bytes, IDENT_SIZE);
    memcpy(p + 56, m->group_point.bytes, IDENT_SIZE);
    put_le64(p + 72, m->record_count);
    put_le64(p + 80, m->changed_bytes);
    memcpy(p + 88, m->digest.bytes, HASH_SIZE);
    put_le64(p + 104, m->unreadable_blocks);
    put_le16(p + 112, (uint16_t)strlen(m->tag));
    put_le16(p + 114, (uint16_t)m->range_count);
}

static void encode_payload(const struct mark *m, uint8_t *p, size_t size)
{
    memset(p, 0, size);
    encode_fixed(m, p);
    p += FIXED_SIZE;
    size_t n = strlen(m->tag);
    memcpy(p, m->tag, n);
    p += padded(n);
    for (uint32_t i = 0; i < m->disk_count; i++) {
        const struct mark_disk *d = &m->disks[i];
        n = strlen(d->name);
        put_le32(p, d->number);
        put_le32(p + 4, d->sector_bytes);
        put_le64(p + 8, d->size_bytes);
        put_le16(p + 16, (uint16_t)n);
        memcpy(p + DISK_FIXED_SIZE, d->name, n);
        p += DISK_FIXED_SIZE + padded(n);
    }
    for (uint32_t i = 0; i < m->range_count; i++, p += RANGE_SIZE) {
        put_le32(p, m->ranges[i].disk);
        put_le64(p + 8, m->ranges[i].start);
        put_le64(p + 16, m->ranges[i].length);
    }
}

int mark_append(const struct mark *m, struct buf *b, struct err *err)
{
    if (check_mark(m, ERR_INVALID, err) < 0)
        return -1;
    size_t size = payload_size(m);
    if (buf_reserve(b, RECORD_HEADER_SIZE + size, err) < 0)
        return -1;
    uint8_t *at = b->data + b->len;
    encode_payload(m, at + RECORD_HEADER_SIZE, size);
    struct record r = {.kind = RECORD_MARK, .stored = (uint32_t)size};
    hash_128(at + RECORD_HEADER_SIZE, size, &r.hash);
    record_encode_header(&r, at);
    b->len += RECORD_HEADER_SIZE + size;
    return 0;
}

/* Takes `n` bytes of text and its padding from *p; the text has no NUL, the padding is zero. */
static int decode_text(const uint8_t **p, const uint8_t *end, size_t n, char *out, struct err *err)
{
    if (padded(n) > (size_t)(end - *p))
        return err_set(err, ERR_CORRUPT, "mark is cut off");
    if (memchr(*p, '\0', n) != NULL || !bytes_are_zero(*p + n, padded(n) - n))
        return err_set(err, ERR_CORRUPT, "text of a mark is not padded with zeros");
    memcpy(out, *p, n);
    out[n] = '\0';
    *p += padded(n);
    return 0;
}

static int decode_disk(const uint8_t **p, const uint8_t *end, struct mark_disk *d, struct err *err)
{
    if ((size_t)(end - *p) < DISK_FIXED_SIZE)
        return err_set(err, ERR_CORRUPT, "mark is cut off in its disks");
    const uint8_t *q = *p;
    d->number = get_le32(q);
    d->sector_bytes = get_le32(q + 4);
    d->size_bytes = get_le64(q + 8);
    size_t n = get_le16(q + 16);
    if (n > MARK_NAME_MAX || !bytes_are_zero(q + 18, 6))
        return err_set(err, ERR_CORRUPT, "mark has a disk name of %zu bytes", n);
    *p += DISK_FIXED_SIZE;
    return decode_text(p, end, n, d->name, err);
}

static int decode_ranges(const uint8_t **p, const uint8_t *end, struct mark *m, struct err *err)
{
    if (m->range_count * RANGE_SIZE > (size_t)(end - *p))
        return err_set(err, ERR_CORRUPT, "mark is cut off in its ranges");
    for (uint32_t i = 0; i < m->range_count; i++, *p += RANGE_SIZE) {
        if (!bytes_are_zero(*p + 4, 4))
            return err_set(err, ERR_CORRUPT, "range %u of a mark has more than there is", i);
        m->ranges[i].disk = get_le32(*p);
        m->ranges[i].start = get_le64(*p + 8);
        m->ranges[i].length = get_le64(*p + 16);
    }
    return 0;
}

static void decode_fixed(const uint8_t *p, struct mark *m)
{
    m->kind = (enum mark_kind)p[2];
    m->flags = p[3];
    m->disk_count = get_le32(p + 4);
    m->sequence = get_le64(p + 8);
    m->generation = get_le64(p + 16);
    m->epoch = get_le64(p + 24);
    m->time_utc_usec = get_le64(p + 32);
    memcpy(m->machine.bytes, p + 40, IDENT_SIZE);
    memcpy(m->group_point.bytes, p + 56, IDENT_SIZE);
    m->record_count = get_le64(p + 72);
    m->changed_bytes = get_le64(p + 80);
    memcpy(m->digest.bytes, p + 88, HASH_SIZE);
    m->unreadable_blocks = get_le64(p + 104);
    m->range_count = get_le16(p + 114);
}

/* One form only: version 2 exactly when there are ranges. */
static bool range_count_fits(const struct mark *m, unsigned version)
{
    return version == MARK_VERSION ? m->range_count == 0 : m->range_count > 0 && m->range_count <= MARK_RANGES_MAX;
}

static int decode_payload(const uint8_t *p, size_t size, struct mark *m, struct err *err)
{
    const uint8_t *end = p + size;
    memset(m, 0, sizeof(*m));
    decode_fixed(p, m);
    size_t tag = get_le16(p + 112);
    if (!range_count_fits(m, get_le16(p)))
        return err_set(err, ERR_CORRUPT, "mark of version %u with %u ranges", get_le16(p), m->range_count);
    if (tag > MARK_TAG_MAX || m->disk_count > MARK_DISKS_MAX || !bytes_are_zero(p + 116, 4))
        return err_set(err, ERR_CORRUPT, "mark with %u disks and a tag of %zu bytes", m->disk_count, tag);
    p += FIXED_SIZE;
    if (decode_text(&p, end, tag, m->tag, err) < 0)
        return -1;
    for (uint32_t i = 0; i < m->disk_count; i++) {
        if (decode_disk(&p, end, &m->disks[i], err) < 0)
            return -1;
    }
    if (decode_ranges(&p, end, m, err) < 0)
        return -1;
    if (p != end)
        return err_set(err, ERR_CORRUPT, "mark has bytes behind its end");
    return check_known(m, err) < 0 ? -1 : check_mark(m, ERR_CORRUPT, err);
}

int mark_decode(const struct record *r, const uint8_t *payload, struct mark *ret_mark, struct err *err)
{
    if (r->kind != RECORD_MARK || r->stored < FIXED_SIZE || r->stored > MARK_PAYLOAD_MAX)
        return err_set(err, ERR_CORRUPT, "not a mark record");
    struct hash128 hash;
    hash_128(payload, r->stored, &hash);
    if (!hash_equal(&hash, &r->hash))
        return err_set(err, ERR_CORRUPT, "mark fails its hash");
    unsigned version = get_le16(payload);
    if (version != MARK_VERSION && version != MARK_VERSION_RANGES) {
        (void)err_set(
            err, ERR_UNSUPPORTED, "mark is of version %u, this program reads up to %u", version, MARK_VERSION_RANGES);
        return err_hint(err, UPGRADE_HINT);
    }
    return decode_payload(payload, r->stored, ret_mark, err);
}

bool mark_is_point(const struct mark *m)
{
    return m->kind != MARK_PROGRESS;
}

uint64_t mark_unlisted_blocks(const struct mark *m)
{
    uint64_t listed = listed_blocks(m);
    return m->unreadable_blocks > listed ? m->unreadable_blocks - listed : 0;
}

void mark_fit_ranges(struct mark *m)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < m->range_count; i++) {
        struct mark_range *r = &m->ranges[i];
        const struct mark_disk *d = disk_of(m, r);
        if (d == NULL || r->start >= d->size_bytes)
            continue;
        m->ranges[kept] = *r;
        if (r->length > d->size_bytes - r->start)
            m->ranges[kept].length = d->size_bytes - r->start;
        kept++;
    }
    m->range_count = kept;
}

bool mark_group_time(const struct mark *m, uint64_t *ret_utc_usec)
{
    const uint8_t *b = m->group_point.bytes;
    if ((b[6] & 0xf0) != 0x80 || (b[8] & 0xc0) != 0x80)
        return false;
    uint64_t msec = (uint64_t)(b[6] & 0x0f) << 40 | (uint64_t)b[7] << 32 | (uint64_t)(b[8] & 0x3f) << 26 |
                    (uint64_t)b[9] << 18 | (uint64_t)b[10] << 10 | (uint64_t)b[11] << 2;
    *ret_utc_usec = msec * USEC_PER_MSEC;
    return true;
}

const char *mark_kind_name(enum mark_kind kind)
{
    return (unsigned)kind < ARRAY_LEN(kind_names) ? kind_names[kind] : "unknown";
}

int mark_kind_from_name(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(kind_names); i++) {
        if (strcmp(name, kind_names[i]) == 0)
            return (int)i;
    }
    return -1;
}
