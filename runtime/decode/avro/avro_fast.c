/* The usual record: scalars, nullable or not, of usual lengths. Each field is one step of a flat
 * list, taken with few branches straight into its column. A step that meets anything else does
 * nothing and leaves its field to avro_read.c, errors included. Reads up to 32 bytes from a value
 * on: within WEIR_DECODE_PADDING. */
#include <stdlib.h>
#include <string.h>

#include "core/decimal.h"
#include "decode/avro/avro_plan.h"
#include "decode/json/json_put.h"
#include "decode/json/json_text.h"

#if defined(__AVX2__) || defined(__BMI2__)
#include <immintrin.h>
#endif

enum { TEXT_BYTES = 32, DECIMAL_DIGITS = 18 };

/* --- compiling ---------------------------------------------------------------------------------
 */

/* False: a value of this kind is left to its node. */
static bool set_scalar(const struct avro_node *node, const struct weir_field *field,
                       struct avro_step *step) {
    switch (node->put) {
    case AVRO_PUT_INT:
        step->multiply = node->multiply;
        step->take = node->multiply != 1 ? AVRO_TAKE_SCALED
                     : node->width == 4  ? AVRO_TAKE_INT32
                                         : AVRO_TAKE_INT64;
        return node->divide == 1 && (node->width == 8 || (node->width == 4 && node->multiply == 1));
    case AVRO_PUT_BOOL:
        step->take = AVRO_TAKE_BOOL;
        return true;
    case AVRO_PUT_REAL_OF_DOUBLE:
        step->take = AVRO_TAKE_DOUBLE;
        return true;
    case AVRO_PUT_TEXT:
    case AVRO_PUT_BYTES:
        step->take = node->put == AVRO_PUT_TEXT ? AVRO_TAKE_TEXT : AVRO_TAKE_BYTES;
        return node->width == 0;
    case AVRO_PUT_DECIMAL:
        step->take = AVRO_TAKE_DECIMAL;
        step->multiply = (int64_t)weir_decimal_power10(
            field->precision < DECIMAL_DIGITS ? field->precision : DECIMAL_DIGITS);
        return node->width < 0 && node->exponent == 0;
    default:
        return false;
    }
}

/* The steps of field `index`, one or two. */
static int32_t set_steps(const struct avro_node *plan, int32_t index, struct avro_step *steps) {
    const struct avro_node *node = &plan->children[index];
    int32_t count = 0;
    if (node->column >= 0 && node->put == AVRO_PUT_UNION && node->child_count == 2 &&
        (node->children[0].put == AVRO_PUT_NULL) != (node->children[1].put == AVRO_PUT_NULL)) {
        uint8_t null = node->children[0].put == AVRO_PUT_NULL ? 0 : 1;
        steps[count++] = (struct avro_step){.take = AVRO_TAKE_NULLABLE,
                                            .null_branch = (uint8_t)(null << 1),
                                            .field = index,
                                            .column = node->column};
        node = &node->children[1 - null];
    }
    struct avro_step *step = &steps[count];
    *step = (struct avro_step){
        .is_nullable = count > 0, .field = index, .column = plan->children[index].column};
    if (step->column >= 0 && set_scalar(node, plan->fields[step->column].field, step)) {
        return count + 1;
    }
    steps[0] = (struct avro_step){.take = AVRO_TAKE_ANY, .field = index};
    steps[1] = (struct avro_step){.take = AVRO_TAKE_END}; /* what was tried there is no step */
    return 1;
}

bool avro_steps_compile(struct avro_node *plan) {
    int32_t count = 0;
    plan->steps = calloc((size_t)plan->child_count * 2 + 1, sizeof(*plan->steps));
    for (int32_t i = 0; plan->steps != NULL && i < plan->child_count; i++) {
        count += set_steps(plan, i, plan->steps + count);
    }
    for (int32_t i = 0; i < plan->field_count; i++) {
        plan->has_absent |= (plan->absent[i / 64] >> (i % 64) & 1) != 0;
    }
    return plan->steps != NULL; /* the last is AVRO_TAKE_END: zero */
}

/* --- taking ------------------------------------------------------------------------------------
 */

