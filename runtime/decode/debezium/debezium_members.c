#include "decode/debezium/debezium_members.h"

#include <string.h>

#include "decode/json/json_number.h"
#include "decode/json/json_text.h"

int debezium_key(struct json_reader *r, uint32_t *at, const uint8_t **key, size_t *length) {
    *at = *r->next++;
    return r->block[*at] == '"' ? json_string_view(r, *at, key, length)
                                : json_fail(r, *at, "expected a key");
}

int debezium_scan(struct json_reader *r, const char *const *names, int32_t count,
                  const uint32_t **found) {
    memset(found, 0, (size_t)count * sizeof(const uint32_t *));
    uint32_t at = *r->next++;
    if (r->block[at] != '{') {
        return json_fail(r, at, "expected an object");
    }
    if (r->block[*r->next] == '}') {
        r->next++;
        return WEIR_OK;
    }
    for (;;) {
        const uint8_t *key;
        size_t length;
        int rc = debezium_key(r, &at, &key, &length);
        if (rc != WEIR_OK) {
            return rc;
        }
        int32_t i = 0;
        while (i < count && (strlen(names[i]) != length || memcmp(names[i], key, length) != 0)) {
            i++;
        }
        if (r->block[*r->next++] != ':') {
            return json_fail(r, r->next[-1], "expected a colon after the key");
        }
        if (i < count) {
            found[i] = r->next;
        }
        uint32_t end;
        rc = json_skip_value(r, &end);
        if (rc != WEIR_OK) {
            return rc;
        }
        at = *r->next++;
        if (r->block[at] == '}') {
            return WEIR_OK;
        }
        if (r->block[at] != ',') {
            return json_fail(r, at, "expected a comma or }");
        }
    }
}

bool debezium_is_null(const struct json_reader *r, const uint32_t *value) {
    return value == NULL || r->block[*value] == 'n';
}

bool debezium_whole(const struct json_reader *r, const uint32_t *value, int64_t *out) {
    struct json_number n;
    return !debezium_is_null(r, value) && json_number_read(r->block + *value, &n) &&
           json_number_int64(&n, out);
}

bool debezium_transaction(struct json_reader *r, const uint32_t *transaction, int64_t *txid) {
    static const char *const names[] = {"id"};
    const uint32_t *id;
    if (debezium_is_null(r, transaction)) {
        return false;
    }
    r->next = transaction;
    if (debezium_scan(r, names, 1, &id) != WEIR_OK || debezium_is_null(r, id) ||
        r->block[*id] != '"') {
        return false;
    }
    int64_t value = 0;
    const uint8_t *p = r->block + *id + 1;
    const uint8_t *first = p;
    for (; json_is_digit(*p) && p - first < 18; p++) {
        value = value * 10 + (*p - '0');
    }
    *txid = value;
    return p > first && *p == ':';
}
