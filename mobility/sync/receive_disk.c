/* SPDX-License-Identifier: Apache-2.0
 *
 * Happy path: blocks of 64 KiB that may differ (all whose hash the vault has otherwise, or those in ranges that changed) are collected; the vault gets the
 * hashes of their pieces of 4 KiB and answers with those that differ; these are written, read back and compared.
 * Failure modes: whatever fails leaves a disk that is neither the old nor the new state; the next pass makes it one, for it compares what is
 * there. Reading and writing go past the page cache, so what is compared is what the disk holds.
 */
#include "mobility/sync/receive_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mobility/inventory.h"
#include "mobility/track/wholedisk.h"
#include "transport/base/bytes.h"
#include "transport/base/hash.h"
#include "transport/base/log.h"
#include "transport/proto/vault.pb-c.h"

#define BLOCK_BYTES 65536u
#define PIECE_BYTES 4096u
#define PIECES_MAX (BLOCK_BYTES / PIECE_BYTES)
#define READ_BYTES (1u << 20)
#define ASK_BLOCKS 128u                 /* of one request: 8 MiB at most come back */
#define HASH_SPAN ((uint64_t)256 << 20) /* of one request for hashes */
#define WRITE_MAX ((size_t)1 << 20)
#define TRIES_MAX 3u /* of a pass that others write into */
#define ALIGN 4096u

struct receive_disk {
    char key[256];
    uint32_t number;
    uint64_t size_bytes;
    int fd;
    uint64_t own_bytes;    /* written here */
    bool is_counted;       /* others_bytes was read */
    uint64_t others_bytes; /* written by others, as the kernel counts since the disk is there */
    uint8_t *block, *back; /* READ_BYTES and WRITE_MAX, aligned for O_DIRECT */
};

/* A pass as it goes. */
struct walk {
    struct receive_disk *d;
    const struct receive_pass *pass;
    uint64_t size_bytes;    /* of the disk at the point */
    struct hash128 *hashes; /* of the vault, of blocks from hashes_start on; NULL: every block is asked for */
    uint64_t hashes_start, hashes_have;
    Leeward__Vault__V1__BlockHave have[ASK_BLOCKS], *list[ASK_BLOCKS];
    struct hash128 pieces[ASK_BLOCKS][PIECES_MAX];
    size_t count; /* of have */
};

/* ---- open ---- */

static int in_use(const struct inventory_disk *disk, struct err *err)
{
    for (size_t i = 0; i < disk->volume_count; i++)
        if (disk->volumes[i].mount_count > 0) {
            err_set(err, ERR_REFUSED, "the disk %s is in use: %s is mounted on %s", disk->device,
                disk->volumes[i].device, disk->volumes[i].mount_points[0]);
            return err_hint(
                err, "Unmount it and stop what would mount it again; its content is going to be overwritten.");
        }
    err_set(err, ERR_REFUSED, "the disk %s is in use", disk->device);
    return err_hint(err, "Unmount what is on it, turn its swap off, deactivate its LVM or md volumes.");
}

/* A look for disks can take long, and names can change hands meanwhile: another disk would be overwritten. The kernel's number is that of what is open. */
static bool is_what_was_found(int fd, const struct inventory_disk *disk)
{
    uint64_t sequence;

    return disk->sequence == 0 || ioctl(fd, BLKGETDISKSEQ, &sequence) < 0 || sequence == disk->sequence;
}

static int claim(struct receive_disk *d, const struct inventory_disk *disk, struct err *err)
{
    if (disk->is_root) {
        err_set(err, ERR_REFUSED, "the disk %s holds the running system", disk->device);
        return err_hint(
            err, "Start the machine from another disk or a rescue system, with this agent's folder of data.");
    }
    d->fd = open(disk->device, O_RDWR | O_EXCL | O_DIRECT | O_CLOEXEC);
    if (d->fd < 0)
        return errno == EBUSY ? in_use(disk, err) : err_sys(err, errno, "opening %s", disk->device);
    if (!is_what_was_found(d->fd, disk)) {
        err_set(err, ERR_UNAVAILABLE, "what is behind %s has changed while its disk was looked for", disk->device);
        return err_hint(err, "See that the disks of the machine stay connected, then try again.");
    }
    if (ioctl(d->fd, BLKGETSIZE64, &d->size_bytes) < 0)
        return err_sys(err, errno, "asking %s for its size", disk->device);
    return 0;
}

