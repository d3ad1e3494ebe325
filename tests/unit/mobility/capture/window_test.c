/* SPDX-License-Identifier: Apache-2.0
 *
 * P3 and the barrier window with real parts: tracker, reader and cycle over two loop disks. A workload writes batches of blocks,
 * each stamped with the number of its batch, to one disk and the other in turn, and lets each batch be flushed before the next one
 * begins; noise writers load the same disks. After each point the image must be a state that a power failure could have left:
 * if it has any block of batch m, it has all of every batch before m. The same checker has to find violations when the barrier
 * count is taken away.
 *
 * LEEWARD_WINDOW_DISKS="UPPER,AT,LOWER,LOWER_AT[,KEY] UPPER,AT,LOWER,LOWER_AT[,KEY]" takes other disks than loop disks: the workload
 * writes to 25 MiB of UPPER (a logical volume, an array) at the byte AT, which lie on the tracked whole disk LOWER at LOWER_AT. Two
 * halves of a mirror may be checked on one leg each. With KEY (128 hexadecimal digits) UPPER is dm-crypt's, aes-xts-plain64 with
 * sectors of 512 bytes, and what the image holds is decrypted here. What was there is lost.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "mobility/capture/cycle.h"
#include "mobility/track/tracker.h"
#include "tests/unit/mobility/track/loopdisk.h"
#include "transport/base/clock.h"

#define DISKS 2u
#define BLOCK 4096u
#define STAMPED_BLOCKS 256u     /* of each disk, at its beginning */
#define NOISE_BYTES (24u << 20) /* behind them */
#define DISK_BYTES (STAMPED_BLOCKS * BLOCK + NOISE_BYTES)
#define BATCH_MAX 6u
#define BATCHES_MAX (1u << 20)
#define KEY_BYTES 64u    /* of AES-256 in XTS mode */
#define CIPHER_BLOCK 16u /* each is decrypted by itself, so one that was read while it was written spoils no other */

struct batch {
    uint16_t blocks[BATCH_MAX]; /* of disk (number % DISKS) */
    uint8_t count;
};

/* Where a disk of the workload lies, and where its bytes end up. */
struct place {
    char upper[64], lower[64];
    uint64_t at, lower_at;
    bool encrypted;
    uint8_t key[KEY_BYTES];
};

struct rig {
    char dir[64], bpf[96];
    struct loopdisk disks[DISKS]; /* unless there are other places */
    struct place places[DISKS];
    struct tracker *tracker;
    struct tracker_disk *tracked[DISKS];
    struct reader *reader;
    struct cycle *cycle;
    uint8_t *image[DISKS];
    uint32_t stamps[DISKS][STAMPED_BLOCKS]; /* of the image, when it was last judged */
    struct batch *batches;                  /* [0] is the state before the first */
    atomic_uint issued;                     /* the batch that is being written, or was written last */
    atomic_bool stop;
    bool barriers_hidden;
    unsigned restart_every; /* cycles; 0: never */
    unsigned noise_pause_usec;
};

/* --- parts ---------------------------------------------------------------------------------------------------------- */

static int part_drain(void *arg, unsigned disk, struct dirty *round, uint64_t *ret_granules, struct err *err)
{
    struct rig *r = arg;
    return tracker_drain(r->tracker, r->tracked[disk], round, NULL, ret_granules, err);
}

static uint64_t part_barriers(void *arg)
{
    struct rig *r = arg;
    return r->barriers_hidden ? 0 : tracker_barriers(r->tracker);
}

static bool part_countable(void *arg)
{
    struct rig *r = arg;
    return r->barriers_hidden || tracker_barriers_are_countable(r->tracker, NULL);
}

static int part_read(
    void *arg, unsigned disk, const struct dirty *set, reader_sink sink, void *sink_arg, struct err *err)
{
    struct rig *r = arg;
    return reader_run_dirty(r->reader, disk, set, sink, sink_arg, err);
}

