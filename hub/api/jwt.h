/* SPDX-License-Identifier: Apache-2.0
 *
 * Signed JSON web tokens, as much as OpenID Connect needs: compact form, RS256 and ES256, keys from a JWK set. No sockets,
 * no clock. Sources: RFC 7515 (JWS), 7517 (JWK), 7518 sections 3.3, 3.4, 6.2, 6.3 (algorithms and keys), 8725 (pitfalls:
 * the algorithm is ours to choose by the key, `none` and symmetric ones do not exist here).
 */
#ifndef HUB_API_JWT_H
#define HUB_API_JWT_H

#include <jansson.h>

#include "transport/base/err.h"

#define JWT_TEXT_MAX (64u * 1024u)

/* 1: the signature is that of a key of the set; *ret_claims is a new reference. 0: the set has no key that the header
 * names: it may have been renewed. -1: malformed, an algorithm that is not taken, or a wrong signature. */
int jwt_verify(const char *text, const json_t *jwk_set, json_t **ret_claims, struct err *err);

#endif
