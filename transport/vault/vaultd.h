/* SPDX-License-Identifier: Apache-2.0
 *
 * The vault's daemon: takes change logs from nodes, answers reads, opens points, and reports to the hub. One event loop; all
 * that touches a machine's store runs on that machine's lane of the worker pool, one job after the other.
 */
#ifndef TRANSPORT_VAULT_VAULTD_H
#define TRANSPORT_VAULT_VAULTD_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "transport/base/err.h"
#include "transport/proto/session.h"
#include "transport/rpc/tls.h"
#include "transport/vault/bucketconf.h"

struct vaultd;

struct vaultd_conf {
    const char *data_dir;
    const char *listen;        /* as of rpc_server_new */
    const char *plugin;        /* path of leeward-vault-nbd.so */
    const char *socket_folder; /* of open points, for its group; NULL or "": the vault's own, for nobody else */
    uint64_t reserve_bytes;    /* kept free on the disk */
    uint64_t cache_bytes;      /* of decoded blocks, per open point */
    unsigned threads;          /* >= 1 */
    const struct bucketconf
        *bucket;                /* where a copy of all goes; must outlive the daemon; NULL or without a URL: nowhere */
    uint64_t bucket_every_usec; /* how often what is new goes there */
    uint64_t scrub_rate;        /* bytes per second of the background verification; 0: none */
    uint64_t
        compact_rate; /* bytes per second of compaction in the background, read and written; 0: as fast as it goes */
    uint64_t compact_every_usec;    /* how often a machine's log is looked through for garbage; 0: every half hour */
    uint64_t scrub_every_usec;      /* from the beginning of one full pass to the next */
    struct tls_context *tls;        /* must outlive the daemon; NULL only with a unix socket, in tests */
    struct tls_context *client_tls; /* for calls to other vaults; as tls */
};

/* Opens the vault's folder (one process at a time), loads or makes its key, starts to listen and opens again what was open
 * when the vault ended. Nothing is accepted for a machine before vaultd_apply named it. */
int vaultd_new(sd_event *loop, const struct vaultd_conf *conf, struct vaultd **ret_vault, struct err *err);
/* Ends all streams and open points, writes out what waits, frees. NULL is allowed. */
void vaultd_free(struct vaultd *d);
unsigned vaultd_port(const struct vaultd *d);

/* Where reports go; may be NULL (tests). Set before the loop runs. */
void vaultd_set_session(struct vaultd *d, struct session *session);
/* The callbacks of the session; arg is the daemon. */
extern const struct session_ops vaultd_session_ops;
/* Converges to the desired state; may be called again with the same. It copies what it needs. */
void vaultd_apply(struct vaultd *d, const Leeward__Control__V1__VaultDesired *desired);

#endif
