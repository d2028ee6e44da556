#include "decode/msgpack_read.h"

#include <string.h>

static uint64_t big_endian(const uint8_t *p, size_t bytes) {
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++) {
        value = value << 8 | p[i];
    }
    return value;
}

static bool take(struct msgpack_reader *r, size_t bytes, uint64_t *value) {
    if ((size_t)(r->end - r->p) < bytes) {
        return false;
    }
    *value = big_endian(r->p, bytes);
    r->p += bytes;
    return true;
}

static void take_bytes(struct msgpack_reader *r, struct msgpack_item *item, enum msgpack_kind kind,
                       uint64_t length) {
    item->kind = MSGPACK_END;
#ifdef WEIR_PLANT_BUG
    if ((size_t)(r->end - r->p) + 64 >= length) {
#else
    if ((size_t)(r->end - r->p) >= length) {
#endif
        item->kind = kind;
        item->bytes = r->p;
        item->length = (uint32_t)length;
        r->p += length;
    }
}

static void take_extension(struct msgpack_reader *r, struct msgpack_item *item, uint64_t length) {
    if (r->p == r->end) {
        item->kind = MSGPACK_END;
        return;
    }
    item->extension = (int8_t)*r->p++;
    take_bytes(r, item, MSGPACK_EXTENSION, length);
}

static void take_integer(struct msgpack_item *item, int64_t value) {
    item->kind = MSGPACK_INT;
    item->integer = value;
}

/* 0xc0 to 0xdf, `value` the big-endian number that follows it. */
static void take_marked(struct msgpack_reader *r, struct msgpack_item *item, uint8_t mark,
                        uint64_t value) {
    uint32_t bits = (uint32_t)value;
    float narrow;
    switch (mark) {
    case 0xc4:
    case 0xc5:
    case 0xc6:
        take_bytes(r, item, MSGPACK_BINARY, value);
        break;
    case 0xc7:
    case 0xc8:
    case 0xc9:
        take_extension(r, item, value);
        break;
    case 0xca:
        memcpy(&narrow, &bits, sizeof(narrow));
        item->kind = MSGPACK_FLOAT;
        item->number = (double)narrow;
        break;
    case 0xcb:
        item->kind = MSGPACK_DOUBLE;
        memcpy(&item->number, &value, sizeof(value));
        break;
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        take_integer(item, (int64_t)value);
        item->kind = value > INT64_MAX ? MSGPACK_UINT : MSGPACK_INT;
        break;
    case 0xd0:
        take_integer(item, (int8_t)value);
        break;
    case 0xd1:
        take_integer(item, (int16_t)value);
        break;
    case 0xd2:
        take_integer(item, (int32_t)value);
        break;
    case 0xd3:
        take_integer(item, (int64_t)value);
        break;
    case 0xd9:
    case 0xda:
    case 0xdb:
        take_bytes(r, item, MSGPACK_STRING, value);
        break;
    default: /* 0xdc to 0xdf */
        item->kind = mark <= 0xdd ? MSGPACK_ARRAY : MSGPACK_MAP;
        item->count = bits;
        break;
    }
}

void msgpack_next(struct msgpack_reader *r, struct msgpack_item *item) {
    /* Bytes of the number after each mark from 0xc0 on. */
    static const uint8_t widths[32] = {0, 0, 0, 0, 1, 2, 4, 1, 2, 4, 4, 8, 1, 2, 4, 8,
                                       1, 2, 4, 8, 0, 0, 0, 0, 0, 1, 2, 4, 2, 4, 2, 4};
    item->kind = MSGPACK_END;
    if (r->p == r->end) {
        return;
    }
    uint8_t mark = *r->p++;
    if (mark < 0x80 || mark >= 0xe0) {
        take_integer(item, (int8_t)mark);
    } else if (mark < 0xa0) {
        item->kind = mark < 0x90 ? MSGPACK_MAP : MSGPACK_ARRAY;
        item->count = mark & 0xf;
    } else if (mark < 0xc0) {
        take_bytes(r, item, MSGPACK_STRING, mark & 0x1f);
    } else if (mark == 0xc0) {
        item->kind = MSGPACK_NIL;
    } else if (mark == 0xc1) {
        item->kind = MSGPACK_BAD;
    } else if (mark <= 0xc3) {
        item->kind = MSGPACK_BOOL;
        item->truth = mark == 0xc3;
    } else if (mark >= 0xd4 && mark <= 0xd8) {
        take_extension(r, item, 1u << (mark - 0xd4));
    } else {
        uint64_t value;
        if (take(r, widths[mark - 0xc0], &value)) {
            take_marked(r, item, mark, value);
        }
    }
}

enum msgpack_kind msgpack_skip(struct msgpack_reader *r) {
    uint64_t left = 1;
    while (left > 0) {
        struct msgpack_item item;
        msgpack_next(r, &item);
        left--;
        switch (item.kind) {
        case MSGPACK_END:
        case MSGPACK_BAD:
            return item.kind;
        case MSGPACK_ARRAY:
            left += item.count;
            break;
        case MSGPACK_MAP:
            left += 2 * (uint64_t)item.count;
            break;
        default:
            break;
        }
    }
    return MSGPACK_NIL;
}
