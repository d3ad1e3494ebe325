/* SPDX-License-Identifier: Apache-2.0
 *
 * What is kept of events (kept.h), on disk: a process that ends, or its machine, takes no alarm with it. Those for information are not worth a write.
 */
#ifndef TRANSPORT_PROTO_KEPTFILE_H
#define TRANSPORT_PROTO_KEPTFILE_H

#include <systemd/sd-event.h>

#include "transport/base/err.h"
#include "transport/proto/kept.h"

struct keptfile;

/* Puts into kept, which must outlive it, what a process before this one left there. A file that cannot be read, or is another identity's, is logged and
 * replaced. teller: id of the identity, UUID text; copied. */
int keptfile_new(sd_event *loop, const char *path, const char *teller, struct kept *kept, struct keptfile **ret_file,
    struct err *err);
/* After each change: what is not the hub's two seconds later is written, so that with a hub there is hardly ever anything to write. */
void keptfile_changed(struct keptfile *f);
void keptfile_free(struct keptfile *f); /* NULL allowed; writes at once what is due */

#endif
