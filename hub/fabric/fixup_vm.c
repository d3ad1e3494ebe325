/* SPDX-License-Identifier: Apache-2.0
 *
 * From a replica's spec to what the rescue image is told, and from what it says to a report. Where the host has a KVM the machine has it too; a host that is a
 * virtual machine itself may have one that does not work, and then the machine is emulated.
 */
#include "hub/fabric/fixup_vm.h"

#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "hub/fixup/fixup_spec.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"

#define REPORT_MAX (4U << 20) /* the helper keeps to less (change_list.h) */
#define SPEC_ALIGN 4096       /* a disk has whole sectors */
#define COPY_FOLDER "/var/tmp"
#define COPY_ROOM_BYTES (256ULL << 20) /* less than that, and a preview had better not begin */
#define WITHOUT "Or fail over without fix-ups."

static char *image;
static bool emulate;
static unsigned machines_max = 2;

void fixup_vm_configure(const char *folder, bool without_kvm, unsigned machines)
{
    emulate = without_kvm;
    machines_max = machines;
    free(image);
    image = mem_strdup(folder);
}

unsigned fixup_vm_machines(void)
{
    return machines_max;
}

static int find_part(const char *name, char **ret_path, struct err *err)
{
    *ret_path = image ? mem_printf("%s/%s", image, name) : NULL;
    if (*ret_path && access(*ret_path, R_OK) == 0)
        return 0;
    err_set(err, ERR_REFUSED, "fix-ups need the rescue image, and there is no %s in %s", name,
        image ? image : "(no folder)");
    return err_hint(err, "Make it with packaging/rescue/make-rescue-image.sh, and name its folder in the hub's "
                         "rescue-image. " WITHOUT);
}

static bool may_accelerate(const json_t *config)
{
    return !emulate && !json_is_false(json_object_get(config, "accelerate")) && access("/dev/kvm", R_OK | W_OK) == 0;
}

/* ---- what goes in and what comes out ---- */

/* JSON, followed by spaces up to a whole sector. */
static char *input_of(const json_t *spec, enum fixup_work work)
{
    const json_t *machine = json_object_get(spec, "machine");
    char mac[18];

    fixup_mac(compute_text(spec, "failover_id", ""), mac);
    json_t *input = json_pack("{s:b, s:b, s:O, s:{s:s, s:s, s:s, s:s, s:i}, s:O}", "apply", work >= FIXUP_CHANGE,
        "take_back", work == FIXUP_TAKE_BACK, "fixups", json_object_get(spec, "fixups"), "context", "failover_id",
        compute_text(spec, "failover_id", ""), "machine_id", compute_text(machine, "id", ""), "machine_name",
        compute_text(machine, "name", ""), "mac", mac, "cards", (int)json_array_size(json_object_get(spec, "nics")),
        "disks", json_object_get(spec, "disks"));
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
    } else if (!json_is_array(json_object_get(report, "changes")) ||
               !json_is_array(json_object_get(report, "warnings"))) {
        err_set(err, ERR_IO, "the rescue image ended without a report of its fix-ups");
        err_hint(err, "Make the rescue image anew. " WITHOUT);
    } else {
        *ret_report = report;
        return 0;
    }
    json_decref(report);
    return -1;
}

/* ---- the machine ---- */

static int run_machine(
    const struct compute_call *call, enum fixup_work work, bool kvm, struct buf *said, struct err *err)
{
    AUTO_FREE char *kernel = NULL;
    AUTO_FREE char *initrd = NULL;
    AUTO_FREE char *input = input_of(call->spec, work);

    if (!input)
        return err_set(err, ERR_NOMEM, "no memory for a replica's fix-ups");
    if (find_part("vmlinuz", &kernel, err) < 0 || find_part("initrd", &initrd, err) < 0)
        return -1;
    const struct fixup_machine m = {
        .call = call, .kernel = kernel, .initrd = initrd, .input = input, .work = work, .kvm = kvm};

    return fixup_machine_run(&m, said, err);
}

