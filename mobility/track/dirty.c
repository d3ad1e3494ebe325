/* SPDX-License-Identifier: Apache-2.0
 *
 * One region of memory, anonymous or a shared mapping of a file:
 *
 *   header 4 KiB | summary, one bit per line of 512 granules, room for DIRTY_GRANULES_MAX | the bits, 64 bytes per line
 *
 * The summary has a fixed place and size (it is sparse), so that growing a disk moves nothing. Happy path: a bit is set after
 * the summary bit of its line and cleared before it; a kill between two stores leaves a summary bit over an empty line, which
 * costs a look, never a lost granule. Failure: a file reserves 64 KiB pieces of its bits with fallocate before it touches them;
 * if that fails nothing was changed.
 */
#include "mobility/track/dirty.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_GRANULES 512u
#define LINE_WORDS (LINE_GRANULES / 64u)
#define DIRTY_GRANULES_MAX (1ull << 31) /* 256 MiB of bits: four times what a tracker's bitmap starts with */
#define HEADER_BYTES 4096u
#define SUMMARY_BYTES (DIRTY_GRANULES_MAX / LINE_GRANULES / 8u)
#define BITS_OFFSET (HEADER_BYTES + SUMMARY_BYTES)
#define PIECE_BYTES 65536u /* of the bits, reserved at once: 2 GiB of disk at 4 KiB */
#define PIECE_WORDS (PIECE_BYTES / 8u)
#define MAGIC 0x3152544459574c4cull /* "LLWYDTR1" */

/* In the file as in memory: it never leaves the machine, nor the boot. */
struct header {
    uint64_t magic;
    uint64_t size_bytes;
    uint64_t granule_shift;
    struct dirty_tag tag;
};

struct dirty {
    struct header *header;
    uint64_t *summary;
    uint64_t *bits;
    uint64_t granules;
    uint64_t words;
    size_t mapped;
    uint8_t *reserved; /* file only: one byte per piece that is known to have storage */
    int fd;            /* -1: in memory */
};

static uint64_t granules_of(uint64_t size_bytes, unsigned shift)
{
    return (size_bytes >> shift) + ((size_bytes & ((1ull << shift) - 1)) != 0);
}

static size_t mapping_bytes(uint64_t granules)
{
    uint64_t lines = (granules + LINE_GRANULES - 1) / LINE_GRANULES;
    uint64_t bits = (lines * LINE_WORDS * 8u + PIECE_BYTES - 1) / PIECE_BYTES * PIECE_BYTES;
    return (size_t)(BITS_OFFSET + (bits ? bits : PIECE_BYTES));
}

static int check_geometry(uint64_t size_bytes, unsigned shift, struct err *err)
{
    if (shift < DIRTY_SHIFT_MIN || shift > DIRTY_SHIFT_MAX)
        return err_set(err, ERR_INVALID, "granule of 2^%u bytes", shift);
    if (granules_of(size_bytes, shift) > DIRTY_GRANULES_MAX)
        return err_set(err, ERR_TOO_LARGE, "a disk of %llu bytes has too many granules of 2^%u bytes",
            (unsigned long long)size_bytes, shift);
    return 0;
}

static void point_into(struct dirty *d, void *base, size_t mapped)
{
    d->header = base;
    d->summary = (uint64_t *)((char *)base + HEADER_BYTES);
    d->bits = (uint64_t *)((char *)base + BITS_OFFSET);
    d->mapped = mapped;
}

static void set_size(struct dirty *d, uint64_t size_bytes)
{
    d->header->size_bytes = size_bytes;
    d->granules = granules_of(size_bytes, (unsigned)d->header->granule_shift);
    d->words = (d->granules + 63) / 64;
}

static int renew_reserved(struct dirty *d, struct err *err)
{
    free(d->reserved);
    d->reserved = mem_alloc((d->mapped - BITS_OFFSET) / PIECE_BYTES, 1);
    return d->reserved ? 0 : err_set(err, ERR_NOMEM, "dirty set");
}

