/* SPDX-License-Identifier: Apache-2.0
 *
 * prlimit, setpriv, qemu. The report is qemu's standard output (the second serial line), what the kernel says its standard error (the first one). Everything
 * else that it uses is opened here and passed as descriptors.
 */
#include "hub/fabric/fixup_machine.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "hub/fabric/domain_xml.h"
#include "hub/fabric/program.h"
#include "hub/fixup/guest_disk.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"

#define ARGS_MAX 200
#define WORD_TEXT(n) WORD_TEXT_(n)
#define WORD_TEXT_(n) #n
/* An initramfs made anew under software emulation takes minutes. */
#define LIMIT_USEC (30 * 60 * USEC_PER_SEC)
#define TRY_LIMIT_USEC (120 * USEC_PER_SEC)
/* A preview writes what playing a journal back writes; all disks of it together, but no disk less than the second number, which also holds the emulator's
 * translated code (tb-size). */
#define COPY_MAX_BYTES (1ULL << 30)
#define COPY_MIN_BYTES (256ULL << 20)
#define PID_SUFFIX ".pid" /* of the vault's server, beside its socket */
/* no_timer_check: on a busy host an emulated timer is late, and the kernel would give up ("IO-APIC + timer doesn't work"). With KVM it does not look. */
#define KERNEL_WORDS                                                                                                   \
    "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off no_timer_check random.trust_cpu=on leeward.mode=fixup"

struct launch {
    const char *list[ARGS_MAX + 1];
    char *owned[ARGS_MAX];
    size_t count, owned_count;
    int fds[PROGRAM_FDS_MAX];
    size_t fd_count;
    bool failed;
};

static void launch_done(struct launch *l)
{
    for (size_t i = 0; i < l->owned_count; i++)
        free(l->owned[i]);
    for (size_t i = 0; i < l->fd_count; i++)
        (void)close(l->fds[i]);
}

static void add(struct launch *l, const char *word)
{
    l->failed |= l->count == ARGS_MAX;
    if (!l->failed)
        l->list[l->count++] = word;
}

static void add_owned(struct launch *l, char *word)
{
    l->failed |= !word || l->owned_count == ARGS_MAX;
    if (l->failed) {
        free(word);
        return;
    }
    l->owned[l->owned_count++] = word;
    add(l, word);
}

/* Takes fd; the number that it has in the program, or -1 with err. */
static int pass(struct launch *l, int fd, struct err *err)
{
    if (l->fd_count == PROGRAM_FDS_MAX) {
        (void)close(fd);
        return err_set(err, ERR_TOO_LARGE, "more disks than fix-ups can prepare at once");
    }
    l->fds[l->fd_count] = fd;
    return PROGRAM_FIRST_FD + (int)l->fd_count++;
}

/* ---- the vault's sockets ---- */

static int unreachable(struct err *err, int number, const char *path)
{
    const char *hint = "The hub must run on the vault's host. Look at the vault's log.";

    if (number == EACCES || number == EPERM)
        hint = "The hub's user needs access to the vault's sockets: docs/failover.md, Fix-ups, says how.";
    err_set(err, ERR_REFUSED, "the vault's socket of the replica's disks, %.150s: %s", path, strerror(number));
    return err_hint(err, "%s", hint);
}

static int connect_to(const char *path, int *ret_fd, struct err *err)
{
    int fd AUTO_CLOSE = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(address.sun_path))
        return unreachable(err, ENAMETOOLONG, path);
    memcpy(address.sun_path, path, strlen(path));
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return unreachable(err, errno, path);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static int lock_branch(const char *socket, int *ret_fd, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s" PID_SUFFIX, socket);
    int fd AUTO_CLOSE = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a replica's fix-ups");
    if (fd < 0)
        return unreachable(err, errno, path);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        *ret_fd = TAKE_FD(fd);
        return 0;
    }
    if (errno != EWOULDBLOCK)
        return err_sys(err, errno, "locking %s", path);
    err_set(err, ERR_CONFLICT, "another machine prepares the replica's disks");
    return err_hint(
        err, "It was started by another hub, or by this one before it was started again. Wait for its end.");
}

int fixup_machine_check_idle(const json_t *disks, struct err *err)
{
    AUTO_FREE char *socket = NULL;
    AUTO_FREE char *export = NULL;
    int fd AUTO_CLOSE = -1;

    if (json_array_size(disks) == 0)
        return 0;
    if (domain_disk_source(compute_text(json_array_get(disks, 0), "uri", ""), &socket, &export, err) < 0)
        return -1;
    return lock_branch(socket, &fd, err);
}