/* With the host's KVM, and without it where that one does not work. Before there is a report nothing was changed, or all will be once more. */
static int run_somehow(const struct compute_call *call, enum fixup_work work, struct buf *said, struct err *err)
{
    bool kvm = may_accelerate(call->config);
    int rc = run_machine(call, work, kvm, said, err);

    if (!kvm || (work != FIXUP_TRY && said->len > 0) || (rc == 0 && work == FIXUP_TRY) ||
        (rc < 0 && err->code != ERR_REFUSED))
        return rc;
    log_event(LOG_WARN, "fixup_vm_without_kvm", LOG_S("failover", compute_text(call->spec, "failover_id", "")),
        LOG_S("problem", rc < 0 ? err->text : "no report"));
    err_clear(err);
    buf_clear(said);
    return run_machine(call, work, false, said, err);
}

/* ---- trying ---- */

/* What the kernel takes for available; a service may not be able to read it, and then qemu's own word counts. */
static int has_memory(struct err *err)
{
    FILE *f = fopen("/proc/meminfo", "re");
    unsigned long long kib = 0;
    char line[128];
    bool found = false;

    while (f && !found && fgets(line, sizeof(line), f))
        found = sscanf(line, "MemAvailable: %llu kB", &kib) == 1;
    if (f)
        (void)fclose(f);
    if (!found || kib / 1024 >= FIXUP_MEMORY_MIB)
        return 0;
    err_set(err, ERR_REFUSED, "fix-ups take %d MiB of memory, and the hub's host has %llu MiB left", FIXUP_MEMORY_MIB,
        kib / 1024);
    return err_hint(err, "Free some. " WITHOUT);
}

static int has_room(struct err *err)
{
    struct statvfs fs;

    if (statvfs(COPY_FOLDER, &fs) < 0 || (unsigned long long)fs.f_bavail * fs.f_frsize >= COPY_ROOM_BYTES)
        return 0;
    err_set(err, ERR_REFUSED, "a list of fix-ups is made in a copy in " COPY_FOLDER ", which has %llu MiB left",
        (unsigned long long)fs.f_bavail * fs.f_frsize >> 20);
    return err_hint(err, "Make room for %llu MiB. " WITHOUT, COPY_ROOM_BYTES >> 20);
}

int fixup_vm_check(const struct compute_call *call, struct err *err)
{
    const json_t *fixups = json_object_get(call->spec, "fixups");
    AUTO_BUF struct buf said = BUF_INIT(REPORT_MAX);

    if (!fixups)
        return 0;
    if (fixup_spec_check(fixups, err) < 0 || has_memory(err) < 0)
        return -1;
    if (run_somehow(call, FIXUP_TRY, &said, err) == 0)
        return 0;
    if (err->code != ERR_REFUSED || strncmp(err->text, "fix-ups", 7) == 0)
        return -1;
    err_wrap(err, "fix-ups cannot run on the hub's host");
    return err_hint(err, "They need qemu (Debian: qemu-system-x86). " WITHOUT);
}

int fixup_vm_run(const struct compute_call *call, enum fixup_work work, json_t **ret_report, struct err *err)
{
    AUTO_BUF struct buf said = BUF_INIT(REPORT_MAX);
    uint64_t begin = clock_mono_usec();

    if (work == FIXUP_LIST && has_room(err) < 0)
        return -1;
    if (run_somehow(call, work, &said, err) < 0 || read_report(&said, ret_report, err) < 0)
        return -1;
    if (json_object_set_new(
            *ret_report, "seconds", json_real((double)(clock_mono_usec() - begin) / (double)USEC_PER_SEC)) == 0)
        return 0;
    json_decref(TAKE_PTR(*ret_report));
    return err_set(err, ERR_NOMEM, "no memory for a report");
}
