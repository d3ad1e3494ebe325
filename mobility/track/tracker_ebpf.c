/* SPDX-License-Identifier: Apache-2.0
 *
 * The ebpf driver. Pins of one instance:
 *
 *   meta          format and boot id; written last, so a half-made folder is known by its absence
 *   disks         the arrays of all disks, by slots (bt_slot)
 *   disk-XXXXXXXX the array of one disk; -next while a resize is under way
 *   complete, issue   links of on_complete and on_issue         submit   of on_submit, where the kernel allows it
 *
 * Happy path of open: adopt `disks`, load this build's programs over it, attach, put the new links in place of the old ones.
 * Old and new programs mark side by side for a moment, so an upgrade has no gap. Of add: adopt the disk's array if it is the
 * one that the programs use and belongs to this very disk and boot; else make a new one. Whatever is not certain is made
 * anew, under a new incarnation number, which the owner of the dirty set sees in its tag. Loading takes a few tenths of a second, most of it
 * in the kernel's verifier, so an agent that protects nothing yet has it done ahead (ebpf_prepare).
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "mobility/track/bpffs.h"
#include "mobility/track/diskmap.h"
#include "mobility/track/tracker_driver.h"
#include "mobility/track/blocktrack.skel.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define BTF_PATH "/sys/kernel/btf/vmlinux"
/* How long a disk that is added is waited for that always has writes in flight, and how often it is looked. */
#define EARLIER_USEC (1 * USEC_PER_SEC)
#define EARLIER_LOOK_NSEC 1000000L

struct ebpf {
    struct bpffs pins;
    int disks_fd;       /* the table of arrays */
    int program_fds[2]; /* on_complete, on_issue */
    bool sees_submission;
    uint8_t boot_id[16];
};

struct ebpf_disk {
    struct diskmap map;
    uint32_t key;
    char pin[24];
    bool write_cache; /* as last asked */
};

struct meta {
    uint64_t magic;
    uint64_t format;
    uint8_t boot_id[16];
};

static void silence(void)
{
    libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
    libbpf_set_print(NULL);
}

static uint64_t counter(const unsigned long long *c)
{
    return __atomic_load_n(c, __ATOMIC_SEQ_CST);
}

/* --- opening ------------------------------------------------------------------------------------------------------- */

/* Programs of 5.15 are not for it; some distribution's older kernel may have taken over what they need, so they are tried first. */
static bool is_old_kernel(const struct utsname *u)
{
    int major_no = 0, minor_no = 0;

    return sscanf(u->release, "%d.%d", &major_no, &minor_no) == 2 && (major_no < 5 || (major_no == 5 && minor_no < 15));
}

/* What may be gone at the next try says nothing of what the kernel can do. */
static bool is_passing(int code)
{
    static const int passing[] = {ENOMEM, EMFILE, ENFILE, EAGAIN, EINTR};

    for (size_t i = 0; i < ARRAY_LEN(passing); i++)
        if (code == -passing[i])
            return true;
    return false;
}

static int fail_load(int code, struct err *err)
{
    struct utsname u;

    if (code != -EPERM && !is_passing(code) && uname(&u) == 0 && is_old_kernel(&u)) {
        (void)err_set(err, ERR_UNSUPPORTED, "this kernel (%.64s) cannot run the tracking program", u.release);
        return err_hint(err, "use the scan tracker, or a kernel of 5.15 or later");
    }
    if (code == -EPERM || code == -EACCES) {
        (void)err_set(err, ERR_DENIED, "the kernel does not let this process load the tracking program");
        return err_hint(err, "run the agent as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN");
    }
    return err_sys(err, -code, "loading the tracking program");
}

static bool meta_is_ours(int fd, const uint8_t boot_id[16])
{
    struct meta m = {0};
    uint32_t key = 0;

    return bpf_map_lookup_elem(fd, &key, &m) == 0 && m.magic == BT_MAGIC && m.format == BT_FORMAT &&
           memcmp(m.boot_id, boot_id, sizeof(m.boot_id)) == 0;
}

