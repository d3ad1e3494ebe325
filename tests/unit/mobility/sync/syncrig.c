/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/mobility/sync/syncrig.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "mobility/sync/outbox.h"
#include "mobility/track/tracker.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"
#include "transport/loop/loop.h"

#define OUTPUTS_MAX 512
#define WAIT_SEC 90

struct syncrig_agent {
    struct syncrig *rig;
    pthread_t thread;
    sd_event *loop;
    struct loop_bell *bell;
    struct uplink *uplink;
    struct outbox *outbox;
    struct hashfetch *hashes;
    struct engine *engine;
    struct freeze *freeze;
    struct group_part *part;
    char run_dir[100], instance[32];
    pthread_mutex_t lock; /* guards what is below */
    pthread_cond_t changed;
    bool stop;
    struct engine_output outputs[OUTPUTS_MAX];
    unsigned output_count;
};

static void instance_name(const struct syncrig *rig, char out[32])
{
    const char *base = strrchr(rig->dir, '/') + 1;
    unsigned n = 0;

    for (; *base && n < 31; base++)
        out[n++] = (char)((*base >= '0' && *base <= '9') || (*base >= 'a' && *base <= 'z') ? *base
                          : *base >= 'A' && *base <= 'Z'                                   ? *base + 32
                                                                                           : '-');
    out[n] = '\0';
}

void syncrig_init(struct syncrig *rig, unsigned disk_count, uint64_t size_bytes, unsigned sector_bytes)
{
    syncrig_init_on(rig, disk_count, size_bytes, sector_bytes, (const int[SYNCRIG_DISKS]){-1, -1});
}

void syncrig_init_on(
    struct syncrig *rig, unsigned disk_count, uint64_t size_bytes, unsigned sector_bytes, const int *file_fds)
{
    struct inventory *inventory;

    memset(rig, 0, sizeof(*rig));
    temp_init(rig->dir);
    bpffs_mount(rig->dir, rig->bpf);
    rig->disk_count = disk_count;
    for (unsigned i = 0; i < disk_count; i++)
        loopdisk_init(&rig->disks[i], size_bytes, sector_bytes, file_fds[i]);
    assert_int_equal(inventory_scan(NULL, &inventory, NULL), 0);
    for (size_t i = 0; i < inventory->disk_count; i++)
        for (unsigned j = 0; j < disk_count; j++)
            if (strcmp(inventory->disks[i].device, rig->disks[j].path) == 0) {
                struct engine_disk_wish *w = &rig->wish.disks[j];

                w->number = j;
                snprintf(w->key, sizeof(w->key), "%s", inventory->disks[i].key);
                rig->wish.disk_count++;
            }
    inventory_free(inventory);
    assert_int_equal(rig->wish.disk_count, disk_count);
    rig->wish.version = 1;
    rig->wish.protect = true;
    rig->wish.generation = 1;
    rig->wish.interval_usec = 100000;
    rig->wish.may_freeze = true;
    rig->wish.freeze_budget_usec = 30 * USEC_PER_SEC; /* no verdict on how busy the machine is */
    rig->node = fakenode_start(rig->dir);
}

static void ring(void *arg)
{
    loop_bell_post(((struct syncrig_agent *)arg)->bell);
}

static void wake(void *arg)
{
    struct syncrig_agent *a = arg;

    if (a->engine)
        engine_wake(a->engine);
}

static void nothing(void *arg)
{
    (void)arg;
}

static void take_outputs(struct syncrig_agent *a)
{
    struct engine_output o;

    while (engine_take(a->engine, &o)) {
        inventory_free(o.inventory);
        o.inventory = NULL;
        pthread_mutex_lock(&a->lock);
        if (a->output_count < OUTPUTS_MAX)
            a->outputs[a->output_count++] = o;
        pthread_cond_broadcast(&a->changed);
        pthread_mutex_unlock(&a->lock);
    }
}

static void on_bell(void *arg)
{
    struct syncrig_agent *a = arg;
    bool stop;

    pthread_mutex_lock(&a->lock);
    stop = a->stop;
    pthread_mutex_unlock(&a->lock);
    if (stop) {
        sd_event_exit(a->loop, 0);
        return;
    }
    outbox_kick(a->outbox);
    hashfetch_kick(a->hashes, outbox_channel(a->outbox));
    if (a->engine)
        take_outputs(a);
}

