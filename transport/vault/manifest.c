/* SPDX-License-Identifier: Apache-2.0
 *
 * The manifest, see manifest.h; FORMAT.md has its bytes. One checksum at the end covers it all.
 */
#include "transport/vault/manifest.h"

#include <string.h>

#include "transport/base/buf.h"
#include "transport/base/bytes.h"
#include "transport/base/file.h"
#include "transport/base/hash.h"

#define MANIFEST_MAGIC "LWMAN\0\0\1"
#define HEAD_SIZE 80u
#define RUN_SIZE 48u
#define TAIL_SIZE HASH_SIZE
#define FILE_MAX (HEAD_SIZE + (size_t)MANIFEST_RUNS_MAX * RUN_SIZE + TAIL_SIZE)

void manifest_init(struct manifest *m, const struct ident *machine)
{
    *m = (struct manifest){.machine = *machine, .next_run_id = 1, .points_id = 1};
}

void manifest_done(struct manifest *m)
{
    free(m->runs);
    m->runs = NULL;
    m->run_count = 0;
}

int manifest_copy(const struct manifest *from, struct manifest *to, struct err *err)
{
    struct run_info *runs = mem_alloc(from->run_count + 1, sizeof(*runs));
    if (runs == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the manifest");
    if (from->run_count > 0)
        memcpy(runs, from->runs, from->run_count * sizeof(*runs));
    *to = *from;
    to->runs = runs;
    return 0;
}

static void run_decode(const uint8_t *p, const struct ident *machine, struct run_info *ret_run)
{
    *ret_run = (struct run_info){.machine = *machine,
        .id = get_le64(p),
        .first_sequence = get_le64(p + 8),
        .last_sequence = get_le64(p + 16),
        .top_count = get_le64(p + 24),
        .history_count = get_le64(p + 32),
        .kind = p[40] == RUN_CUMULATIVE ? RUN_CUMULATIVE : RUN_DELTA};
}

int manifest_decode(const uint8_t *p, size_t n, const struct ident *machine, struct manifest *m, struct err *err)
{
    if (n < HEAD_SIZE + TAIL_SIZE || memcmp(p, MANIFEST_MAGIC, 7) != 0)
        return err_set(err, ERR_CORRUPT, "the manifest is not one");
    if (p[7] != (uint8_t)MANIFEST_MAGIC[7])
        return err_set(err, ERR_UNSUPPORTED, "the manifest has the unknown format version %u", p[7]);
    struct hash128 hash;
    hash_128(p, n - TAIL_SIZE, &hash);
    uint32_t count = get_le32(p + 56);
    if (memcmp(hash.bytes, p + n - TAIL_SIZE, TAIL_SIZE) != 0 || count > MANIFEST_RUNS_MAX ||
        n != HEAD_SIZE + (size_t)count * RUN_SIZE + TAIL_SIZE || memcmp(p + 8, machine->bytes, IDENT_SIZE) != 0)
        return err_set(err, ERR_CORRUPT, "the manifest is damaged or belongs to another machine");
    manifest_init(m, machine);
    m->covered = (struct log_position){get_le64(p + 24), get_le64(p + 32), get_le64(p + 40)};
    m->next_run_id = get_le64(p + 48);
    m->points_id = get_le64(p + 64);
    m->point_count = get_le64(p + 72);
    m->runs = mem_alloc(count + 1, sizeof(*m->runs));
    if (m->runs == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the manifest");
    for (m->run_count = 0; m->run_count < count; m->run_count++)
        run_decode(p + HEAD_SIZE + m->run_count * RUN_SIZE, machine, &m->runs[m->run_count]);
    return 0;
}

int manifest_load(const char *machine_dir, const struct ident *machine, struct manifest *m, struct err *err)
{
    struct buf content AUTO_BUF = BUF_INIT(FILE_MAX);
    char *path AUTO_FREE = mem_printf("%s/manifest", machine_dir);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the manifest");
    if (file_read(path, &content, err) < 0)
        return -1;
    return manifest_decode(content.data, content.len, machine, m, err);
}

static void head_encode(const struct manifest *m, uint8_t out[HEAD_SIZE])
{
    memset(out, 0, HEAD_SIZE);
    memcpy(out, MANIFEST_MAGIC, 8);
    memcpy(out + 8, m->machine.bytes, IDENT_SIZE);
    put_le64(out + 24, m->covered.sequence);
    put_le64(out + 32, m->covered.segment);
    put_le64(out + 40, m->covered.offset);
    put_le64(out + 48, m->next_run_id);
    put_le32(out + 56, (uint32_t)m->run_count);
    put_le64(out + 64, m->points_id);
    put_le64(out + 72, m->point_count);
}

static void run_encode(const struct run_info *run, uint8_t out[RUN_SIZE])
{
    memset(out, 0, RUN_SIZE);
    put_le64(out, run->id);
    put_le64(out + 8, run->first_sequence);
    put_le64(out + 16, run->last_sequence);
    put_le64(out + 24, run->top_count);
    put_le64(out + 32, run->history_count);
    out[40] = (uint8_t)run->kind;
}

int manifest_store(const char *machine_dir, const struct manifest *m, bool *ret_stands, struct err *err)
{
    struct buf content AUTO_BUF = BUF_INIT(FILE_MAX);
    char *path AUTO_FREE = mem_printf("%s/manifest", machine_dir);
    uint8_t head[HEAD_SIZE];
    uint8_t run[RUN_SIZE];
    struct hash128 hash;
    *ret_stands = false;
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the manifest");
    head_encode(m, head);
    if (buf_append(&content, head, sizeof(head), err) < 0)
        return -1;
    for (size_t i = 0; i < m->run_count; i++) {
        run_encode(&m->runs[i], run);
        if (buf_append(&content, run, sizeof(run), err) < 0)
            return -1;
    }
    hash_128(content.data, content.len, &hash);
    if (buf_append(&content, hash.bytes, sizeof(hash.bytes), err) < 0)
        return -1;
    return file_replace_told(path, content.data, content.len, 0600, ret_stands, err);
}

static bool run_before(const struct run_info *a, const struct run_info *b)
{
    if (a->last_sequence != b->last_sequence)
        return a->last_sequence < b->last_sequence;
    return a->kind < b->kind;
}

int manifest_add(struct manifest *m, const struct run_info *run, struct err *err)
{
    if (m->run_count >= MANIFEST_RUNS_MAX)
        return err_set(err, ERR_TOO_LARGE, "the index has too many runs");
    struct run_info *runs = mem_resize(m->runs, m->run_count + 1, sizeof(*runs));
    if (runs == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the manifest");
    m->runs = runs;
    size_t at = m->run_count;
    while (at > 0 && run_before(run, &runs[at - 1]))
        at--;
    memmove(&runs[at + 1], &runs[at], (m->run_count - at) * sizeof(*runs));
    runs[at] = *run;
    m->run_count++;
    return 0;
}

void manifest_remove(struct manifest *m, uint64_t run_id)
{
    for (size_t i = 0; i < m->run_count; i++) {
        if (m->runs[i].id != run_id)
            continue;
        memmove(&m->runs[i], &m->runs[i + 1], (m->run_count - i - 1) * sizeof(m->runs[0]));
        m->run_count--;
        return;
    }
}
