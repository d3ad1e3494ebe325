/* SPDX-License-Identifier: Apache-2.0
 *
 * Free space of the mounted file systems of a disk, and its complement. The answers of FS_IOC_GETFSMAP come in pages of
 * records; each page starts behind the last record of the one before. When a file system has more free ranges than are
 * remembered, the rest counts as used.
 */
#include "mobility/sync/plan.h"

#include <fcntl.h>
#include <linux/fsmap.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "mobility/mountpath.h"

/* The tracker's granule: a free range that covers no whole one is not worth leaving out. */
#define PLAN_ALIGN 4096u
#define PAGE_RECORDS 1024u

/* Growing list of free ranges. Those before `base` are of other volumes: they are never joined with, so that a volume's
 * ranges can be taken back by their number. */
struct ranges {
    struct plan_extent *items;
    size_t count, capacity, base;
};

static int ranges_add(struct ranges *r, uint64_t start, uint64_t length, struct err *err)
{
    struct plan_extent *grown;
    size_t capacity;

    if (r->count > r->base && r->items[r->count - 1].start + r->items[r->count - 1].length == start) {
        r->items[r->count - 1].length += length;
        return 0;
    }
    if (r->count == PLAN_EXTENTS_MAX)
        return 0;
    if (r->count == r->capacity) {
        capacity = r->capacity ? r->capacity * 2 : 256;
        grown = mem_resize(r->items, capacity, sizeof(*grown));
        if (!grown)
            return err_set(err, ERR_NOMEM, "no memory for the map of free space");
        r->items = grown;
        r->capacity = capacity;
    }
    r->items[r->count++] = (struct plan_extent){start, length};
    return 0;
}

/* The kernel's "huge" encoding of a device number, as it stands in fmr_device. */
static uint32_t kernel_dev(dev_t devno)
{
    return (uint32_t)((minor(devno) & 0xff) | (major(devno) << 8) | ((minor(devno) & ~0xffu) << 12));
}

/* Adds the free ranges of one page; *ret_last tells that it was the last page. */
static int take_page(
    struct fsmap_head *head, const struct inventory_volume *v, struct ranges *out, bool *ret_last, struct err *err)
{
    *ret_last = head->fmh_entries == 0;
    for (uint32_t i = 0; i < head->fmh_entries; i++) {
        const struct fsmap *m = &head->fmh_recs[i];

        if (m->fmr_flags & FMR_OF_LAST)
            *ret_last = true;
        if (!(m->fmr_flags & FMR_OF_SPECIAL_OWNER) || m->fmr_owner != FMR_OWN_FREE ||
            m->fmr_device != kernel_dev(v->devno))
            continue;
        if (m->fmr_physical >= v->length_bytes || m->fmr_length > v->length_bytes - m->fmr_physical)
            continue; /* not of this volume as we know it: read it */
        if (ranges_add(out, v->start_bytes + m->fmr_physical, m->fmr_length, err) < 0)
            return -1;
    }
    return 0;
}

/* 1: the free ranges were added. 0: the file system gives no answer (what it gave so far is taken back). */
static int ask_file_system(int fd, const struct inventory_volume *v, struct ranges *out, struct err *err)
{
    struct fsmap_head *head AUTO_FREE = mem_alloc(1, fsmap_sizeof(PAGE_RECORDS));
    bool last = false;

    if (!head)
        return err_set(err, ERR_NOMEM, "no memory for the map of free space");
    head->fmh_count = PAGE_RECORDS;
    head->fmh_keys[1] = (struct fsmap){.fmr_device = UINT32_MAX, /* xfs refuses a high key with a length */
        .fmr_flags = UINT32_MAX,
        .fmr_physical = UINT64_MAX,
        .fmr_owner = UINT64_MAX,
        .fmr_offset = UINT64_MAX};
    while (!last) {
        if (ioctl(fd, FS_IOC_GETFSMAP, head) < 0) {
            out->count = out->base;
            return 0;
        }
        if (take_page(head, v, out, &last, err) < 0)
            return -1;
        if (!last)
            fsmap_advance(head);
    }
    return 1;
}

static bool tells_free_space(const struct inventory_volume *v)
{
    return v->length_bytes > 0 && v->mount_count > 0 &&
           (strcmp(v->fs_type, "ext4") == 0 || strcmp(v->fs_type, "xfs") == 0);
}

/* The file system itself, not what this process sees of it, which may be read-only for its own sake. False also where that cannot be told. */
static bool is_writable(dev_t devno)
{
    char *line = NULL, *tail, mode[3];
    bool writable = false;
    unsigned ma, mi;
    size_t room = 0;
    FILE *f = fopen("/proc/self/mountinfo", "re");

    while (f && !writable && getline(&line, &room, f) > 0)
        writable = sscanf(line, "%*s %*s %u:%u", &ma, &mi) == 2 && makedev(ma, mi) == devno &&
                   (tail = strstr(line, " - ")) != NULL && sscanf(tail, " - %*s %*s %2s", mode) == 1 &&
                   strcmp(mode, "rw") == 0;
    free(line);
    if (f)
        (void)fclose(f);
    return writable;
}

