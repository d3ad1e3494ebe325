/* SPDX-License-Identifier: Apache-2.0
 *
 * What an OpenID provider, or whoever stands in its place, may answer: the first line is its JWK set, the second a token, the rest claims.
 * Nothing unsigned ever yields claims: a token that is taken has a key of the set and three parts.
 */
#include <stdlib.h>
#include <string.h>

#include "hub/api/jwt.h"
#include "hub/api/oidc.h"
#include "transport/base/mem.h"

static char *take_line(const uint8_t **data, size_t *size)
{
    const uint8_t *end = memchr(*data, '\n', *size);
    size_t n = end ? (size_t)(end - *data) : *size;
    char *line = strndup((const char *)*data, n);

    *data += end ? n + 1 : n;
    *size -= end ? n + 1 : n;
    return line;
}

static void look_at(json_t *claims)
{
    const struct oidc_conf conf = {.issuer = "https://id.example",
        .client_id = "leeward",
        .role_claim = "realm_access.roles",
        .role_map = "admins=admin,*=viewer"};
    const char *role = oidc_role(&conf, claims);
    struct err err = ERR_INIT;

    if (role && strcmp(role, "admin") != 0 && strcmp(role, "viewer") != 0)
        abort();
    if (oidc_check_claims(&conf, claims, "n", 1790000000, &err) < 0 && !err.text[0])
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *keys_text = take_line(&data, &size), *token = take_line(&data, &size);
    json_t *keys = json_loads(keys_text, 0, NULL), *claims = NULL, *bare = NULL;
    struct err err = ERR_INIT;
    int rc = jwt_verify(token, keys, &claims, &err);

    if ((rc == 1) != (claims != NULL) || (rc == 1 && json_array_size(json_object_get(keys, "keys")) == 0) ||
        (rc < 0 && !err.text[0]))
        abort();
    if (claims)
        look_at(claims);
    bare = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(bare))
        look_at(bare);
    json_decref(bare);
    json_decref(claims);
    json_decref(keys);
    free(keys_text);
    free(token);
    return 0;
}
