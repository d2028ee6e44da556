/* The retail generator: event n of a seed is a pure function of both, so batches, rate and resuming
 * change nothing. A share of the events has one defect each, the kinds rules are written against:
 * nulls, unknown currencies, sums that do not add up, duplicates, late rows, stores out of range.
 */
#include "source/generator.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/clock.h"
#include "decode/avsc.h"
#include "source/internal.h"
#include "source/nexmark.h"

enum {
    POSITION_BYTES = 24,
    POSITION_VERSION = 1,
    SKUS = 500,
    DUPLICATE_REACH = 64, /* a duplicate repeats one of so many events before it */
    IDLE_WAIT_MS = 5,
    JITTER_US = 2000000, /* tills report up to so much apart */
};

#define DEFAULT_START_US INT64_C(1743228000000000) /* 2025-03-29T06:00:00Z */

static const char avsc_text[] =
    "{\"type\": \"record\", \"name\": \"pos_sale\", \"doc\": \"One till line\", \"fields\": [\n"
    "  {\"name\": \"event_id\", \"type\": [\"null\", \"string\"]},\n"
    "  {\"name\": \"store_id\", \"type\": [\"null\", \"int\"]},\n"
    "  {\"name\": \"till\", \"type\": [\"null\", \"int\"]},\n"
    "  {\"name\": \"sku\", \"type\": [\"null\", \"string\"]},\n"
    "  {\"name\": \"qty\", \"type\": [\"null\", \"int\"]},\n"
    "  {\"name\": \"unit_price\", \"type\": [\"null\", {\"type\": \"bytes\", \"logicalType\": "
    "\"decimal\", \"precision\": 12, \"scale\": 2}]},\n"
    "  {\"name\": \"discount\", \"type\": [\"null\", {\"type\": \"bytes\", \"logicalType\": "
    "\"decimal\", \"precision\": 12, \"scale\": 2}]},\n"
    "  {\"name\": \"vat\", \"type\": [\"null\", {\"type\": \"bytes\", \"logicalType\": "
    "\"decimal\", "
    "\"precision\": 12, \"scale\": 2}]},\n"
    "  {\"name\": \"gross\", \"type\": [\"null\", {\"type\": \"bytes\", \"logicalType\": "
    "\"decimal\", \"precision\": 12, \"scale\": 2}]},\n"
    "  {\"name\": \"currency\", \"type\": [\"null\", \"string\"]},\n"
    "  {\"name\": \"kind\", \"type\": \"string\"},\n"
    "  {\"name\": \"loyalty_id\", \"type\": [\"null\", \"string\"]},\n"
    "  {\"name\": \"card_no\", \"type\": [\"null\", \"string\"]},\n"
    "  {\"name\": \"sold_at\", \"type\": [\"null\", {\"type\": \"long\", \"logicalType\": "
    "\"timestamp-micros\"}]}\n"
    "]}\n";

enum column {
    EVENT_ID,
    STORE_ID,
    TILL,
    SKU,
    QTY,
    UNIT_PRICE,
    DISCOUNT,
    VAT,
    GROSS,
    CURRENCY,
    KIND,
    LOYALTY_ID,
    CARD_NO,
    SOLD_AT,
    COLUMNS
};

static const char *const names[COLUMNS] = {
    "event_id", "store_id", "till",     "sku",  "qty",        "unit_price", "discount",
    "vat",      "gross",    "currency", "kind", "loyalty_id", "card_no",    "sold_at"};

static const char *const currencies[] = {"GBP", "EUR", "USD", "XXX"};

struct settings {
    uint64_t seed;
    uint64_t count; /* 0: endless */
    double rate;    /* events a second, 0: unlimited */
    int64_t start_us;
    double per_second;
    uint64_t defects; /* of 2^32 */
    int64_t late_us;
};