/* Removes what an earlier process left, unless it is whole and of this boot and format. */
static void refuse_stale_pins(struct ebpf *e)
{
    AUTO_CLOSE int fd = bpffs_get(&e->pins, "meta");
    struct bpf_map_info info = {0};
    uint32_t size = sizeof(info);

    if (fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &size) == 0 && info.type == BPF_MAP_TYPE_ARRAY &&
        info.value_size == sizeof(struct meta) && meta_is_ours(fd, e->boot_id))
        return;
    bpffs_drop_all(&e->pins);
}

static int put_meta(struct ebpf *e, struct err *err)
{
    struct meta m = {.magic = BT_MAGIC, .format = BT_FORMAT};
    AUTO_CLOSE int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "leeward_meta", sizeof(uint32_t), sizeof(m), 1, NULL);
    uint32_t key = 0;

    memcpy(m.boot_id, e->boot_id, sizeof(m.boot_id));
    if (fd < 0 || bpf_map_update_elem(fd, &key, &m, BPF_ANY) < 0)
        return err_sys(err, errno, "making the tracker's meta map");
    return bpffs_put(&e->pins, "meta", fd, err);
}

/* Loads the programs over a disks map that is there, or (-1) over a new one. on_submit is left out where the kernel has no fentry, or does
 * not permit it: that is the second attempt. */
static int load_programs(int disks_fd, bool with_submit, struct blocktrack **ret_skel)
{
    struct blocktrack *skel = blocktrack__open();
    int code;

    if (!skel)
        return -errno;
    bpf_program__set_autoload(skel->progs.on_submit, with_submit);
    code = disks_fd >= 0 ? bpf_map__reuse_fd(skel->maps.disks, disks_fd) : 0;
    if (code == 0)
        code = blocktrack__load(skel);
    if (code < 0) {
        blocktrack__destroy(skel);
        return code;
    }
    *ret_skel = skel;
    return 0;
}

static int load(int disks_fd, struct blocktrack **ret_skel)
{
    int code = load_programs(disks_fd, true, ret_skel);

    if (code < 0)
        code = load_programs(disks_fd, false, ret_skel);
    (void)malloc_trim(0); /* libbpf has read all of the kernel's BTF */
    return code;
}

/* What ebpf_prepare has loaded, with a disks map of its own; NULL: nothing. Taken and put in one step, by any thread. */
static struct blocktrack *prepared;

static void ebpf_prepare(void)
{
    struct blocktrack *skel = NULL;

    silence();
    if (access(BTF_PATH, R_OK) == 0 && !__atomic_load_n(&prepared, __ATOMIC_ACQUIRE) && load(-1, &skel) == 0)
        blocktrack__destroy(__atomic_exchange_n(&prepared, skel, __ATOMIC_ACQ_REL));
}

static int attach(struct ebpf *e, struct bpf_program *program, const char *pin, struct err *err)
{
    struct bpf_link *link = bpf_program__attach(program);
    int result;

    if (!link)
        return err_sys(err, errno, "attaching the tracking program");
    result = bpffs_put(&e->pins, pin, bpf_link__fd(link), err);
    (void)bpf_link__destroy(link); /* the pin holds it */
    return result;
}

static int start_programs(struct ebpf *e, struct blocktrack *skel, struct err *err)
{
    e->disks_fd = dup(bpf_map__fd(skel->maps.disks));
    e->program_fds[0] = dup(bpf_program__fd(skel->progs.on_complete));
    e->program_fds[1] = dup(bpf_program__fd(skel->progs.on_issue));
    if (e->disks_fd < 0 || e->program_fds[0] < 0 || e->program_fds[1] < 0)
        return err_sys(err, errno, "keeping the tracker's maps");
    if (bpffs_put(&e->pins, "disks", e->disks_fd, err) < 0 || attach(e, skel->progs.on_complete, "complete", err) < 0 ||
        attach(e, skel->progs.on_issue, "issue", err) < 0)
        return -1;
    e->sees_submission =
        bpf_program__autoload(skel->progs.on_submit) && attach(e, skel->progs.on_submit, "submit", NULL) == 0;
    if (!e->sees_submission)
        bpffs_drop(&e->pins, "submit");
    return put_meta(e, err);
}