/* ---- what is opened ---- */

/* Only what others may read: the machine has no rights of the hub's. */
static int pass_image(struct launch *l, const char *option, const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), number;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        err_sys(err, errno, "the rescue image's %s", path);
        if (fd >= 0)
            (void)close(fd);
        return -1;
    }
    if (geteuid() == 0 && !(st.st_mode & S_IROTH)) {
        (void)close(fd);
        err_set(err, ERR_REFUSED, "fix-ups run without the hub's rights, and others may not read %s", path);
        return err_hint(err, "chmod 644 %.150s", path);
    }
    number = pass(l, fd, err);
    if (number < 0)
        return -1;
    add(l, option);
    add_owned(l, mem_printf("/dev/fd/%d", number));
    return 0;
}

/* What is wanted, as a file in memory. */
static int pass_input(struct launch *l, const char *text, struct err *err)
{
    int fd = memfd_create("leeward-fixups", MFD_CLOEXEC), number;

    if (fd < 0)
        return err_sys(err, errno, "the input of fix-ups");
    if (file_write_all(fd, text, strlen(text), "the input of fix-ups", err) < 0) {
        (void)close(fd);
        return -1;
    }
    number = pass(l, fd, err);
    if (number < 0)
        return -1;
    add(l, "-drive");
    add_owned(l,
        mem_printf("driver=raw,if=none,id=spec,read-only=on,file.driver=file,file.locking=off,file.filename=/dev/fd/%d",
            number));
    add(l, "-device");
    add(l, "virtio-blk-pci,drive=spec,serial=leeward-spec");
    return 0;
}

/* A comma in a value of qemu's is written twice. */
static char *escape(const char *text)
{
    char *out = mem_alloc(2 * strlen(text) + 1, 1), *at = out;

    for (; out && *text; text++) {
        if (*text == ',')
            *at++ = ',';
        *at++ = *text;
    }
    return out;
}

/* What fails on the host fails in the guest: qemu would stop the machine and wait for somebody who makes room. */
static int pass_disk(struct launch *l, const json_t *disk, bool change, bool *locked, struct err *err)
{
    long long number = (long long)json_integer_value(json_object_get(disk, "number"));
    AUTO_FREE char *socket = NULL;
    AUTO_FREE char *export = NULL;
    AUTO_FREE char *name = NULL;
    int fd;

    if (domain_disk_source(compute_text(disk, "uri", ""), &socket, &export, err) < 0)
        return -1;
    /* All of a branch are behind one socket. */
    if (change && !*locked) {
        if (lock_branch(socket, &fd, err) < 0 || pass(l, fd, err) < 0)
            return -1;
        *locked = true;
    }
    if (connect_to(socket, &fd, err) < 0 || (fd = pass(l, fd, err)) < 0)
        return -1;
    name = escape(export);
    add(l, "-drive");
    add_owned(l, name ? mem_printf("driver=raw,if=none,id=d%lld,discard=unmap,snapshot=%s,file.driver=nbd,"
                                   "file.server.type=fd,file.server.str=%d,file.export=%s",
                            number, change ? "off" : "on", fd, name)
                      : NULL);
    add(l, "-device");
    add_owned(l, mem_printf("virtio-blk-pci,drive=d%lld,werror=report,rerror=report,serial=" GUEST_DISK_SERIAL "%lld",
                     number, number));
    return 0;
}

/* The root disk first, so that its root file system is found first. */
static int pass_disks(struct launch *l, const struct fixup_machine *m, struct err *err)
{
    bool locked = false;
    const json_t *disk;
    size_t at;

    for (int root = 1; root >= 0; root--)
        json_array_foreach(json_object_get(m->call->spec, "disks"), at,
            disk) if (json_is_true(json_object_get(disk, "is_root")) == root &&
                      pass_disk(l, disk, m->work >= FIXUP_CHANGE, &locked, err) < 0) return -1;
    return 0;
}

/* ---- the command line ---- */