static void build(struct syncrig_agent *a)
{
    struct uplink_ops ops = {.arg = a, .to_loop = ring, .to_capture = wake};
    struct group_part_conf pc = {.to_capture = wake, .to_loop = nothing, .arg = a};
    struct outbox_conf oc = {.software = "test"};
    struct engine_conf ec = {
        .data_dir = a->rig->dir, .run_dir = a->run_dir, .instance = a->instance, .to_loop = ring, .arg = a};
    struct freeze_config fc = {0};
    struct err err = ERR_INIT;

    memset(oc.machine.bytes, 7, sizeof(oc.machine.bytes));
    ec.machine = oc.machine;
    snprintf(a->run_dir, sizeof(a->run_dir), "%s/run", a->rig->dir);
    instance_name(a->rig, a->instance);
    ec.hooks_dir = a->rig->dir;
    ec.driver = a->rig->driver;
    ec.pin_root = a->rig->bpf;
    ec.hook_usec = 60 * USEC_PER_SEC;
    ec.patience_usec = a->rig->patience_usec;
    if (freeze_open(&fc, &a->freeze, &err) < 0 || sd_event_new(&a->loop) < 0 ||
        loop_bell_new(a->loop, on_bell, a, &a->bell, &err) < 0)
        goto failed;
    oc.loop = a->loop;
    ec.freeze = a->freeze;
    if (uplink_new(&ops, 4 << 20, &a->uplink, &err) < 0 || outbox_new(&oc, a->uplink, &a->outbox, &err) < 0 ||
        hashfetch_new(&oc.machine, ring, a, &a->hashes, &err) < 0 || group_part_new(&pc, &a->part, &err) < 0)
        goto failed;
    ec.link = a->uplink;
    ec.hashes = a->hashes;
    ec.part = a->part;
    if (outbox_set_target(a->outbox, fakenode_address(a->rig->node), NULL, &err) < 0 ||
        engine_new(&ec, &a->engine, &err) < 0)
        goto failed;
    engine_set_wish(a->engine, &a->rig->wish);
    return;
failed:
    fprintf(stderr, "rig: %s; %s\n", err.text, err.correction);
    abort();
}

static struct syncrig_agent *agent_new_for(struct syncrig *rig)
{
    struct syncrig_agent *a = mem_new(struct syncrig_agent);

    a->rig = rig;
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->changed, NULL);
    return a;
}

static void *agent_main(void *arg)
{
    struct syncrig_agent *a = arg;

    (void)loop_run(a->loop, NULL);
    return NULL;
}

void syncrig_mount(struct syncrig *rig, unsigned disk)
{
    const char *device = rig->disks[disk].path;

    must_run("mkfs.ext4 -q %s && mkdir %s/mnt%u && mount %s %s/mnt%u", device, rig->dir, disk, device, rig->dir, disk);
}

void syncrig_unmount(struct syncrig *rig, unsigned disk)
{
    char path[128];

    assert_true(snprintf(path, sizeof(path), "%s/mnt%u", rig->dir, disk) < (int)sizeof(path));
    must_unmount(path);
}

void syncrig_start(struct syncrig *rig)
{
    rig->agent = agent_new_for(rig);
    build(rig->agent);
    assert_int_equal(pthread_create(&rig->agent->thread, NULL, agent_main, rig->agent), 0);
}

void syncrig_stop(struct syncrig *rig)
{
    struct syncrig_agent *a = TAKE_PTR(rig->agent);

    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    a->stop = true;
    pthread_mutex_unlock(&a->lock);
    loop_bell_post(a->bell);
    pthread_join(a->thread, NULL);
    engine_free(TAKE_PTR(a->engine));
    group_part_free(a->part);
    outbox_free(a->outbox);
    hashfetch_free(a->hashes);
    uplink_free(a->uplink);
    loop_bell_free(a->bell);
    sd_event_unref(a->loop);
    freeze_close(a->freeze);
    free(a);
}

struct engine *syncrig_engine(struct syncrig *rig)
{
    return rig->agent->engine;
}

struct group_part *syncrig_part(struct syncrig *rig)
{
    return rig->agent->part;
}

