/* SPDX-License-Identifier: Apache-2.0
 *
 * See retentionclock.h; FORMAT.md has the bytes of the file.
 */
#include "transport/vault/retentionclock.h"

#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "transport/base/buf.h"
#include "transport/base/bytes.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/hash.h"
#include "transport/base/ident.h"
#include "transport/base/mem.h"

#define CLOCK_MAGIC "LWLKC\0\0\1"
#define BODY_SIZE 40u
#define FILE_SIZE (BODY_SIZE + HASH_SIZE)
#define CATCH_UP 50u /* of so much time that passes, one part more */

/* Zero where there is no such file: then only the time since the start tells whether it is the same. */
static void read_boot(uint8_t out[RETENTIONCLOCK_BOOT_SIZE])
{
    struct buf text AUTO_BUF = BUF_INIT(64);
    struct ident id;
    memset(out, 0, RETENTIONCLOCK_BOOT_SIZE);
    if (file_read("/proc/sys/kernel/random/boot_id", &text, NULL) < 0 || text.len < 36 ||
        buf_append(&text, "", 1, NULL) < 0)
        return;
    text.data[36] = 0;
    if (ident_from_text((const char *)text.data, &id) == 0)
        memcpy(out, id.bytes, RETENTIONCLOCK_BOOT_SIZE);
}

void retentionclock_machine(struct retentionclock_machine *ret_machine)
{
    struct timespec ts;
    read_boot(ret_machine->boot);
    (void)clock_gettime(CLOCK_BOOTTIME, &ts);
    ret_machine->up_usec = (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
    ret_machine->utc_usec = clock_utc_usec();
}

static void advance(struct retentionclock *c, const struct retentionclock_machine *m)
{
    bool same = memcmp(c->at.boot, m->boot, RETENTIONCLOCK_BOOT_SIZE) == 0 && m->up_usec >= c->at.up_usec;
    uint64_t passed = same ? m->up_usec - c->at.up_usec : 0;
    uint64_t own = c->at.utc_usec + passed;
    uint64_t behind = m->utc_usec > own ? m->utc_usec - own : 0;
    if (same && passed < CATCH_UP)
        return; /* so little that its fiftieth would be lost */
    memcpy(c->at.boot, m->boot, RETENTIONCLOCK_BOOT_SIZE);
    c->at.up_usec = m->up_usec;
    c->at.utc_usec = behind == 0 ? m->utc_usec : own + (behind < passed / CATCH_UP ? behind : passed / CATCH_UP);
}

static bool decode(struct retentionclock *c, const uint8_t *p, size_t n)
{
    struct hash128 hash;
    if (n != FILE_SIZE || memcmp(p, CLOCK_MAGIC, 8) != 0)
        return false;
    hash_128(p, BODY_SIZE, &hash);
    if (memcmp(hash.bytes, p + BODY_SIZE, HASH_SIZE) != 0)
        return false;
    memcpy(c->at.boot, p + 8, RETENTIONCLOCK_BOOT_SIZE);
    c->at.up_usec = get_le64(p + 24);
    c->at.utc_usec = get_le64(p + 32);
    return true;
}

int retentionclock_open(
    struct retentionclock *c, const char *data_dir, const struct retentionclock_machine *machine, struct err *err)
{
    struct buf content AUTO_BUF = BUF_INIT(FILE_SIZE + 1);
    char *path AUTO_FREE = mem_printf("%s/retention.clock", data_dir);
    struct err why = ERR_INIT;
    *c = (struct retentionclock){.at = *machine};
    if (path == NULL || pthread_mutex_init(&c->mutex, NULL) != 0)
        return err_set(err, ERR_NOMEM, "no memory for the retention clock");
    if (file_read(path, &content, &why) < 0 && why.code == ERR_NOT_FOUND)
        return 0;
    c->damaged = !decode(c, content.data, content.len);
    return 0;
}

void retentionclock_close(struct retentionclock *c)
{
    (void)pthread_mutex_destroy(&c->mutex);
}

uint64_t retentionclock_at(struct retentionclock *c, const struct retentionclock_machine *machine)
{
    (void)pthread_mutex_lock(&c->mutex);
    advance(c, machine);
    uint64_t now = c->damaged ? 0 : c->at.utc_usec;
    (void)pthread_mutex_unlock(&c->mutex);
    return now;
}

uint64_t retentionclock_now(struct retentionclock *c)
{
    struct retentionclock_machine machine;
    retentionclock_machine(&machine);
    return retentionclock_at(c, &machine);
}

int retentionclock_save(struct retentionclock *c, const char *data_dir, struct err *err)
{
    uint8_t content[FILE_SIZE] = CLOCK_MAGIC;
    struct hash128 hash;
    char *path AUTO_FREE = mem_printf("%s/retention.clock", data_dir);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the retention clock");
    if (c->damaged) {
        (void)err_set(err, ERR_CORRUPT, "%s is damaged: no recovery point is dropped", path);
        return err_hint(err, "remove it when this machine's clock is right, and start the vault again");
    }
    (void)pthread_mutex_lock(&c->mutex);
    memcpy(content + 8, c->at.boot, RETENTIONCLOCK_BOOT_SIZE);
    put_le64(content + 24, c->at.up_usec);
    put_le64(content + 32, c->at.utc_usec);
    (void)pthread_mutex_unlock(&c->mutex);
    hash_128(content, BODY_SIZE, &hash);
    memcpy(content + BODY_SIZE, hash.bytes, HASH_SIZE);
    return file_replace(path, content, sizeof(content), 0600, err);
}