static int load_and_start(struct ebpf *e, struct err *err)
{
    AUTO_CLOSE int old_disks = bpffs_get(&e->pins, "disks");
    struct blocktrack *skel = old_disks < 0 ? __atomic_exchange_n(&prepared, NULL, __ATOMIC_ACQ_REL) : NULL;
    int code = skel ? 0 : load(old_disks, &skel), result;

    if (code < 0)
        return fail_load(code, err);
    result = start_programs(e, skel, err);
    blocktrack__destroy(skel);
    return result;
}

static void ebpf_close(void *state)
{
    struct ebpf *e = state;

    if (!e)
        return;
    if (e->disks_fd >= 0)
        (void)close(e->disks_fd);
    for (size_t i = 0; i < ARRAY_LEN(e->program_fds); i++)
        if (e->program_fds[i] >= 0)
            (void)close(e->program_fds[i]);
    bpffs_close(&e->pins);
    free(e);
}

static int ebpf_open(const struct tracker_config *config, void **ret_state, struct err *err)
{
    struct ebpf *e;

    if (access(BTF_PATH, R_OK) < 0) {
        (void)err_set(err, ERR_UNSUPPORTED, "this kernel has no BTF (" BTF_PATH ")");
        return err_hint(err, "use the scan tracker, or a kernel built with CONFIG_DEBUG_INFO_BTF");
    }
    silence();
    e = mem_new(struct ebpf);
    if (!e)
        return err_set(err, ERR_NOMEM, "tracker");
    e->disks_fd = e->program_fds[0] = e->program_fds[1] = e->pins.lock_fd = -1;
    if (wholedisk_boot_id(e->boot_id, err) == 0 && bpffs_open(config->pin_root, config->instance, &e->pins, err) == 0) {
        refuse_stale_pins(e);
        if (load_and_start(e, err) == 0) {
            *ret_state = e;
            return 0;
        }
    }
    ebpf_close(e);
    return -1;
}

static int ebpf_destroy(const struct tracker_config *config, struct err *err)
{
    return bpffs_destroy(config->pin_root, config->instance, err);
}

/* --- disks --------------------------------------------------------------------------------------------------------- */

static uint32_t kernel_dev(dev_t dev)
{
    return ((uint32_t)major(dev) << 20) | (uint32_t)minor(dev);
}

static int array_info(int fd, struct bpf_map_info *ret_info)
{
    uint32_t size = sizeof(*ret_info);

    memset(ret_info, 0, size);
    if (bpf_obj_get_info_by_fd(fd, ret_info, &size) < 0)
        return -1;
    errno = EINVAL;
    return ret_info->type == BPF_MAP_TYPE_ARRAY && ret_info->value_size == BT_PAGE_BYTES ? 0 : -1;
}

/* The number of the disk that an array belongs to, as BT_OWNER has it; 0: it is none of ours. Whoever cannot tell must not go on: the
 * programs would find the old array where a new one was put behind it. */
static int owner_of(uint32_t id, uint64_t *ret_owner, struct err *err)
{
    AUTO_CLOSE int fd = bpf_map_get_fd_by_id(id);
    AUTO_FREE struct bt_lane *page = mem_alloc(1, BT_PAGE_BYTES);
    uint32_t lane = BT_FIRST_LANE_PAGE;
    struct bpf_map_info info;

    *ret_owner = 0;
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0) {
        (void)err_sys(err, errno, "looking at a bitmap that is in use");
        return err_hint(err, "run the agent as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN");
    }
    if (!page)
        return err_set(err, ERR_NOMEM, "tracker");
    if (array_info(fd, &info) < 0 || bpf_map_lookup_elem(fd, &lane, page) < 0)
        return err_sys(err, errno, "reading a bitmap that is in use");
    *ret_owner = page->owner;
    return 0;
}

struct place {
    int slot;    /* in which the programs find the disk's array; -1: nowhere */
    uint32_t id; /* of that array; 0: there is none */
    int free;    /* a slot for a new one; -1: there is none */
};

