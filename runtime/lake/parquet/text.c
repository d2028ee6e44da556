/* Byte strings of one page, straight into a batch: lengths first, so that room is made once a call,
 * then the bytes. Short values are copied as one fixed block where both ends have the room. */
#include <string.h>

#include "lake/parquet/file.h"

enum { SHORT_COPY = 16 };
_Static_assert(2 * SHORT_COPY <= PARQUET_SLACK, "copies end in the slack");

int parquet_text_reserve(struct parquet_text *text, size_t extra) {
    size_t need = text->size + extra + PARQUET_SLACK;
    if (text->size + extra > INT32_MAX) {
        return WEIR_E_LIMIT;
    }
    if (need <= text->capacity) {
        return WEIR_OK;
    }
    need = need > text->capacity * 2 ? need : text->capacity * 2;
    uint8_t *bytes = text->bytes == NULL
                         ? weir_batch_alloc(text->batch, need)
                         : weir_batch_regrow(text->batch, text->bytes, text->size, need);
    if (bytes == NULL) {
        return WEIR_E_LIMIT;
    }
    text->bytes = bytes;
    text->capacity = need;
    return WEIR_OK;
}

/* `end` is how far may be read; `to` has PARQUET_SLACK behind it. */
static inline void copy_short(uint8_t *to, const uint8_t *from, size_t size, const uint8_t *end) {
    if (size <= SHORT_COPY && end - from >= SHORT_COPY) {
        memcpy(to, from, SHORT_COPY);
    } else if (size <= 2 * SHORT_COPY && end - from >= 2 * SHORT_COPY) {
        memcpy(to, from, 2 * SHORT_COPY);
    } else if (size > 0) {
        memcpy(to, from, size);
    }
}

static int plain_text(struct parquet_values *values, int32_t n, struct parquet_text *text,
                      int32_t *ends) {
    const uint8_t *at = values->at;
    size_t total = 0;
    for (int32_t i = 0; i < n; i++) {
        uint32_t size;
        if (values->end - at < 4) {
            return WEIR_E_CORRUPT;
        }
        memcpy(&size, at, sizeof(size));
        if (size > (size_t)(values->end - at) - 4) {
            return WEIR_E_CORRUPT;
        }
        at += 4 + (size_t)size;
        total += size;
    }
    int rc = parquet_text_reserve(text, total);
    if (rc != WEIR_OK) {
        return rc;
    }
    uint8_t *to = text->bytes + text->size;
    at = values->at;
    for (int32_t i = 0; i < n; i++) {
        uint32_t size;
        memcpy(&size, at, sizeof(size));
        copy_short(to, at + 4, size, values->end);
        at += 4 + (size_t)size;
        to += size;
        ends[i] = (int32_t)(to - text->bytes);
    }
    text->size += total;
    values->at = at;
    return WEIR_OK;
}

const struct parquet_short *parquet_text_shorten(struct weir_buffer *room,
                                                 const struct parquet_slice *slices, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (slices[i].size > PARQUET_SHORT_MAX) {
            return NULL;
        }
    }
    weir_buffer_clear(room);
    if (weir_buffer_reserve(room, (count + 1) * sizeof(struct parquet_short)) != WEIR_OK) {
        return NULL;
    }
    struct parquet_short *shorts = (struct parquet_short *)room->data;
    for (size_t i = 0; i < count; i++) {
        memset(&shorts[i], 0, sizeof(shorts[i]));
        memcpy(shorts[i].bytes, slices[i].bytes, slices[i].size);
        shorts[i].size = (uint8_t)slices[i].size;
    }
    return shorts;
}

/* The room a block of values takes. */
static size_t coded_total(const struct parquet_values *values, const uint32_t *codes, int32_t n) {
    const struct parquet_short *shorts = values->dictionary_shorts;
    size_t total = 0;
    for (int32_t i = 0; shorts != NULL && i < n; i++) {
        total += shorts[codes[i]].size;
    }
    for (int32_t i = 0; shorts == NULL && i < n; i++) {
        total += values->dictionary_slices[codes[i]].size;
    }
    return total;
}