/* Root's qemu is nobody's, but for the group that may use the host's KVM. */
static void add_user(struct launch *l, bool kvm)
{
    struct passwd nobody, *found = NULL;
    char names[1024];
    struct stat st;

    if (geteuid() != 0 || getpwnam_r("nobody", &nobody, names, sizeof(names), &found) != 0 || !found)
        return;
    add_owned(l, mem_printf("--reuid=%u", (unsigned)nobody.pw_uid));
    add_owned(l, mem_printf("--regid=%u", (unsigned)nobody.pw_gid));
    if (kvm && stat("/dev/kvm", &st) == 0 && (st.st_mode & (S_IRGRP | S_IWGRP)) == (S_IRGRP | S_IWGRP))
        add_owned(l, mem_printf("--groups=%u", (unsigned)st.st_gid));
    else
        add(l, "--clear-groups");
    add(l, "--inh-caps=-all");
    add(l, "--bounding-set=-all");
}

static void add_limits(struct launch *l, const struct fixup_machine *m)
{
    unsigned long long disks = json_array_size(json_object_get(m->call->spec, "disks"));
    unsigned long long most = COPY_MAX_BYTES / (disks ? disks : 1);

    add(l, "/usr/bin/prlimit");
    add(l, "--core=0");
    add(l, "--nofile=256");
    add(l, "--as=4294967296"); /* the guest's memory, twice the translated code, libraries, and threads' stacks */
    add_owned(l, mem_printf("--fsize=%llu", most < COPY_MIN_BYTES ? COPY_MIN_BYTES : most));
}

/* Software emulation writes code and runs it: through two views of one memory, as services may not have memory that is both. */
static void add_machine(struct launch *l, const struct fixup_machine *m)
{
    const char *const rest[] = {"-no-user-config", "-nodefaults", "-display", "none", "-no-reboot", "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny", "-machine", "q35", "-m",
        WORD_TEXT(FIXUP_MEMORY_MIB), "-smp", "1", "-cpu", m->kvm ? "host" : "Westmere,-cx16", "-accel",
        m->kvm ? "kvm" : "tcg,thread=single,split-wx=on,tb-size=128", "-append", KERNEL_WORDS, "-add-fd", "fd=3,set=1",
        "-chardev", "file,id=said,path=/dev/fdset/1,append=on", "-serial", "chardev:said"};

    add_limits(l, m);
    add(l, "/usr/bin/setpriv");
    add(l, "--pdeathsig");
    add(l, "KILL");
    add(l, "--no-new-privs");
    add_user(l, m->kvm);
    add(l, compute_text(m->call->config, "emulator", "qemu-system-x86_64"));
    for (size_t i = 0; i < ARRAY_LEN(rest); i++)
        add(l, rest[i]);
}

/* A trial talks to the monitor, and what a machine says is its report. */
static void add_conversation(struct launch *l, const struct fixup_machine *m)
{
    if (m->work == FIXUP_TRY) {
        add(l, "-S");
        add(l, "-monitor");
        add(l, "stdio");
        return;
    }
    add(l, "-monitor");
    add(l, "none");
    add(l, "-chardev");
    add(l, "stdio,id=report,signal=off");
    add(l, "-serial");
    add(l, "chardev:report");
}

static int prepare(struct launch *l, const struct fixup_machine *m, struct err *err)
{
    add_machine(l, m);
    add_conversation(l, m);
    if (pass_image(l, "-kernel", m->kernel, err) < 0 || pass_image(l, "-initrd", m->initrd, err) < 0 ||
        pass_input(l, m->input, err) < 0 || (m->work != FIXUP_TRY && pass_disks(l, m, err) < 0))
        return -1;
    return l->failed ? err_set(err, ERR_NOMEM, "no memory for a replica's fix-ups") : 0;
}

int fixup_machine_run(const struct fixup_machine *m, struct buf *said, struct err *err)
{
    static const char *const environment[] = {"PATH=/usr/local/bin:/usr/bin:/bin", "TMPDIR=/var/tmp", "LC_ALL=C", NULL};
    struct launch l = {.count = 0};
    int rc = prepare(&l, m, err);

    if (rc == 0)
        rc = program_run(&(struct program_run){.who = "the machine that does fix-ups",
                             .argv = l.list,
                             .envp = environment,
                             .input = m->work == FIXUP_TRY ? "quit\n" : "",
                             .fds = l.fds,
                             .fd_count = l.fd_count,
                             .limit_usec = m->work == FIXUP_TRY ? TRY_LIMIT_USEC : LIMIT_USEC,
                             .cancelled = m->call->cancelled,
                             .output = said},
            err);
    launch_done(&l);
    return rc;
}