static int keep_image(void *arg, const struct reader_piece *piece, struct err *err)
{
    struct rig *r = arg;

    uint64_t begin = r->places[piece->disk].lower_at, end = begin + DISK_BYTES;
    uint64_t from = piece->start > begin ? piece->start : begin;
    uint64_t to = piece->start + piece->length < end ? piece->start + piece->length : end;

    if (!piece->data)
        return err_set(err, ERR_IO, "unreadable at %llu", (unsigned long long)piece->start);
    if (from < to)
        memcpy(r->image[piece->disk] + from - begin, (const uint8_t *)piece->data + (from - piece->start), to - from);
    return 0;
}

/* --- workload --------------------------------------------------------------------------------------------------------- */

static void fill_block(uint8_t *block, uint32_t stamp)
{
    for (unsigned i = 0; i < BLOCK / 4; i++)
        ((uint32_t *)block)[i] = stamp;
}

static void write_batch(struct rig *r, const int fds[DISKS], uint8_t *block, uint32_t number, unsigned *seed)
{
    struct batch *b = &r->batches[number];
    uint64_t at = r->places[number % DISKS].at;

    b->count = (uint8_t)(1 + rand_r(seed) % BATCH_MAX);
    for (unsigned i = 0; i < b->count; i++)
        b->blocks[i] = (uint16_t)(rand_r(seed) % STAMPED_BLOCKS);
    atomic_store(&r->issued, number);
    fill_block(block, number);
    for (unsigned i = 0; i < b->count; i++)
        if (pwrite(fds[number % DISKS], block, BLOCK, (off_t)(at + b->blocks[i] * BLOCK)) != BLOCK)
            abort();
    if (fdatasync(fds[number % DISKS]) < 0)
        abort();
}

static void open_disks(const struct rig *r, int fds[DISKS])
{
    for (unsigned i = 0; i < DISKS; i++) {
        fds[i] = open(r->places[i].upper, O_RDWR | O_DIRECT | O_CLOEXEC);
        if (fds[i] < 0)
            abort();
    }
}

static void *run_stamps(void *arg)
{
    struct rig *r = arg;
    unsigned seed = 7;
    uint8_t *block = aligned_alloc(4096, BLOCK);
    int fds[DISKS];

    open_disks(r, fds);
    for (uint32_t n = 1; n < BATCHES_MAX && !atomic_load(&r->stop); n++)
        write_batch(r, fds, block, n, &seed);
    for (unsigned i = 0; i < DISKS; i++)
        (void)close(fds[i]);
    free(block);
    return NULL;
}

/* Random writes of 4 to 64 KiB, and now and then a flush. */
static void *run_noise(void *arg)
{
    struct rig *r = arg;
    unsigned seed = 99;
    uint8_t *data = random_bytes(65536);
    int fds[DISKS];

    open_disks(r, fds);
    for (unsigned n = 0; !atomic_load(&r->stop); n++) {
        uint32_t length = BLOCK * (1 + (uint32_t)rand_r(&seed) % 16);
        off_t at = STAMPED_BLOCKS * BLOCK + (off_t)(rand_r(&seed) % (NOISE_BYTES / BLOCK - 16)) * BLOCK;
        ((uint32_t *)data)[0] = n;
        if (pwrite(fds[n % DISKS], data, length, at + (off_t)r->places[n % DISKS].at) != (ssize_t)length ||
            (n % 32 == 0 && fdatasync(fds[n % DISKS]) < 0))
            abort();
        if (r->noise_pause_usec)
            (void)usleep(r->noise_pause_usec);
    }
    for (unsigned i = 0; i < DISKS; i++)
        (void)close(fds[i]);
    free(data);
    return NULL;
}

/* --- checker ------------------------------------------------------------------------------------------------------------ */

/* dm-crypt's plain64: the number of the sector of UPPER, little-endian. */
static void decrypt(const struct place *p, EVP_CIPHER_CTX *context, unsigned block, const uint8_t *in, uint8_t *out)
{
    uint64_t sector = (p->at + (uint64_t)block * BLOCK) / 512;
    uint8_t tweak[CIPHER_BLOCK] = {0};
    int n = 0;

    for (unsigned i = 0; i < 8; i++)
        tweak[i] = (uint8_t)(sector >> (8 * i));
    if (EVP_DecryptInit_ex(context, EVP_aes_256_xts(), NULL, p->key, tweak) != 1 ||
        EVP_DecryptUpdate(context, out, &n, in, CIPHER_BLOCK) != 1)
        abort();
}

