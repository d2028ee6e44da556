/* The usual row: the keys come in the order they came in last time, each value is short and plain.
 * Then everything about a field is settled by one comparison of its key and one conversion that
 * does not branch on what the value looks like. What is unusual is left, untouched, to
 * json_read.c. */
#include "decode/json/json_fast.h"
#include "decode/json/json_put.h"
#include "decode/json/json_read.h"

#if JSON_FAST

#include "decode/json/json_number.h"

/* Each takes the value from `p` to the separator at `end`; false: not that simple, and nothing was
 * done. */

static inline bool take_int(const uint8_t *p, const uint8_t *end, int64_t *value) {
    struct json_fast_number n;
    if (!json_fast_number(p, end, &n) || n.fraction != 0) {
        return false;
    }
    *value = n.negative ? -(int64_t)n.digits : (int64_t)n.digits;
    return true;
}

static inline bool take_int32(const uint8_t *p, const uint8_t *end, struct weir_column_builder *b) {
    int64_t value;
    if (!take_int(p, end, &value) || value != (int32_t)value) {
        return false;
    }
    ((int32_t *)b->values)[b->length++] = (int32_t)value;
    return true;
}

static inline bool take_int64(const uint8_t *p, const uint8_t *end, int64_t factor,
                              struct weir_column_builder *b) {
    int64_t value;
    if (!take_int(p, end, &value) || __builtin_mul_overflow(value, factor, &value)) {
        return false;
    }
    ((int64_t *)b->values)[b->length++] = value;
    return true;
}

static inline bool read_decimal(const struct json_field *f, const uint8_t *p, const uint8_t *end,
                                unsigned __int128 *value) {
    struct json_fast_number n;
    bool good = json_fast_number(p, end, &n);
    uint32_t shift = (uint32_t)(f->field->scale - (int32_t)n.fraction);
    if (!good || shift >= 20) {
        return false;
    }
    unsigned __int128 magnitude = (unsigned __int128)n.digits * (uint64_t)json_power10[shift];
    if (magnitude >= json_power10[f->field->precision]) {
        return false;
    }
    *value = n.negative ? 0 - magnitude : magnitude;
    return true;
}

static inline bool take_decimal(const struct json_field *f, const uint8_t *p, const uint8_t *end,
                                struct weir_column_builder *b) {
    unsigned __int128 value;
    if (!read_decimal(f, p, end, &value)) {
        return false;
    }
    ((unsigned __int128 *)b->values)[b->length++] = value;
    return true;
}

static inline bool take_string(const struct json_field *f, const uint8_t *p, const uint8_t *end,
                               struct weir_column_builder *b) {
    size_t length = (size_t)(end - p); /* and a byte or two more */
    if (*p != '"' || f->hint->symbol_count > 0 ||
        b->bytes_size + length + JSON_FAST_BYTES > b->bytes_capacity) {
        return false;
    }
    uint8_t *to = (uint8_t *)b->values + b->bytes_size;
    if (!(length <= JSON_FAST_BYTES ? json_fast_string : json_fast_text)(p + 1, end, to, &length)) {
        return false;
    }
    b->bytes_size += length;
    b->offsets[++b->length] = (int32_t)b->bytes_size;
    return true;
}

static inline bool read_instant(struct json_field *f, const uint8_t *p, const uint8_t *end,
                                int64_t *value) {
    return json_fast_instant(p + 1, end, &f->minute, value) &&
           !__builtin_mul_overflow(*value, f->per_second / 1000000, value);
}

static inline bool take_instant(struct json_field *f, const uint8_t *p, const uint8_t *end,
                                struct weir_column_builder *b) {
    int64_t value;
    if (!read_instant(f, p, end, &value)) {
        return false;
    }
    ((int64_t *)b->values)[b->length++] = value;
    return true;
}