static const struct settings default_settings = {
    .seed = 1,
    .start_us = DEFAULT_START_US,
    .per_second = 1000,
    .defects = 42949673, /* one percent */
    .late_us = 120000000,
};

struct event {
    uint64_t number; /* of the event this is, or repeats */
    uint64_t card;
    int64_t sold_at_us;
    int64_t unit_price; /* cents, as the amounts below */
    int64_t discount;
    int64_t vat;
    int64_t gross;
    int32_t store_id;
    int32_t till;
    int32_t sku;
    int32_t qty;
    int32_t currency;
    int32_t loyalty;
    uint32_t nulls; /* bit by column */
    bool is_return;
};

/* SplitMix64's output function (Steele, Lea, Flood 2014). */
static inline uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static inline uint64_t draw(uint64_t *state) {
    *state += 0x9e3779b97f4a7c15ull;
    return mix(*state);
}

/* 32 random bits to 0..limit-1. */
static inline int32_t below(uint64_t bits, int32_t limit) {
    return (int32_t)((bits & 0xffffffffu) * (uint64_t)limit >> 32);
}

static void make_event(const struct settings *settings, uint64_t n, bool may_repeat,
                       struct event *event) {
    uint64_t state = mix(settings->seed * 0xd1342543de82ef95ull + 1) ^ (n * 0x9e3779b97f4a7c15ull);
    uint64_t a = draw(&state);
    uint64_t b = draw(&state);
    uint64_t c = draw(&state);
    uint64_t d = draw(&state);
    bool defective = (a & 0xffffffffu) < settings->defects;
    int32_t defect = below(a >> 32, 6);
    if (defective && defect == 3 && may_repeat && n >= DUPLICATE_REACH) {
        make_event(settings, n - 1 - (uint64_t)below(b, DUPLICATE_REACH - 1), false, event);
        return;
    }
    int32_t one = below(b, SKUS);
    int32_t other = below(b >> 32, SKUS);
    event->number = n;
    event->nulls = 0;
    event->sku = one < other ? one : other; /* low numbers sell more */
    event->store_id = 1 + below(c, 40);
    event->till = 1 + (int32_t)(c >> 32 & 7);
    event->is_return = (c >> 35 & 31) == 0;
    event->qty = 1 + below(c >> 16, 5) * (int32_t)(c >> 41 & 1);
    event->currency = (c >> 42 & 15) < 13 ? 0 : (c >> 42 & 15) == 13 ? 1 : 2;
    event->loyalty = (int32_t)(c >> 44 & 0xfffff);
    event->unit_price = 50 + (int64_t)(mix((uint64_t)event->sku + 7) % 4950);
    int64_t gross = event->qty * event->unit_price;
    event->discount = (d & 7) == 0 ? gross * (int64_t)(d >> 3 & 31) / 100 : 0;
    if (event->is_return) {
        event->qty = -event->qty;
        gross = -gross;
        event->discount = -event->discount;
    }
    event->gross = gross - event->discount;
    event->vat = event->gross / 6; /* 20 % inside the price */
    event->card = 4000000000000000ull + (d >> 8) % 1000000000000000ull;
    event->nulls |= (d >> 5 & 7) < 5 ? 1u << LOYALTY_ID : 0;
    int64_t jitter = (int64_t)((d >> 16 & 0xffffffffu) * (uint64_t)JITTER_US >> 32);
    event->sold_at_us =
        settings->start_us + (int64_t)((double)n * 1000000.0 / settings->per_second) - jitter;
    if (!defective) {
        return;
    }
    static const uint8_t nullable[] = {EVENT_ID, STORE_ID, SKU, QTY, UNIT_PRICE, GROSS, CURRENCY};
    switch (defect) {
    case 0:
        event->nulls |= 1u << nullable[below(d, sizeof(nullable))];
        break;
    case 1:
        event->currency = 3;
        break;
    case 2:
        event->gross += 1;
        break;
    case 4:
        event->sold_at_us -= settings->late_us;
        break;
    case 5:
        event->store_id = (d & 8) != 0 ? 0 : 1000 + event->store_id;
        break;
    default:
        break;
    }
}

