/* SPDX-License-Identifier: Apache-2.0
 *
 * See growth.h; FORMAT.md has the bytes of the file.
 */
#include "transport/vault/growth.h"

#include <string.h>

#include "transport/base/buf.h"
#include "transport/base/bytes.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/hash.h"
#include "transport/base/mem.h"

#define GROWTH_MAGIC "LWGRO\0\0\1"
#define MAGIC_SIZE 8u
#define SAMPLE_SIZE 16u
#define FILE_MAX (MAGIC_SIZE + GROWTH_SAMPLES * SAMPLE_SIZE + HASH_SIZE)
#define EVERY_USEC (3600 * USEC_PER_SEC)
#define SAMPLES_LEAST 6u
#define DAY_USEC (86400.0 * 1e6)
#define FAR_DAYS 3650.0

bool growth_note(struct growth *g, uint64_t utc_usec, uint64_t used_bytes)
{
    if (g->count > 0 && utc_usec < g->samples[g->count - 1].utc_usec)
        g->count = 0;
    if (g->count > 0 && utc_usec - g->samples[g->count - 1].utc_usec < EVERY_USEC)
        return false;
    if (g->count == GROWTH_SAMPLES) {
        memmove(g->samples, g->samples + 1, (GROWTH_SAMPLES - 1) * sizeof(g->samples[0]));
        g->count--;
    }
    g->samples[g->count++] = (struct growth_sample){utc_usec, used_bytes};
    return true;
}

/* Bytes per day, as the slope of the line that fits the samples best. */
static double slope(const struct growth *g)
{
    double n = (double)g->count, sum_t = 0, sum_b = 0, sum_tt = 0, sum_tb = 0;
    for (size_t i = 0; i < g->count; i++) {
        double t = (double)(g->samples[i].utc_usec - g->samples[0].utc_usec) / DAY_USEC;
        double b = (double)g->samples[i].used_bytes;
        sum_t += t;
        sum_b += b;
        sum_tt += t * t;
        sum_tb += t * b;
    }
    double spread = n * sum_tt - sum_t * sum_t;
    return spread > 0 ? (n * sum_tb - sum_t * sum_b) / spread : 0;
}

void growth_forecast(
    const struct growth *g, uint64_t now_utc_usec, uint64_t usable_bytes, struct growth_forecast *ret_forecast)
{
    *ret_forecast = (struct growth_forecast){.known = g->count >= SAMPLES_LEAST};
    if (!ret_forecast->known)
        return;
    double per_day = slope(g);
    ret_forecast->bytes_per_day = (int64_t)per_day;
    if (per_day >= 1 && (double)usable_bytes / per_day < FAR_DAYS)
        ret_forecast->full_utc_usec = now_utc_usec + (uint64_t)((double)usable_bytes / per_day * DAY_USEC);
}

/* ---- the file ---- */

static bool decode(const uint8_t *p, size_t n, struct growth *g)
{
    if (n < MAGIC_SIZE + HASH_SIZE || n > FILE_MAX || (n - MAGIC_SIZE - HASH_SIZE) % SAMPLE_SIZE != 0)
        return false;
    if (memcmp(p, GROWTH_MAGIC, MAGIC_SIZE) != 0 || !hash_is_sealed(p, n))
        return false;
    for (const uint8_t *at = p + MAGIC_SIZE; at < p + n - HASH_SIZE; at += SAMPLE_SIZE)
        g->samples[g->count++] = (struct growth_sample){get_le64(at), get_le64(at + 8)};
    return true;
}

int growth_load(const char *data_dir, struct growth *ret_growth, struct err *err)
{
    struct buf content AUTO_BUF = BUF_INIT(FILE_MAX);
    char *path AUTO_FREE = mem_printf("%s/growth", data_dir);
    struct err why = ERR_INIT;
    *ret_growth = (struct growth){0};
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a forecast");
    if (file_read(path, &content, &why) < 0 || !decode(content.data, content.len, ret_growth))
        ret_growth->count = 0;
    return 0;
}

int growth_store(const char *data_dir, const struct growth *g, struct err *err)
{
    uint8_t content[FILE_MAX] = GROWTH_MAGIC;
    size_t n = MAGIC_SIZE;
    char *path AUTO_FREE = mem_printf("%s/growth", data_dir);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a forecast");
    for (size_t i = 0; i < g->count; i++, n += SAMPLE_SIZE) {
        put_le64(content + n, g->samples[i].utc_usec);
        put_le64(content + n + 8, g->samples[i].used_bytes);
    }
    hash_seal(content, n);
    return file_replace(path, content, n + HASH_SIZE, 0600, err);
}
