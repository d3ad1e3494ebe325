/* SPDX-License-Identifier: Apache-2.0
 *
 * A kernel finds its root disk if virtio is built in or in its initramfs. Many distributions put in only what the machine at hand needs, so a physical
 * source has no virtio there. The guest's own tool says what is in, and makes it anew: initramfs-tools (lsinitramfs, update-initramfs) or dracut.
 */
#include <stdio.h>
#include <string.h>

#include "hub/fixup/fixers.h"
#include "transport/base/buf.h"
#include "transport/base/mem.h"

static const char *const drivers[] = {"virtio_pci", "virtio_blk"};

struct kernel {
    const char *version; /* in the list's path */
    char initramfs[256];
    bool by_dracut;
};

/* "virtio_blk" in the text as the name of a module, whether with _ or with -. */
static bool names_module(const char *text, const char *module)
{
    size_t n = strlen(module);

    for (const char *at = text; (at = strstr(at, "virtio")) != NULL; at++) {
        size_t i = 0;

        while (i < n && (at[i] == module[i] || (at[i] == '-' && module[i] == '_')))
            i++;
        if (i == n && (strncmp(at + n, ".ko", 3) == 0))
            return true;
    }
    return false;
}

static bool find_initramfs(const struct fixup_call *call, struct kernel *k)
{
    static const char *const forms[][2] = {
        {"/boot/initrd.img-", ""}, {"/boot/initramfs-", ".img"}, {"/boot/initrd-", ""}};

    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        (void)snprintf(k->initramfs, sizeof(k->initramfs), "%s%s%s", forms[i][0], k->version, forms[i][1]);
        if (guest_tree_has(change_list_tree(call->list), k->initramfs))
            return true;
    }
    return false;
}

static int list_modules(const struct fixup_call *call, const struct kernel *k, char **ret_text, struct err *err)
{
    const char *const by_tools[] = {"lsinitramfs", k->initramfs, NULL};
    const char *const by_dracut[] = {"lsinitrd", k->initramfs, NULL};

    return call->ask(change_list_tree(call->list), k->by_dracut ? by_dracut : by_tools, ret_text, err);
}

/* Adds what the tool's configuration does not have yet. */
static int configure_tools(const struct fixup_call *call, struct err *err)
{
    static const char path[] = "/etc/initramfs-tools/modules";
    AUTO_BUF struct buf out = BUF_INIT(2 * GUEST_TEXT_MAX);
    const char *text = NULL;

    if (change_list_text(call->list, path, &text, err) < 0 || (text && buf_append_str(&out, text, err) < 0) ||
        (out.len > 0 && out.data[out.len - 1] != '\n' && buf_append_str(&out, "\n", err) < 0))
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(drivers); i++) {
        AUTO_FREE char *line = mem_printf("\n%s\n", drivers[i]);
        AUTO_FREE char *whole = mem_printf("\n%s", text ? text : "");

        if (!line || !whole)
            return err_set(err, ERR_NOMEM, "no memory for the guest's drivers");
        if (!strstr(whole, line) && buf_printf(&out, err, "%s\n", drivers[i]) < 0)
            return -1;
    }
    const char *after = buf_str(&out, err);

    return after ? change_list_put(call->list, "drivers", path, after, 0644, "the replica's disks are virtio", err)
                 : -1;
}

static int configure_dracut(const struct fixup_call *call, struct err *err)
{
    return change_list_put(call->list, "drivers", "/etc/dracut.conf.d/90-leeward-replica.conf",
        "add_drivers+=\" virtio_pci virtio_blk virtio_net \"\n", 0644, "the replica's disks are virtio", err);
}

static int make_anew(const struct fixup_call *call, const struct kernel *k, struct err *err)
{
    const char *const by_tools[] = {"update-initramfs", "-u", "-k", k->version, NULL};
    const char *const by_dracut[] = {"dracut", "--force", k->initramfs, k->version, NULL};

    if ((k->by_dracut ? configure_dracut(call, err) : configure_tools(call, err)) < 0)
        return -1;
    return change_list_run(call->list, "drivers", k->initramfs, k->by_dracut ? by_dracut : by_tools,
        "the initramfs has no virtio, so the replica would not find its disks", err);
}

/* A kernel that may well boot. */
static int cannot_tell(const struct fixup_call *call, const struct kernel *k, const char *why, struct err *err)
{
    change_list_boots(call->list);
    return change_list_warn(call->list, err, "whether %s has virtio is not known: %.200s", k->initramfs, why);
}

static int fix_kernel(const struct fixup_call *call, const char *modules, struct err *err)
{
    const struct guest_tree *tree = change_list_tree(call->list);
    struct kernel k = {.version = strrchr(modules, '/') + 1};
    AUTO_FREE char *builtin_path = mem_printf("%s/modules.builtin", modules);
    AUTO_FREE char *dep_path = mem_printf("%s/modules.dep", modules);
    AUTO_FREE char *builtin = NULL;
    AUTO_FREE char *dep = NULL;
    AUTO_FREE char *inside = NULL;
    bool missing = false;

    if (!builtin_path || !dep_path)
        return err_set(err, ERR_NOMEM, "no memory for the guest's drivers");
    if (guest_tree_read(tree, builtin_path, &builtin, err) < 0 || guest_tree_read(tree, dep_path, &dep, err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(drivers); i++) {
        bool built_in = builtin && names_module(builtin, drivers[i]);

        missing |= !built_in;
        if (!built_in && !(dep && names_module(dep, drivers[i])))
            return change_list_warn(call->list, err, "kernel %s has no %s: the replica may not find its disks with it",
                k.version, drivers[i]);
    }
    if (!missing || !find_initramfs(call, &k)) {
        change_list_boots(call->list);
        return 0;
    }
    k.by_dracut = !guest_tree_has(tree, "/usr/sbin/update-initramfs");
    if (k.by_dracut && !guest_tree_has(tree, "/usr/bin/dracut") && !guest_tree_has(tree, "/usr/sbin/dracut"))
        return cannot_tell(call, &k, "it is made neither by initramfs-tools nor by dracut", err);
    if (!call->ask)
        return cannot_tell(call, &k, "no program of the guest's is run here", err);
    if (list_modules(call, &k, &inside, err) < 0) {
        AUTO_FREE char *why = mem_strdup(err ? err->text : "");

        err_clear(err);
        return cannot_tell(call, &k, why ? why : "", err);
    }
    for (size_t i = 0; i < ARRAY_LEN(drivers); i++)
        if (!names_module(inside, drivers[i]) && !(builtin && names_module(builtin, drivers[i])))
            return make_anew(call, &k, err);
    change_list_boots(call->list);
    return 0;
}

int fix_drivers(const struct fixup_call *call, struct err *err)
{
    json_t *kernels = json_array(), *one;
    int rc = kernels ? guest_tree_list(change_list_tree(call->list), "/lib/modules", "", kernels, err)
                     : err_set(err, ERR_NOMEM, "no memory for the guest's kernels");
    size_t at;

    if (rc == 0 && json_array_size(kernels) == 0)
        rc = change_list_warn(call->list, err, "no kernel was found in /lib/modules");
    json_array_foreach(kernels, at, one) if (rc == 0) rc = fix_kernel(call, json_string_value(one), err);
    json_decref(kernels);
    return rc;
}
