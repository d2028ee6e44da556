#include "serve/http/auth.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <string.h>
#include <strings.h>

/* Digests are compared, so that neither length nor place of a difference shows. */
static bool same(const void *a, size_t a_size, const void *b, size_t b_size) {
    uint8_t x[SHA256_DIGEST_LENGTH];
    uint8_t y[SHA256_DIGEST_LENGTH];
    SHA256(a, a_size, x);
    SHA256(b, b_size, y);
    return CRYPTO_memcmp(x, y, sizeof(x)) == 0;
}

bool http_bearer_matches(const char *authorization, const char *tokens) {
    static const char apart[] = " \t\r\n,";
    if (strncasecmp(authorization, "bearer ", 7) != 0) {
        return false;
    }
    const char *given = authorization + 7;
    given += strspn(given, " ");
    size_t size = strcspn(given, " ");
    bool matches = false;
    for (const char *p = tokens + strspn(tokens, apart); *p != '\0'; p += strspn(p, apart)) {
        size_t length = strcspn(p, apart);
        matches |= same(given, size, p, length); /* all of them are looked at */
        p += length;
    }
    return matches && size > 0;
}

static int nibble(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool from_hex(const char *text, size_t size, uint8_t *out, size_t *made) {
    *made = size / 2;
    for (size_t i = 0; i < *made; i++) {
        int high = nibble(text[2 * i]);
        int low = nibble(text[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        out[i] = (uint8_t)(high << 4 | low);
    }
    return size % 2 == 0;
}

static bool from_base64(const char *text, size_t size, uint8_t *out, size_t *made) {
    int length = size % 4 == 0 ? EVP_DecodeBlock(out, (const unsigned char *)text, (int)size) : -1;
    if (length < 0) {
        return false;
    }
    size_t padding = size > 0 && text[size - 1] == '=' ? 1 + (text[size - 2] == '=') : 0;
    *made = (size_t)length - padding;
    return true;
}

static bool signed_by(const char *secret, const EVP_MD *digest, const uint8_t *given,
                      size_t given_size, const uint8_t *body, size_t size) {
    uint8_t expected[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    return HMAC(digest, secret, (int)strlen(secret), body, size, expected, &length) != NULL &&
           same(given, given_size, expected, length);
}

bool http_signature_matches(const struct weir_http_signature *s, const char *given,
                            const uint8_t *body, size_t size) {
    enum { TEXT_MAX = 256 };
    uint8_t bytes[TEXT_MAX];
    size_t made = 0;
    size_t prefix = strlen(s->prefix);
    if (strncmp(given, s->prefix, prefix) != 0) {
        return false;
    }
    given += prefix;
    size_t length = strlen(given);
    bool good = length > 0 && length < TEXT_MAX &&
                (s->base64 ? from_base64(given, length, bytes, &made)
                           : from_hex(given, length, bytes, &made));
    const EVP_MD *digest = s->digest == WEIR_HTTP_SHA1     ? EVP_sha1()
                           : s->digest == WEIR_HTTP_SHA512 ? EVP_sha512()
                                                           : EVP_sha256();
    bool matches = signed_by(s->secret, digest, bytes, made, body, size);
    if (s->previous_secret != NULL) {
        matches |= signed_by(s->previous_secret, digest, bytes, made, body, size);
    }
    return good && matches;
}