static int find_place(const struct ebpf *e, uint32_t key, struct place *ret_place, struct err *err)
{
    struct place p = {.slot = -1, .free = -1};

    for (unsigned i = 0; i < BT_SLOT_PROBES && p.slot < 0; i++) {
        uint32_t slot = bt_slot(key, i), id = 0;
        uint64_t owner;
        if (bpf_map_lookup_elem(e->disks_fd, &slot, &id) < 0 && errno != ENOENT)
            return err_sys(err, errno, "looking at the tracker's table of disks");
        if (id == 0) {
            p.free = p.free < 0 ? (int)slot : p.free;
            continue;
        }
        if (owner_of(id, &owner, err) < 0)
            return -1;
        if (owner == (BT_OWNER | key)) {
            p.slot = (int)slot;
            p.id = id;
        }
    }
    *ret_place = p;
    return 0;
}

/* Whether the programs use this array for the key. 1, 0, or -1: that cannot be told. */
static int is_in_use(const struct ebpf *e, uint32_t key, const struct bpf_map_info *array, struct err *err)
{
    struct place p;

    return find_place(e, key, &p, err) < 0 ? -1 : p.id == array->id;
}

/* A resize was cut off between putting the new array to use and renaming its pin: the old one may hold bits still, and a loss that was not
 * counted in the new one yet. */
static int finish_resize(struct ebpf *e, const struct ebpf_disk *d, struct err *err)
{
    char next[32];
    struct diskmap old = {0}, new = {0};
    struct bpf_map_info old_info, new_info;
    AUTO_CLOSE int old_fd = bpffs_get(&e->pins, d->pin);
    AUTO_CLOSE int new_fd = -1;
    int in_use;

    (void)snprintf(next, sizeof(next), "%s-next", d->pin);
    new_fd = bpffs_get(&e->pins, next);
    if (new_fd < 0)
        return 0;
    in_use = array_info(new_fd, &new_info) == 0 ? is_in_use(e, d->key, &new_info, err) : 0;
    if (in_use < 0)
        return -1;
    if (in_use && old_fd >= 0 && array_info(old_fd, &old_info) == 0 &&
        diskmap_adopt(old_fd, old_info.max_entries, &old, NULL) == 0 &&
        diskmap_adopt(new_fd, new_info.max_entries, &new, NULL) == 0) {
        if (counter(&old.header->lost) != old.header->acknowledged)
            (void)__atomic_fetch_add(&new.header->lost, 1, __ATOMIC_SEQ_CST);
        diskmap_merge(&new, &old);
        (void)bpffs_rename(&e->pins, next, d->pin, NULL);
    }
    diskmap_unmap(&old);
    diskmap_unmap(&new);
    bpffs_drop(&e->pins, next);
    return 0;
}

static bool belongs_to(const struct ebpf *e, const struct bt_header *h, const struct tracker_disk *disk)
{
    return memcmp(h->boot_id, e->boot_id, sizeof(h->boot_id)) == 0 && h->disk_sequence == disk->sequence &&
           h->incarnation != 0;
}

/* 1: adopted. 0: there is none to be adopted. -1: it cannot be told, and what is there stays. */
static int adopt_array(struct ebpf *e, struct tracker_disk *disk, struct ebpf_disk *d, struct err *err)
{
    AUTO_CLOSE int fd = bpffs_get(&e->pins, d->pin);
    struct bpf_map_info info;
    int in_use;

    if (fd < 0 || array_info(fd, &info) < 0)
        return 0;
    in_use = is_in_use(e, d->key, &info, err);
    if (in_use <= 0)
        return in_use;
    if (diskmap_adopt(fd, info.max_entries, &d->map, NULL) < 0)
        return 0;
    if (!belongs_to(e, d->map.header, disk)) {
        diskmap_unmap(&d->map);
        return 0;
    }
    disk->size_bytes = d->map.header->size_bytes;
    disk->granule_shift = (unsigned)d->map.header->granule_shift;
    return 1;
}

/* Control groups count it with whoever makes it. */
static int fail_array(uint64_t pages, int code, struct err *err)
{
    (void)err_sys(err, code, "making a bitmap of %llu KiB", (unsigned long long)pages * 4);
    if (code != ENOMEM)
        return -1;
    return err_hint(err,
        "free memory, or raise MemoryMax of leeward-agent.service (systemctl edit leeward-agent) by %llu MiB for this "
        "disk: "
        "32 MiB per TiB, and 64 MiB per disk at most",
        (unsigned long long)(pages * BT_PAGE_BYTES + (1u << 20) - 1) >> 20);
}