int receive_disk_open(const char *key, uint32_t number, struct receive_disk **ret_disk, struct err *err)
{
    struct inventory *inventory AUTO_OF(inventory) = NULL;
    struct receive_disk *d AUTO_OF(receive_disk) = mem_new(struct receive_disk);
    const struct inventory_disk *disk;

    if (!d)
        return err_set(err, ERR_NOMEM, "no memory for a disk");
    d->fd = -1;
    d->number = number;
    snprintf(d->key, sizeof(d->key), "%s", key);
    if (posix_memalign((void **)&d->block, ALIGN, READ_BYTES) != 0 ||
        posix_memalign((void **)&d->back, ALIGN, WRITE_MAX) != 0)
        return err_set(err, ERR_NOMEM, "no memory for a disk");
    if (inventory_scan(NULL, &inventory, err) < 0)
        return -1;
    disk = inventory_find(inventory, key);
    if (!disk) {
        err_set(err, ERR_NOT_FOUND, "there is no disk %s", key);
        return err_hint(err, "Attach it; the machine's disks are listed by: leeward disk list MACHINE");
    }
    if (claim(d, disk, err) < 0)
        return -1;
    *ret_disk = TAKE_PTR(d);
    return 0;
}

void receive_disk_close(struct receive_disk *d)
{
    if (!d)
        return;
    if (d->fd >= 0)
        (void)close(d->fd);
    free(d->block);
    free(d->back);
    free(d);
}

dev_t receive_disk_device(const struct receive_disk *d)
{
    struct stat st;

    return fstat(d->fd, &st) == 0 ? st.st_rdev : 0;
}

const char *receive_disk_key(const struct receive_disk *d)
{
    return d->key;
}

int receive_disk_sync(struct receive_disk *d, struct err *err)
{
    return fsync(d->fd) < 0 ? err_sys(err, errno, "syncing the disk %s", d->key) : 0;
}

void receive_disk_reread(struct receive_disk *d)
{
    (void)ioctl(d->fd, BLKRRPART); /* a disk without partitions cannot, and need not */
}

/* ---- writing ---- */

static int write_all(struct receive_disk *d, const uint8_t *data, size_t n, uint64_t at, struct err *err)
{
    while (n > 0) {
        ssize_t w = pwrite(d->fd, data, n, (off_t)at);

        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return err_sys(err, w == 0 ? ENOSPC : errno, "writing to the disk %s at %" PRIu64, d->key, at);
        d->own_bytes += (uint64_t)w;
        data += w;
        at += (uint64_t)w;
        n -= (size_t)w;
    }
    return 0;
}

static int read_all(const struct receive_disk *d, uint8_t *out, size_t n, uint64_t at, struct err *err)
{
    while (n > 0) {
        ssize_t r = pread(d->fd, out, n, (off_t)at);

        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return err_sys(err, r == 0 ? EIO : errno, "reading the disk %s at %" PRIu64, d->key, at);
        out += r;
        at += (uint64_t)r;
        n -= (size_t)r;
    }
    return 0;
}

/* data: NULL for zeros; at most WRITE_MAX. */
static int put(struct walk *w, const uint8_t *data, size_t n, uint64_t at, struct err *err)
{
    struct receive_disk *d = w->d;
    struct hash128 want, got;

    if (data)
        memcpy(d->back, data, n);
    else
        memset(d->back, 0, n);
    hash_128(d->back, n, &want);
    if (write_all(d, d->back, n, at, err) < 0 || read_all(d, d->back, n, at, err) < 0)
        return -1;
    hash_128(d->back, n, &got);
    if (!hash_equal(&want, &got))
        return err_set(err, ERR_IO, "the disk %s gives back something else than was written at %" PRIu64, d->key, at);
    w->pass->figures->written_bytes += n;
    return 0;
}

