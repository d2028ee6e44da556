#include "decode/json/json_text.h"

#include <string.h>

#include "core/time.h"

static int hex4(const uint8_t *p) {
    int value = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t c = p[i];
        int digit = c >= '0' && c <= '9'                     ? c - '0'
                    : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
                                                             : -1;
        if (digit < 0) {
            return -1;
        }
        value = value * 16 + digit;
    }
    return value;
}

static size_t put_utf8(uint8_t *out, uint32_t c) {
    if (c < 0x80) {
        out[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (uint8_t)(0xc0 | c >> 6);
        out[1] = (uint8_t)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (uint8_t)(0xe0 | c >> 12);
        out[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | c >> 18);
    out[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (c & 0x3f));
    return 4;
}

/* \uXXXX at text[i] (after the u), with its second half where it is a high surrogate. Returns the
 * code point and the bytes of text used after the u, or -1. */
static int32_t read_code_point(const uint8_t *text, size_t length, size_t i, size_t *used) {
    if (length - i < 4) {
        return -1;
    }
    int32_t high = hex4(text + i);
    *used = 4;
    if (high < 0xd800 || high > 0xdfff) {
        return high;
    }
    if (high > 0xdbff || length - i < 10 || text[i + 4] != '\\' || text[i + 5] != 'u') {
        return -1;
    }
    int32_t low = hex4(text + i + 6);
    if (low < 0xdc00 || low > 0xdfff) {
        return -1;
    }
    *used = 10;
    return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
}

int64_t json_unescape(const uint8_t *text, size_t length, uint8_t *out, size_t *bad) {
    uint8_t *to = out;
    size_t i = 0;
    while (i < length) {
        const uint8_t *slash = memchr(text + i, '\\', length - i);
        size_t plain = slash == NULL ? length - i : (size_t)(slash - (text + i));
        memmove(to, text + i, plain);
        to += plain;
        i += plain;
        if (slash == NULL) {
            break;
        }
        *bad = i;
        if (i + 1 >= length) {
            return -1;
        }
        uint8_t c = text[i + 1];
        i += 2;
        switch (c) {
        case '"':
        case '\\':
        case '/':
            *to++ = c;
            break;
        case 'b':
            *to++ = '\b';
            break;
        case 'f':
            *to++ = '\f';
            break;
        case 'n':
            *to++ = '\n';
            break;
        case 'r':
            *to++ = '\r';
            break;
        case 't':
            *to++ = '\t';
            break;
        case 'u': {
            size_t used = 0;
            int32_t point = read_code_point(text, length, i, &used);
            if (point < 0) {
                return -1;
            }
            to += put_utf8(to, (uint32_t)point);
            i += used;
            break;
        }
        default:
            return -1;
        }
    }
    return to - out;
}

/* --- times -------------------------------------------------------------------------------- */

static bool two_digits(const uint8_t *p, int *value) {
    unsigned tens = (unsigned)p[0] - '0';
    unsigned ones = (unsigned)p[1] - '0';
    *value = (int)(tens * 10 + ones);
    return tens < 10 && ones < 10;
}

enum json_time_error json_parse_date(const uint8_t *text, size_t length, int32_t *days) {
    static const uint8_t month_days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int century;
    int year;
    int month;
    int day;
    if (length != 10 || !two_digits(text, &century) || !two_digits(text + 2, &year) ||
        text[4] != '-' || !two_digits(text + 5, &month) || text[7] != '-' ||
        !two_digits(text + 8, &day)) {
        return JSON_TIME_MALFORMED;
    }
    year += century * 100;
#ifdef WEIR_PLANT_BUG /* tools/fuzz.py proves that the fuzzer would find this */
    month += month > 12 && month_days[month] == 0;
#endif
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > month_days[month - 1]) {
        return JSON_TIME_RANGE;
    }
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (month == 2 && day == 29 && !leap) {
        return JSON_TIME_RANGE;
    }
    *days = (int32_t)weir_days_from_civil(year, month, day);
    return JSON_TIME_OK;
}

/* "Z", "±hh", "±hhmm", "±hh:mm" to seconds east. */
static enum json_time_error parse_offset(const uint8_t *p, size_t length, int *seconds) {
    *seconds = 0;
    if (length == 1 && (*p == 'Z' || *p == 'z')) {
        return JSON_TIME_OK;
    }
    int hours = 0;
    int minutes = 0;
    if ((*p != '+' && *p != '-') || length < 3 || !two_digits(p + 1, &hours)) {
        return JSON_TIME_MALFORMED;
    }
    size_t at = length == 6 && p[3] == ':' ? 4 : 3;
    if (length != 3 && (length != at + 2 || !two_digits(p + at, &minutes))) {
        return JSON_TIME_MALFORMED;
    }
    if (hours > 23 || minutes > 59) {
        return JSON_TIME_RANGE;
    }
    *seconds = (hours * 60 + minutes) * 60 * (*p == '-' ? -1 : 1);
    return JSON_TIME_OK;
}

/* Digits after the point, exact in units of 1/per_second. */
static enum json_time_error parse_fraction(const uint8_t **text, const uint8_t *end,
                                           int64_t per_second, int64_t *value) {
    const uint8_t *p = *text;
    int64_t unit = per_second;
    int64_t sum = 0;
    const uint8_t *begin = p;
    for (; p < end && (uint8_t)(*p - '0') < 10; p++) {
        unit /= 10;
        if (unit == 0 && *p != '0') {
            return JSON_TIME_TOO_PRECISE;
        }
        sum += unit * (*p - '0');
    }
    if (p == begin) {
        return JSON_TIME_MALFORMED;
    }
    *text = p;
    *value = sum;
    return JSON_TIME_OK;
}

enum json_time_error json_parse_timestamp(const uint8_t *text, size_t length, int64_t per_second,
                                          bool zoned, int64_t *value) {
    const uint8_t *end = text + length;
    int32_t days;
    int hour;
    int minute;
    int second = 0;
    if (length < 16 || (text[10] != 'T' && text[10] != 't' && text[10] != ' ') ||
        !two_digits(text + 11, &hour) || text[13] != ':' || !two_digits(text + 14, &minute)) {
        return JSON_TIME_MALFORMED;
    }
    enum json_time_error error = json_parse_date(text, 10, &days);
    if (error != JSON_TIME_OK) {
        return error;
    }
    const uint8_t *p = text + 16;
    int64_t fraction = 0;
    if (p < end && *p == ':') {
        if (end - p < 3 || !two_digits(p + 1, &second)) {
            return JSON_TIME_MALFORMED;
        }
        p += 3;
        if (p < end && *p == '.') {
            p++;
            error = parse_fraction(&p, end, per_second, &fraction);
            if (error != JSON_TIME_OK) {
                return error;
            }
        }
    }
    if (hour > 23 || minute > 59 || second > 59) {
        return JSON_TIME_RANGE;
    }
    int offset = 0;
    if (p == end) {
        if (zoned) {
            return JSON_TIME_NO_OFFSET;
        }
    } else {
        error = parse_offset(p, (size_t)(end - p), &offset);
        if (error != JSON_TIME_OK) {
            return error;
        }
        if (!zoned) {
            return JSON_TIME_HAS_OFFSET;
        }
    }
    int64_t seconds = (int64_t)days * 86400 + (hour * 60 + minute) * 60 + second - offset;
    if (__builtin_mul_overflow(seconds, per_second, value) ||
        __builtin_add_overflow(*value, fraction, value)) {
        return JSON_TIME_RANGE;
    }
    return JSON_TIME_OK;
}

const char *json_time_error_text(enum json_time_error error) {
    switch (error) {
    case JSON_TIME_NO_OFFSET:
        return "has no offset from UTC (write Z or +hh:mm)";
    case JSON_TIME_HAS_OFFSET:
        return "has an offset, but the field is a local time";
    case JSON_TIME_TOO_PRECISE:
        return "has more fractional digits than the field holds";
    case JSON_TIME_RANGE:
        return "is out of range";
    default:
        return "is not ISO 8601 (like 2025-03-29T06:00:00Z)";
    }
}

/* --- base64 ------------------------------------------------------------------------------- */

static int base64_digit(uint8_t c) {
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int64_t json_base64(const uint8_t *text, size_t length, uint8_t *out) {
    if (length % 4 != 0) {
        return -1;
    }
    uint8_t *to = out;
    for (size_t i = 0; i < length; i += 4) {
        bool last = i + 4 == length;
        int padding = !last || text[i + 3] != '=' ? 0 : text[i + 2] == '=' ? 2 : 1;
        uint32_t bits = 0;
        for (int j = 0; j < 4; j++) {
            int digit = j < 4 - padding ? base64_digit(text[i + (size_t)j]) : 0;
            if (digit < 0) {
                return -1;
            }
            bits = bits << 6 | (uint32_t)digit;
        }
        /* Bits that padding throws away must be zero: one text for each value. */
        if (padding > 0 && (bits & (padding == 2 ? 0xffffu : 0xffu)) != 0) {
            return -1;
        }
        *to++ = (uint8_t)(bits >> 16);
        if (padding < 2) {
            *to++ = (uint8_t)(bits >> 8);
        }
        if (padding < 1) {
            *to++ = (uint8_t)bits;
        }
    }
    return to - out;
}

/* --- UTF-8 -------------------------------------------------------------------------------- */

int64_t json_find_bad_utf8(const uint8_t *text, size_t length) {
    size_t i = 0;
    while (i < length) {
        uint64_t eight;
        if (length - i >= sizeof(eight)) { /* most texts are ASCII */
            memcpy(&eight, text + i, sizeof(eight));
            if ((eight & UINT64_C(0x8080808080808080)) == 0) {
                i += sizeof(eight);
                continue;
            }
        }
        uint8_t c = text[i];
        size_t extra = c < 0x80 ? 0 : c >= 0xc2 && c <= 0xdf ? 1 : (c & 0xf0) == 0xe0 ? 2 : 3;
        if ((c >= 0x80 && c < 0xc2) || c > 0xf4 || length - i <= extra) {
            return (int64_t)i;
        }
        for (size_t j = 1; j <= extra; j++) {
            if ((text[i + j] & 0xc0) != 0x80) {
                return (int64_t)i;
            }
        }
        if ((c == 0xe0 && text[i + 1] < 0xa0) || (c == 0xed && text[i + 1] > 0x9f) ||
            (c == 0xf0 && text[i + 1] < 0x90) || (c == 0xf4 && text[i + 1] > 0x8f)) {
            return (int64_t)i;
        }
        i += extra + 1;
    }
    return -1;
}
