/* SPDX-License-Identifier: Apache-2.0
 *
 * What is wanted is qemu's standard input, a file in memory that the machine sees as a disk; the report comes over the second serial line, which is qemu's
 * standard output; the first one, with what the kernel says, is its standard error. The machine dies with the hub (setpriv --pdeathsig), so that a step which
 * is begun again does not meet the one before it on the same disks.
 */
#include "hub/fabric/fixup_vm.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hub/fabric/domain_xml.h"
#include "hub/fabric/program.h"
#include "hub/fixup/fixup_spec.h"
#include "hub/fixup/guest_disk.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"

#define ARGS_MAX 160
#define REPORT_MAX (4U << 20)
#define SPEC_ALIGN 4096 /* a disk has whole sectors */
/* An initramfs made anew under software emulation takes minutes. */
#define LIMIT_USEC (30 * 60 * USEC_PER_SEC)
#define KERNEL_WORDS "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off random.trust_cpu=on leeward.mode=fixup"

static char *image;
static bool emulate;

void fixup_vm_configure(const char *folder, bool without_kvm)
{
    emulate = without_kvm;
    free(image);
    image = mem_strdup(folder);
}

static int find_part(const char *name, char **ret_path, struct err *err)
{
    *ret_path = image ? mem_printf("%s/%s", image, name) : NULL;
    if (*ret_path && access(*ret_path, R_OK) == 0)
        return 0;
    err_set(err, ERR_REFUSED, "fix-ups need the rescue image, and there is no %s in %s", name,
        image ? image : "(no folder)");
    return err_hint(
        err, "Make it with packaging/rescue/make-rescue-image.sh, and name its folder in the hub's rescue-image.");
}

int fixup_vm_check(const struct compute_call *call, struct err *err)
{
    const json_t *fixups = json_object_get(call->spec, "fixups");
    AUTO_FREE char *kernel = NULL;
    AUTO_FREE char *initrd = NULL;

    if (!fixups)
        return 0;
    return fixup_spec_check(fixups, err) < 0 || find_part("vmlinuz", &kernel, err) < 0 ||
                   find_part("initrd", &initrd, err) < 0
               ? -1
               : 0;
}

/* ---- the machine ---- */

struct arguments {
    const char *list[ARGS_MAX + 1];
    char *owned[ARGS_MAX];
    size_t count, owned_count;
    bool failed;
};

static void add(struct arguments *a, const char *word)
{
    a->failed |= a->count == ARGS_MAX;
    if (!a->failed)
        a->list[a->count++] = word;
}

static void add_owned(struct arguments *a, const char *option, char *word)
{
    add(a, option);
    a->failed |= !word || a->owned_count == ARGS_MAX;
    if (!a->failed)
        a->owned[a->owned_count++] = word;
    else
        free(word);
    add(a, word);
}

