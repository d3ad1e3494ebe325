/* SPDX-License-Identifier: Apache-2.0
 *
 * The vault key file and the wrapping of data keys (AES-256-GCM by OpenSSL). The nonce of a wrapping is the id of the vault key,
 * 4 bytes, so that a wrong key can be told from damage and the right one be named, and 8 random bytes: a vault key wraps each of a few
 * thousand data keys a handful of times, so they do not repeat in practice.
 */
#include "transport/vault/vaultkeys.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/base/bytes.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"

#define KEY_SIZE 32
#define NONCE_SIZE 12
#define ID_SIZE 4
#define TAG_SIZE 16
#define KEY_TEXT_SIZE (2 * KEY_SIZE + 1) /* hex digits and a newline */

static void cipher_free(EVP_CIPHER_CTX **c)
{
    EVP_CIPHER_CTX_free(*c);
}
#define AUTO_CIPHER __attribute__((cleanup(cipher_free)))

static int random_bytes(uint8_t *out, int n, struct err *err)
{
    if (RAND_bytes(out, n) != 1)
        return err_set(err, ERR_INTERNAL, "no random numbers for a key");
    return 0;
}

static void id_bytes(const struct vault_key *vk, uint8_t out[ID_SIZE])
{
    static const char purpose[] = "leeward vault key id";
    uint8_t text[sizeof(purpose) + KEY_SIZE], digest[EVP_MAX_MD_SIZE];
    memcpy(text, purpose, sizeof(purpose));
    memcpy(text + sizeof(purpose), vk->bytes, KEY_SIZE);
    if (EVP_Digest(text, sizeof(text), digest, NULL, EVP_sha256(), NULL) != 1)
        memset(digest, 0, sizeof(digest));
    memcpy(out, digest, ID_SIZE);
    OPENSSL_cleanse(text, sizeof(text));
}

void vaultkeys_id(const struct vault_key *vk, char out[VAULTKEYS_ID_SIZE])
{
    uint8_t id[ID_SIZE];
    id_bytes(vk, id);
    bytes_to_hex(id, ID_SIZE, out);
}

void vaultkeys_wrapped_id(const uint8_t wrapped[VAULTKEYS_WRAPPED_SIZE], char out[VAULTKEYS_ID_SIZE])
{
    bytes_to_hex(wrapped, ID_SIZE, out);
}

int vaultkeys_random(struct seal_key *ret_key, struct err *err)
{
    return random_bytes(ret_key->bytes, KEY_SIZE, err);
}

static int key_create(const char *path, struct vault_key *ret_key, struct err *err)
{
    char text[KEY_TEXT_SIZE + 1];
    if (random_bytes(ret_key->bytes, KEY_SIZE, err) < 0)
        return -1;
    bytes_to_hex(ret_key->bytes, KEY_SIZE, text);
    text[2 * KEY_SIZE] = '\n';
    int result = file_replace(path, text, KEY_TEXT_SIZE, 0600, err);
    OPENSSL_cleanse(text, sizeof(text));
    return result;
}

static int key_missing(const char *path, struct err *err)
{
    (void)err_set(err, ERR_NOT_FOUND, "the vault key %s is missing, and this vault holds machines", path);
    return err_hint(err, "put the key file back from your safe copy; without it their data cannot be read");
}

static int key_parse(const char *path, const char *text, ssize_t n, struct vault_key *ret_key, struct err *err)
{
    char hex[2 * KEY_SIZE + 1] = {0};
    if (n >= 2 * KEY_SIZE)
        memcpy(hex, text, 2 * KEY_SIZE);
    if (n != KEY_TEXT_SIZE || bytes_from_hex(hex, ret_key->bytes, KEY_SIZE) < 0) {
        (void)err_set(err, ERR_CORRUPT, "%s is not a vault key", path);
        return err_hint(err, "it holds 64 hex digits and a newline; put it back from your safe copy");
    }
    return 0;
}

