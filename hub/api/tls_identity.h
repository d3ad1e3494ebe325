/* SPDX-License-Identifier: Apache-2.0
 *
 * The certificate and key by which the API is known. The files are looked at again once a minute, so that a renewed
 * certificate is used without a restart and without losing a connection. One per process: GnuTLS asks for it through a
 * callback that has no argument.
 */
#ifndef HUB_API_TLS_IDENTITY_H
#define HUB_API_TLS_IDENTITY_H

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>

#include "transport/base/err.h"

/* Loads both PEM files; ERR_INVALID when they are no PEM or do not belong together. The paths are copied. */
int tls_identity_open(const char *cert_path, const char *key_path, struct err *err);
/* With no connection left. */
void tls_identity_close(void);
/* Looks at the files now: 1 a new identity is used from now on; 0 nothing changed; -1 they are not good, and the old one
 * is kept. Any thread. */
int tls_identity_refresh(struct err *err);
/* For MHD_OPTION_HTTPS_CERT_CALLBACK. */
int tls_identity_choose(gnutls_session_t session, const gnutls_datum_t *req_ca_rdn, int nreqs,
    const gnutls_pk_algorithm_t *pk_algos, int pk_algos_length, gnutls_pcert_st **certs, unsigned *cert_count,
    gnutls_privkey_t *key);

#endif