static int make_array(uint64_t size_bytes, unsigned shift, struct err *err)
{
    LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
    uint64_t pages = diskmap_pages(size_bytes, shift);
    int fd;

    if (pages > (uint64_t)TRACKER_BITMAP_MAX_BYTES * 4 / BT_PAGE_BYTES) {
        (void)err_set(err, ERR_TOO_LARGE, "the disk has grown too much for granules of %u bytes", 1u << shift);
        return err_hint(err, "unprotect and protect the disk: its granule is then chosen anew");
    }
    fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "leeward_disk", sizeof(uint32_t), BT_PAGE_BYTES, (uint32_t)pages, &opts);
    return fd < 0 ? fail_array(pages, errno, err) : fd;
}

static int use_array(struct ebpf *e, uint32_t key, int fd, struct err *err)
{
    struct place p;
    uint32_t slot;

    if (find_place(e, key, &p, err) < 0)
        return -1;
    if (p.slot < 0 && p.free < 0)
        return err_set(err, ERR_NOMEM, "the tracker's table of disks is full");
    slot = (uint32_t)(p.slot >= 0 ? p.slot : p.free);
    /* Returns after a grace period: no program works with the array before it any more, and each later one finds this. */
    if (bpf_map_update_elem(e->disks_fd, &slot, &fd, BPF_ANY) < 0)
        return err_sys(err, errno, "putting a bitmap to use");
    return 0;
}

static int stop_using_array(struct ebpf *e, uint32_t key, struct err *err)
{
    struct place p;
    uint32_t slot;

    if (find_place(e, key, &p, err) < 0)
        return -1;
    slot = (uint32_t)p.slot;
    if (p.slot >= 0 && bpf_map_delete_elem(e->disks_fd, &slot) < 0 && errno != ENOENT)
        return err_sys(err, errno, "taking a bitmap out of use");
    return 0;
}

static int new_incarnation(uint64_t *ret_number, struct err *err)
{
    do {
        if (getrandom(ret_number, sizeof(*ret_number), 0) != (ssize_t)sizeof(*ret_number))
            return err_sys(err, errno, "getting a random number");
    } while (*ret_number == 0);
    return 0;
}

/* A write that the driver had before on_issue knew the disk is on no list, so the next reader has its completion alone to learn of it, and the kernel
 * may not tell that. Nothing of the disk is read before it has landed. The first look comes a moment later: a request is counted just after its issue
 * was told. A disk that always has some in flight is waited for as long as any request takes that is not in trouble. */
static void wait_for_earlier_writes(dev_t disk)
{
    const struct timespec moment = {.tv_nsec = EARLIER_LOOK_NSEC};
    uint64_t until = clock_mono_usec() + EARLIER_USEC;

    do
        (void)nanosleep(&moment, NULL);
    while (wholedisk_writes_in_flight(disk) != 0 && clock_mono_usec() < until);
}

static int create_array(struct ebpf *e, struct tracker_disk *disk, struct ebpf_disk *d, struct err *err)
{
    struct diskmap_geometry g = {.dev = d->key,
        .size_bytes = disk->size_bytes,
        .granule_shift = disk->granule_shift,
        .disk_sequence = disk->sequence};
    AUTO_CLOSE int fd = -1;

    bpffs_drop(&e->pins, d->pin);
    memcpy(g.boot_id, e->boot_id, sizeof(g.boot_id));
    if (new_incarnation(&g.incarnation, err) < 0)
        return -1;
    fd = make_array(g.size_bytes, g.granule_shift, err);
    if (fd < 0 || diskmap_create(fd, &g, &d->map, err) < 0)
        return -1;
    if (bpffs_put(&e->pins, d->pin, fd, err) == 0 && use_array(e, d->key, fd, err) == 0) {
        wait_for_earlier_writes(disk->dev);
        return 0;
    }
    diskmap_unmap(&d->map);
    bpffs_drop(&e->pins, d->pin);
    return -1;
}

