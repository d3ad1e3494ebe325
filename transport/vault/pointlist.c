/* SPDX-License-Identifier: Apache-2.0
 *
 * Points in memory and in their file (FORMAT.md). Each entry of the file has a checksum of its own, so that an append torn
 * by a crash cannot be taken for a point; how many of them count is in the manifest.
 */
#include "transport/vault/pointlist.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/base/bytes.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/hash.h"
#include "transport/base/mem.h"

#define POINTS_MAGIC "LWPTS\0\0\1"
#define HEAD_SIZE 64u
#define ENTRY_SIZE 64u
#define ENTRY_CHECK 60u
#define ENTRY_MORE (POINT_TAGGED | POINT_GROUPED)
#define LOT_ENTRIES 1024u
#define POINTS_MAX (1u << 28) /* a point every second for eight years */
#define GROUP_SKEW_MAX_MSEC (24 * 3600 * 1000)

void pointlist_done(struct pointlist *l)
{
    free(l->items);
    *l = (struct pointlist){0};
}

int pointlist_add(struct pointlist *l, const struct point *p, struct err *err)
{
    if (l->count > 0 && l->items[l->count - 1].sequence >= p->sequence)
        return err_set(err, ERR_INTERNAL, "point %llu does not come last", (unsigned long long)p->sequence);
    if (l->count >= POINTS_MAX)
        return err_set(err, ERR_TOO_LARGE, "the machine has too many recovery points");
    if (l->count == l->cap) {
        size_t cap = l->cap == 0 ? 64 : l->cap * 2;
        struct point *items = mem_resize(l->items, cap, sizeof(*items));
        if (items == NULL)
            return err_set(err, ERR_NOMEM, "no memory for %zu points", cap);
        l->items = items;
        l->cap = cap;
    }
    l->items[l->count++] = *p;
    return 0;
}

void pointlist_from_mark(
    const struct mark *m, uint32_t segment, uint32_t offset, uint64_t committed_utc_usec, struct point *ret_point)
{
    unsigned more = (m->tag[0] != '\0' ? POINT_TAGGED : 0u) | (ident_is_zero(&m->group_point) ? 0u : POINT_GROUPED);
    *ret_point = (struct point){.sequence = m->sequence,
        .time_utc_usec = m->time_utc_usec,
        .committed_utc_usec = committed_utc_usec,
        .changed_bytes = m->changed_bytes,
        .generation = m->generation,
        .unreadable_blocks = m->unreadable_blocks,
        .segment = segment,
        .offset = offset,
        .kind = (uint8_t)m->kind,
        .flags = (uint8_t)m->flags,
        .more = (uint8_t)more};
    if ((more & POINT_GROUPED) != 0)
        point_learn_group(ret_point, m);
}

void point_learn_group(struct point *p, const struct mark *m)
{
    uint64_t group_usec;
    p->more = (uint8_t)(p->more | POINT_GROUP_TIME);
    p->group_msec = 0;
    if (m == NULL || !mark_group_time(m, &group_usec))
        return;
    int64_t msec = (int64_t)(group_usec / USEC_PER_MSEC) - (int64_t)(p->time_utc_usec / USEC_PER_MSEC);
    if (msec >= -GROUP_SKEW_MAX_MSEC && msec <= GROUP_SKEW_MAX_MSEC)
        p->group_msec = (int32_t)msec;
}

uint64_t point_group_time(const struct point *p)
{
    int64_t msec = (int64_t)(p->time_utc_usec / USEC_PER_MSEC) + p->group_msec;
    return (uint64_t)msec * USEC_PER_MSEC;
}