/* The value whose first byte is at `p` and whose separator at `end`. */
static inline bool take_value(struct json_field *f, const uint8_t *p, const uint8_t *end,
                              struct weir_column_builder *b) {
    if (*p == 'n') {
        return end - p == 4 && memcmp(p, "null", 4) == 0 && f->field->nullable &&
               weir_builder_null(b) == WEIR_OK;
    }
    switch (f->field->type) {
    case WEIR_TYPE_STRING:
        return take_string(f, p, end, b);
    case WEIR_TYPE_INT32:
        return take_int32(p, end, b);
    case WEIR_TYPE_DECIMAL:
        return take_decimal(f, p, end, b);
    case WEIR_TYPE_INT64:
        return take_int64(p, end, 1, b);
    case WEIR_TYPE_TIMESTAMP:
    case WEIR_TYPE_TIMESTAMP_NS:
        return *p == '"' ? take_instant(f, p, end, b) : take_int64(p, end, f->epoch_factor, b);
    default:
        return false;
    }
}

/* The same of a value nobody reads: is it certain that it could be taken? */
static inline bool check_value(struct json_field *f, const uint8_t *p, const uint8_t *end) {
    int64_t value;
    unsigned __int128 wide;
    if (*p == 'n') {
        return end - p == 4 && memcmp(p, "null", 4) == 0 && f->field->nullable;
    }
    switch (f->field->type) {
    case WEIR_TYPE_STRING:
        return *p == '"' && f->hint->symbol_count == 0 && json_fast_plain(p + 1, end);
    case WEIR_TYPE_INT64:
        return json_fast_is_digits(p, end);
    case WEIR_TYPE_INT32:
        return take_int(p, end, &value) && value == (int32_t)value;
    case WEIR_TYPE_DECIMAL:
        return read_decimal(f, p, end, &wide);
    case WEIR_TYPE_TIMESTAMP:
    case WEIR_TYPE_TIMESTAMP_NS:
        return *p == '"' ? read_instant(f, p, end, &value)
                         : take_int(p, end, &value) &&
                               !__builtin_mul_overflow(value, f->epoch_factor, &value);
    default:
        return false;
    }
}

int json_read_expected(struct json_reader *r, struct json_record *record,
                       struct weir_column_builder *columns, const struct json_scope *parent,
                       struct json_progress *done) {
    if (record->words != 1) {
        return WEIR_OK;
    }
    const uint8_t *block = r->block;
    const uint32_t *next = r->next;
    uint64_t seen = 0;
    int32_t previous = -1;
    int32_t found = 0;
    uint8_t separator = ',';
    while (separator == ',') {
        /* Four structural bytes a field: opening quote, colon, value, separator. Behind the last of
         * the block there are two more (json_index.h). */
        int32_t i = record->after[previous + 1];
        struct json_field *f = &record->fields[i];
        struct weir_column_builder *b = &columns[i];
        if (i >= record->count || (seen >> i & 1) != 0 || f->expected_length == 0 ||
            !json_fast_equal(block + next[0], f->expected, f->expected_length)) {
            break;
        }
        const uint8_t *value = block + next[2];
        const uint8_t *end = block + next[3];
        if (b->unread
                ? check_value(f, value, end)
                : LIKELY(b->length < b->capacity_rows) && LIKELY(take_value(f, value, end, b))) {
            next += 4;
        } else {
            int rc;
            if (b->type == WEIR_TYPE_STRUCT && block[next[2]] == '{') {
                r->next = next + 3;
                rc = json_read_struct(r, f, next[2], b, parent);
            } else {
                r->next = next + 2;
                rc = json_read_value(r, f, b, parent);
            }
            if (UNLIKELY(rc != WEIR_OK)) {
                return json_fail_within(r, rc, f->field->name, strlen(f->field->name), 0);
            }
            next = r->next + 1;
        }
        separator = block[next[-1]];
        seen |= 1ull << i;
        found++;
        previous = i;
    }
    r->next = next;
    record->seen[0] = seen;
    done->previous = previous;
    done->found = found;
    done->closed = separator == '}';
    return separator == ',' || separator == '}' ? WEIR_OK
                                                : json_fail(r, next[-1], "expected a comma or }");
}

#else

int json_read_expected(struct json_reader *r, struct json_record *record,
                       struct weir_column_builder *columns, const struct json_scope *parent,
                       struct json_progress *done) {
    (void)r;
    (void)parent;
    (void)record;
    (void)columns;
    (void)done;
    return WEIR_OK;
}

#endif