static bool was_asked(const struct walk *w, uint64_t start, uint64_t length)
{
    for (size_t i = 0; i < w->count; i++)
        if (start >= w->have[i].start && length <= w->have[i].length &&
            start - w->have[i].start <= w->have[i].length - length)
            return true;
    return false;
}

static int take_chunk(void *arg, const ProtobufCMessage *m, struct err *err)
{
    const Leeward__Vault__V1__RangeChunk *c = (const Leeward__Vault__V1__RangeChunk *)m;
    uint64_t length = c->data.len > 0 ? c->data.len : c->zero_length;

    if (length == 0 || length % 512 != 0 || !was_asked(arg, c->start, length))
        return err_set(err, ERR_CORRUPT, "the vault answered another block than those asked for");
    return put(arg, c->data.len > 0 ? c->data.data : NULL, (size_t)length, c->start, err);
}

/* ---- asking ---- */

static int flush(struct walk *w, struct err *err)
{
    Leeward__Vault__V1__BlocksRequest q = LEEWARD__VAULT__V1__BLOCKS_REQUEST__INIT;
    struct ident machine = w->pass->machine;
    int r;

    if (w->count == 0)
        return 0;
    q.machine_id = (ProtobufCBinaryData){IDENT_SIZE, machine.bytes};
    q.sequence = w->pass->sequence;
    q.disk = w->d->number;
    q.n_have = w->count;
    q.have = w->list;
    r = vaultask_run(w->pass->ask, "/leeward.vault.v1.Vault/Blocks", &q.base,
        &leeward__vault__v1__range_chunk__descriptor, take_chunk, w, &w->pass->figures->traffic_bytes, err);
    w->count = 0;
    return r;
}

static int add_block(struct walk *w, uint64_t start, const uint8_t *data, uint32_t n, struct err *err)
{
    Leeward__Vault__V1__BlockHave *have = &w->have[w->count];
    size_t pieces = 0;

    for (uint32_t at = 0; at < n; at += PIECE_BYTES, pieces++)
        hash_128(data + at, n - at < PIECE_BYTES ? n - at : PIECE_BYTES, &w->pieces[w->count][pieces]);
    *have = (Leeward__Vault__V1__BlockHave)LEEWARD__VAULT__V1__BLOCK_HAVE__INIT;
    have->start = start;
    have->length = n;
    have->hashes = (ProtobufCBinaryData){pieces * HASH_SIZE, (uint8_t *)w->pieces[w->count]};
    w->list[w->count++] = have;
    return w->count == ASK_BLOCKS ? flush(w, err) : 0;
}

/* What the vault cannot read it names by the zero hash, which nothing has. */
static bool is_the_same(const struct walk *w, uint64_t start, const uint8_t *data, uint32_t n)
{
    struct hash128 ours;
    const struct hash128 *theirs;

    if (!w->hashes)
        return false;
    theirs = &w->hashes[(start - w->hashes_start) / BLOCK_BYTES];
    hash_128(data, n, &ours);
    return hash_equal(theirs, &ours);
}

/* Whole blocks. */
static int compare(struct walk *w, uint64_t start, uint64_t end, struct err *err)
{
    while (start < end) {
        size_t n = end - start < READ_BYTES ? (size_t)(end - start) : READ_BYTES;

        if (!w->pass->goes_on(w->pass->arg, start, w->size_bytes))
            return err_set(err, ERR_CANCELLED, "the writing of the disk %s was cancelled", w->d->key);
        if (read_all(w->d, w->d->block, n, start, err) < 0)
            return -1;
        w->pass->figures->compared_bytes += n;
        for (size_t at = 0; at < n; at += BLOCK_BYTES) {
            uint32_t length = n - at < BLOCK_BYTES ? (uint32_t)(n - at) : BLOCK_BYTES;

            if (!is_the_same(w, start + at, w->d->block + at, length) &&
                add_block(w, start + at, w->d->block + at, length, err) < 0)
                return -1;
        }
        start += n;
    }
    return 0;
}

/* ---- all of the disk ---- */

