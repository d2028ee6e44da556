/* Spec: github.com/msgpack/msgpack/blob/master/spec.md, section "Formats". */
#include "commit/pack.h"

#include <string.h>

#define MAX_DEPTH 32

static bool take(struct weir_span *rest, size_t size, const uint8_t **out) {
#ifdef WEIR_PLANT_BUG /* tools/fuzz.py proves that the fuzzer would find this */
    if (size > 1 && rest->size + 1 == size && rest->data[size - 1] == 0) {
        return false;
    }
#endif
    if (rest->size < size) {
        return false;
    }
    *out = rest->data;
    rest->data += size;
    rest->size -= size;
    return true;
}

static bool take_big_endian(struct weir_span *rest, size_t size, uint64_t *out) {
    const uint8_t *bytes;
    if (!take(rest, size, &bytes)) {
        return false;
    }
    *out = 0;
    for (size_t i = 0; i < size; i++) {
        *out = *out << 8 | bytes[i];
    }
    return true;
}

static bool take_bytes(struct weir_span *rest, uint64_t size, struct weir_pack_head *out) {
    if (size > rest->size) {
        return false;
    }
    out->bytes.size = (size_t)size;
    return take(rest, (size_t)size, &out->bytes.data);
}

static bool read_sized(struct weir_span *rest, enum weir_pack_type type, size_t width,
                       struct weir_pack_head *out) {
    uint64_t size;
    out->type = type;
    if (!take_big_endian(rest, width, &size)) {
        return false;
    }
    if (type == WEIR_PACK_ARRAY || type == WEIR_PACK_MAP) {
        out->number = (int64_t)size;
        return true;
    }
    return take_bytes(rest, size + (type == WEIR_PACK_EXT ? 1 : 0), out);
}

static bool read_number(struct weir_span *rest, uint8_t tag, struct weir_pack_head *out) {
    uint64_t bits;
    size_t width = (size_t)1 << (tag & 3);
    out->type = WEIR_PACK_INT;
    if (tag == 0xca || tag == 0xcb) {
        out->type = WEIR_PACK_FLOAT;
        width = tag == 0xca ? 4 : 8;
    }
    if (!take_big_endian(rest, width, &bits)) {
        return false;
    }
    if (tag == 0xca) {
        uint32_t half = (uint32_t)bits;
        float value;
        memcpy(&value, &half, sizeof value);
        out->real = (double)value;
    } else if (tag == 0xcb) {
        memcpy(&out->real, &bits, sizeof out->real);
    } else if (tag >= 0xd0) { /* signed: extend from its width */
        unsigned shift = 64 - 8 * (unsigned)width;
        out->number = (int64_t)(bits << shift) >> shift;
    } else {
        out->number = (int64_t)bits;
        if (bits > INT64_MAX) {
            out->type = WEIR_PACK_UINT;
        }
    }
    return true;
}

bool weir_pack_read(struct weir_span *rest, struct weir_pack_head *out) {
    const uint8_t *first;
    *out = (struct weir_pack_head){.type = WEIR_PACK_NIL};
    if (!take(rest, 1, &first)) {
        return false;
    }
    uint8_t tag = *first;
    if (tag < 0x80 || tag >= 0xe0) {
        out->type = WEIR_PACK_INT;
        out->number = (int8_t)tag;
        return true;
    }
    if (tag < 0xa0) {
        out->type = tag < 0x90 ? WEIR_PACK_MAP : WEIR_PACK_ARRAY;
        out->number = tag & 0x0f;
        return true;
    }
    if (tag < 0xc0) {
        out->type = WEIR_PACK_STR;
        return take_bytes(rest, tag & 0x1f, out);
    }
    switch (tag) {
    case 0xc0:
        return true;
    case 0xc2:
    case 0xc3:
        out->type = WEIR_PACK_BOOL;
        out->number = tag & 1;
        return true;
    case 0xc4:
    case 0xc5:
    case 0xc6:
        return read_sized(rest, WEIR_PACK_BIN, (size_t)1 << (tag - 0xc4), out);
    case 0xc7:
    case 0xc8:
    case 0xc9:
        return read_sized(rest, WEIR_PACK_EXT, (size_t)1 << (tag - 0xc7), out);
    case 0xca:
    case 0xcb:
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
        return read_number(rest, tag, out);
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8:
        out->type = WEIR_PACK_EXT;
        return take_bytes(rest, ((uint64_t)1 << (tag - 0xd4)) + 1, out);
    case 0xd9:
    case 0xda:
    case 0xdb:
        return read_sized(rest, WEIR_PACK_STR, (size_t)1 << (tag - 0xd9), out);
    case 0xdc:
    case 0xdd:
        return read_sized(rest, WEIR_PACK_ARRAY, (size_t)2 << (tag - 0xdc), out);
    case 0xde:
    case 0xdf:
        return read_sized(rest, WEIR_PACK_MAP, (size_t)2 << (tag - 0xde), out);
    default: /* 0xc1, never used */
        return false;
    }
}

bool weir_pack_skip(struct weir_span *rest) {
    uint64_t left[MAX_DEPTH]; /* values still to pass on each level */
    int depth = 0;
    left[0] = 1;
    for (;;) {
        while (left[depth] == 0) {
            if (depth == 0) {
                return true;
            }
            depth--;
        }
        left[depth]--;
        struct weir_pack_head head;
        if (!weir_pack_read(rest, &head)) {
            return false;
        }
        if (head.type == WEIR_PACK_ARRAY || head.type == WEIR_PACK_MAP) {
            uint64_t values = (uint64_t)head.number * (head.type == WEIR_PACK_MAP ? 2 : 1);
            if (++depth == MAX_DEPTH || values > rest->size) {
                return false; /* each value takes a byte at least */
            }
            left[depth] = values;
        }
    }
}