static void read_stamps(struct rig *r)
{
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();

    for (unsigned d = 0; d < DISKS; d++)
        for (unsigned i = 0; i < STAMPED_BLOCKS; i++) {
            const uint8_t *block = r->image[d] + (size_t)i * BLOCK;
            uint8_t plain[CIPHER_BLOCK];

            if (r->places[d].encrypted)
                decrypt(&r->places[d], context, i, block, plain);
            memcpy(&r->stamps[d][i], r->places[d].encrypted ? plain : block, sizeof(uint32_t));
        }
    EVP_CIPHER_CTX_free(context);
}

static uint32_t newest_stamp(const struct rig *r)
{
    uint32_t newest = 0;

    for (unsigned d = 0; d < DISKS; d++)
        for (unsigned i = 0; i < STAMPED_BLOCKS; i++)
            if (r->stamps[d][i] > newest)
                newest = r->stamps[d][i];
    return newest;
}

/* How many blocks of the image are older than they may be: than the last batch before the newest one that wrote them. The
 * expected state is carried from call to call. */
struct expectation {
    uint32_t upto; /* batches 1..upto are in `stamps` */
    uint32_t stamps[DISKS][STAMPED_BLOCKS];
};

static unsigned count_violations(struct rig *r, struct expectation *e)
{
    unsigned violations = 0;
    uint32_t newest;

    read_stamps(r);
    newest = newest_stamp(r);
    if (newest > atomic_load(&r->issued)) /* nobody has written that */
        return DISKS * STAMPED_BLOCKS;
    while (e->upto + 1 < newest) {
        const struct batch *b = &r->batches[++e->upto];
        for (unsigned i = 0; i < b->count; i++)
            e->stamps[e->upto % DISKS][b->blocks[i]] = e->upto;
    }
    for (unsigned d = 0; d < DISKS; d++)
        for (unsigned i = 0; i < STAMPED_BLOCKS; i++)
            if (r->stamps[d][i] < e->stamps[d][i])
                violations++;
    return violations;
}

/* --- rig ------------------------------------------------------------------------------------------------------------------ */

static void read_lower(const struct place *p, uint8_t *out)
{
    int fd = open(p->lower, O_RDONLY | O_DIRECT | O_CLOEXEC);

    assert_int_equal(pread(fd, out, DISK_BYTES, (off_t)p->lower_at), DISK_BYTES);
    (void)close(fd);
}

static void start_capture(struct rig *r)
{
    const struct cycle_parts parts = {.arg = r,
        .disk_count = DISKS,
        .drain = part_drain,
        .barriers = part_barriers,
        .barriers_are_countable = part_countable,
        .read = part_read};
    struct tracker_config config = {.pin_root = r->bpf, .instance = "window"};
    struct err err = ERR_INIT;
    int bad = tracker_open(&config, &r->tracker, &err) < 0 || reader_new(0, &r->reader, &err) < 0 ||
              cycle_new(&parts, &r->cycle, &err) < 0;

    for (unsigned i = 0; i < DISKS && !bad; i++) {
        bad = tracker_add(r->tracker, r->places[i].lower, &r->tracked[i], &err) < 0 ||
              reader_add_disk(r->reader, i, r->places[i].lower, &err) < 0 ||
              cycle_set_disk(r->cycle, i, tracker_disk_size_bytes(r->tracked[i]),
                  tracker_disk_granule_shift(r->tracked[i]), &err) < 0;
    }
    if (bad)
        fail_msg("%s", err.text);
    for (unsigned i = 0; i < DISKS; i++) { /* now that it is tracked */
        r->image[i] = aligned_alloc(4096, DISK_BYTES);
        read_lower(&r->places[i], r->image[i]);
    }
}

/* Another process of the agent takes over what this one leaves in the kernel. */
static void restart_tracker(struct rig *r)
{
    struct tracker_config config = {.pin_root = r->bpf, .instance = "window"};
    struct dirty_tag before, after;
    struct err err = ERR_INIT;

    tracker_disk_tag(r->tracked[0], &before);
    tracker_close(r->tracker);
    r->tracker = NULL;
    if (tracker_open(&config, &r->tracker, &err) < 0)
        fail_msg("%s", err.text);
    for (unsigned i = 0; i < DISKS; i++)
        if (tracker_add(r->tracker, r->places[i].lower, &r->tracked[i], &err) < 0)
            fail_msg("%s", err.text);
    tracker_disk_tag(r->tracked[0], &after);
    assert_memory_equal(&before, &after, sizeof(before));
}

