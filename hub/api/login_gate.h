/* SPDX-License-Identifier: Apache-2.0
 *
 * How many password hashes may be worked on at once. Each takes 64 MiB and some 100 ms of a core, on a handler thread: two
 * run, some wait, and at least one handler thread is always left for other requests. Any thread.
 */
#ifndef HUB_API_LOGIN_GATE_H
#define HUB_API_LOGIN_GATE_H

#include <stdbool.h>

struct login_gate;

/* NULL without memory. */
struct login_gate *login_gate_new(unsigned handler_threads);
void login_gate_free(struct login_gate *gate);
/* May wait for others; false at once when too many do. login_gate_leave after true. */
bool login_gate_enter(struct login_gate *gate);
void login_gate_leave(struct login_gate *gate);

#endif