/* `width` digits with leading zeros. */
static inline char *put_digits(char *out, uint64_t value, int width) {
    for (int i = width - 1; i >= 0; i--) {
        out[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return out + width;
}

static inline int event_id_text(const struct event *event, char *out) {
    out[0] = 'e';
    put_digits(out + 1, event->number, 12);
    return 13;
}

static inline int sku_text(const struct event *event, char *out) {
    memcpy(out, "SKU-", 4);
    put_digits(out + 4, (uint64_t)event->sku + 10000, 5);
    return 9;
}

static inline int loyalty_text(const struct event *event, char *out) {
    out[0] = 'L';
    put_digits(out + 1, (uint64_t)event->loyalty, 8);
    return 9;
}

/* --- schema and JSON ---------------------------------------------------------------------- */

struct weir_schema *weir_generator_schema(void) {
    struct weir_avsc avsc;
    if (weir_avsc_parse("generator", avsc_text, sizeof(avsc_text) - 1, &avsc, NULL) != WEIR_OK) {
        return NULL;
    }
    struct weir_schema *schema = weir_schema_ref(avsc.schema);
    weir_avsc_fini(&avsc);
    return schema;
}

const char *weir_generator_avsc(void) {
    return avsc_text;
}

enum { VALUE_JSON_MAX = 64 }; /* the longest value of an event as JSON */

static int amount_text(int64_t cents, char *out) {
    uint64_t magnitude = cents < 0 ? 0 - (uint64_t)cents : (uint64_t)cents;
    return snprintf(out, VALUE_JSON_MAX, "%s%llu.%02u", cents < 0 ? "-" : "",
                    (unsigned long long)(magnitude / 100), (unsigned)(magnitude % 100));
}

static int value_json(const struct event *event, enum column column, char *out) {
    char text[32];
    switch (column) {
    case EVENT_ID:
        return snprintf(out, VALUE_JSON_MAX, "\"%.*s\"", event_id_text(event, text), text);
    case STORE_ID:
        return snprintf(out, VALUE_JSON_MAX, "%d", event->store_id);
    case TILL:
        return snprintf(out, VALUE_JSON_MAX, "%d", event->till);
    case SKU:
        return snprintf(out, VALUE_JSON_MAX, "\"%.*s\"", sku_text(event, text), text);
    case QTY:
        return snprintf(out, VALUE_JSON_MAX, "%d", event->qty);
    case UNIT_PRICE:
        return amount_text(event->unit_price, out);
    case DISCOUNT:
        return amount_text(event->discount, out);
    case VAT:
        return amount_text(event->vat, out);
    case GROSS:
        return amount_text(event->gross, out);
    case CURRENCY:
        return snprintf(out, VALUE_JSON_MAX, "\"%s\"", currencies[event->currency]);
    case KIND:
        return snprintf(out, VALUE_JSON_MAX, "\"%s\"", event->is_return ? "return" : "sale");
    case LOYALTY_ID:
        return snprintf(out, VALUE_JSON_MAX, "\"%.*s\"", loyalty_text(event, text), text);
    case CARD_NO:
        return snprintf(out, VALUE_JSON_MAX, "\"%llu\"", (unsigned long long)event->card);
    default:
        return snprintf(out, VALUE_JSON_MAX, "%lld", (long long)event->sold_at_us);
    }
}

int weir_generator_write_jsonl(uint64_t seed, uint64_t count, FILE *out, struct weir_error *err) {
    struct settings settings = default_settings;
    settings.seed = seed;
    for (uint64_t n = 0; n < count; n++) {
        struct event event;
        char line[1024];
        int length = 0;
        make_event(&settings, n, true, &event);
        for (int c = 0; c < COLUMNS; c++) {
            length += snprintf(line + length, sizeof(line) - (size_t)length,
                               "%s\"%s\":", c == 0 ? "{" : ",", names[c]);
            length += (event.nulls >> c & 1) != 0
                          ? snprintf(line + length, VALUE_JSON_MAX, "null")
                          : value_json(&event, (enum column)c, line + length);
        }
        line[length++] = '}';
        line[length++] = '\n';
        if (fwrite(line, 1, (size_t)length, out) != (size_t)length) {
            return weir_error_set(err, WEIR_E_IO, "generator: cannot write event %llu",
                                  (unsigned long long)n);
        }
    }
    return WEIR_OK;
}

/* --- the source --------------------------------------------------------------------------- */

struct generator {
    bool is_nexmark;
    struct settings settings;
    struct weir_batch_builder builder;
    bool has_builder;
    bool ended;
    uint64_t next;
    int64_t paced_from_ns; /* 0: pacing has not begun */
    uint64_t paced_first;
};

static const struct settings nexmark_defaults = {
    .seed = 1,
    .start_us = INT64_C(1767656700000000), /* 2026-01-05T23:45:00Z: midnight lies ahead */
    .per_second = 10000,
    .defects = 429496730, /* a tenth is late */
    .late_us = 3000000,
};

/* generator { events = "nexmark" } */
static bool wants_nexmark(const json_t *options) {
    const char *events = json_string_value(json_object_get(options, "events"));
    return events != NULL && strcmp(events, "nexmark") == 0;
}

static struct weir_schema *schema_of(bool is_nexmark) {
    return is_nexmark ? nexmark_schema() : weir_generator_schema();
}

static int read_option(struct settings *settings, const char *key, const json_t *value,
                       struct weir_error *err) {
    double number = json_number_value(value);
    bool is_number = json_is_number(value) && number >= 0;
    if (strcmp(key, "start") == 0 && json_is_string(value)) {
        char text[64];
        snprintf(text, sizeof(text), "%s", json_string_value(value));
        struct tm tm;
        memset(&tm, 0, sizeof(tm));
        const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
        if (rest == NULL || strcmp(rest, "Z") != 0) {
            return weir_error_set(err, WEIR_E_CONFIG,
                                  "generator: start = \"%s\" is not like 2025-03-29T06:00:00Z",
                                  text);
        }
        settings->start_us = (int64_t)timegm(&tm) * 1000000;
        return WEIR_OK;
    }
    if (!is_number) {
        return weir_error_set(err, WEIR_E_CONFIG, "generator: %s is not a number from 0", key);
    }
    if (strcmp(key, "seed") == 0) {
        settings->seed =
            json_is_integer(value) ? (uint64_t)json_integer_value(value) : (uint64_t)number;
    } else if (strcmp(key, "count") == 0) {
        settings->count = (uint64_t)number;
    } else if (strcmp(key, "rate") == 0) {
        settings->rate = number;
    } else if (strcmp(key, "per_second") == 0 && number > 0) {
        settings->per_second = number;
    } else if (strcmp(key, "defects") == 0 && number <= 1) {
        settings->defects = (uint64_t)(number * 4294967296.0);
    } else if (strcmp(key, "late_s") == 0 && number <= 1e9) {
        settings->late_us = (int64_t)(number * 1e6);
    } else {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "generator: bad option %s; it has events, seed, count, rate, start, "
                              "per_second (> 0), defects (0 to 1), late_s",
                              key);
    }
    return WEIR_OK;
}

static int own_schema(const char *options_json, struct weir_schema **out, struct weir_error *err) {
    json_error_t where;
    json_t *options = json_loads(options_json != NULL ? options_json : "{}", 0, &where);
    *out = schema_of(wants_nexmark(options));
    json_decref(options);
    return *out != NULL ? WEIR_OK : weir_error_set(err, WEIR_E_NOMEM, "generator: out of memory");
}

static int init(struct weir_source *source, const char *options_json, struct weir_error *err) {
    struct generator *generator = calloc(1, sizeof(*generator));
    if (generator == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "generator: out of memory");
    }
    source->state = generator;
    json_error_t where;
    json_t *options = json_loads(options_json != NULL ? options_json : "{}", 0, &where);
    generator->is_nexmark = wants_nexmark(options);
    generator->settings = generator->is_nexmark ? nexmark_defaults : default_settings;
    int rc = json_is_object(options)
                 ? WEIR_OK
                 : weir_error_set(err, WEIR_E_CONFIG, "generator: options are not an object");
    const char *key;
    json_t *value;
    json_object_foreach(options, key, value) {
        if (rc == WEIR_OK && strcmp(key, "events") != 0) {
            rc = read_option(&generator->settings, key, value, err);
        }
    }
    json_decref(options);
    if (rc != WEIR_OK) {
        return rc;
    }
    bool runs = source->pipeline != NULL; /* a replay reads what was read */
    if (runs && source->until_end && generator->settings.count == 0) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "generator has no end to run until; give it a count, as in generator "
                              "{ count = 1000000 }");
    }
    struct weir_schema *own = schema_of(generator->is_nexmark);
    if (own == NULL || !weir_schema_equal(own, source->user_schema)) {
        rc = weir_error_set(err, WEIR_E_SCHEMA,
                            "generator: its columns are fixed and not the ones "
                            "declared");
    }
    weir_schema_unref(own);
    if (rc == WEIR_OK) {
        rc = weir_batch_builder_init(&generator->builder, source->pool, source->full_schema,
                                     source->batch_rows, SIZE_MAX, err);
        generator->has_builder = rc == WEIR_OK;
    }
    return rc;
}

