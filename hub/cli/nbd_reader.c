/* SPDX-License-Identifier: Apache-2.0
 *
 * libnbd's asynchronous calls on one connection, driven by nbd_poll from the caller's thread: `NBD_READER_DEPTH` requests are kept
 * under way, each in a slot with a buffer of its own. A request that failed ends the measurement with the server's error.
 */
#include "hub/cli/nbd_reader.h"

#include <errno.h>
#include <libnbd.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define LARGE_BYTES (1u << 20) /* of one request when everything is read */
#define EXTENTS_MAX 262144u    /* 4 MiB of memory */
#define MAP_USEC (10 * USEC_PER_SEC)
#define MAP_STEP_BYTES (1u << 30)
#define POLL_MSEC 200
#define NOT_DATA (LIBNBD_STATE_HOLE | LIBNBD_STATE_ZERO)

struct extent {
    uint64_t offset;
    uint64_t before; /* bytes of data in the extents before it */
};

struct slot {
    struct nbd_reader *reader;
    bool busy;
    uint64_t begun_usec;
    uint8_t *buffer; /* LARGE_BYTES */
    size_t bytes;
};

struct nbd_reader {
    struct nbd_handle *nbd;
    const volatile sig_atomic_t *stop;
    uint64_t size_bytes, data_bytes, looked_bytes;
    struct extent *extents;
    size_t extent_count;
    struct slot slots[NBD_READER_DEPTH];
    unsigned under_way;
    /* of what is measured now */
    struct latency *latency; /* NULL: not wanted */
    uint64_t read_bytes;
    int failed; /* errno of the first request that failed */
    uint64_t random;
};

/* ---- connecting ---- */

static int nbd_failed(struct err *err, enum err_code code, const char *what)
{
    const char *why = nbd_get_error();

    return err_set(err, code, "%s: %s", what, why ? why : "no reason given");
}

static int unreachable(const char *uri, struct err *err)
{
    int problem = nbd_get_errno();

    (void)nbd_failed(err, ERR_UNAVAILABLE, "the opened point cannot be reached from here");
    if (problem == EACCES || problem == EPERM)
        return err_hint(err, "Run it as a user who may open the socket in %s.", uri);
    return err_hint(err, "The socket is on the vault's host: run it there (%s).", uri);
}