size_t pointlist_at(const struct pointlist *l, uint64_t sequence)
{
    size_t low = 0;
    size_t high = l->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (l->items[mid].sequence < sequence)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

const struct point *pointlist_find(const struct pointlist *l, uint64_t sequence)
{
    size_t at = pointlist_at(l, sequence);
    return at < l->count && l->items[at].sequence == sequence ? &l->items[at] : NULL;
}

bool pointlist_any(const struct pointlist *l, uint64_t from, uint64_t before)
{
    size_t at = pointlist_at(l, from);
    return at < l->count && l->items[at].sequence < before;
}

static void entry_encode(const struct point *p, uint8_t out[ENTRY_SIZE])
{
    memset(out, 0, ENTRY_SIZE);
    put_le64(out, p->sequence);
    put_le64(out + 8, p->time_utc_usec);
    put_le64(out + 16, p->committed_utc_usec);
    put_le64(out + 24, p->changed_bytes);
    put_le64(out + 32, p->generation);
    put_le64(out + 40, p->unreadable_blocks);
    put_le32(out + 48, p->segment);
    put_le32(out + 52, p->offset);
    out[56] = p->kind;
    out[57] = p->flags;
    out[58] = p->more & ENTRY_MORE;
    put_le32(out + ENTRY_CHECK, hash_32(out, ENTRY_CHECK));
}

static int entry_decode(const uint8_t *p, struct point *ret_point, struct err *err)
{
    if (get_le32(p + ENTRY_CHECK) != hash_32(p, ENTRY_CHECK))
        return err_set(err, ERR_CORRUPT, "an entry of the point list is damaged");
    *ret_point = (struct point){.sequence = get_le64(p),
        .time_utc_usec = get_le64(p + 8),
        .committed_utc_usec = get_le64(p + 16),
        .changed_bytes = get_le64(p + 24),
        .generation = get_le64(p + 32),
        .unreadable_blocks = get_le64(p + 40),
        .segment = get_le32(p + 48),
        .offset = get_le32(p + 52),
        .kind = p[56],
        .flags = p[57],
        .more = p[58] & ENTRY_MORE};
    return 0;
}

static char *points_path(const char *machine_dir, uint64_t id)
{
    return mem_printf("%s/points-%016llx", machine_dir, (unsigned long long)id);
}

static int head_check(int fd, const struct ident *machine, struct err *err)
{
    uint8_t head[HEAD_SIZE];
    if (file_pread_all(fd, head, sizeof(head), 0, "the point list", err) < 0)
        return -1;
    if (memcmp(head, POINTS_MAGIC, 7) != 0 || memcmp(head + 8, machine->bytes, IDENT_SIZE) != 0)
        return err_set(err, ERR_CORRUPT, "the point list is damaged or belongs to another machine");
    if (head[7] != (uint8_t)POINTS_MAGIC[7])
        return err_set(err, ERR_UNSUPPORTED, "the point list has the unknown format version %u", head[7]);
    return 0;
}

static int entries_load(int fd, uint64_t count, struct pointlist *l, struct err *err)
{
    uint8_t *lot AUTO_FREE = mem_alloc(LOT_ENTRIES, ENTRY_SIZE);
    if (lot == NULL)
        return err_set(err, ERR_NOMEM, "no memory to read the point list");
    for (uint64_t i = 0; i < count; i++) {
        uint64_t in_lot = i % LOT_ENTRIES;
        uint64_t left = count - i;
        size_t n = (left < LOT_ENTRIES ? left : LOT_ENTRIES) * ENTRY_SIZE;
        if (in_lot == 0 && file_pread_all(fd, lot, n, HEAD_SIZE + i * ENTRY_SIZE, "the point list", err) < 0)
            return -1;
        struct point p;
        if (entry_decode(lot + in_lot * ENTRY_SIZE, &p, err) < 0)
            return -1;
        if (pointlist_add(l, &p, err) < 0)
            return err_set(err, ERR_CORRUPT, "the point list is out of order");
    }
    return 0;
}

/* Opens the file and checks its head. */
static int file_open(const char *machine_dir, uint64_t id, const struct ident *machine, uint64_t count, struct err *err)
{
    char *path AUTO_FREE = points_path(machine_dir, id);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to read the point list");
    int fd AUTO_CLOSE = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_sys(err, errno, "opening the point list");
    if (count > POINTS_MAX)
        return err_set(err, ERR_CORRUPT, "the point list claims %llu points", (unsigned long long)count);
    return head_check(fd, machine, err) < 0 ? -1 : TAKE_FD(fd);
}

int pointlist_load(const char *machine_dir, uint64_t id, const struct ident *machine, uint64_t count,
    struct pointlist *l, struct err *err)
{
    int fd AUTO_CLOSE = file_open(machine_dir, id, machine, count, err);
    if (fd < 0)
        return -1;
    if (entries_load(fd, count, l, err) < 0) {
        pointlist_done(l);
        return -1;
    }
    return 0;
}

static int entry_at(int fd, uint64_t index, struct point *ret_point, struct err *err)
{
    uint8_t entry[ENTRY_SIZE];
    if (file_pread_all(fd, entry, sizeof(entry), HEAD_SIZE + index * ENTRY_SIZE, "the point list", err) < 0)
        return -1;
    return entry_decode(entry, ret_point, err);
}

int pointlist_lookup(const char *machine_dir, uint64_t id, const struct ident *machine, uint64_t count,
    uint64_t sequence, struct point *ret_point, struct err *err)
{
    uint64_t low = 0;
    uint64_t high = count;
    int fd AUTO_CLOSE = file_open(machine_dir, id, machine, count, err);
    if (fd < 0)
        return -1;
    if (count == 0)
        return 0;
    if (sequence == 0)
        return entry_at(fd, count - 1, ret_point, err) < 0 ? -1 : 1;
    while (low < high) {
        uint64_t mid = low + (high - low) / 2;
        if (entry_at(fd, mid, ret_point, err) < 0)
            return -1;
        if (ret_point->sequence == sequence)
            return 1;
        if (ret_point->sequence < sequence)
            low = mid + 1;
        else
            high = mid;
    }
    return 0;
}

static int entries_store(int fd, const struct pointlist *l, size_t from, struct err *err)
{
    uint8_t *lot AUTO_FREE = mem_alloc(LOT_ENTRIES, ENTRY_SIZE);
    if (lot == NULL)
        return err_set(err, ERR_NOMEM, "no memory to write the point list");
    for (size_t i = from; i < l->count;) {
        size_t n = 0;
        for (; n < LOT_ENTRIES && i + n < l->count; n++)
            entry_encode(&l->items[i + n], lot + n * ENTRY_SIZE);
        if (file_pwrite_all(fd, lot, n * ENTRY_SIZE, HEAD_SIZE + i * ENTRY_SIZE, "the point list", err) < 0)
            return -1;
        i += n;
    }
    return 0;
}

int pointlist_store(const char *machine_dir, uint64_t id, const struct ident *machine, const struct pointlist *l,
    size_t from, struct err *err)
{
    char *path AUTO_FREE = points_path(machine_dir, id);
    uint8_t head[HEAD_SIZE] = POINTS_MAGIC;
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to write the point list");
    int fd AUTO_CLOSE = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_sys(err, errno, "opening the point list");
    memcpy(head + 8, machine->bytes, IDENT_SIZE);
    if (from == 0 && file_pwrite_all(fd, head, sizeof(head), 0, "the point list", err) < 0)
        return -1;
    if (entries_store(fd, l, from, err) < 0)
        return -1;
    if (ftruncate(fd, (off_t)(HEAD_SIZE + l->count * ENTRY_SIZE)) < 0 || fsync(fd) < 0)
        return err_sys(err, errno, "making the point list durable");
    return from == 0 ? file_sync_dir(machine_dir, err) : 0;
}

void pointlist_unlink(const char *machine_dir, uint64_t id)
{
    char *path AUTO_FREE = points_path(machine_dir, id);
    if (path != NULL)
        (void)unlink(path);
}

int pointlist_id_from_name(const char *name, uint64_t *ret_id)
{
    uint8_t raw[8];
    if (strlen(name) != 23 || strncmp(name, "points-", 7) != 0 || bytes_from_hex(name + 7, raw, sizeof(raw)) < 0)
        return -1;
    *ret_id = 0;
    for (size_t i = 0; i < sizeof(raw); i++)
        *ret_id = *ret_id << 8 | raw[i];
    return 0;
}
