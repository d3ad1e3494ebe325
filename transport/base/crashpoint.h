/* SPDX-License-Identifier: Apache-2.0
 *
 * Named places at which a process may be killed without harm, for tests that kill it there: before and after each
 * step that makes something durable. In a running product nothing is set and passing one costs a load and a branch.
 */
#ifndef TRANSPORT_BASE_CRASHPOINT_H
#define TRANSPORT_BASE_CRASHPOINT_H

/* Tests only, before threads are started: called with the name whenever one is passed; NULL switches it off. What it finds in the
 * files is what a kill -9 at that place leaves. */
void crashpoint_watch(void (*fn)(void *arg, const char *name), void *arg);
void crashpoint_pass(const char *name);

#endif
