/* SPDX-License-Identifier: Apache-2.0
 *
 * The file `scrub`: 96 bytes, replaced as a whole. A segment that is sealed never changes, so its number says all: what was
 * verified up to a number stays verified as of that time.
 */
#include "transport/vault/scrubstate.h"

#include <string.h>

#include "transport/base/buf.h"
#include "transport/base/bytes.h"
#include "transport/base/file.h"
#include "transport/base/hash.h"
#include "transport/base/mem.h"

#define SCRUB_SIZE 96u
#define SCRUB_HASH 80u /* offset: the hash covers all before it */
#define SCRUB_MAGIC                                                                                                    \
    {                                                                                                                  \
        'L', 'W', 'S', 'C', 'R', 0, 0, 1                                                                               \
    }

static bool is_good(const struct buf *b, const struct ident *machine)
{
    static const uint8_t magic[8] = SCRUB_MAGIC;
    struct hash128 hash;
    if (b->len != SCRUB_SIZE || memcmp(b->data, magic, sizeof(magic)) != 0)
        return false;
    hash_128(b->data, SCRUB_HASH, &hash);
    return memcmp(b->data + SCRUB_HASH, hash.bytes, HASH_SIZE) == 0 &&
           memcmp(b->data + 8, machine->bytes, IDENT_SIZE) == 0;
}

int scrubstate_load(const char *machine_dir, const struct ident *machine, struct scrubstate *ret_state, struct err *err)
{
    struct buf content AUTO_BUF = BUF_INIT(2 * SCRUB_SIZE);
    struct err why = ERR_INIT;
    char *path AUTO_FREE = mem_printf("%s/scrub", machine_dir);
    *ret_state = (struct scrubstate){0};
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to verify");
    if (file_read(path, &content, &why) < 0 || !is_good(&content, machine))
        return 0;
    const uint8_t *p = content.data;
    *ret_state =
        (struct scrubstate){get_le64(p + 24), get_le64(p + 32), get_le64(p + 40), get_le64(p + 48), get_le64(p + 56)};
    return 0;
}

int scrubstate_store(
    const char *machine_dir, const struct ident *machine, const struct scrubstate *state, struct err *err)
{
    uint8_t out[SCRUB_SIZE] = SCRUB_MAGIC;
    struct hash128 hash;
    char *path AUTO_FREE = mem_printf("%s/scrub", machine_dir);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to verify");
    memcpy(out + 8, machine->bytes, IDENT_SIZE);
    put_le64(out + 24, state->started_utc_usec);
    put_le64(out + 32, state->cursor);
    put_le64(out + 40, state->last_started_utc_usec);
    put_le64(out + 48, state->last_finished_utc_usec);
    put_le64(out + 56, state->through);
    hash_128(out, SCRUB_HASH, &hash);
    memcpy(out + SCRUB_HASH, hash.bytes, HASH_SIZE);
    return file_replace(path, out, sizeof(out), 0600, err);
}

uint64_t scrubstate_verified(const struct scrubstate *s, uint64_t since_utc_usec)
{
    uint64_t by_pass = s->started_utc_usec != 0 && s->started_utc_usec >= since_utc_usec ? s->cursor : 0;
    uint64_t by_last = s->last_started_utc_usec != 0 && s->last_started_utc_usec >= since_utc_usec ? s->through : 0;
    return by_pass > by_last ? by_pass : by_last;
}

void scrubstate_finish(struct scrubstate *s, uint64_t started_utc_usec, uint64_t now_utc_usec, uint64_t through)
{
    s->started_utc_usec = 0;
    s->cursor = 0;
    s->last_started_utc_usec = started_utc_usec;
    s->last_finished_utc_usec = now_utc_usec;
    s->through = through > s->through ? through : s->through;
}