static int ebpf_add(void *state, struct tracker_disk *disk, struct err *err)
{
    AUTO_FREE struct ebpf_disk *d = mem_new(struct ebpf_disk);
    struct ebpf *e = state;
    int adopted;

    if (!d)
        return err_set(err, ERR_NOMEM, "tracker");
    if (wholedisk_is_trackable(disk->dev, err) < 0)
        return -1;
    d->key = kernel_dev(disk->dev);
    (void)snprintf(d->pin, sizeof(d->pin), "disk-%08x", d->key);
    if (finish_resize(e, d, err) < 0)
        return -1;
    adopted = adopt_array(e, disk, d, err);
    if (adopted < 0 || (adopted == 0 && create_array(e, disk, d, err) < 0))
        return -1;
    d->write_cache = wholedisk_has_write_cache(disk->dev);
    memcpy(disk->tag.boot_id, e->boot_id, sizeof(disk->tag.boot_id));
    disk->tag.incarnation = d->map.header->incarnation;
    disk->state = TAKE_PTR(d);
    return 0;
}

static void ebpf_release(void *state, struct tracker_disk *disk)
{
    struct ebpf_disk *d = disk->state;

    (void)state;
    diskmap_unmap(&d->map);
    free(d);
}

static int ebpf_remove(void *state, struct tracker_disk *disk, struct err *err)
{
    struct ebpf_disk *d = disk->state;
    struct ebpf *e = state;

    if (stop_using_array(e, d->key, err) < 0)
        return -1;
    bpffs_drop(&e->pins, d->pin);
    return 0;
}

struct others {
    struct ebpf *e;
    struct tracker_disk *const *disks;
    size_t count;
};

static void forget_one(void *arg, const char *name)
{
    struct others *o = arg;
    unsigned key;

    if (sscanf(name, "disk-%8x", &key) != 1)
        return;
    for (size_t i = 0; i < o->count; i++)
        if (((struct ebpf_disk *)o->disks[i]->state)->key == key)
            return;
    (void)stop_using_array(o->e, key, NULL);
    bpffs_drop(&o->e->pins, name);
}

static int ebpf_forget_others(void *state, struct tracker_disk *const *disks, size_t count, struct err *err)
{
    struct others o = {.e = state, .disks = disks, .count = count};

    return bpffs_each(&o.e->pins, forget_one, &o, err);
}

/* The new array goes to use with what was added marked, and takes over the bits of the old one once no program writes to
 * that any more. A kill in between is made good by finish_resize. */
static int ebpf_resize(void *state, struct tracker_disk *disk, uint64_t size_bytes, struct err *err)
{
    struct ebpf_disk *d = disk->state;
    struct ebpf *e = state;
    struct diskmap_geometry g = {.dev = d->key,
        .size_bytes = size_bytes,
        .granule_shift = disk->granule_shift,
        .incarnation = d->map.header->incarnation,
        .disk_sequence = disk->sequence};
    AUTO_CLOSE int fd = make_array(size_bytes, disk->granule_shift, err);
    struct diskmap map = {0};
    uint64_t lost, writes, bytes;
    char next[32];

    memcpy(g.boot_id, e->boot_id, sizeof(g.boot_id));
    (void)snprintf(next, sizeof(next), "%s-next", d->pin);
    if (fd < 0 || diskmap_create(fd, &g, &map, err) < 0)
        return -1;
    diskmap_set_from(&map, disk->size_bytes);
    lost = counter(&d->map.header->lost);
    map.header->lost = lost;
    map.header->acknowledged = d->map.header->acknowledged;
    map.header->barriers = d->map.header->barriers;
    diskmap_count_writes(&d->map, &writes, &bytes);
    map.header->writes = writes;
    map.header->bytes = bytes;
    if (bpffs_put(&e->pins, next, fd, err) < 0 || use_array(e, d->key, fd, err) < 0) {
        diskmap_unmap(&map);
        bpffs_drop(&e->pins, next);
        return -1;
    }
    (void)__atomic_fetch_add(&map.header->lost, counter(&d->map.header->lost) - lost, __ATOMIC_SEQ_CST);
    diskmap_merge(&map, &d->map);
    diskmap_unmap(&d->map);
    d->map = map;
    disk->size_bytes = size_bytes;
    return bpffs_rename(&e->pins, next, d->pin, err);
}

/* --- draining and counting ------------------------------------------------------------------------------------------ */