static void zero_place(const struct place *p)
{
    uint8_t *zeros = aligned_alloc(4096, DISK_BYTES);
    int fd = open(p->upper, O_WRONLY | O_DIRECT | O_CLOEXEC);

    memset(zeros, 0, DISK_BYTES);
    if (fd < 0 || pwrite(fd, zeros, DISK_BYTES, (off_t)p->at) != (ssize_t)DISK_BYTES || fsync(fd) < 0)
        fail_msg("cannot write to %s at %llu", p->upper, (unsigned long long)p->at);
    (void)close(fd);
    free(zeros);
}

static void take_key(struct place *p, const char *hex)
{
    for (unsigned i = 0; i < KEY_BYTES; i++)
        assert_int_equal(sscanf(hex + (size_t)2 * i, "%2hhx", &p->key[i]), 1);
    p->encrypted = true;
}

static void take_places(struct rig *r, const char *asked)
{
    for (unsigned i = 0; i < DISKS; i++) {
        struct place *p = &r->places[i];
        char key[2 * KEY_BYTES + 1];
        int fields =
            sscanf(asked, "%63[^,],%lu,%63[^, ],%lu,%128[0-9a-f]", p->upper, &p->at, p->lower, &p->lower_at, key);

        assert_true(fields == 4 || fields == 5);
        if (fields == 5)
            take_key(p, key);
        zero_place(p);
        asked += strcspn(asked, " ");
        asked += strspn(asked, " ");
    }
}

static void make_places(struct rig *r)
{
    for (unsigned i = 0; i < DISKS; i++) {
        loopdisk_init(&r->disks[i], DISK_BYTES, 512, -1);
        snprintf(r->places[i].upper, sizeof(r->places[i].upper), "%s", r->disks[i].path);
        snprintf(r->places[i].lower, sizeof(r->places[i].lower), "%s", r->disks[i].path);
    }
}

static int setup(void **state)
{
    const char *asked = getenv("LEEWARD_WINDOW_DISKS");
    struct rig *r = calloc(1, sizeof(*r));

    temp_init(r->dir);
    bpffs_mount(r->dir, r->bpf);
    if (asked)
        take_places(r, asked);
    else
        make_places(r);
    r->batches = calloc(BATCHES_MAX, sizeof(struct batch));
    start_capture(r);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;
    struct tracker_config config = {.pin_root = r->bpf, .instance = "window"};

    cycle_free(r->cycle);
    reader_free(r->reader);
    tracker_close(r->tracker);
    (void)tracker_destroy(&config, NULL);
    for (unsigned i = 0; i < DISKS; i++) {
        if (!getenv("LEEWARD_WINDOW_DISKS"))
            loopdisk_done(&r->disks[i]);
        free(r->image[i]);
    }
    free(r->batches);
    bpffs_unmount(r->bpf);
    temp_done(r->dir);
    free(r);
    return 0;
}

struct totals {
    unsigned points, rounds, violations, max_rounds, without;
    uint64_t window_usec, max_window_usec;
};

static void add_up(struct totals *t, const struct cycle_result *result)
{
    t->points++;
    t->rounds += result->rounds;
    t->max_rounds = result->rounds > t->max_rounds ? result->rounds : t->max_rounds;
    t->window_usec += result->window_usec;
    t->max_window_usec = result->window_usec > t->max_window_usec ? result->window_usec : t->max_window_usec;
}

/* Lets the workload make some way, as it would between two points. */
static void wait_for_batches(struct rig *r, unsigned more)
{
    unsigned target = atomic_load(&r->issued) + more;

    while (atomic_load(&r->issued) < target)
        (void)usleep(50);
}

/* Runs cycles while the workload goes on; enough is 0 or the number of violations that will do. */
static struct totals run_cycles(struct rig *r, unsigned cycles, unsigned enough)
{
    struct cycle_options options = {.want = CYCLE_CRASH, .tries = 200};
    struct expectation *e = calloc(1, sizeof(*e));
    struct totals t = {0};
    pthread_t stamps, noise;

