/* SPDX-License-Identifier: Apache-2.0
 *
 * Whether a replica came up: a port that answers, or a text on the serial line. The answer goes into the replica as "verdict" and
 * "verdict_text": a replica that does not come up is a verdict, not an error, for somebody will want to look at it.
 */
#ifndef HUB_FABRIC_BOOT_CHECK_H
#define HUB_FABRIC_BOOT_CHECK_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"

#define BOOT_CHECK_TIMEOUT_DEFAULT_S 300
#define BOOT_CHECK_TIMEOUT_MAX_S 86400

/* NULL and {} are "none". ERR_INVALID names the member. has_serial: the adapter can read a serial line. */
int boot_check_validate(const json_t *check, bool has_serial, struct err *err);
/* "none", "tcp", "serial". */
const char *boot_check_type(const json_t *check);
uint64_t boot_check_timeout_usec(const json_t *check);
/* Waits for the port at the check's address, else at `address`, if that is the type of check; puts the verdict into the replica. ERR_CANCELLED,
 * ERR_NOMEM. */
int boot_check_by_tcp(
    const json_t *check, const char *address, const atomic_bool *cancelled, json_t *replica, struct err *err);
int boot_check_verdict(json_t *replica, const char *verdict, struct err *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