static int ebpf_drain(void *state, struct tracker_disk *disk, struct dirty *round, struct dirty *pending,
    uint64_t *ret_granules, struct err *err)
{
    struct ebpf_disk *d = disk->state;

    (void)state;
    return diskmap_drain(&d->map, round, pending, ret_granules, err);
}

static uint64_t ebpf_barriers(void *state, const struct tracker_disk *disk)
{
    const struct ebpf_disk *d = disk->state;
    const struct bt_header *h = d->map.header;

    (void)state;
    return counter(&h->barriers) + (d->write_cache ? 0 : counter(&h->barriers_submitted));
}

/* What is put together over the disk is asked whatever the disk says of itself: it may have said otherwise when that was set up. */
static bool ebpf_countable(void *state, struct tracker_disk *disk, struct err *why)
{
    struct ebpf_disk *d = disk->state;
    struct ebpf *e = state;
    char upper[WHOLEDISK_NAME_MAX];

    d->write_cache = wholedisk_has_write_cache(disk->dev);
    if (!d->write_cache && !e->sees_submission) {
        (void)err_set(why, ERR_UNSUPPORTED,
            "%s has no volatile write cache, and this kernel does not let the agent see what is submitted to it",
            disk->path);
        (void)err_hint(why, "allow freezing in the policy, or run a kernel that permits fentry programs");
        return false;
    }
    if (wholedisk_is_below_write_through(disk->dev, upper)) {
        (void)err_set(why, ERR_UNSUPPORTED, "%s, which lies on %s, has no volatile write cache, so flushes end there",
            upper, disk->path);
        (void)err_hint(why, "allow freezing in the policy");
        return false;
    }
    return true;
}

static void ebpf_stats(void *state, const struct tracker_disk *disk, struct tracker_stats *ret_stats)
{
    const struct diskmap *map = &((const struct ebpf_disk *)disk->state)->map;
    const struct bt_header *h = map->header;

    diskmap_count_writes(map, &ret_stats->writes, &ret_stats->bytes);
    ret_stats->discards = counter(&h->discards);
    ret_stats->barriers = ebpf_barriers(state, disk);
    ret_stats->wide = counter(&h->wide);
    ret_stats->beyond = counter(&h->beyond);
    ret_stats->passthrough = counter(&h->passthrough);
    ret_stats->lost = counter(&h->lost);
    ret_stats->unlisted = counter(&h->unlisted);
    ret_stats->overtaken = counter(&h->overtaken);
}

static bool ebpf_is_unknown(void *state, const struct tracker_disk *disk)
{
    const struct bt_header *h = ((const struct ebpf_disk *)disk->state)->map.header;

    (void)state;
    return counter(&h->lost) != h->acknowledged;
}

static void ebpf_acknowledge(void *state, struct tracker_disk *disk)
{
    struct bt_header *h = ((struct ebpf_disk *)disk->state)->map.header;

    (void)state;
    h->acknowledged = counter(&h->lost);
}

/* Each write causes one event of each program. */
static uint64_t ebpf_event_cost(void *state, uint64_t *ret_events)
{
    const struct ebpf *e = state;
    uint64_t sum = 0;

    if (ret_events)
        *ret_events = 0;
    for (size_t i = 0; i < ARRAY_LEN(e->program_fds); i++) {
        struct bpf_prog_info info = {0};
        uint32_t size = sizeof(info);
        if (bpf_obj_get_info_by_fd(e->program_fds[i], &info, &size) < 0 || info.run_cnt == 0)
            return 0;
        if (ret_events)
            *ret_events = info.run_cnt;
        sum += info.run_time_ns / info.run_cnt;
    }
    return sum;
}

const struct tracker_driver tracker_ebpf_driver = {
    .name = "ebpf",
    .prepare = ebpf_prepare,
    .open = ebpf_open,
    .close = ebpf_close,
    .destroy = ebpf_destroy,
    .add = ebpf_add,
    .release = ebpf_release,
    .remove = ebpf_remove,
    .forget_others = ebpf_forget_others,
    .resize = ebpf_resize,
    .drain = ebpf_drain,
    .barriers = ebpf_barriers,
    .countable = ebpf_countable,
    .stats = ebpf_stats,
    .is_unknown = ebpf_is_unknown,
    .acknowledge = ebpf_acknowledge,
    .event_cost_nsec = ebpf_event_cost,
};