static void put_shorts(const struct parquet_short *shorts, const uint32_t *codes, int32_t n,
                       uint8_t *to, const uint8_t *start, int32_t *ends) {
    _Static_assert(sizeof(*shorts) == SHORT_COPY, "a short value is one copy");
    for (int32_t i = 0; i < n; i++) {
        const struct parquet_short *value = &shorts[codes[i]];
        memcpy(to, value, sizeof(*value));
        to += value->size;
        ends[i] = (int32_t)(to - start);
    }
}

static int coded_text(struct parquet_values *values, int32_t n, struct parquet_text *text,
                      int32_t *ends) {
    uint32_t codes[PARQUET_BLOCK];
    const struct parquet_slice *slices = values->dictionary_slices;
    const uint8_t *readable = values->dictionary_end;
    for (int32_t at = 0; at < n; at += PARQUET_BLOCK) {
        int32_t count = n - at < PARQUET_BLOCK ? n - at : (int32_t)PARQUET_BLOCK;
        if (!parquet_values_codes(values, count, codes)) {
            return WEIR_E_CORRUPT;
        }
        size_t total = coded_total(values, codes, count);
        int rc = parquet_text_reserve(text, total);
        if (rc != WEIR_OK) {
            return rc;
        }
        uint8_t *to = text->bytes + text->size;
        if (values->dictionary_shorts != NULL) {
            put_shorts(values->dictionary_shorts, codes, count, to, text->bytes, ends + at);
        }
        for (int32_t i = 0; values->dictionary_shorts == NULL && i < count; i++) {
            struct parquet_slice slice = slices[codes[i]];
            copy_short(to, slice.bytes, slice.size, readable);
            to += slice.size;
            ends[at + i] = (int32_t)(to - text->bytes);
        }
        text->size += total;
    }
    return WEIR_OK;
}

static int length_text(struct parquet_values *values, int32_t n, struct parquet_text *text,
                       int32_t *ends) {
    int64_t lengths[PARQUET_BLOCK];
    for (int32_t at = 0; at < n; at += PARQUET_BLOCK) {
        int32_t count = n - at < PARQUET_BLOCK ? n - at : (int32_t)PARQUET_BLOCK;
        if (parquet_delta_next(&values->delta, lengths, count) < count) {
            return WEIR_E_CORRUPT;
        }
        int64_t left = values->end - values->at;
        int64_t total = 0;
        for (int32_t i = 0; i < count; i++) {
            if (lengths[i] < 0 || lengths[i] > left - total) {
                return WEIR_E_CORRUPT;
            }
            total += lengths[i];
            ends[at + i] = (int32_t)((int64_t)text->size + total);
        }
        int rc = parquet_text_reserve(text, (size_t)total); /* ends past 2 GiB are refused here */
        if (rc != WEIR_OK) {
            return rc;
        }
        if (total > 0) {
            memcpy(text->bytes + text->size, values->at, (size_t)total);
        }
        text->size += (size_t)total;
        values->at += total;
    }
    return WEIR_OK;
}

/* Checks a block of prefix and suffix lengths; its bytes altogether, or -1. */
static int64_t prefixed_total(const struct parquet_values *values, const int64_t *prefixes,
                              const int64_t *suffixes, int32_t n) {
    int64_t before = (int64_t)values->previous.size;
    int64_t left = values->end - values->at;
    int64_t total = 0;
    for (int32_t i = 0; i < n; i++) {
        if (prefixes[i] < 0 || prefixes[i] > before || suffixes[i] < 0 || suffixes[i] > left) {
            return -1;
        }
        left -= suffixes[i];
        before = prefixes[i] + suffixes[i];
        total += before;
    }
    return total;
}

/* The first bytes of a value: some of those of the value before, then what follows. They go from
 * value to value in a register, since bytes that two stores have just written are slow to load. */
static inline unsigned __int128 head_of(unsigned __int128 before, size_t prefix,
                                        const uint8_t *suffix) {
    unsigned __int128 rest;
    memcpy(&rest, suffix, sizeof(rest));
    unsigned __int128 kept = ((unsigned __int128)1 << (8 * prefix)) - 1;
    return (before & kept) | rest << (8 * prefix);
}

/* A long beginning. `near`: it lies in the batch, where chunks may be read and written past it. */
static inline void put_prefix(uint8_t *to, const uint8_t *last, size_t prefix, bool near) {
    if (!near && prefix > 0) {
        memcpy(to, last, prefix);
    }
    for (size_t c = 0; near && c < prefix; c += SHORT_COPY) {
        uint8_t chunk[SHORT_COPY]; /* what comes behind the beginning may overlap */
        memcpy(chunk, last + c, SHORT_COPY);
        memcpy(to + c, chunk, SHORT_COPY);
    }
}