void syncrig_start_process(struct syncrig *rig)
{
    rig->child = fork();
    assert_true(rig->child >= 0);
    if (rig->child > 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct syncrig_agent *a = agent_new_for(rig);
    build(a);
    (void)loop_run(a->loop, NULL);
    _exit(0);
}

void syncrig_kill_process(struct syncrig *rig)
{
    if (rig->child <= 0)
        return;
    kill(rig->child, SIGKILL);
    waitpid(rig->child, NULL, 0);
    rig->child = 0;
}

void syncrig_done(struct syncrig *rig)
{
    struct tracker_config config = {.pin_root = rig->bpf};
    char instance[32];

    syncrig_kill_process(rig);
    syncrig_stop(rig);
    instance_name(rig, instance);
    config.instance = instance;
    assert_int_equal(tracker_destroy(&config, NULL), 0);
    for (unsigned i = 0; i < rig->disk_count; i++)
        loopdisk_done(&rig->disks[i]);
    fakenode_stop(rig->node);
    bpffs_unmount(rig->bpf);
    temp_done(rig->dir);
}

unsigned syncrig_events(struct syncrig *rig, const char *code)
{
    struct syncrig_agent *a = rig->agent;
    unsigned n = 0;

    pthread_mutex_lock(&a->lock);
    for (unsigned i = 0; i < a->output_count; i++)
        n += a->outputs[i].kind == ENGINE_EVENT && strcmp(a->outputs[i].code, code) == 0;
    pthread_mutex_unlock(&a->lock);
    return n;
}

/* Waits for an output of that kind whose id or code is `name`. */
static bool wait_output(
    struct syncrig_agent *a, enum engine_output_kind kind, const char *name, struct engine_output *ret_output)
{
    struct timespec until;
    bool found = false;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_SEC;
    pthread_mutex_lock(&a->lock);
    for (unsigned i = 0; !found;) {
        for (; i < a->output_count && !found; i++) {
            const struct engine_output *o = &a->outputs[i];

            found = o->kind == kind && strcmp(kind == ENGINE_RESULT ? o->command_id : o->code, name) == 0;
            if (found)
                *ret_output = *o;
        }
        if (!found && pthread_cond_timedwait(&a->changed, &a->lock, &until) != 0)
            break;
    }
    pthread_mutex_unlock(&a->lock);
    return found;
}

bool syncrig_result(struct syncrig *rig, const char *command_id, struct engine_output *ret_output)
{
    return wait_output(rig->agent, ENGINE_RESULT, command_id, ret_output);
}

bool syncrig_wait_event(struct syncrig *rig, const char *code)
{
    struct engine_output o;

    return wait_output(rig->agent, ENGINE_EVENT, code, &o);
}

bool syncrig_wait_phase(struct syncrig *rig, enum phase phase)
{
    struct engine_output o;

    return wait_output(rig->agent, ENGINE_EVENT, phase_name(phase), &o);
}

static void compare(struct syncrig *rig, unsigned disk)
{
    const struct loopdisk *l = &rig->disks[disk];
    const size_t step = 1 << 20;
    uint8_t *ours = aligned_alloc(4096, step), *theirs = malloc(step);
    char path[128];
    int fd = open(l->path, O_RDONLY | O_DIRECT | O_CLOEXEC), image;

    snprintf(path, sizeof(path), "%s/%u.img", rig->dir, disk);
    image = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && image >= 0 && ours && theirs);
    for (uint64_t at = 0; at < l->size_bytes; at += step) {
        size_t n = l->size_bytes - at < step ? (size_t)(l->size_bytes - at) : step;

        assert_int_equal(pread(fd, ours, n, (off_t)at), n);
        memset(theirs, 0, n); /* the image has holes, and may end early in one */
        assert_true(pread(image, theirs, n, (off_t)at) >= 0);
        for (size_t i = 0; i < n; i += 512)
            if (memcmp(ours + i, theirs + i, 512) != 0)
                fail_msg("disk %u differs at byte %llu", disk, (unsigned long long)(at + i));
    }
    free(ours);
    free(theirs);
    close(fd);
    close(image);
}

void syncrig_assert_equal(struct syncrig *rig)
{
    struct fakenode_facts facts;

    fakenode_get(rig->node, &facts);
    if (!fakenode_wait_points(rig->node, facts.points + 2))
        fail_msg("no point within %d s", WAIT_SEC);
    fakenode_get(rig->node, &facts);
    assert_string_equal(facts.fault, "");
    for (unsigned i = 0; i < rig->disk_count; i++)
        compare(rig, i);
}
