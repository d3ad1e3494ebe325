/* SPDX-License-Identifier: Apache-2.0
 *
 * A word of a file that names a device of the source is replaced where the device's UUID is known. UUID=, LABEL=, PARTUUID= and /dev/mapper names hold
 * in any machine and stay. In kernel command lines the word stands behind root= or resume=.
 */
#include <stdio.h>
#include <string.h>

#include "hub/fixup/fixers.h"
#include "hub/fixup/fixup_spec.h"
#include "transport/base/buf.h"
#include "transport/base/mem.h"

#define SERIAL_WORDS " console=tty0 console=ttyS0,115200"

static const char *const boot_files[] = {"/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/etc/default/grub",
    "/etc/kernel/cmdline", "/boot/extlinux/extlinux.conf", "/boot/syslinux/syslinux.cfg"};

/* A name that depends on what hardware the disk hangs on. */
static bool names_hardware(const char *word, size_t n)
{
    static const char *const prefixes[] = {"/dev/sd", "/dev/hd", "/dev/vd", "/dev/xvd", "/dev/nvme", "/dev/mmcblk",
        "/dev/cciss/", "/dev/disk/by-path/", "/dev/disk/by-id/"};

    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
        if (n > strlen(prefixes[i]) && strncmp(word, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

/* A file system, or a partition without one, may have none. */
static const char *uuid_in(const json_t *filesystem)
{
    const char *uuid = json_string_value(json_object_get(filesystem, "uuid"));

    return uuid && uuid[0] ? uuid : NULL;
}

static const char *uuid_of(const struct fixup_call *call, const char *word, size_t n)
{
    const json_t *one;
    size_t at;

    json_array_foreach(call->filesystems, at, one)
    {
        const char *device = json_string_value(json_object_get(one, "device"));

        if (device && strlen(device) == n && strncmp(device, word, n) == 0)
            return uuid_in(one);
    }
    return NULL;
}

/* The file system that the guest was found on is its root, whatever its disk was called when the line was written. */
static const char *root_uuid(const struct fixup_call *call)
{
    const json_t *one;
    size_t at;

    json_array_foreach(call->filesystems, at, one) if (json_is_true(json_object_get(one, "is_root"))) return uuid_in(
        one);
    return NULL;
}

/* In fstab, the word is followed by the place / alone. */
static bool is_for_root(const char *after)
{
    after += strspn(after, " \t");
    return after[0] == '/' && (after[1] == ' ' || after[1] == '\t');
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '"' || c == '\'';
}

/* Copies `text` with each word that names hardware replaced; only behind root= and resume= when `behind` is true. */
static int replace(
    const struct fixup_call *call, const char *path, const char *text, bool behind, struct buf *out, struct err *err)
{
    bool comment = false, begins = true;

    for (const char *at = text; *at;) {
        size_t n = 0;

        comment = *at == '\n' ? false : comment || (*at == '#' && begins);
        begins = *at == '\n';
        if (behind && strncmp(at, "root=", 5) == 0)
            n = 5;
        else if (behind && strncmp(at, "resume=", 7) == 0)
            n = 7;
        const char *word = at + n;
        size_t length = 0;

        while (word[length] && !is_space(word[length]))
            length++;
        bool whole = at == text || is_space(at[-1]);

        if (comment || !whole || (behind && n == 0) || !names_hardware(word, length)) {
            if (buf_append(out, at, 1, err) < 0)
                return -1;
            at++;
            continue;
        }
        const char *uuid = uuid_of(call, word, length);

        if (!uuid && (n == 5 || (!behind && is_for_root(word + length))))
            uuid = root_uuid(call);

        if (!uuid && change_list_warn(call->list, err,
                         "%s names %.*s, which is none of the replica's file systems by a name that is known; it stays",
                         path, (int)length, word) < 0)
            return -1;
        if (buf_append(out, at, n, err) < 0 ||
            (uuid ? buf_printf(out, err, "UUID=%s", uuid) : buf_append(out, word, length, err)) < 0)
            return -1;
        at = word + length;
    }
    return 0;
}

static int fix_file(const struct fixup_call *call, const char *path, bool behind, const char *why, struct err *err)
{
    AUTO_BUF struct buf out = BUF_INIT(2 * GUEST_TEXT_MAX);
    const char *text = NULL;
    int rc = change_list_text(call->list, path, &text, err);

    if (rc != 1)
        return rc;
    if (replace(call, path, text, behind, &out, err) < 0)
        return -1;
    const char *after = buf_str(&out, err);

    if (!after)
        return -1;
    return change_list_put(call->list, "storage", path, after, 0644, why, err);
}

/* Entries of the boot loader specification, beside the files that always have the same name. */
static json_t *boot_paths(const struct fixup_call *call, struct err *err)
{
    json_t *paths = json_array();

    for (size_t i = 0; paths && i < ARRAY_LEN(boot_files); i++)
        json_array_append_new(paths, json_string(boot_files[i]));
    if (!paths || change_list_files(call->list, "/boot/loader/entries", ".conf", paths, err) < 0 ||
        change_list_files(call->list, "/boot/efi/loader/entries", ".conf", paths, err) < 0) {
        json_decref(paths);
        err_set(err, ERR_NOMEM, "no memory for the guest's boot loader");
        return NULL;
    }
    return paths;
}

int fix_storage(const struct fixup_call *call, struct err *err)
{
    json_t *paths = boot_paths(call, err), *one;
    int rc = paths ? 0 : -1;
    size_t at;

    if (rc == 0 && (fix_file(call, "/etc/fstab", false, "disks have other names in the replica", err) < 0 ||
                       fix_file(call, "/etc/crypttab", false, "disks have other names in the replica", err) < 0))
        rc = -1;
    json_array_foreach(paths, at, one) if (rc == 0) rc =
        fix_file(call, json_string_value(one), true, "the root file system is found by its UUID", err);
    json_decref(paths);
    return rc;
}

/* ---- the serial line ---- */

/* Lines with the kernel's own words: linux /boot/vmlinuz root=...; options root=...; GRUB_CMDLINE_LINUX="...". */
static bool has_kernel_words(const char *line, size_t n)
{
    static const char *const heads[] = {"linux ", "linux\t", "linuxefi ", "linux16 ", "options ", "APPEND ", "append "};
    const char *end = line + n;

    while (line < end && (*line == ' ' || *line == '\t'))
        line++;
    for (size_t i = 0; i < ARRAY_LEN(heads); i++)
        if ((size_t)(end - line) > strlen(heads[i]) && strncmp(line, heads[i], strlen(heads[i])) == 0)
            return memmem(line, (size_t)(end - line), "root=", 5) != NULL;
    return false;
}

static int add_console(const struct fixup_call *call, const char *path, struct err *err)
{
    AUTO_BUF struct buf out = BUF_INIT(2 * GUEST_TEXT_MAX);
    const char *text = NULL;
    int rc = change_list_text(call->list, path, &text, err);

    for (const char *at = text; rc == 1 && *at;) {
        size_t n = strcspn(at, "\n");
        bool add = has_kernel_words(at, n) && !memmem(at, n, "console=ttyS0", 13);

        if (buf_append(&out, at, n, err) < 0 || (add && buf_append_str(&out, SERIAL_WORDS, err) < 0) ||
            (at[n] == '\n' && buf_append_str(&out, "\n", err) < 0))
            return -1;
        at += n + (at[n] == '\n');
    }
    const char *after = rc == 1 ? buf_str(&out, err) : NULL;

    if (rc != 1 || !after)
        return rc == 1 ? -1 : rc;
    return change_list_put(call->list, "serial_console", path, after, 0644,
        "what the kernel says is seen on the serial line, with a login", err);
}

/* systemd puts a login on each console of the kernel's by itself. */
int fix_serial_console(const struct fixup_call *call, struct err *err)
{
    json_t *paths = boot_paths(call, err), *one;
    int rc = paths ? 0 : -1;
    size_t at;

    json_array_foreach(paths, at, one) if (rc == 0) rc = add_console(call, json_string_value(one), err);
    json_decref(paths);
    return rc;
}