static void fini(struct weir_source *source) {
    struct generator *generator = source->state;
    if (generator != NULL && generator->has_builder) {
        weir_batch_builder_fini(&generator->builder);
    }
    free(generator);
    source->state = NULL;
}

/* Position: 'g', version, 6 zero bytes, seed, number of the next event; little-endian. */
static bool read_position(const struct weir_position *position, uint64_t *seed, uint64_t *next) {
    if (position->size != POSITION_BYTES || position->bytes[0] != 'g' ||
        position->bytes[1] != POSITION_VERSION) {
        return false;
    }
    memcpy(seed, position->bytes + 8, 8);
    memcpy(next, position->bytes + 16, 8);
    return true;
}

static int open(struct weir_source *source, const struct weir_position *positions, int32_t count,
                struct weir_error *err) {
    struct generator *generator = source->state;
    source->partitions = 1;
    if (count == 0 || positions[0].size == 0) {
        return WEIR_OK;
    }
    uint64_t seed;
    if (!read_position(&positions[0], &seed, &generator->next)) {
        return weir_error_set(err, WEIR_E_VERSION,
                              "the recorded position is not a generator's; was the source changed? "
                              "Start a new ledger");
    }
    if (seed != generator->settings.seed) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "the generator was at seed %llu and is now given %llu; keep the seed "
                              "or start a new ledger",
                              (unsigned long long)seed,
                              (unsigned long long)generator->settings.seed);
    }
    return WEIR_OK;
}