/* The lower seven bits of eight bytes, pushed together. */
static inline uint64_t join_sevens(uint64_t word) {
#if defined(__BMI2__)
    return _pext_u64(word, UINT64_C(0x7f7f7f7f7f7f7f7f));
#else
    word &= UINT64_C(0x7f7f7f7f7f7f7f7f);
    word = (word & UINT64_C(0x007f007f007f007f)) | (word & UINT64_C(0x7f007f007f007f00)) >> 1;
    word = (word & UINT64_C(0x00003fff00003fff)) | (word & UINT64_C(0x3fff00003fff0000)) >> 2;
    return (word & UINT64_C(0x000000000fffffff)) | (word & UINT64_C(0x0fffffff00000000)) >> 4;
#endif
}

/* A number of at most 8 bytes, without a look at the end. */
static inline bool take_varint(const uint8_t **at, int64_t *out) {
    uint64_t word;
    memcpy(&word, *at, sizeof(word));
    if (LIKELY((word & 0x80) == 0)) {
        *at += 1;
        word &= 0x7f;
        *out = (int64_t)(word >> 1) ^ -(int64_t)(word & 1);
        return true;
    }
    uint64_t stops = ~word & UINT64_C(0x8080808080808080);
    if (UNLIKELY(stops == 0)) {
        return false;
    }
    *at += (__builtin_ctzll(stops) >> 3) + 1;
    word &= stops ^ (stops - 1);
    word = join_sevens(word);
    *out = (int64_t)(word >> 1) ^ -(int64_t)(word & 1);
    return true;
}

/* Copies 32 bytes; true when the first `length` of them are ASCII. */
static inline bool copy_ascii(uint8_t *to, const uint8_t *from, size_t length) {
#if defined(__AVX2__)
    __m256i text = _mm256_loadu_si256((const __m256i *)(const void *)from);
    _mm256_storeu_si256((__m256i *)(void *)to, text);
    return ((uint32_t)_mm256_movemask_epi8(text) & (uint32_t)((UINT64_C(1) << length) - 1)) == 0;
#else
    memcpy(to, from, TEXT_BYTES);
    return json_find_bad_utf8(from, length) < 0;
#endif
}

static inline bool take_bytes(bool is_text, const uint8_t **at, const uint8_t *end,
                              struct weir_column_builder *b, int64_t row) {
    const uint8_t *p = *at + 1;
    size_t zigzag = **at;
    size_t length = zigzag >> 1;
    if (UNLIKELY(zigzag >= 0x80)) { /* 64 bytes or more */
        int64_t size;
        p = *at;
        if (!take_varint(&p, &size) || size < 0) {
            return false;
        }
        length = (size_t)size;
    } else if (UNLIKELY((zigzag & 1) != 0)) {
        return false;
    }
    if (UNLIKELY(p > end || length > (size_t)(end - p) ||
                 b->bytes_size + length + TEXT_BYTES > b->bytes_capacity)) {
        return false;
    }
    uint8_t *to = (uint8_t *)b->values + b->bytes_size;
    bool plain = copy_ascii(to, p, length < TEXT_BYTES ? length : TEXT_BYTES);
    for (size_t i = TEXT_BYTES; UNLIKELY(i < length); i += TEXT_BYTES) {
        plain &= copy_ascii(to + i, p + i, length - i < TEXT_BYTES ? length - i : TEXT_BYTES);
    }
    if (UNLIKELY(!plain) && is_text && json_find_bad_utf8(p, length) >= 0) {
        return false;
    }
    *at = p + length;
    b->bytes_size += length;
    b->offsets[row + 1] = (int32_t)b->bytes_size;
    return true;
}

/* Two's complement of 1 to 8 bytes, big-endian. */
static inline bool take_decimal(const struct avro_step *step, const uint8_t **at,
                                const uint8_t *end, struct weir_column_builder *b, int64_t row) {
    const uint8_t *p = *at;
    uint32_t length = p[0] >> 1;
    uint64_t word;
    memcpy(&word, p + 1, sizeof(word));
    if (UNLIKELY((p[0] & 0x81) != 0 || length - 1 >= 8 || end - p < (int64_t)length + 1)) {
        return false;
    }
    int64_t value = (int64_t)__builtin_bswap64(word) >> (64 - 8 * length);
    if (UNLIKELY(value >= step->multiply || value <= -step->multiply)) {
        return false;
    }
    int64_t *pair = (int64_t *)b->values + 2 * row;
    pair[0] = value;
    pair[1] = value >> 63;
    *at = p + length + 1;
    return true;
}

