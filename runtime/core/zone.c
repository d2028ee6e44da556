/* Time zones from the system's tzdata (RFC 8536, TZif version 2 and later). The rule in a file's
 * footer is unrolled for 400 years beyond its last transition, after which the Gregorian calendar
 * repeats exactly; later instants are looked up that many cycles earlier. Zones are read once and
 * kept for the life of the process, so a pointer to one is always good. */
#include <ctype.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/time.h"

#define ZONE_DIRECTORY "/usr/share/zoneinfo"
#define ZONE_FILE_BYTES_MAX 65536
#define ZONES_MAX 1024 /* distinct names a process may ask for */
#define TRANSITIONS_MAX 8192
#define TYPES_MAX 256
#define CYCLE_SECONDS (146097ll * 86400)

struct zone_type {
    int32_t offset;
    char abbreviation[8];
};

struct weir_zone {
    struct weir_zone *next;
    char name[64];
    int32_t count;
    int32_t type_count;
    int32_t first_type; /* before the first transition */
    bool has_rule;      /* the last 400 years of transitions repeat */
    _Atomic int32_t hint;
    int64_t *at; /* count transitions, UTC seconds, ascending */
    uint8_t *type;
    struct zone_type types[TYPES_MAX];
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct weir_zone *_Atomic zones;
static int zone_count;

/* --- the file ------------------------------------------------------------------------------- */

static uint32_t big32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int64_t big64(const uint8_t *p) {
    return (int64_t)((uint64_t)big32(p) << 32 | big32(p + 4));
}

struct header {
    uint32_t isut;
    uint32_t isstd;
    uint32_t leap;
    uint32_t times;
    uint32_t types;
    uint32_t chars;
};

#define HEADER_BYTES 44

static bool read_header(const uint8_t *data, size_t size, struct header *h) {
    if (size < HEADER_BYTES || memcmp(data, "TZif", 4) != 0 || data[4] < '2') {
        return false;
    }
    h->isut = big32(data + 20);
    h->isstd = big32(data + 24);
    h->leap = big32(data + 28);
    h->times = big32(data + 32);
    h->types = big32(data + 36);
    h->chars = big32(data + 40);
    return h->isut <= TYPES_MAX && h->isstd <= TYPES_MAX && h->leap <= 1000 &&
           h->times <= TRANSITIONS_MAX && h->types >= 1 && h->types <= TYPES_MAX &&
           h->chars <= 4096;
}

static size_t block_bytes(const struct header *h, size_t time_bytes) {
    return h->times * (time_bytes + 1) + h->types * 6 + h->chars + h->leap * (time_bytes + 4) +
           h->isstd + h->isut;
}

/* --- the footer: a POSIX TZ rule ---------------------------------------------------------------
 */

struct rule_day {
    char kind; /* 'M', 'J' or '0' */
    int32_t month;
    int32_t week;
    int32_t day;
    int32_t seconds; /* local time of day */
};

struct rule {
    struct zone_type standard;
    struct zone_type summer;
    bool has_summer;
    struct rule_day start;
    struct rule_day end;
};

static bool rule_name(const char **text, char *name, size_t size) {
    bool is_quoted = **text == '<';
    size_t n = 0;
    *text += is_quoted;
    while (is_quoted ? (**text != '>' && **text != '\0') : isalpha((unsigned char)**text) != 0) {
        if (n + 1 < size) {
            name[n++] = **text;
        }
        (*text)++;
    }
    name[n] = '\0';
    if (is_quoted && **text == '>') {
        (*text)++;
    }
    return n > 0;
}

static bool rule_number(const char **text, int32_t *value) {
    if (!isdigit((unsigned char)**text)) {
        return false;
    }
    for (*value = 0; isdigit((unsigned char)**text); (*text)++) {
        if (*value > 100000) {
            return false;
        }
        *value = *value * 10 + (**text - '0');
    }
    return true;
}

/* [+-]hh[:mm[:ss]] */
static bool rule_time(const char **text, int32_t *seconds) {
    int32_t sign = **text == '-' ? -1 : 1;
    int32_t part = 0;
    *text += **text == '-' || **text == '+';
    if (!rule_number(text, &part) || part > 167) {
        return false;
    }
    *seconds = part * 3600;
    for (int32_t unit = 60; unit >= 1 && **text == ':'; unit /= 60) {
        (*text)++;
        if (!rule_number(text, &part) || part > 59) {
            return false;
        }
        *seconds += part * unit;
    }
    *seconds *= sign;
    return true;
}

static bool rule_date(const char **text, struct rule_day *day) {
    if (**text != ',') {
        return false;
    }
    (*text)++;
    day->kind = isdigit((unsigned char)**text) ? '0' : **text;
    *text += day->kind != '0';
    if (day->kind == 'M') {
        bool ok = rule_number(text, &day->month) && *(*text)++ == '.' &&
                  rule_number(text, &day->week) && *(*text)++ == '.' &&
                  rule_number(text, &day->day);
        if (!ok || day->month < 1 || day->month > 12 || day->week < 1 || day->week > 5 ||
            day->day > 6) {
            return false;
        }
    } else if ((day->kind != 'J' && day->kind != '0') || !rule_number(text, &day->day) ||
               day->day > 365) {
        return false;
    }
    day->seconds = 7200;
    if (**text == '/') {
        (*text)++;
        return rule_time(text, &day->seconds);
    }
    return true;
}

static bool read_rule(const char *text, struct rule *rule) {
    int32_t west;
    memset(rule, 0, sizeof(*rule));
    if (!rule_name(&text, rule->standard.abbreviation, sizeof(rule->standard.abbreviation)) ||
        !rule_time(&text, &west)) {
        return false;
    }
    rule->standard.offset = -west;
    if (*text == '\0') {
        return true;
    }
    if (!rule_name(&text, rule->summer.abbreviation, sizeof(rule->summer.abbreviation))) {
        return false;
    }
    rule->has_summer = true;
    rule->summer.offset = rule->standard.offset + 3600;
    if (*text != ',') {
        if (!rule_time(&text, &west)) {
            return false;
        }
        rule->summer.offset = -west;
    }
    return rule_date(&text, &rule->start) && rule_date(&text, &rule->end) && *text == '\0';
}

/* Local seconds of a rule's day in a year. */
static int64_t rule_at(const struct rule_day *day, int64_t year) {
    int64_t days;
    if (day->kind == 'M') {
        int64_t first = weir_days_from_civil(year, day->month, 1);
        int64_t weekday = (first + 4) - weir_floor_div(first + 4, 7) * 7; /* Sunday 0 */
        int64_t date = (day->day - weekday + 7) % 7 + (day->week - 1) * 7;
        if (date >= weir_days_in_month(year, day->month)) {
            date -= 7;
        }
        days = first + date;
    } else {
        days = weir_days_from_civil(year, 1, 1) + day->day;
        if (day->kind == 'J') { /* 1..365, 29 February never counts */
            bool has_leap_day = weir_days_in_month(year, 2) == 29;
            days += (has_leap_day && day->day >= 60) - 1;
        }
    }
    return days * 86400 + day->seconds;
}

static int32_t add_type(struct weir_zone *zone, const struct zone_type *type) {
    for (int32_t i = 0; i < zone->type_count; i++) {
        if (zone->types[i].offset == type->offset &&
            strcmp(zone->types[i].abbreviation, type->abbreviation) == 0) {
            return i;
        }
    }
    if (zone->type_count == TYPES_MAX) {
        return -1;
    }
    zone->types[zone->type_count] = *type;
    return zone->type_count++;
}

static bool unroll(struct weir_zone *zone, const struct rule *rule) {
    int32_t standard = add_type(zone, &rule->standard);
    int32_t summer = rule->has_summer ? add_type(zone, &rule->summer) : standard;
    if (standard < 0 || summer < 0) {
        return false;
    }
    int64_t last = zone->count > 0 ? zone->at[zone->count - 1] : INT64_MIN;
    if (!rule->has_summer) {
        if (zone->count == 0) {
            zone->first_type = standard;
        }
        return true; /* the last transition already leads there */
    }
    int64_t year = zone->count > 0 ? weir_civil_from_days(weir_floor_div(last, 86400)).year : 1970;
    for (int64_t end = year + 402; year < end; year++) {
        int64_t starts = rule_at(&rule->start, year) - rule->standard.offset;
        int64_t ends = rule_at(&rule->end, year) - rule->summer.offset;
        bool summer_first = starts < ends;
        for (int i = 0; i < 2; i++) {
            bool to_summer = (i == 0) == summer_first;
            int64_t at = to_summer ? starts : ends;
            if (at > last) {
                zone->at[zone->count] = at;
                zone->type[zone->count++] = (uint8_t)(to_summer ? summer : standard);
                last = at;
            }
        }
    }
    zone->has_rule = true;
    return true;
}

static bool parse_zone(struct weir_zone *zone, const uint8_t *data, size_t size) {
    struct header h;
    if (!read_header(data, size, &h)) {
        return false;
    }
    size_t skip = HEADER_BYTES + block_bytes(&h, 4);
    if (skip > size || !read_header(data + skip, size - skip, &h)) {
        return false;
    }
    data += skip + HEADER_BYTES;
    size -= skip + HEADER_BYTES;
    size_t block = block_bytes(&h, 8);
    if (block > size) {
        return false;
    }
    const uint8_t *types = data + h.times * 9;
    const char *names = (const char *)types + h.types * 6;
    for (uint32_t i = 0; i < h.types; i++) {
        struct zone_type *type = &zone->types[i];
        uint32_t name = types[i * 6 + 5];
        type->offset = (int32_t)big32(types + i * 6);
        if (name >= h.chars || type->offset < -172800 || type->offset > 172800) {
            return false;
        }
        size_t room = h.chars - name;
        snprintf(type->abbreviation, sizeof(type->abbreviation), "%.*s", (int)room, names + name);
    }
    zone->type_count = (int32_t)h.types;
    zone->at = malloc(sizeof(int64_t) * (h.times + 1000));
    zone->type = malloc(h.times + 1000);
    if (zone->at == NULL || zone->type == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < h.times; i++) {
        zone->at[i] = big64(data + i * 8);
        zone->type[i] = data[h.times * 8 + i];
        if (zone->type[i] >= h.types || (i > 0 && zone->at[i] <= zone->at[i - 1])) {
            return false;
        }
    }
    zone->count = (int32_t)h.times;
    char footer[128];
    size_t left = size - block;
    const uint8_t *rule_text = data + block;
    if (left >= 2 && rule_text[0] == '\n') {
        const uint8_t *end = memchr(rule_text + 1, '\n', left - 1);
        size_t length = end != NULL ? (size_t)(end - rule_text) - 1 : 0;
        struct rule rule;
        if (length > 0 && length < sizeof(footer)) {
            memcpy(footer, rule_text + 1, length);
            footer[length] = '\0';
            return read_rule(footer, &rule) && unroll(zone, &rule);
        }
    }
    return true;
}

static bool read_zone(struct weir_zone *zone) {
    char path[128];
    uint8_t *data = malloc(ZONE_FILE_BYTES_MAX);
    bool ok = false;
    snprintf(path, sizeof(path), ZONE_DIRECTORY "/%s", zone->name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && data != NULL) {
        size_t size = 0;
        ssize_t got = 1;
        while (got > 0 && size < ZONE_FILE_BYTES_MAX) {
            got = read(fd, data + size, ZONE_FILE_BYTES_MAX - size);
            size += got > 0 ? (size_t)got : 0;
        }
        ok = got == 0 && parse_zone(zone, data, size);
    }
    if (fd >= 0) {
        close(fd);
    }
    free(data);
    return ok;
}

/* --- look-up -------------------------------------------------------------------------------- */

/* "UTC", "Z", "+02:00", "-0330" */
static bool fixed_zone(struct weir_zone *zone) {
    const char *text = zone->name;
    zone->type_count = 1;
    if (strcmp(text, "UTC") == 0 || strcmp(text, "Z") == 0) {
        memcpy(zone->types[0].abbreviation, "UTC", 4);
        return true;
    }
    if (text[0] != '+' && text[0] != '-') {
        return false;
    }
    int hours = 0;
    int minutes = 0;
    int used = 0;
    if (sscanf(text + 1, "%2d:%2d%n", &hours, &minutes, &used) < 2) {
        used = 0;
        sscanf(text + 1, "%2d%2d%n", &hours, &minutes, &used);
    }
    if (used == 0 || text[1 + used] != '\0' || hours < 0 || hours > 23 || minutes < 0 ||
        minutes > 59) {
        return false;
    }
    zone->types[0].offset = (hours * 3600 + minutes * 60) * (text[0] == '-' ? -1 : 1);
    snprintf(zone->types[0].abbreviation, sizeof(zone->types[0].abbreviation), "%.7s", text);
    return true;
}

static const struct weir_zone *find_known(const char *name, size_t length) {
    for (const struct weir_zone *z = atomic_load(&zones); z != NULL; z = z->next) {
        if (strlen(z->name) == length && memcmp(z->name, name, length) == 0) {
            return z;
        }
    }
    return NULL;
}

static bool is_zone_name(const char *name, int64_t length) {
    if (length < 1 || length >= (int64_t)sizeof(((struct weir_zone *)0)->name)) {
        return false;
    }
    for (int64_t i = 0; i < length; i++) {
        if (!isalnum((unsigned char)name[i]) && strchr("_+-/:", name[i]) == NULL) {
            return false; /* no dots: no way out of the folder */
        }
        if (name[i] == '\0') {
            return false;
        }
    }
    return name[0] != '/';
}

const struct weir_zone *weir_zone_find(const char *name, int64_t length) {
    if (!is_zone_name(name, length)) {
        return NULL;
    }
    const struct weir_zone *known = find_known(name, (size_t)length);
    if (known != NULL) {
        return known;
    }
    pthread_mutex_lock(&mutex);
    known = find_known(name, (size_t)length);
    if (known == NULL && zone_count < ZONES_MAX) {
        struct weir_zone *zone = calloc(1, sizeof(*zone));
        if (zone != NULL) {
            memcpy(zone->name, name, (size_t)length);
            if (fixed_zone(zone) || read_zone(zone)) {
                zone->next = atomic_load(&zones);
                atomic_store(&zones, zone);
                zone_count++;
                known = zone;
            } else {
                free(zone->at);
                free(zone->type);
                free(zone);
            }
        }
    }
    pthread_mutex_unlock(&mutex);
    return known;
}

static const struct zone_type *type_at(const struct weir_zone *zone, int64_t seconds) {
    if (zone->count == 0 || seconds < zone->at[0]) {
        return &zone->types[zone->first_type];
    }
    int64_t last = zone->at[zone->count - 1];
    if (zone->has_rule && seconds >= last) {
        seconds -= ((seconds - last) / CYCLE_SECONDS + 1) * CYCLE_SECONDS;
    }
    /* Rows mostly come in time order. The hint is a guess that is checked, so relaxed is enough;
     * the cast drops const because the hint is no part of the zone's meaning. */
    _Atomic int32_t *hint = (_Atomic int32_t *)(uintptr_t)&zone->hint;
    int32_t low = atomic_load_explicit(hint, memory_order_relaxed);
    if (zone->at[low] <= seconds && (low + 1 == zone->count || seconds < zone->at[low + 1])) {
        return &zone->types[zone->type[low]];
    }
    low = 0;
    for (int32_t high = zone->count; high - low > 1;) {
        int32_t middle = low + (high - low) / 2;
        if (zone->at[middle] <= seconds) {
            low = middle;
        } else {
            high = middle;
        }
    }
    atomic_store_explicit(hint, low, memory_order_relaxed);
    return &zone->types[zone->type[low]];
}

int32_t weir_zone_offset(const struct weir_zone *zone, int64_t utc_seconds) {
    return type_at(zone, utc_seconds)->offset;
}

const char *weir_zone_name(const struct weir_zone *zone) {
    return zone->name;
}

const char *weir_zone_abbreviation(const struct weir_zone *zone, int64_t utc_seconds) {
    return type_at(zone, utc_seconds)->abbreviation;
}

int64_t weir_zone_to_utc(const struct weir_zone *zone, int64_t local_us) {
    int64_t seconds = weir_floor_div(local_us, WEIR_US_PER_SECOND);
    int64_t micros = local_us - seconds * WEIR_US_PER_SECOND;
    int32_t before = weir_zone_offset(zone, seconds - 86400);
    int32_t after = weir_zone_offset(zone, seconds + 86400);
    int64_t early = seconds - (before > after ? before : after);
    int64_t late = seconds - (before > after ? after : before);
    if (weir_zone_offset(zone, early) == seconds - early) {
        return early * WEIR_US_PER_SECOND + micros;
    }
    if (weir_zone_offset(zone, late) == seconds - late) {
        return late * WEIR_US_PER_SECOND + micros;
    }
    /* Skipped: the change lies in (early, late]; find it, since offsets tell the sides apart. */
    while (late - early > 1) {
        int64_t middle = early + (late - early) / 2;
        if (weir_zone_offset(zone, middle) == before) {
            early = middle;
        } else {
            late = middle;
        }
    }
    return late * WEIR_US_PER_SECOND;
}