/* A value's beginning lies in what was written just before it, so most of the work is two short
 * copies. Chunks of the beginning may be written past its end: the suffix comes over them. */
static int prefixed_block(struct parquet_values *values, int32_t n, struct parquet_text *text,
                          int32_t *ends) {
    int64_t prefixes[PARQUET_BLOCK];
    int64_t suffixes[PARQUET_BLOCK];
    if (parquet_delta_next(&values->delta, prefixes, n) < n ||
        parquet_delta_next(&values->suffixes, suffixes, n) < n) {
        return WEIR_E_CORRUPT;
    }
    int64_t total = prefixed_total(values, prefixes, suffixes, n);
    if (total < 0) {
        return WEIR_E_CORRUPT;
    }
    int rc = parquet_text_reserve(text, (size_t)total);
    if (rc != WEIR_OK) {
        return rc;
    }
    uint8_t *to = text->bytes + text->size;
    const uint8_t *at = values->at;
    const uint8_t *last = values->previous.data;
    size_t last_size = values->previous.size;
    unsigned __int128 head = 0; /* of the value before */
    for (int32_t i = 0; i < n; i++) {
        size_t prefix = (size_t)prefixes[i];
        size_t suffix = (size_t)suffixes[i];
        if (i > 0 && prefix < SHORT_COPY && values->end - at >= SHORT_COPY) {
            head = head_of(head, prefix, at);
            memcpy(to, &head, sizeof(head));
        } else {
            put_prefix(to, last, prefix, i > 0);
            memcpy(to + prefix, at, suffix < SHORT_COPY ? suffix : SHORT_COPY);
            memcpy(&head, to, sizeof(head));
        }
        if (prefix + suffix > SHORT_COPY) {
            copy_short(to + prefix, at, suffix, values->end);
        }
        last = to;
        last_size = prefix + suffix;
        at += suffix;
        to += last_size;
        ends[i] = (int32_t)(to - text->bytes);
    }
    text->size += (size_t)total;
    values->at = at;
    if (n == 0) {
        return WEIR_OK;
    }
    weir_buffer_clear(&values->previous);
    return weir_buffer_append(&values->previous, last, last_size);
}

/* Fixed widths have encodings of their own and are few: slices do. */
static int fixed_text(struct parquet_values *values, int32_t n, struct parquet_text *text,
                      int32_t *ends) {
    struct parquet_slice slices[PARQUET_BLOCK];
    int rc = WEIR_OK;
    for (int32_t at = 0; at < n && rc == WEIR_OK; at += PARQUET_BLOCK) {
        int32_t count = n - at < PARQUET_BLOCK ? n - at : (int32_t)PARQUET_BLOCK;
        rc = parquet_values_next(values, count, NULL, slices);
        rc = rc == WEIR_OK ? parquet_text_reserve(text, (size_t)count * (size_t)values->width) : rc;
        for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
            memcpy(text->bytes + text->size, slices[i].bytes, slices[i].size);
            text->size += slices[i].size;
            ends[at + i] = (int32_t)text->size;
        }
    }
    return rc;
}

int parquet_values_text(struct parquet_values *values, int32_t n, struct parquet_text *text,
                        int32_t *ends) {
    if (values->physical != PARQUET_BYTE_ARRAY) {
        return fixed_text(values, n, text, ends);
    }
    switch (values->encoding) {
    case PARQUET_PLAIN:
        return plain_text(values, n, text, ends);
    case PARQUET_RLE_DICTIONARY:
        return coded_text(values, n, text, ends);
    case PARQUET_DELTA_LENGTH_BYTE_ARRAY:
        return length_text(values, n, text, ends);
    default:
        break;
    }
    int rc = WEIR_OK;
    for (int32_t at = 0; at < n && rc == WEIR_OK; at += PARQUET_BLOCK) {
        int32_t count = n - at < PARQUET_BLOCK ? n - at : (int32_t)PARQUET_BLOCK;
        rc = prefixed_block(values, count, text, ends + at);
    }
    return rc;
}