static inline void take_null(struct weir_column_builder *b, int64_t row) {
    weir_bit_clear(b->validity, row);
    b->null_count++;
    if (b->offsets != NULL) {
        b->offsets[row + 1] = b->offsets[row];
    } else if (b->type == WEIR_TYPE_INT32 || b->type == WEIR_TYPE_DATE) {
        ((int32_t *)b->values)[row] = 0;
    } else if (b->type == WEIR_TYPE_DECIMAL) {
        memset((uint64_t *)b->values + 2 * row, 0, 2 * sizeof(uint64_t));
    } else if (b->type != WEIR_TYPE_BOOL) {
        ((int64_t *)b->values)[row] = 0;
    }
}

static inline bool take_double(const uint8_t **at, const uint8_t *end,
                               struct weir_column_builder *b, int64_t row) {
    double value;
    memcpy(&value, *at, sizeof(value));
    if (UNLIKELY(end - *at < (int64_t)sizeof(value) || value != value)) {
        return false; /* NaN is marked elsewhere */
    }
    ((double *)b->values)[row] = value;
    *at += sizeof(value);
    return true;
}

/* Each step jumps to the next one itself, so that the processor learns the order of each. */
#define NEXT()                                                                                     \
    do {                                                                                           \
        b->length = row + 1;                                                                       \
        step++;                                                                                    \
        b = &columns[step->column];                                                                \
        goto *labels[step->take];                                                                  \
    } while (0)

int avro_steps_read(const struct avro_node *plan, struct json_reader *r, struct avro_in *in,
                    struct weir_column_builder *columns, int64_t row) {
    static const void *const labels[AVRO_TAKE_COUNT] = {
        [AVRO_TAKE_END] = &&end_,        [AVRO_TAKE_ANY] = &&any,
        [AVRO_TAKE_NULLABLE] = &&branch, [AVRO_TAKE_INT32] = &&int32,
        [AVRO_TAKE_INT64] = &&int64,     [AVRO_TAKE_SCALED] = &&scaled,
        [AVRO_TAKE_BOOL] = &&bool_,      [AVRO_TAKE_DOUBLE] = &&double_,
        [AVRO_TAKE_TEXT] = &&text,       [AVRO_TAKE_BYTES] = &&bytes,
        [AVRO_TAKE_DECIMAL] = &&decimal,
    };
    const struct avro_step *step = plan->steps;
    struct weir_column_builder *b = &columns[step->column];
    const uint8_t *p = in->p;
    const uint8_t *end = in->end;
    const uint8_t *ahead;
    int64_t value;
    goto *labels[step->take];
branch:
    if (*p == step->null_branch && p < end) {
        p++;
        step++;
        take_null(b, row);
        NEXT();
    }
    if (UNLIKELY((*p & ~2u) != 0 || p >= end)) {
        goto any;
    }
    p++;
    step++;
    goto *labels[step->take];
int32:
    ahead = p;
    if (UNLIKELY(!take_varint(&ahead, &value) || ahead > end || value != (int32_t)value)) {
        goto any;
    }
    p = ahead;
    ((int32_t *)b->values)[row] = (int32_t)value;
    NEXT();
int64:
    ahead = p;
    if (UNLIKELY(!take_varint(&ahead, &value) || ahead > end)) {
        goto any;
    }
    p = ahead;
    ((int64_t *)b->values)[row] = value;
    NEXT();
scaled:
    ahead = p;
    if (UNLIKELY(!take_varint(&ahead, &value) || ahead > end ||
                 __builtin_mul_overflow(value, step->multiply, &value))) {
        goto any;
    }
    p = ahead;
    ((int64_t *)b->values)[row] = value;
    NEXT();
bool_:
    if (UNLIKELY(p >= end)) {
        goto any;
    }
    ((uint8_t *)b->values)[row >> 3] |= (uint8_t)((*p++ != 0) << (row & 7));
    NEXT();
double_:
    if (UNLIKELY(!take_double(&p, end, b, row))) {
        goto any;
    }
    NEXT();
text:
    if (UNLIKELY(!take_bytes(true, &p, end, b, row))) {
        goto any;
    }
    NEXT();
bytes:
    if (UNLIKELY(!take_bytes(false, &p, end, b, row))) {
        goto any;
    }
    NEXT();
decimal:
    if (UNLIKELY(!take_decimal(step, &p, end, b, row))) {
        goto any;
    }
    NEXT();
any:
    in->p = p - step->is_nullable;
    int rc = avro_read_field(plan, step->field, r, in, columns);
    if (UNLIKELY(rc != WEIR_OK)) {
        return rc;
    }
    p = in->p;
    step += step->take == AVRO_TAKE_NULLABLE ? 2 : 1;
    b = &columns[step->column];
    goto *labels[step->take];
end_:
    in->p = p;
    return WEIR_OK;
}