static int map_region(struct dirty *d, size_t mapped, struct err *err)
{
    int flags = d->fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED;
    void *base = mmap(NULL, mapped, PROT_READ | PROT_WRITE, flags, d->fd, 0);

    if (base == MAP_FAILED)
        return err_sys(err, errno, "mapping a dirty set of %zu bytes", mapped);
    mem_keep_from_children(base, mapped);
    point_into(d, base, mapped);
    return d->fd < 0 ? 0 : renew_reserved(d, err);
}

static struct dirty *alloc_dirty(struct err *err)
{
    struct dirty *d = mem_new(struct dirty);

    if (!d)
        (void)err_set(err, ERR_NOMEM, "dirty set");
    else
        d->fd = -1;
    return d;
}

int dirty_new(uint64_t size_bytes, unsigned granule_shift, struct dirty **ret_dirty, struct err *err)
{
    struct dirty *d AUTO_OF(dirty) = NULL;

    if (check_geometry(size_bytes, granule_shift, err) < 0)
        return -1;
    d = alloc_dirty(err);
    if (!d || map_region(d, mapping_bytes(granules_of(size_bytes, granule_shift)), err) < 0)
        return -1;
    d->header->granule_shift = granule_shift;
    set_size(d, size_bytes);
    *ret_dirty = TAKE_PTR(d);
    return 0;
}

/* Makes the file hold at least `mapped` bytes and gives header and summary their storage. */
static int size_file(int fd, size_t mapped, const char *path, struct err *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_sys(err, errno, "looking at %s", path);
    if (st.st_size < (off_t)mapped && ftruncate(fd, (off_t)mapped) < 0)
        return err_sys(err, errno, "growing %s", path);
    if (fallocate(fd, 0, 0, BITS_OFFSET) < 0) {
        (void)err_sys(err, errno, "reserving %s", path);
        return err_hint(err, "free space in the file system of %s", path);
    }
    return 0;
}

static bool header_continues(const struct header *h, unsigned shift, const struct dirty_tag *tag)
{
    return h->magic == MAGIC && h->granule_shift == shift && h->size_bytes >> shift <= DIRTY_GRANULES_MAX &&
           memcmp(h->tag.boot_id, tag->boot_id, sizeof(tag->boot_id)) == 0 && h->tag.incarnation == tag->incarnation &&
           h->tag.owner == tag->owner;
}

static bool file_continues(int fd, unsigned shift, const struct dirty_tag *tag, uint64_t *ret_old_size)
{
    struct header h;
    struct stat st;

    if (pread(fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h) || !header_continues(&h, shift, tag))
        return false;
    if (fstat(fd, &st) < 0 || st.st_size < (off_t)mapping_bytes(granules_of(h.size_bytes, shift)))
        return false;
    *ret_old_size = h.size_bytes;
    return true;
}

