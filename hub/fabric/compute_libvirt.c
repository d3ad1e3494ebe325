/* SPDX-License-Identifier: Apache-2.0
 *
 * The libvirt adapter as the hub sees it: what it is configured with, and each verb as a process (libvirt_child.h) in which libvirt_host.c works.
 */
#include <string.h>

#include "hub/fabric/boot_check.h"
#include "hub/fabric/compute.h"
#include "hub/fabric/libvirt_child.h"

static int libvirt_configure(const json_t *config, struct err *err)
{
    static const char *const known[] = {"uri", "emulator", "accelerate", NULL};
    const json_t *accelerate = json_object_get(config, "accelerate");

    if (compute_known(config, known, err) < 0)
        return -1;
    if (accelerate && !json_is_boolean(accelerate))
        return err_set(err, ERR_INVALID, "config.accelerate: neither true nor false");
    if (strstr(compute_text(config, "uri", ""), "://") != NULL)
        return 0;
    err_set(err, ERR_INVALID, "config.uri: not a libvirt URI");
    return err_hint(err, "qemu:///system for the hub's own host, qemu+ssh://HOST/system for another one.");
}

static int ask(
    const struct compute_call *call, const char *verb, json_t **ret_answer, struct buf *picture, struct err *err)
{
    const struct libvirt_ask a = {
        .verb = verb, .call = call, .limits = libvirt_limits_default, .answer = ret_answer, .picture = picture};

    return libvirt_child_ask(&a, err);
}

static int libvirt_check(const struct compute_call *call, struct err *err)
{
    if (boot_check_validate(json_object_get(call->spec, "boot_check"), true, err) < 0)
        return -1;
    return ask(call, "check", NULL, NULL, err);
}

static int libvirt_start(const struct compute_call *call, json_t **ret_replica, struct err *err)
{
    return ask(call, "start", ret_replica, NULL, err);
}

static int libvirt_stop(const struct compute_call *call, struct err *err)
{
    return ask(call, "stop", NULL, NULL, err);
}

static int libvirt_screenshot(const struct compute_call *call, struct buf *png, struct err *err)
{
    return ask(call, "screenshot", NULL, png, err);
}

const struct compute_adapter compute_libvirt = {
    .name = "libvirt",
    .configure = libvirt_configure,
    .check = libvirt_check,
    .start = libvirt_start,
    .stop = libvirt_stop,
    .screenshot = libvirt_screenshot,
};