/* Events that may be given now, at most max_rows. Only threads keep the rate: a replay has no
 * clock. */
static int32_t due(struct weir_source *source, struct generator *generator, int32_t max_rows) {
    uint64_t rows = (uint64_t)max_rows;
    const struct settings *settings = &generator->settings;
    if (settings->count > 0) {
        uint64_t left = settings->count > generator->next ? settings->count - generator->next : 0;
        rows = left < rows ? left : rows;
    }
    if (settings->rate > 0 && source->threads != NULL) {
        int64_t now = weir_clock_mono_ns();
        if (generator->paced_from_ns == 0) {
            generator->paced_from_ns = now;
            generator->paced_first = generator->next;
        }
        double since = (double)(now - generator->paced_from_ns) / 1e9;
        uint64_t reached = generator->paced_first + (uint64_t)(since * settings->rate);
        uint64_t ready = reached > generator->next ? reached - generator->next : 0;
        rows = ready < rows ? ready : rows;
    }
    return (int32_t)rows;
}

static int put_text(struct weir_column_builder *column, const char *text, int length, bool null) {
    return null ? weir_builder_null(column) : weir_builder_bytes(column, text, (size_t)length);
}

static int put_int(struct weir_column_builder *column, int64_t value, bool null) {
    return null ? weir_builder_null(column) : weir_builder_int(column, value);
}