    assert_int_equal(pthread_create(&stamps, NULL, run_stamps, r), 0);
    assert_int_equal(pthread_create(&noise, NULL, run_noise, r), 0);
    for (unsigned i = 0; i < cycles && (!enough || t.violations < enough); i++) {
        struct cycle_result result;
        struct err err = ERR_INIT;
        wait_for_batches(r, 1 + i % 12);
        if (r->restart_every && i % r->restart_every == r->restart_every - 1)
            restart_tracker(r);
        if (cycle_run(r->cycle, &options, keep_image, r, &result, &err) < 0)
            fail_msg("%s", err.text);
        if (result.outcome != CYCLE_POINT) {
            t.without++;
            continue;
        }
        add_up(&t, &result);
        t.violations += count_violations(r, e) > 0;
    }
    atomic_store(&r->stop, true);
    (void)pthread_join(stamps, NULL);
    (void)pthread_join(noise, NULL);
    free(e);
    return t;
}

static void report(const struct rig *r, const struct totals *t)
{
    print_message(
        "%u points, %u without a window, %u batches: %.1f rounds (at most %u), window %.0f us (at most %llu), "
        "%u violations; barriers %s\n",
        t->points, t->without, atomic_load(&r->issued), t->points ? (double)t->rounds / t->points : 0.0, t->max_rounds,
        t->points ? (double)t->window_usec / t->points : 0.0, (unsigned long long)t->max_window_usec, t->violations,
        tracker_barriers_are_countable(r->tracker, NULL) ? "counted" : "not countable");
}

/* LEEWARD_POINTS: more for the long run, fewer where a processor is emulated. */
static unsigned points_asked(unsigned otherwise)
{
    const char *asked = getenv("LEEWARD_POINTS");

    return asked ? (unsigned)strtoul(asked, NULL, 10) : otherwise;
}

static void test_every_window_is_a_state_a_power_failure_could_leave(void **state)
{
    unsigned points = points_asked(2000);
    struct rig *r = *state;
    struct totals t;

    r->noise_pause_usec = 200;
    t = run_cycles(r, points, 0);
    report(r, &t);
    assert_int_equal(t.violations, 0);
    assert_true(t.points + t.without == points && t.without < points / 4);
    assert_true(atomic_load(&r->issued) > 100);
}

static void test_windows_hold_across_restarts_under_load(void **state)
{
    struct rig *r = *state;
    struct totals t;

    r->noise_pause_usec = 200;
    r->restart_every = 10;
    t = run_cycles(r, points_asked(2000) < 300 ? points_asked(2000) : 300, 0);
    report(r, &t);
    assert_int_equal(t.violations, 0);
}

static void test_the_checker_finds_what_windows_prevent(void **state)
{
    struct rig *r = *state;
    struct totals t;

    r->barriers_hidden = true;
    r->noise_pause_usec = 0;
    t = run_cycles(r, 5000, 1);
    report(r, &t);
    assert_true(t.violations > 0);
}

static void test_the_image_is_the_disk_when_all_is_quiet(void **state)
{
    struct rig *r = *state;
    struct cycle_options options = {.want = CYCLE_CRASH};
    struct cycle_result result;
    struct err err = ERR_INIT;
    uint8_t *now = aligned_alloc(4096, DISK_BYTES);

    r->noise_pause_usec = 50;
    (void)run_cycles(r, 20, 0);
    assert_int_equal(cycle_run(r->cycle, &options, keep_image, r, &result, &err), 0);
    assert_int_equal(result.outcome, CYCLE_POINT);
    for (unsigned i = 0; i < DISKS; i++) {
        read_lower(&r->places[i], now);
        assert_memory_equal(now, r->image[i], DISK_BYTES);
    }
    free(now);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_window_is_a_state_a_power_failure_could_leave, setup, teardown),
        cmocka_unit_test_setup_teardown(test_windows_hold_across_restarts_under_load, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_checker_finds_what_windows_prevent, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_image_is_the_disk_when_all_is_quiet, setup, teardown),
    };

    if (!loopdisk_is_possible()) {
        print_message("needs root and loop devices: not run\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