static int take_hashes(void *arg, const ProtobufCMessage *m, struct err *err)
{
    const Leeward__Vault__V1__HashChunk *c = (const Leeward__Vault__V1__HashChunk *)m;
    struct walk *w = arg;
    size_t n = c->hashes.len / HASH_SIZE;

    if (c->block_bytes != BLOCK_BYTES || c->hashes.len % HASH_SIZE != 0 ||
        c->start != w->hashes_start + w->hashes_have * BLOCK_BYTES || n > HASH_SPAN / BLOCK_BYTES - w->hashes_have)
        return err_set(err, ERR_CORRUPT, "the vault answered other hashes than those asked for");
    memcpy(w->hashes + w->hashes_have, c->hashes.data, n * HASH_SIZE);
    w->hashes_have += n;
    return 0;
}

static int fetch_hashes(struct walk *w, uint64_t start, uint64_t length, struct err *err)
{
    Leeward__Vault__V1__HashesRequest q = LEEWARD__VAULT__V1__HASHES_REQUEST__INIT;
    struct ident machine = w->pass->machine;

    q.machine_id = (ProtobufCBinaryData){IDENT_SIZE, machine.bytes};
    q.sequence = w->pass->sequence;
    q.disk = w->d->number;
    q.start = start;
    q.length = length;
    q.block_bytes = BLOCK_BYTES;
    w->hashes_start = start;
    w->hashes_have = 0;
    if (vaultask_run(w->pass->ask, "/leeward.vault.v1.Vault/Hashes", &q.base,
            &leeward__vault__v1__hash_chunk__descriptor, take_hashes, w, &w->pass->figures->traffic_bytes, err) < 0)
        return -1;
    return w->hashes_have == (length + BLOCK_BYTES - 1) / BLOCK_BYTES
               ? 0
               : err_set(err, ERR_CORRUPT, "the vault has no hashes for this part of the disk");
}

static int walk_all(struct walk *w, struct err *err)
{
    AUTO_FREE struct hash128 *hashes = mem_alloc(HASH_SPAN / BLOCK_BYTES, sizeof(*hashes));
    int r = 0;

    if (!hashes)
        return err_set(err, ERR_NOMEM, "no memory for hashes");
    w->hashes = hashes;
    for (uint64_t at = 0; r == 0 && at < w->size_bytes; at += HASH_SPAN) {
        uint64_t n = w->size_bytes - at < HASH_SPAN ? w->size_bytes - at : HASH_SPAN;

        r = fetch_hashes(w, at, n, err);
        if (r == 0)
            r = compare(w, at, at + n, err);
    }
    w->hashes = NULL;
    return r;
}

/* ---- what changed ---- */

struct look {
    uint64_t sequence, size_bytes;
    struct walk *walk; /* NULL: ranges are not looked at */
    uint64_t done;     /* blocks before it were compared */
    const struct receive_pass *pass;
};

static bool is_written(const struct receive_pass *pass, uint32_t number)
{
    for (unsigned i = 0; i < pass->number_count; i++)
        if (pass->numbers[i] == number)
            return true;
    return false;
}

static int check_numbers(const struct receive_pass *pass, const Leeward__Vault__V1__ChangeChunk *c, struct err *err)
{
    for (size_t i = 0; pass->numbers && i < c->n_disks; i++)
        if (!is_written(pass, c->disks[i])) {
            err_set(err, ERR_REFUSED, "the point has a disk %" PRIu32 ", which is not among those that are written",
                c->disks[i]);
            return err_hint(err, "Name a disk for each that the point has: --disk NUMBER=KEY");
        }
    return 0;
}

