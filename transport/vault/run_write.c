/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes a run: blocks are filled one after the other and written in lots of 256 KiB; the header comes last, so that a file
 * cut short by a crash has none and is refused. Nothing names the file before run_writer_finish returned, so a torn one is
 * only ever a leftover to be removed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/base/bytes.h"
#include "transport/base/file.h"
#include "transport/base/hash.h"
#include "transport/vault/run.h"
#include "transport/vault/run_format.h"

#define LOT_BLOCKS 64u

struct run_writer {
    int dirfd; /* the caller's; must stay open until the writer is freed */
    int fd;
    bool finished;
    struct run_info info;
    uint64_t last_end; /* of top, for the order */
    uint64_t last_key; /* of history */
    uint32_t block_number;
    unsigned in_block;
    unsigned lot_count; /* whole blocks that wait in `lot` */
    uint64_t written;   /* bytes */
    uint8_t lot[LOT_BLOCKS][RUN_BLOCK_SIZE];
};

void run_name(uint64_t id, char out[RUN_NAME_SIZE])
{
    (void)snprintf(out, RUN_NAME_SIZE, "%016llx.run", (unsigned long long)id);
}

int run_id_from_name(const char *name, uint64_t *ret_id)
{
    uint8_t raw[8];
    if (strlen(name) != 20 || strcmp(name + 16, ".run") != 0)
        return -1;
    char hex[17];
    memcpy(hex, name, 16);
    hex[16] = '\0';
    if (bytes_from_hex(hex, raw, sizeof(raw)) < 0)
        return -1;
    uint64_t id = 0;
    for (size_t i = 0; i < sizeof(raw); i++)
        id = id << 8 | raw[i];
    *ret_id = id;
    return 0;
}

static int lot_write(struct run_writer *w, struct err *err)
{
    if (w->lot_count == 0)
        return 0;
    size_t bytes = (size_t)w->lot_count * RUN_BLOCK_SIZE;
    if (file_pwrite_all(w->fd, w->lot, bytes, w->written, "an index run", err) < 0)
        return -1;
    w->written += bytes;
    w->lot_count = 0;
    memset(w->lot, 0, sizeof(w->lot));
    return 0;
}

static int block_close(struct run_writer *w, struct err *err)
{
    if (w->in_block == 0)
        return 0;
    uint8_t *block = w->lot[w->lot_count];
    put_le32(block + RUN_B_NUMBER, w->block_number++);
    put_le16(block + RUN_B_COUNT, (uint16_t)w->in_block);
    put_le32(block + RUN_B_CHECK, hash_32(block + 4, RUN_BLOCK_SIZE - 4));
    w->in_block = 0;
    w->lot_count++;
    return w->lot_count == LOT_BLOCKS ? lot_write(w, err) : 0;
}

static uint8_t *entry_add(struct run_writer *w, const struct extent *e, unsigned size)
{
    uint8_t *p = w->lot[w->lot_count] + RUN_BLOCK_HEAD + (size_t)w->in_block * size;
    put_le64(p + RUN_E_KEY, e->key);
    put_le64(p + RUN_E_SEQUENCE, e->sequence);
    put_le32(p + RUN_E_SECTORS, e->sectors);
    put_le32(p + RUN_E_SEGMENT, e->segment);
    put_le32(p + RUN_E_OFFSET, e->offset);
    put_le16(p + RUN_E_FLAGS, e->flags);
    w->in_block++;
    return p;
}

int run_writer_new(int dirfd, const struct run_info *info, struct run_writer **ret_writer, struct err *err)
{
    char name[RUN_NAME_SIZE];
    run_name(info->id, name);
    struct run_writer *w = mem_new(struct run_writer);
    if (w == NULL)
        return err_set(err, ERR_NOMEM, "no memory to write an index run");
    w->dirfd = dirfd;
    w->info = *info;
    w->info.top_count = 0;
    w->info.history_count = 0;
    w->written = RUN_BLOCK_SIZE;
    w->finished = true; /* there is nothing to remove yet */
    w->fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (w->fd < 0) {
        int error = errno;
        run_writer_free(w);
        return err_sys(err, error, "creating the index run %s", name);
    }
    w->finished = false;
    *ret_writer = w;
    return 0;
}

int run_writer_top(struct run_writer *w, const struct extent *e, struct err *err)
{
    if (w->info.history_count > 0 || e->key < w->last_end || e->sectors == 0)
        return err_set(err, ERR_INTERNAL, "an index run got its extents out of order");
    (void)entry_add(w, e, RUN_TOP_SIZE);
    w->last_end = extent_end(e);
    w->info.top_count++;
    return w->in_block == RUN_TOP_PER_BLOCK ? block_close(w, err) : 0;
}

int run_writer_history(struct run_writer *w, const struct extent *e, uint64_t dead, struct err *err)
{
    if (e->key < w->last_key || e->sectors == 0)
        return err_set(err, ERR_INTERNAL, "an index run got its history out of order");
    if (w->info.history_count == 0 && block_close(w, err) < 0)
        return -1;
    put_le64(entry_add(w, e, RUN_HISTORY_SIZE) + RUN_E_DEAD, dead);
    w->last_key = e->key;
    w->info.history_count++;
    return w->in_block == RUN_HISTORY_PER_BLOCK ? block_close(w, err) : 0;
}

static void header_encode(const struct run_info *info, uint8_t *out)
{
    memcpy(out, RUN_MAGIC, RUN_MAGIC_SIZE);
    memcpy(out + RUN_H_MACHINE, info->machine.bytes, IDENT_SIZE);
    put_le64(out + RUN_H_FIRST, info->first_sequence);
    put_le64(out + RUN_H_LAST, info->last_sequence);
    put_le64(out + RUN_H_TOPS, info->top_count);
    put_le64(out + RUN_H_HISTORY, info->history_count);
    out[RUN_H_KIND] = (uint8_t)info->kind;
    put_le64(out + RUN_H_ID, info->id);
    put_le32(out + RUN_H_CHECK, hash_32(out, RUN_H_CHECK));
}

int run_writer_finish(struct run_writer *w, struct run_info *ret_info, struct err *err)
{
    uint8_t header[RUN_BLOCK_SIZE] = {0};
    if (block_close(w, err) < 0 || lot_write(w, err) < 0)
        return -1;
    header_encode(&w->info, header);
    if (file_pwrite_all(w->fd, header, sizeof(header), 0, "the header of an index run", err) < 0)
        return -1;
    if (fsync(w->fd) < 0 || fsync(w->dirfd) < 0)
        return err_sys(err, errno, "making an index run durable");
    w->finished = true;
    *ret_info = w->info;
    return 0;
}

void run_writer_free(struct run_writer *w)
{
    if (w == NULL)
        return;
    if (!w->finished) {
        char name[RUN_NAME_SIZE];
        run_name(w->info.id, name);
        (void)unlinkat(w->dirfd, name, 0);
    }
    if (w->fd >= 0)
        (void)close(w->fd);
    free(w);
}