static int put_amount(struct weir_column_builder *column, int64_t cents, bool null) {
    return null ? weir_builder_null(column)
                : weir_builder_decimal(column, (uint64_t)cents, cents < 0 ? -1 : 0);
}

static int put_event(struct weir_batch_builder *builder, const struct event *e, uint64_t n) {
    struct weir_column_builder *c = builder->columns;
    char text[32];
#define NULL_IN(column) ((e->nulls >> (column)&1) != 0)
    int rc = put_text(&c[EVENT_ID], text, event_id_text(e, text), NULL_IN(EVENT_ID));
    rc |= put_int(&c[STORE_ID], e->store_id, NULL_IN(STORE_ID));
    rc |= put_int(&c[TILL], e->till, false);
    rc |= put_text(&c[SKU], text, sku_text(e, text), NULL_IN(SKU));
    rc |= put_int(&c[QTY], e->qty, NULL_IN(QTY));
    rc |= put_amount(&c[UNIT_PRICE], e->unit_price, NULL_IN(UNIT_PRICE));
    rc |= put_amount(&c[DISCOUNT], e->discount, false);
    rc |= put_amount(&c[VAT], e->vat, false);
    rc |= put_amount(&c[GROSS], e->gross, NULL_IN(GROSS));
    rc |= put_text(&c[CURRENCY], currencies[e->currency], 3, NULL_IN(CURRENCY));
    rc |= e->is_return ? put_text(&c[KIND], "return", 6, false)
                       : put_text(&c[KIND], "sale", 4, false);
    rc |= put_text(&c[LOYALTY_ID], text, loyalty_text(e, text), NULL_IN(LOYALTY_ID));
    put_digits(text, e->card, 16);
    rc |= put_text(&c[CARD_NO], text, 16, false);
    rc |= put_int(&c[SOLD_AT], e->sold_at_us, false);
#undef NULL_IN
    rc |= put_int(&c[COLUMNS + WEIR_META_OFFSET], (int64_t)n, false);
    rc |= weir_builder_null(&c[COLUMNS + WEIR_META_RESCUED]);
    builder->rows++;
    return rc == WEIR_OK ? WEIR_OK : WEIR_E_LIMIT; /* the one way these fail */
}

static int put_nexmark(struct weir_batch_builder *builder, const struct settings *settings,
                       uint64_t n, int32_t rows) {
    const struct nexmark_settings nexmark = {.seed = settings->seed,
                                             .start_us = settings->start_us,
                                             .per_second = settings->per_second,
                                             .late = settings->defects,
                                             .late_us = settings->late_us};
    struct weir_column_builder *meta = builder->columns + builder->column_count - WEIR_META_COUNT;
    int rc = nexmark_put(builder->columns, &nexmark, n, rows);
    for (int32_t i = 0; rc == WEIR_OK && i < rows; i++) {
        rc = weir_builder_int(&meta[WEIR_META_OFFSET], (int64_t)n + i);
    }
    rc |= weir_builder_nulls(&meta[WEIR_META_RESCUED], rows);
    builder->rows = rows;
    return rc == WEIR_OK ? WEIR_OK : WEIR_E_LIMIT;
}