static int connect_to(struct nbd_reader *r, const char *uri, struct err *err)
{
    uint8_t block[NBD_READER_BLOCK_BYTES];
    int64_t size;

    if (nbd_add_meta_context(r->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0)
        return nbd_failed(err, ERR_INTERNAL, "NBD");
    if (nbd_connect_uri(r->nbd, uri) < 0)
        return unreachable(uri, err);
    size = nbd_get_size(r->nbd);
    if (size < 0)
        return nbd_failed(err, ERR_IO, "the size of the opened disk");
    r->size_bytes = (uint64_t)size;
    if (r->size_bytes >= sizeof(block) && nbd_pread(r->nbd, block, sizeof(block), 0, 0) < 0)
        return nbd_failed(err, ERR_IO, "reading the first block of the opened point");
    return 0;
}

static int slots_alloc(struct nbd_reader *r)
{
    for (size_t i = 0; i < ARRAY_LEN(r->slots); i++) {
        r->slots[i].reader = r;
        if (!(r->slots[i].buffer = mem_alloc(1, LARGE_BYTES)))
            return -1;
    }
    return 0;
}

int nbd_reader_open(const char *uri, struct nbd_reader **ret_reader, struct err *err)
{
    struct nbd_reader *r;

    if (strncmp(uri, "nbd", 3) != 0)
        return err_set(err, ERR_UNSUPPORTED, "not an NBD URI: %s", uri);
    r = mem_new(struct nbd_reader);
    if (!r || slots_alloc(r) < 0 || !(r->nbd = nbd_create())) {
        nbd_reader_close(r);
        return err_set(err, ERR_NOMEM, "no memory to read over NBD");
    }
    r->random = clock_mono_usec();
    if (connect_to(r, uri, err) < 0) {
        nbd_reader_close(r);
        return -1;
    }
    *ret_reader = r;
    return 0;
}

void nbd_reader_close(struct nbd_reader *r)
{
    if (!r)
        return;
    if (r->nbd) {
        (void)nbd_shutdown(r->nbd, 0);
        nbd_close(r->nbd); /* callbacks of what is under way run here */
    }
    for (size_t i = 0; i < ARRAY_LEN(r->slots); i++)
        free(r->slots[i].buffer);
    free(r->extents);
    free(r);
}

void nbd_reader_set_stop(struct nbd_reader *r, const volatile sig_atomic_t *stop)
{
    r->stop = stop;
}

uint64_t nbd_reader_size_bytes(const struct nbd_reader *r)
{
    return r->size_bytes;
}

static bool is_stopped(const struct nbd_reader *r)
{
    return r->stop && *r->stop;
}

static int stopped(struct err *err)
{
    return err_set(err, ERR_CANCELLED, "interrupted");
}

/* ---- where data is ---- */

/* Extents are whole blocks; what is no whole block at the end of a disk is left out. */
static int extent_add(struct nbd_reader *r, uint64_t offset, uint64_t bytes)
{
    uint64_t mask = NBD_READER_BLOCK_BYTES - 1, from = (offset + mask) & ~mask, to = (offset + bytes) & ~mask;

    if (from >= to)
        return 0;
    if (r->extent_count == EXTENTS_MAX)
        return -1;
    if (!r->extents && !(r->extents = mem_alloc(EXTENTS_MAX, sizeof(*r->extents))))
        return -1;
    r->extents[r->extent_count++] = (struct extent){from, r->data_bytes};
    r->data_bytes += to - from;
    return 0;
}

static int on_extents(void *arg, const char *context, uint64_t offset, uint32_t *entries, size_t count, int *error)
{
    struct nbd_reader *r = arg;

    if (*error || strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0)
        return 0;
    for (size_t i = 0; i + 1 < count; i += 2) { /* pairs of length and flags */
        if (offset < r->looked_bytes || offset >= r->size_bytes)
            break; /* not where we are: a server that repeats itself must not count twice */
        uint64_t bytes = entries[i] < r->size_bytes - offset ? entries[i] : r->size_bytes - offset;

        if (!(entries[i + 1] & NOT_DATA) && extent_add(r, offset, bytes) < 0)
            return 0;
        offset += bytes;
        r->looked_bytes = offset;
    }
    return 0;
}

int nbd_reader_map(struct nbd_reader *r, uint64_t *ret_data_bytes, uint64_t *ret_looked_bytes, struct err *err)
{
    uint64_t until = clock_mono_usec() + MAP_USEC;

    r->data_bytes = r->looked_bytes = r->extent_count = 0;
    if (nbd_can_meta_context(r->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) <= 0) {
        r->looked_bytes = r->size_bytes;
        if (extent_add(r, 0, r->size_bytes) < 0)
            return err_set(err, ERR_NOMEM, "no memory for the map of a disk");
    }
    while (r->looked_bytes < r->size_bytes && clock_mono_usec() < until) {
        uint64_t before = r->looked_bytes, left = r->size_bytes - before;
        nbd_extent_callback callback = {.callback = on_extents, .user_data = r};

        if (is_stopped(r))
            return stopped(err);
        if (nbd_block_status(r->nbd, left < MAP_STEP_BYTES ? left : MAP_STEP_BYTES, before, callback, 0) < 0)
            return nbd_failed(err, ERR_IO, "asking where the disk has data");
        if (r->looked_bytes == before)
            break; /* the map is full */
    }
    *ret_data_bytes = r->data_bytes;
    *ret_looked_bytes = r->looked_bytes;
    return 0;
}

/* The place on the disk of byte `at` of its data, and how much data follows there without a hole. */
static uint64_t place_of(const struct nbd_reader *r, uint64_t at, uint64_t *ret_follows)
{
    size_t low = 0, high = r->extent_count;

    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;

        if (r->extents[middle].before <= at)
            low = middle;
        else
            high = middle;
    }
    *ret_follows = (low + 1 < r->extent_count ? r->extents[low + 1].before : r->data_bytes) - at;
    return r->extents[low].offset + (at - r->extents[low].before);
}