static int open_locked(const char *path, struct err *err)
{
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return err_sys(err, errno, "opening %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? err_set(err, ERR_CONFLICT, "%s is in use by another process", path)
                                    : err_sys(err, errno, "locking %s", path);
    return TAKE_FD(fd);
}

/* The magic comes last: a kill before that leaves a file that is not continued. */
static void write_header(struct dirty *d, uint64_t size_bytes, unsigned shift, const struct dirty_tag *tag)
{
    d->header->magic = 0;
    atomic_signal_fence(memory_order_seq_cst);
    d->header->granule_shift = shift;
    d->header->tag = *tag;
    set_size(d, size_bytes);
    atomic_signal_fence(memory_order_seq_cst);
    d->header->magic = MAGIC;
}

int dirty_open(const char *path, uint64_t size_bytes, unsigned granule_shift, const struct dirty_tag *tag,
    struct dirty **ret_dirty, bool *ret_resumed, struct err *err)
{
    struct dirty *d AUTO_OF(dirty) = NULL;
    uint64_t old_size = size_bytes;
    size_t mapped;
    bool resumed;

    if (check_geometry(size_bytes, granule_shift, err) < 0)
        return -1;
    d = alloc_dirty(err);
    if (!d)
        return -1;
    d->fd = open_locked(path, err);
    if (d->fd < 0)
        return -1;
    resumed = file_continues(d->fd, granule_shift, tag, &old_size);
    if (!resumed && ftruncate(d->fd, 0) < 0)
        return err_sys(err, errno, "emptying %s", path);
    mapped = mapping_bytes(granules_of(old_size, granule_shift));
    if (size_file(d->fd, mapped, path, err) < 0 || map_region(d, mapped, err) < 0)
        return -1;
    if (resumed)
        set_size(d, old_size);
    else
        write_header(d, size_bytes, granule_shift, tag);
    if (old_size != size_bytes && dirty_resize(d, size_bytes, err) < 0)
        return -1;
    *ret_resumed = resumed;
    *ret_dirty = TAKE_PTR(d);
    return 0;
}

void dirty_close(struct dirty *d)
{
    if (!d)
        return;
    if (d->header)
        (void)munmap(d->header, d->mapped);
    if (d->fd >= 0)
        (void)close(d->fd);
    free(d->reserved);
    free(d);
}

uint64_t dirty_size_bytes(const struct dirty *d)
{
    return d->header->size_bytes;
}

unsigned dirty_granule_shift(const struct dirty *d)
{
    return (unsigned)d->header->granule_shift;
}

/* --- setting ------------------------------------------------------------------------------------------------------- */

static int reserve_word(struct dirty *d, uint64_t word, struct err *err)
{
    uint64_t piece = word / PIECE_WORDS;

    if (d->fd < 0 || d->reserved[piece])
        return 0;
    if (fallocate(d->fd, 0, (off_t)(BITS_OFFSET + piece * PIECE_BYTES), PIECE_BYTES) < 0) {
        (void)err_sys(err, errno, "reserving room for changed blocks");
        return err_hint(err, "free space in the file system that holds the agent's run-time state");
    }
    d->reserved[piece] = 1;
    return 0;
}

static uint64_t mask_of_last(const struct dirty *d, uint64_t word)
{
    uint64_t rest = d->granules - word * 64;
    return rest >= 64 ? ~0ull : (1ull << rest) - 1;
}

int dirty_set_word(struct dirty *d, uint64_t word, uint64_t bits, struct err *err)
{
    uint64_t line = word / LINE_WORDS;

    if (word >= d->words)
        return 0;
    bits &= mask_of_last(d, word);
    if (!bits)
        return 0;
    if (reserve_word(d, word, err) < 0)
        return -1;
    d->summary[line / 64] |= 1ull << (line % 64);
    atomic_signal_fence(memory_order_seq_cst);
    d->bits[word] |= bits;
    return 0;
}

/* The bits of [first, last] that lie in one word. */
static uint64_t bits_between(uint64_t word, uint64_t first, uint64_t last)
{
    uint64_t bits = ~0ull;

    if (word == first / 64)
        bits &= ~0ull << (first % 64);
    if (word == last / 64)
        bits &= ~0ull >> (63 - last % 64);
    return bits;
}

int dirty_set(struct dirty *d, uint64_t start, uint64_t length, struct err *err)
{
    unsigned shift = dirty_granule_shift(d);
    uint64_t size = dirty_size_bytes(d), first, last;

    if (start >= size || length == 0)
        return 0;
    if (length > size - start)
        length = size - start;
    first = start >> shift;
    last = (start + length - 1) >> shift;
    for (uint64_t word = first / 64; word <= last / 64; word++)
        if (dirty_set_word(d, word, bits_between(word, first, last), err) < 0)
            return -1;
    return 0;
}

int dirty_set_all(struct dirty *d, struct err *err)
{
    return dirty_set(d, 0, dirty_size_bytes(d), err);
}

/* --- walking ------------------------------------------------------------------------------------------------------- */

/* The first word >= word that lies in a line with a summary bit, or d->words. */
static uint64_t next_live_word(const struct dirty *d, uint64_t word)
{
    uint64_t line = word / LINE_WORDS, lines = (d->words + LINE_WORDS - 1) / LINE_WORDS;
    uint64_t found;

    for (uint64_t i = line / 64; i * 64 < lines; i++) {
        uint64_t live = d->summary[i];
        if (i == line / 64)
            live &= ~0ull << (line % 64);
        if (!live)
            continue;
        found = (i * 64 + (uint64_t)__builtin_ctzll(live)) * LINE_WORDS;
        if (found < word)
            found = word;
        return found < d->words ? found : d->words;
    }
    return d->words;
}

#define FOR_LIVE_WORDS(d, w) for (uint64_t w = next_live_word((d), 0); w < (d)->words; w = next_live_word((d), w + 1))

int dirty_or(struct dirty *d, const struct dirty *from, struct err *err)
{
    if (dirty_granule_shift(d) != dirty_granule_shift(from))
        return err_set(err, ERR_INVALID, "dirty sets of different granules");
    FOR_LIVE_WORDS(from, word)
    if (from->bits[word] && dirty_set_word(d, word, from->bits[word], err) < 0)
        return -1;
    return 0;
}

static void drop_line_if_empty(struct dirty *d, uint64_t line)
{
    for (unsigned i = 0; i < LINE_WORDS; i++)
        if (d->bits[line * LINE_WORDS + i])
            return;
    atomic_signal_fence(memory_order_seq_cst);
    d->summary[line / 64] &= ~(1ull << (line % 64));
}

static void clear_word(struct dirty *d, uint64_t word, uint64_t bits)
{
    if (!(d->bits[word] & bits))
        return;
    d->bits[word] &= ~bits;
    if (!d->bits[word])
        drop_line_if_empty(d, word / LINE_WORDS);
}

void dirty_clear(struct dirty *d, uint64_t start, uint64_t length)
{
    unsigned shift = dirty_granule_shift(d);
    uint64_t size = dirty_size_bytes(d), first, end;

    if (start >= size)
        return;
    if (length > size - start)
        length = size - start;
    first = granules_of(start, shift);
    end = start + length == size ? d->granules : (start + length) >> shift;
    if (first >= end)
        return;
    for (uint64_t word = next_live_word(d, first / 64); word < d->words && word <= (end - 1) / 64;
         word = next_live_word(d, word + 1))
        clear_word(d, word, bits_between(word, first, end - 1));
}

void dirty_subtract(struct dirty *d, const struct dirty *what)
{
    uint64_t words = d->words < what->words ? d->words : what->words;

    for (uint64_t word = next_live_word(what, 0); word < words; word = next_live_word(what, word + 1))
        clear_word(d, word, what->bits[word]);
}

/* Small sets are wiped in place, which keeps their storage for the next round; large ones give it back. */
#define KEEP_LINES 4096u

static void give_back_bits(struct dirty *d)
{
    size_t bytes = d->mapped - BITS_OFFSET;

    if (madvise(d->bits, bytes, d->fd < 0 ? MADV_DONTNEED : MADV_REMOVE) < 0)
        memset(d->bits, 0, bytes);
    else if (d->reserved)
        memset(d->reserved, 0, bytes / PIECE_BYTES);
}

static uint64_t live_lines(const struct dirty *d)
{
    uint64_t count = 0;

    for (uint64_t i = 0; i * 64 * LINE_WORDS < d->words; i++)
        count += (uint64_t)__builtin_popcountll(d->summary[i]);
    return count;
}

void dirty_clear_all(struct dirty *d)
{
    uint64_t summary_words = (d->words + 64 * LINE_WORDS - 1) / (64 * LINE_WORDS);

    if (live_lines(d) > KEEP_LINES)
        give_back_bits(d);
    else
        FOR_LIVE_WORDS(d, word)
    d->bits[word] = 0;
    atomic_signal_fence(memory_order_seq_cst);
    memset(d->summary, 0, (size_t)summary_words * 8);
}

/* --- size ---------------------------------------------------------------------------------------------------------- */

static int grow_mapping(struct dirty *d, size_t mapped, struct err *err)
{
    void *base;

    if (d->fd >= 0 && ftruncate(d->fd, (off_t)mapped) < 0)
        return err_sys(err, errno, "growing a dirty set");
    base = mremap(d->header, d->mapped, mapped, MREMAP_MAYMOVE);
    if (base == MAP_FAILED)
        return err_sys(err, errno, "growing a dirty set");
    point_into(d, base, mapped);
    return d->fd < 0 ? 0 : renew_reserved(d, err);
}

int dirty_resize(struct dirty *d, uint64_t size_bytes, struct err *err)
{
    unsigned shift = dirty_granule_shift(d);
    size_t mapped;

    if (check_geometry(size_bytes, shift, err) < 0)
        return -1;
    if (granules_of(size_bytes, shift) < d->granules) {
        uint64_t kept = granules_of(size_bytes, shift) << shift;
        dirty_clear(d, kept, dirty_size_bytes(d) > kept ? dirty_size_bytes(d) - kept : 0);
    }
    mapped = mapping_bytes(granules_of(size_bytes, shift));
    if (mapped > d->mapped && grow_mapping(d, mapped, err) < 0)
        return -1;
    set_size(d, size_bytes);
    return 0;
}

/* --- asking -------------------------------------------------------------------------------------------------------- */

bool dirty_is_empty(const struct dirty *d)
{
    FOR_LIVE_WORDS(d, word)
    if (d->bits[word])
        return false;
    return true;
}

bool dirty_test(const struct dirty *d, uint64_t offset)
{
    uint64_t granule = offset >> dirty_granule_shift(d);

    if (granule >= d->granules)
        return false;
    if (!(d->summary[granule / LINE_GRANULES / 64] >> (granule / LINE_GRANULES % 64) & 1))
        return false;
    return d->bits[granule / 64] >> (granule % 64) & 1;
}

uint64_t dirty_count(const struct dirty *d)
{
    uint64_t count = 0;

    FOR_LIVE_WORDS(d, word)
    count += (uint64_t)__builtin_popcountll(d->bits[word]);
    return count;
}

uint64_t dirty_bytes(const struct dirty *d)
{
    unsigned shift = dirty_granule_shift(d);
    uint64_t size = dirty_size_bytes(d), bytes = dirty_count(d) << shift;

    if (size && dirty_test(d, size - 1))
        bytes -= (d->granules << shift) - size;
    return bytes;
}

/* The first dirty granule >= from, or d->granules. */
static uint64_t next_dirty(const struct dirty *d, uint64_t from)
{
    uint64_t word = from / 64, bits;

    while ((word = next_live_word(d, word)) < d->words) {
        bits = d->bits[word];
        if (word == from / 64)
            bits &= ~0ull << (from % 64);
        if (bits)
            return word * 64 + (uint64_t)__builtin_ctzll(bits);
        word++;
    }
    return d->granules;
}

/* The first clean granule > from (which is dirty), at most limit. */
static uint64_t next_clean(const struct dirty *d, uint64_t from, uint64_t limit)
{
    uint64_t word = from / 64, clean = ~d->bits[word] & (~0ull << (from % 64));
    uint64_t found;

    while (!clean && (word + 1) * 64 < limit)
        clean = ~d->bits[++word];
    found = clean ? word * 64 + (uint64_t)__builtin_ctzll(clean) : limit;
    return found < limit ? found : limit;
}

int dirty_next(const struct dirty *d, uint64_t *cursor, uint64_t max_length, uint64_t *ret_start, uint64_t *ret_length)
{
    unsigned shift = dirty_granule_shift(d);
    uint64_t first = next_dirty(d, granules_of(*cursor, shift)), limit = d->granules, end;

    if (first >= d->granules)
        return 0;
    if (max_length) {
        uint64_t cut = ((first << shift) / max_length + 1) * max_length >> shift;
        limit = cut < limit ? cut : limit;
    }
    if (limit <= first)
        limit = first + 1;
    end = next_clean(d, first, limit);
    *ret_start = first << shift;
    *ret_length = ((end << shift) < dirty_size_bytes(d) ? end << shift : dirty_size_bytes(d)) - *ret_start;
    *cursor = end << shift;
    return 1;
}