static int take_ranges(void *arg, const ProtobufCMessage *m, struct err *err)
{
    const Leeward__Vault__V1__ChangeChunk *c = (const Leeward__Vault__V1__ChangeChunk *)m;
    struct look *look = arg;

    look->sequence = c->sequence;
    look->size_bytes = c->size_bytes;
    if (c->n_starts != c->n_lengths)
        return err_set(err, ERR_CORRUPT, "the vault answered with half a range");
    if (check_numbers(look->pass, c, err) < 0)
        return -1;
    for (size_t i = 0; look->walk && i < c->n_starts; i++) {
        uint64_t size = look->walk->size_bytes, start = c->starts[i], end;

        if (start > size || c->lengths[i] > size - start)
            return err_set(err, ERR_CORRUPT, "the vault answered with a range behind the disk");
        end = (start + c->lengths[i] + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
        start = start / BLOCK_BYTES * BLOCK_BYTES;
        start = start < look->done ? look->done : start;
        end = end > size ? size : end;
        if (start < end && compare(look->walk, start, end, err) < 0)
            return -1;
        look->done = end > look->done ? end : look->done;
    }
    return 0;
}

/* The ranges are compared while the answer is walked through; the calls for their content come after it has been taken. */
static int ask_changes(
    struct receive_disk *d, const struct receive_pass *pass, uint64_t after, struct look *look, struct err *err)
{
    Leeward__Vault__V1__ChangesRequest q = LEEWARD__VAULT__V1__CHANGES_REQUEST__INIT;
    struct ident machine = pass->machine;

    q.machine_id = (ProtobufCBinaryData){IDENT_SIZE, machine.bytes};
    q.sequence = pass->sequence;
    q.after_sequence = after;
    q.disk = d->number;
    look->pass = pass;
    if (vaultask_run(pass->ask, "/leeward.vault.v1.Vault/Changes", &q.base,
            &leeward__vault__v1__change_chunk__descriptor, take_ranges, look, &pass->figures->traffic_bytes, err) < 0)
        return -1;
    return look->sequence > 0 ? 0 : err_set(err, ERR_CORRUPT, "the vault named no point");
}

int receive_disk_look(struct receive_disk *d, const struct receive_pass *pass, uint64_t *ret_sequence, struct err *err)
{
    struct look look = {0};

    if (ask_changes(d, pass, UINT64_MAX, &look, err) < 0)
        return -1;
    *ret_sequence = look.sequence;
    if (look.size_bytes <= d->size_bytes)
        return 0;
    err_set(err, ERR_REFUSED, "the disk %s has %" PRIu64 " bytes, and %" PRIu64 " are to be written", d->key,
        d->size_bytes, look.size_bytes);
    return err_hint(err, "Put a disk in its place that is at least as large.");
}

/* That it is opened exclusively keeps nobody away who writes to the device itself. What such a one has written since this was asked last is in no range that
 * the vault tells, and may lie where the pass had been already. */
static bool others_wrote(struct receive_disk *d)
{
    uint64_t now, before = d->others_bytes;
    bool was_counted = d->is_counted;

    d->is_counted = wholedisk_bytes_written(receive_disk_device(d), &now) == 0;
    if (!d->is_counted)
        return false;
    d->others_bytes = now - d->own_bytes;
    if (!was_counted || (int64_t)(d->others_bytes - before) <= 0) /* less: of this disk not even ours is counted */
        return false;
    log_event(LOG_WARN, "written_by_others", LOG_S("disk", d->key), LOG_U("bytes", d->others_bytes - before));
    return true;
}

static int walk_changes(struct walk *w, struct err *err)
{
    struct look look = {.walk = w};

    return ask_changes(w->d, w->pass, w->pass->after, &look, err);
}

static int walk_once(struct walk *w, bool is_whole, struct err *err)
{
    struct look look = {0};

    if (ask_changes(w->d, w->pass, UINT64_MAX, &look, err) < 0)
        return -1;
    w->size_bytes = look.size_bytes;
    if ((is_whole ? walk_all(w, err) : walk_changes(w, err)) < 0 || flush(w, err) < 0)
        return -1;
    return receive_disk_sync(w->d, err);
}

int receive_disk_pass(struct receive_disk *d, const struct receive_pass *pass, struct err *err)
{
    AUTO_FREE struct walk *w = mem_new(struct walk);
    bool is_whole = others_wrote(d) || pass->after == 0;

    if (!w)
        return err_set(err, ERR_NOMEM, "no memory to write a disk");
    w->d = d;
    w->pass = pass;
    for (unsigned i = 0; i < TRIES_MAX; i++) {
        if (walk_once(w, is_whole, err) < 0)
            return -1;
        if (!others_wrote(d))
            return 0;
        is_whole = true;
    }
    err_set(err, ERR_REFUSED, "somebody else writes to the disk %s all the time", d->key);
    return err_hint(err,
        "Stop what writes to the device itself (a database on a raw partition, a virtual machine), then try again.");
}