/* ---- requests ---- */

static int on_read(void *arg, int *error)
{
    struct slot *slot = arg;
    struct nbd_reader *r = slot->reader;

    slot->busy = false;
    r->under_way--;
    if (*error) {
        r->failed = r->failed ? r->failed : *error;
    } else {
        r->read_bytes += slot->bytes;
        if (r->latency)
            latency_add(r->latency, clock_mono_usec() - slot->begun_usec);
    }
    return 1; /* it is retired */
}

static int begin(struct nbd_reader *r, uint64_t offset, size_t bytes, struct err *err)
{
    struct slot *slot = r->slots;
    nbd_completion_callback callback = {.callback = on_read};

    while (slot->busy)
        slot++;
    callback.user_data = slot;
    slot->busy = true;
    slot->bytes = bytes;
    slot->begun_usec = clock_mono_usec();
    r->under_way++;
    if (nbd_aio_pread(r->nbd, slot->buffer, bytes, offset, callback, 0) >= 0)
        return 0;
    if (slot->busy) { /* it did not come to the callback */
        slot->busy = false;
        r->under_way--;
    }
    return nbd_failed(err, ERR_IO, "reading the opened point");
}

/* Lets replies come until fewer than `most` are under way. */
static int settle(struct nbd_reader *r, unsigned most, struct err *err)
{
    while (r->under_way >= most && r->under_way > 0) {
        if (nbd_poll(r->nbd, POLL_MSEC) < 0)
            return nbd_failed(err, ERR_IO, "reading the opened point");
        if (is_stopped(r))
            return stopped(err);
    }
    return r->failed ? err_sys(err, r->failed, "reading the opened point") : 0;
}

/* splitmix64 */
static uint64_t next_random(struct nbd_reader *r)
{
    uint64_t z = (r->random += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static double per_second(uint64_t count, uint64_t usec)
{
    return usec ? (double)count * 1e6 / (double)usec : 0;
}

static int read_at_random(struct nbd_reader *r, uint64_t usec, double *ret_per_second, struct err *err)
{
    uint64_t start = clock_mono_usec(), blocks = r->data_bytes / NBD_READER_BLOCK_BYTES, follows;

    r->read_bytes = 0;
    while (blocks > 0 && clock_mono_usec() - start < usec) {
        uint64_t at = next_random(r) % blocks * NBD_READER_BLOCK_BYTES;

        if (settle(r, NBD_READER_DEPTH, err) < 0 ||
            begin(r, place_of(r, at, &follows), NBD_READER_BLOCK_BYTES, err) < 0)
            return -1;
    }
    if (settle(r, 1, err) < 0)
        return -1;
    *ret_per_second = per_second(r->read_bytes / NBD_READER_BLOCK_BYTES, clock_mono_usec() - start);
    return 0;
}

int nbd_reader_random(
    struct nbd_reader *r, uint64_t usec, struct latency *latency, double *ret_per_second, struct err *err)
{
    int rc;

    r->latency = latency;
    rc = read_at_random(r, usec, ret_per_second, err);
    r->latency = NULL; /* replies to what is still under way come when the connection is closed */
    return rc;
}

int nbd_reader_sequential(
    struct nbd_reader *r, uint64_t usec, uint64_t *ret_bytes, double *ret_bytes_per_second, struct err *err)
{
    uint64_t start = clock_mono_usec(), at = 0, follows;

    r->read_bytes = 0;
    while (at < r->data_bytes && clock_mono_usec() - start < usec) {
        uint64_t offset = place_of(r, at, &follows), bytes = follows < LARGE_BYTES ? follows : LARGE_BYTES;

        if (settle(r, NBD_READER_DEPTH, err) < 0 || begin(r, offset, (size_t)bytes, err) < 0)
            return -1;
        at += bytes;
    }
    if (settle(r, 1, err) < 0)
        return -1;
    *ret_bytes = r->read_bytes;
    *ret_bytes_per_second = per_second(r->read_bytes, clock_mono_usec() - start);
    return 0;
}
