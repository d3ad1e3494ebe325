/* SPDX-License-Identifier: Apache-2.0
 *
 * Verifies all segments of a store that vault_history made, with the vault's own code, several at a time and without a pace:
 *     vault_scrub FOLDER THREADS
 * Prints one JSON line: bytes, seconds, and the processor time that it took.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "transport/base/buf.h"
#include "transport/base/bytes.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"
#include "transport/vault/storemeta.h"
#include "transport/vault/verify.h"

#define THREADS_MAX 64u

struct scan {
    struct verify_spec spec;
    uint64_t *numbers;
    size_t count;
    _Atomic size_t next;
    _Atomic uint64_t bytes, damages;
};

static void stop_on(const struct err *err)
{
    (void)fprintf(stderr, "vault_scrub: %s\n", err->text);
    exit(1);
}

static void *scan_some(void *arg)
{
    struct scan *s = arg;
    for (;;) {
        struct verify_result r = {0};
        struct verify_span span;
        struct err err = ERR_INIT;
        size_t at = atomic_fetch_add(&s->next, 1);
        if (at >= s->count)
            return NULL;
        if (verify_segment(&s->spec, s->numbers[at], true, &span, &r, &err) < 0)
            stop_on(&err);
        atomic_fetch_add(&s->damages, r.damage_count);
        verify_result_done(&r);
    }
}

static void load(struct scan *s, const char *folder)
{
    struct err err = ERR_INIT;
    struct store_meta meta;
    struct buf hex AUTO_BUF = BUF_INIT(1024);
    char *machine = mem_printf("%s/machine", folder);
    char *key AUTO_FREE = mem_printf("%s/key", folder);
    if (machine == NULL || key == NULL || storemeta_load(machine, &meta, &err) < 0 || file_read(key, &hex, &err) < 0 ||
        verify_segments(machine, &s->numbers, &s->count, &err) < 0)
        stop_on(&err);
    s->spec = (struct verify_spec){
        .machine_dir = machine, .machine = meta.machine, .until_sequence = UINT64_MAX, .done_bytes = &s->bytes};
    char *text AUTO_FREE = mem_strndup((const char *)hex.data, hex.len);
    if (text == NULL || keyring_from_text(text, &s->spec.keys, &err) < 0)
        stop_on(&err);
}

int main(int argc, char **argv)
{
    static struct scan s;
    pthread_t threads[THREADS_MAX];
    struct rusage usage;
    unsigned count = argc == 3 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    if (count == 0 || count > THREADS_MAX) {
        (void)fprintf(stderr, "usage: vault_scrub FOLDER THREADS\n");
        return 2;
    }
    load(&s, argv[1]);
    uint64_t begin = clock_mono_usec();
    for (unsigned i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, scan_some, &s) != 0)
            return 1;
    for (unsigned i = 0; i < count; i++)
        (void)pthread_join(threads[i], NULL);
    double seconds = (double)(clock_mono_usec() - begin) / 1e6;
    (void)getrusage(RUSAGE_SELF, &usage);
    (void)printf("{\"bytes\": %llu, \"seconds\": %.4f, \"user_s\": %.4f, \"system_s\": %.4f, \"damages\": %llu}\n",
        (unsigned long long)s.bytes, seconds, (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec / 1e6,
        (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec / 1e6, (unsigned long long)s.damages);
    return s.damages > 0;
}
