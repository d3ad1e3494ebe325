/* SPDX-License-Identifier: Apache-2.0
 *
 * An OpenID provider that people sign in with: authorization code with PKCE. What the provider says about itself and its
 * keys are fetched when needed and kept for an hour; a key that is not known is looked for again, at most every five seconds.
 * Everything here may wait for the network (10 s at most per question). Any thread. Sources: OpenID Connect Core 1.0
 * sections 3.1.2 and 3.1.3, Discovery 1.0, RFC 7636 (PKCE), RFC 9207 (iss).
 */
#ifndef HUB_API_OIDC_H
#define HUB_API_OIDC_H

#include <jansson.h>
#include <stdbool.h>

#include "hub/api/api.h"
#include "transport/base/err.h"

#define OIDC_SECRET_SIZE 44 /* 32 random bytes in base64url, with the NUL */

struct oidc;

/* The settings alone: 0 or ERR_INVALID with what is missing. */
int oidc_check(const struct oidc_conf *conf, struct err *err);
/* Asks nobody yet. conf is borrowed and was checked. */
int oidc_new(const struct oidc_conf *conf, struct oidc **ret_oidc, struct err *err);
void oidc_free(struct oidc *oidc);

/* 32 random bytes as text: state, nonce, verifier, the browser's mark. */
void oidc_draw(char ret_text[OIDC_SECRET_SIZE]);
/* Where to send the browser; caller frees. */
int oidc_begin(
    struct oidc *oidc, const char *state, const char *nonce, const char *verifier, char **ret_url, struct err *err);
/* Trades the code for the ID token and checks that: signature, issuer, audience, time, nonce. */
int oidc_redeem(
    struct oidc *oidc, const char *code, const char *nonce, const char *verifier, json_t **ret_claims, struct err *err);
/* The checks of the claims alone (now: UTC seconds). */
int oidc_check_claims(
    const struct oidc_conf *conf, const json_t *claims, const char *nonce, int64_t now, struct err *err);
/* The highest role that the mapping gives for these claims, NULL when it gives none. */
const char *oidc_role(const struct oidc_conf *conf, const json_t *claims);
/* 0 or ERR_INVALID for a mapping such as "admins=admin,ops=operator,*=viewer". */
int oidc_check_role_map(const char *role_map, struct err *err);

#endif