static int next(struct weir_source *source, int32_t partition, int32_t max_rows,
                struct weir_source_batch **out, struct weir_error *err) {
    (void)err;
    struct generator *generator = source->state;
    const struct settings *settings = &generator->settings;
    int32_t rows = due(source, generator, max_rows);
    bool end = settings->count > 0 && generator->next + (uint64_t)rows >= settings->count;
    if ((rows == 0 && !end) || generator->ended) {
        return WEIR_OK;
    }
    int rc = weir_batch_builder_begin_rows(&generator->builder, rows);
    if (rc == WEIR_OK && generator->is_nexmark) {
        rc = put_nexmark(&generator->builder, settings, generator->next, rows);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < rows && !generator->is_nexmark; i++) {
        uint64_t n = generator->next + (uint64_t)i;
        struct event event;
        make_event(settings, n, true, &event);
        rc = put_event(&generator->builder, &event, n);
    }
    struct weir_batch *batch = rc == WEIR_OK ? weir_batch_builder_take(&generator->builder) : NULL;
    if (batch != NULL) {
        rc = weir_decode_finish(batch, source->name, partition);
    }
    struct weir_source_batch *made =
        rc == WEIR_OK ? source_batch_create(source->pool, batch, NULL, POSITION_BYTES) : NULL;
    if (made == NULL) {
        weir_batch_unref(batch);
        return WEIR_E_LIMIT;
    }
    uint64_t numbers[3] = {settings->seed, generator->next, (uint64_t)rows};
    if (generator->paced_from_ns != 0) {
        double after = (double)(generator->next - generator->paced_first) / settings->rate;
        made->due_ns = generator->paced_from_ns + (int64_t)(after * 1e9);
    }
    generator->next += (uint64_t)rows;
    generator->ended = end;
    uint8_t *position = source_position(made);
    memset(position, 0, POSITION_BYTES);
    position[0] = 'g';
    position[1] = POSITION_VERSION;
    memcpy(position + 8, &settings->seed, 8);
    memcpy(position + 16, &generator->next, 8);
    made->hash = XXH3_64bits(numbers, sizeof(numbers));
    made->partition = made->number = partition;
    made->rows = rows;
    made->end = end;
    *out = made;
    return WEIR_OK;
}

static int wait_ms(struct weir_source *source, int32_t partition) {
    (void)source;
    (void)partition;
    return IDLE_WAIT_MS;
}

static int describe(const struct weir_position *position, struct weir_buffer *out) {
    uint64_t seed;
    uint64_t number;
    if (!read_position(position, &seed, &number)) {
        return weir_buffer_printf(out, "not a generator position");
    }
    return weir_buffer_printf(out, "seed %llu, next event %llu", (unsigned long long)seed,
                              (unsigned long long)number);
}

static const char *const kinds_of_events[] = {"retail", "nexmark", NULL};

static const struct weir_option options[] = {
    {.name = "events",
     .form = WEIR_OPTION_TEXT,
     .example = "\"nexmark\"",
     .choices = kinds_of_events},
    {.name = "seed", .form = WEIR_OPTION_COUNT},
    {.name = "count", .form = WEIR_OPTION_COUNT},
    {.name = "rate", .form = WEIR_OPTION_NUMBER},
    {.name = "start", .form = WEIR_OPTION_TIME},
    {.name = "per_second", .form = WEIR_OPTION_NUMBER},
    {.name = "defects", .form = WEIR_OPTION_RATIO},
    {.name = "late_s", .form = WEIR_OPTION_NUMBER},
    {0},
};

const struct weir_source_vtable weir_source_generator = {
    .name = "generator",
    .options = options,
    .needs_decoder = false,
    .own_schema = own_schema,
    .init = init,
    .open = open,
    .next = next,
    .wait_ms = wait_ms,
    .fini = fini,
    .describe = describe,
};
