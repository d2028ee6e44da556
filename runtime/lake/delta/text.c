#include "lake/delta/text.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int delta_text_decimal(struct weir_buffer *out, uint64_t lo, int64_t hi, int scale) {
    unsigned __int128 value = ((unsigned __int128)(uint64_t)hi << 64) | lo;
    bool negative = hi < 0;
    if (negative) {
        value = -value;
    }
    char digits[64];
    int at = (int)sizeof(digits);
    for (int i = 0; value != 0 || i <= scale; i++) {
        if (i == scale && scale > 0) {
            digits[--at] = '.';
        }
        digits[--at] = (char)('0' + (int)(value % 10));
        value /= 10;
    }
    if (negative) {
        digits[--at] = '-';
    }
    return weir_buffer_append(out, digits + at, sizeof(digits) - (size_t)at);
}

/* Days since the epoch to a civil date (proleptic Gregorian), by eras of 400 years that begin on
 * 1 March, so that the leap day is the last of its year. */
static void civil(int64_t days, int64_t *year, int *month, int *day) {
    int64_t shifted = days + 719468;
    int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    int64_t of_era = shifted - era * 146097;
    int64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * y + y / 4 - y / 100);
    int64_t m = (5 * of_year + 2) / 153;
    *day = (int)(of_year - (153 * m + 2) / 5 + 1);
    *month = (int)(m < 10 ? m + 3 : m - 9);
    *year = y + era * 400 + (*month <= 2);
}