int vaultkeys_load(const char *path, bool may_create, struct vault_key *ret_key, struct err *err)
{
    char text[KEY_TEXT_SIZE + 1];
    struct stat st;
    int fd AUTO_CLOSE = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return may_create ? key_create(path, ret_key, err) : key_missing(path, err);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(err, errno, "opening the vault key %s", path);
    if ((st.st_mode & 077) != 0) {
        (void)err_set(err, ERR_DENIED, "the vault key %s can be read by others", path);
        return err_hint(err, "chmod 600 %s", path);
    }
    ssize_t n = read(fd, text, sizeof(text));
    if (n < 0)
        return err_sys(err, errno, "reading the vault key %s", path);
    int result = key_parse(path, text, n, ret_key, err);
    OPENSSL_cleanse(text, sizeof(text));
    return result;
}

int vaultkeys_wrap(const struct vault_key *vk, const struct ident *machine, const struct seal_key *key,
    uint8_t out[VAULTKEYS_WRAPPED_SIZE], struct err *err)
{
    uint8_t *cipher = out + NONCE_SIZE;
    int n;
    EVP_CIPHER_CTX *c AUTO_CIPHER = EVP_CIPHER_CTX_new();
    id_bytes(vk, out);
    if (random_bytes(out + ID_SIZE, NONCE_SIZE - ID_SIZE, err) < 0)
        return -1;
    if (c == NULL || EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, vk->bytes, out) != 1 ||
        EVP_EncryptUpdate(c, NULL, &n, machine->bytes, IDENT_SIZE) != 1 ||
        EVP_EncryptUpdate(c, cipher, &n, key->bytes, KEY_SIZE) != 1 ||
        EVP_EncryptFinal_ex(c, cipher + KEY_SIZE, &n) != 1 ||
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG_SIZE, cipher + KEY_SIZE) != 1)
        return err_set(err, ERR_INTERNAL, "wrapping a data key failed");
    return 0;
}

/* Wrapped by another key, or damaged. */
static int wrong_key(const struct vault_key *vk, const uint8_t wrapped[VAULTKEYS_WRAPPED_SIZE], struct err *err)
{
    char have[VAULTKEYS_ID_SIZE], want[VAULTKEYS_ID_SIZE];
    vaultkeys_id(vk, have);
    vaultkeys_wrapped_id(wrapped, want);
    if (memcmp(have, want, sizeof(have)) == 0) {
        (void)err_set(
            err, ERR_DENIED, "the machine's wrapped data key is damaged: vault key %s does not open it", have);
        return err_hint(err, "put the machine's file meta back from a copy");
    }
    (void)err_set(err, ERR_DENIED,
        "the vault key does not fit: the machine's data key is wrapped by key %s, vault.key is key %s", want, have);
    return err_hint(err, "put the vault.key with the id %s back from your safe copy, and start the vault again", want);
}

int vaultkeys_unwrap(const struct vault_key *vk, const struct ident *machine,
    const uint8_t wrapped[VAULTKEYS_WRAPPED_SIZE], struct seal_key *ret_key, struct err *err)
{
    const uint8_t *cipher = wrapped + NONCE_SIZE;
    uint8_t tag[TAG_SIZE];
    int n;
    memcpy(tag, cipher + KEY_SIZE, TAG_SIZE);
    EVP_CIPHER_CTX *c AUTO_CIPHER = EVP_CIPHER_CTX_new();
    if (c == NULL || EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, vk->bytes, wrapped) != 1 ||
        EVP_DecryptUpdate(c, NULL, &n, machine->bytes, IDENT_SIZE) != 1 ||
        EVP_DecryptUpdate(c, ret_key->bytes, &n, cipher, KEY_SIZE) != 1 ||
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG_SIZE, tag) != 1)
        return err_set(err, ERR_INTERNAL, "unwrapping a data key failed");
    if (EVP_DecryptFinal_ex(c, ret_key->bytes + KEY_SIZE, &n) == 1)
        return 0;
    OPENSSL_cleanse(ret_key, sizeof(*ret_key));
    return wrong_key(vk, wrapped, err);
}