static void arguments_done(struct arguments *a)
{
    for (size_t i = 0; i < a->owned_count; i++)
        free(a->owned[i]);
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

static int add_disk(struct arguments *a, const json_t *disk, bool apply, struct err *err)
{
    long long number = (long long)json_integer_value(json_object_get(disk, "number"));
    AUTO_FREE char *socket = NULL;
    AUTO_FREE char *export = NULL;
    AUTO_FREE char *path = NULL;
    AUTO_FREE char *name = NULL;

    if (domain_disk_source(compute_text(disk, "uri", ""), &socket, &export, err) < 0)
        return -1;
    path = escape(socket);
    name = escape(export);
    if (!path || !name)
        return err_set(err, ERR_NOMEM, "no memory for a replica's fix-ups");
    add_owned(a, "-drive",
        mem_printf("driver=raw,if=none,id=d%lld,discard=unmap,snapshot=%s,file.driver=nbd,file.server.type=unix,"
                   "file.server.path=%s,file.export=%s",
            number, apply ? "off" : "on", path, name));
    add_owned(a, "-device", mem_printf("virtio-blk-pci,drive=d%lld,serial=" GUEST_DISK_SERIAL "%lld", number, number));
    return 0;
}

/* The root disk first, so that its root file system is found first. */
static int add_disks(struct arguments *a, const json_t *spec, bool apply, struct err *err)
{
    const json_t *disk;
    size_t at;

    for (int root = 1; root >= 0; root--)
        json_array_foreach(
            json_object_get(spec, "disks"), at, disk) if (json_is_true(json_object_get(disk, "is_root")) == root &&
                                                          add_disk(a, disk, apply, err) < 0) return -1;
    return 0;
}

static void add_machine(struct arguments *a, const json_t *config, bool kvm, const char *kernel, const char *initrd)
{
    const char *emulator = compute_text(config, "emulator", "qemu-system-x86_64");
    const char *const first[] = {"/usr/bin/setpriv", "--pdeathsig", "KILL", "--no-new-privs", emulator,
        "-no-user-config", "-nodefaults", "-display", "none", "-monitor", "none", "-no-reboot", "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny", "-machine", "q35", "-m", "768",
        "-smp", "1", "-cpu", kvm ? "host" : "Westmere,-cx16", "-accel", kvm ? "kvm" : "tcg,thread=single", "-kernel",
        kernel, "-initrd", initrd, "-append", KERNEL_WORDS, "-chardev", "file,id=said,path=/dev/stderr", "-serial",
        "chardev:said", "-chardev", "file,id=report,path=/dev/stdout", "-serial", "chardev:report", "-drive",
        "driver=raw,if=none,id=spec,read-only=on,file.driver=file,file.locking=off,file.filename=/dev/stdin", "-device",
        "virtio-blk-pci,drive=spec,serial=leeward-spec"};

    for (size_t i = 0; i < ARRAY_LEN(first); i++)
        add(a, first[i]);
}

/* ---- what goes in and what comes out ---- */

/* JSON, followed by spaces up to a whole sector. */
static char *input_of(const json_t *spec, bool apply)
{
    const json_t *machine = json_object_get(spec, "machine");
    char mac[18];

    fixup_mac(compute_text(spec, "failover_id", ""), mac);
    json_t *input = json_pack("{s:b, s:O, s:{s:s, s:s, s:s, s:s}, s:O}", "apply", (int)apply, "fixups",
        json_object_get(spec, "fixups"), "context", "failover_id", compute_text(spec, "failover_id", ""), "machine_id",
        compute_text(machine, "id", ""), "machine_name", compute_text(machine, "name", ""), "mac", mac, "disks",
        json_object_get(spec, "disks"));
    AUTO_FREE char *text = input ? json_dumps(input, JSON_COMPACT) : NULL;
    size_t n = text ? strlen(text) : 0;

    json_decref(input);
    return text ? mem_printf("%s%*s", text, (int)(SPEC_ALIGN - n % SPEC_ALIGN), "") : NULL;
}

static int read_report(const struct buf *said, json_t **ret_report, struct err *err)
{
    json_t *report = said->len ? json_loadb((char *)said->data, said->len, JSON_REJECT_DUPLICATES, NULL) : NULL;
    const json_t *error = json_object_get(report, "error");

    if (error) {
        err_set(err, err_code_from_name(compute_text(error, "code", "")), "fix-ups: %.250s",
            compute_text(error, "text", ""));
        if (compute_text(error, "correction", "")[0])
            err_hint(err, "%.200s", compute_text(error, "correction", ""));
    } else if (!json_is_array(json_object_get(report, "changes"))) {
        err_set(err, ERR_IO, "the rescue image ended without a report of its fix-ups");
        err_hint(err, "Fail over without fix-ups, or make the rescue image anew.");
    } else {
        *ret_report = report;
        return 0;
    }
    json_decref(report);
    return -1;
}

/* One machine, until it has switched itself off; what it reports is appended to *said. */
static int run_machine(const struct compute_call *call, bool apply, bool kvm, struct buf *said, struct err *err)
{
    AUTO_FREE char *kernel = NULL;
    AUTO_FREE char *initrd = NULL;
    AUTO_FREE char *input = input_of(call->spec, apply);
    struct arguments a = {.failed = false};
    int rc = find_part("vmlinuz", &kernel, err) < 0 || find_part("initrd", &initrd, err) < 0 ? -1 : 0;

    if (rc == 0) {
        add_machine(&a, call->config, kvm, kernel, initrd);
        rc = add_disks(&a, call->spec, apply, err);
    }
    if (rc == 0 && (a.failed || !input))
        rc = err_set(err, ERR_NOMEM, "no memory for a replica's fix-ups");
    if (rc == 0)
        rc = program_run(&(struct program_run){.who = "the machine that does fix-ups",
                             .argv = a.list,
                             .input = input,
                             .limit_usec = LIMIT_USEC,
                             .cancelled = call->cancelled,
                             .output = said},
            err);
    arguments_done(&a);
    return rc;
}

static bool may_accelerate(const json_t *config)
{
    return !emulate && !json_is_false(json_object_get(config, "accelerate")) && access("/dev/kvm", R_OK | W_OK) == 0;
}

int fixup_vm_run(const struct compute_call *call, bool apply, json_t **ret_report, struct err *err)
{
    AUTO_BUF struct buf said = BUF_INIT(REPORT_MAX);
    uint64_t begin = clock_mono_usec();
    bool kvm = may_accelerate(call->config);
    int rc = run_machine(call, apply, kvm, &said, err);

    /* A host that is a virtual machine itself may have a KVM that does not work. Before there is a report, nothing was changed or all will be once more. */
    if (kvm && said.len == 0 && (rc == 0 || err->code == ERR_REFUSED)) {
        log_event(LOG_WARN, "fixup_vm_without_kvm", LOG_S("failover", compute_text(call->spec, "failover_id", "")),
            LOG_S("problem", rc < 0 ? err->text : "no report"));
        err_clear(err);
        rc = run_machine(call, apply, false, &said, err);
    }
    if (rc == 0)
        rc = read_report(&said, ret_report, err);
    if (rc == 0 && json_object_set_new(*ret_report, "seconds",
                       json_real((double)(clock_mono_usec() - begin) / (double)USEC_PER_SEC)) < 0)
        rc = err_set(err, ERR_NOMEM, "no memory for a report");
    return rc;
}