static int64_t days_of(int64_t year, int month, int day) {
    int64_t y = year - (month <= 2);
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

int delta_text_date(struct weir_buffer *out, int64_t days, bool *plain) {
    int64_t year;
    int month;
    int day;
    civil(days, &year, &month, &day);
    bool fits = year >= 0 && year <= 9999;
    if (plain != NULL) {
        *plain = fits;
    }
    return weir_buffer_printf(out, fits ? "%04" PRId64 "-%02d-%02d" : "%+05" PRId64 "-%02d-%02d",
                              year, month, day);
}

int delta_text_timestamp(struct weir_buffer *out, int64_t ticks, int digits, bool utc,
                         bool *plain) {
    int64_t per_second = digits == 3 ? 1000 : digits == 6 ? 1000000 : 1000000000;
    int64_t seconds = ticks / per_second;
    int64_t fraction = ticks % per_second;
    if (fraction < 0) {
        fraction += per_second;
        seconds--;
    }
    int64_t days = seconds / 86400;
    int64_t of_day = seconds % 86400;
    if (of_day < 0) {
        of_day += 86400;
        days--;
    }
    int rc = delta_text_date(out, days, plain);
    if (rc == WEIR_OK) {
        rc = weir_buffer_printf(out, "T%02d:%02d:%02d.%0*" PRId64 "%s", (int)(of_day / 3600),
                                (int)(of_day / 60 % 60), (int)(of_day % 60), digits, fraction,
                                utc ? "Z" : "");
    }
    return rc;
}

int delta_text_double(struct weir_buffer *out, double value, bool is_float) {
    char text[40];
    if (isnan(value)) {
        return weir_buffer_append_text(out, "NaN");
    }
    if (isinf(value)) {
        return weir_buffer_append_text(out, value > 0 ? "Infinity" : "-Infinity");
    }
    for (int precision = is_float ? 6 : 15;; precision++) {
        snprintf(text, sizeof(text), "%.*g", precision, value);
        double back = strtod(text, NULL);
        if (is_float ? (float)back == (float)value : back == value) {
            break;
        }
        if (precision >= 17) {
            break;
        }
    }
    int rc = weir_buffer_append_text(out, text);
    if (rc == WEIR_OK && strpbrk(text, ".e") == NULL) {
        rc = weir_buffer_append_text(out, ".0");
    }
    return rc;
}

int delta_text_base64(struct weir_buffer *out, const void *bytes, size_t size) {
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *at = bytes;
    int rc = weir_buffer_reserve(out, size / 3 * 4 + 4);
    for (size_t i = 0; i < size && rc == WEIR_OK; i += 3) {
        uint32_t word = (uint32_t)at[i] << 16;
        word |= i + 1 < size ? (uint32_t)at[i + 1] << 8 : 0;
        word |= i + 2 < size ? at[i + 2] : 0;
        char quad[4] = {letters[word >> 18], letters[(word >> 12) & 63],
                        i + 1 < size ? letters[(word >> 6) & 63] : '=',
                        i + 2 < size ? letters[word & 63] : '='};
        rc = weir_buffer_append(out, quad, 4);
    }
    return rc;
}

bool delta_parse_decimal(const char *text, int precision, int scale, __int128 *out) {
    bool negative = *text == '-';
    unsigned __int128 value = 0;
    int digits = 0; /* after leading zeros */
    int decimals = -1;
    int exponent = 0;
    if (*text == '-' || *text == '+') {
        text++;
    }
    bool any = false;
    for (; (*text >= '0' && *text <= '9') || (*text == '.' && decimals < 0); text++) {
        if (*text == '.') {
            decimals = 0;
            continue;
        }
        any = true;
        digits += digits > 0 || *text != '0';
        if (digits > 38) {
            return false;
        }
        value = value * 10 + (unsigned)(*text - '0');
        decimals += decimals >= 0;
    }
    if (*text == 'e' || *text == 'E') {
        char *end;
        long e = strtol(text + 1, &end, 10);
        if (end == text + 1 || e < -100 || e > 100) {
            return false;
        }
        exponent = (int)e;
        text = end;
    }
    int shift = scale + exponent - (decimals > 0 ? decimals : 0);
    for (; shift > 0 && value != 0; shift--) {
        if (value > (unsigned __int128)-1 / 10) {
            return false;
        }
        value *= 10;
    }
    for (; shift < 0; shift++) {
        if (value % 10 != 0) {
            return false;
        }
        value /= 10;
    }
    unsigned __int128 limit = 1;
    for (int i = 0; i < precision && i < 38; i++) {
        limit *= 10;
    }
    if (!any || *text != '\0' || value >= limit) {
        return false;
    }
    *out = negative ? -(__int128)value : (__int128)value;
    return true;
}

bool delta_parse_date(const char *text, int32_t *days) {
    int year;
    int month;
    int day;
    int used = 0;
    if (sscanf(text, "%8d-%2d-%2d%n", &year, &month, &day, &used) != 3 || text[used] != '\0' ||
        month < 1 || month > 12 || day < 1 || day > 31) {
        return false;
    }
    *days = (int32_t)days_of(year, month, day);
    return true;
}

bool delta_parse_timestamp(const char *text, int64_t *us) {
    int year;
    int month;
    int day;
    int hour = 0;
    int minute = 0;
    int second = 0;
    int used = 0;
    if (sscanf(text, "%8d-%2d-%2d%n", &year, &month, &day, &used) != 3 || month < 1 || month > 12 ||
        day < 1 || day > 31) {
        return false;
    }
    text += used;
    int64_t fraction = 0;
    if (*text == 'T' || *text == ' ') {
        text++;
        used = 0;
        if (sscanf(text, "%2d:%2d%n", &hour, &minute, &used) != 2 || hour > 23 || minute > 59 ||
            hour < 0 || minute < 0) {
            return false;
        }
        text += used;
        if (*text == ':') {
            used = 0;
            if (sscanf(text, ":%2d%n", &second, &used) != 1 || second > 59 || second < 0) {
                return false;
            }
            text += used;
        }
        if (*text == '.') {
            int64_t unit = 100000;
            for (text++; *text >= '0' && *text <= '9'; text++) {
                fraction += (*text - '0') * unit;
                unit /= 10;
            }
        }
    }
    int64_t zone_s = 0;
    if (*text == 'Z') {
        text++;
    } else if (*text == '+' || *text == '-') {
        int zone_hour;
        int zone_minute = 0;
        used = 0;
        int sign = *text == '-' ? -1 : 1;
        if (sscanf(text + 1, "%2d:%2d%n", &zone_hour, &zone_minute, &used) != 2 || zone_hour < 0 ||
            zone_hour > 18 || zone_minute < 0 || zone_minute > 59) {
            return false;
        }
        text += 1 + used;
        zone_s = sign * (zone_hour * 3600 + zone_minute * 60);
    }
    if (*text != '\0') {
        return false;
    }
    int64_t seconds =
        days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - zone_s;
    return !__builtin_mul_overflow(seconds, (int64_t)1000000, us) &&
           !__builtin_add_overflow(*us, fraction, us);
}

size_t delta_text_utf8_length(const unsigned char *text, size_t left) {
    unsigned char c = text[0];
    if (c < 0x80) {
        return 1;
    }
    if (c >= 0xC2 && c <= 0xDF) {
        return left >= 2 && (text[1] & 0xC0) == 0x80 ? 2 : 0;
    }
    if (c >= 0xE0 && c <= 0xEF) {
        if (left < 3 || (text[1] & 0xC0) != 0x80 || (text[2] & 0xC0) != 0x80 ||
            (c == 0xE0 && text[1] < 0xA0) || (c == 0xED && text[1] > 0x9F)) {
            return 0;
        }
        return 3;
    }
    if (c >= 0xF0 && c <= 0xF4) {
        if (left < 4 || (text[1] & 0xC0) != 0x80 || (text[2] & 0xC0) != 0x80 ||
            (text[3] & 0xC0) != 0x80 || (c == 0xF0 && text[1] < 0x90) ||
            (c == 0xF4 && text[1] > 0x8F)) {
            return 0;
        }
        return 4;
    }
    return 0;
}

bool delta_text_is_utf8(const char *text, size_t length) {
    const unsigned char *bytes = (const unsigned char *)text;
    for (size_t i = 0; i < length;) {
        uint64_t eight;
        if (i + 8 <= length) { /* paths and statistics are ASCII nearly always */
            memcpy(&eight, bytes + i, 8);
            if ((eight & UINT64_C(0x8080808080808080)) == 0) {
                i += 8;
                continue;
            }
        }
        size_t n = delta_text_utf8_length(bytes + i, length - i);
        if (n == 0) {
            return false;
        }
        i += n;
    }
    return true;
}