/* Of its mount points the first that leads there; -1: none does any more. */
static int open_volume(const struct inventory_volume *v)
{
    for (size_t i = 0; i < v->mount_count; i++) {
        int fd AUTO_CLOSE = -1;
        struct stat st;

        if (!mountpath_leads_to_device(v->mount_points[i], v->devno))
            continue;
        fd = open(v->mount_points[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == v->devno)
            return TAKE_FD(fd);
    }
    return -1;
}

static int add_volume(const struct inventory_volume *v, struct ranges *out, unsigned *file_systems, struct err *err)
{
    int fd AUTO_CLOSE = open_volume(v);
    int r;

    out->base = out->count;
    if (fd < 0)
        return 0;
    r = ask_file_system(fd, v, out, err);
    if (r < 0)
        return -1;
    /* Without the sync what is free may be given back: see plan.h. */
    if (r > 0 && (syncfs(fd) < 0 || !is_writable(v->devno)))
        out->count = out->base;
    else
        *file_systems += (unsigned)r;
    return 0;
}

int plan_make(const struct inventory_disk *disk, struct plan **ret_plan, struct err *err)
{
    struct ranges free_ranges = {0};
    unsigned file_systems = 0;
    int r = 0;

    for (size_t i = 0; r == 0 && i < disk->volume_count; i++)
        if (tells_free_space(&disk->volumes[i]))
            r = add_volume(&disk->volumes[i], &free_ranges, &file_systems, err);
    if (r == 0)
        r = plan_from_free(disk->size_bytes, free_ranges.items, free_ranges.count, PLAN_ALIGN, ret_plan, err);
    if (r == 0)
        (*ret_plan)->file_systems = file_systems;
    free(free_ranges.items);
    return r;
}

static int by_start(const void *a, const void *b)
{
    const struct plan_extent *x = a, *y = b;

    return x->start < y->start ? -1 : x->start > y->start;
}

static void add_used(struct plan *p, uint64_t from, uint64_t to)
{
    if (to <= from)
        return;
    p->extents[p->count++] = (struct plan_extent){from, to - from};
    p->used_bytes += to - from;
}

int plan_from_free(uint64_t size_bytes, const struct plan_extent *free_ranges, size_t count, uint64_t align,
    struct plan **ret_plan, struct err *err)
{
    struct plan_extent *sorted AUTO_FREE = mem_alloc(count + 1, sizeof(*sorted));
    struct plan *p AUTO_OF(plan) = mem_new(struct plan);
    uint64_t at = 0;

    if (p)
        p->extents = mem_alloc(count + 1, sizeof(*p->extents));
    if (!sorted || !p || !p->extents)
        return err_set(err, ERR_NOMEM, "no memory for the plan of a disk");
    if (count > 0)
        memcpy(sorted, free_ranges, count * sizeof(*sorted));
    qsort(sorted, count, sizeof(*sorted), by_start);
    p->size_bytes = size_bytes;
    for (size_t i = 0; i < count; i++) {
        uint64_t from = (sorted[i].start + align - 1) / align * align;
        uint64_t to = (sorted[i].start + sorted[i].length) / align * align;

        if (to > size_bytes)
            to = size_bytes;
        if (from < at)
            from = at;
        if (to <= from)
            continue;
        add_used(p, at, from);
        at = to;
    }
    add_used(p, at, size_bytes);
    *ret_plan = TAKE_PTR(p);
    return 0;
}

void plan_free(struct plan *p)
{
    if (!p)
        return;
    free(p->extents);
    free(p);
}

/* Index of the first extent that ends behind offset. */
static size_t find(const struct plan *p, uint64_t offset)
{
    size_t low = 0, high = p->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (p->extents[mid].start + p->extents[mid].length <= offset)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

int plan_next(const struct plan *p, uint64_t offset, uint64_t max_length, uint64_t *ret_start, uint64_t *ret_length)
{
    size_t i = find(p, offset);
    uint64_t end;

    if (i == p->count)
        return 0;
    end = p->extents[i].start + p->extents[i].length;
    *ret_start = p->extents[i].start > offset ? p->extents[i].start : offset;
    *ret_length = end - *ret_start < max_length ? end - *ret_start : max_length;
    return 1;
}

uint64_t plan_bytes_before(const struct plan *p, uint64_t offset)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < p->count && p->extents[i].start < offset; i++)
        sum +=
            p->extents[i].start + p->extents[i].length <= offset ? p->extents[i].length : offset - p->extents[i].start;
    return sum;
}
