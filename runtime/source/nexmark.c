#include "source/nexmark.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

enum {
    OF = 50, /* events of which */
    PERSONS = 1,
    AUCTIONS = 3,
    FIRST_ID = 1000, /* of persons and of auctions */
    FIRST_CATEGORY = 10,
    CATEGORIES = 5,
    OPEN_AUCTIONS = 100,
    ACTIVE_PERSONS = 1000,
    HOT_STEP = 100, /* every so many ids one is hot */
    CHANNELS = 10000,
    PERSON_BYTES = 200, /* mean, with the text that fills them up */
    AUCTION_BYTES = 500,
    BID_BYTES = 100,
    FILL_BYTES = 1 << 14,
    CARD_BYTES = 19,
    POWER_BITS = 12,
    POWERS = 1 << POWER_BITS,
};

enum event_column { EVENT_TYPE, PERSON, AUCTION, BID, DATE_TIME };

static const struct {
    const char *name;
    const char *type;
    bool nullable;
} event_columns[] = {
    {"event_type", "int32", false},
    {"new_person",
     "struct<id: int64, name: string, emailAddress: string, creditCard: string, city: string, "
     "state: string, dateTime: timestamp, extra: string>",
     true},
    {"new_auction",
     "struct<id: int64, itemName: string, description: string, initialBid: int64, reserve: int64, "
     "dateTime: timestamp, expires: timestamp, seller: int64, category: int64, extra: string>",
     true},
    {"new_bid",
     "struct<auction: int64, bidder: int64, price: int64, channel: string, url: string, "
     "dateTime: timestamp, extra: string>",
     true},
    {"dateTime", "timestamp", false},
};

static const char *const first_names[] = {"Peter", "Paul",  "Luke",  "John",   "Saul",  "Vicky",
                                          "Kate",  "Julie", "Sarah", "Deiter", "Walter"};
static const char *const last_names[] = {"Shultz", "Abrams", "Spencer", "White", "Bartels",
                                         "Walton", "Smith",  "Jones",   "Noris"};
static const char *const cities[] = {"Phoenix",  "Los Angeles", "San Francisco", "Boise",
                                     "Portland", "Bend",        "Redmond",       "Seattle",
                                     "Kent",     "Cheyenne"};
static const char *const states[] = {"AZ", "CA", "ID", "OR", "WA", "WY"};
static const char *const hot_channels[] = {"Google", "Facebook", "Baidu", "Apple"};

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

/* SplitMix64 (Steele, Lea, Flood 2014). */
static inline uint64_t draw(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static inline uint64_t below(uint64_t *state, uint64_t limit) {
    return (draw(state) >> 32) * limit >> 32;
}

struct weir_schema *nexmark_schema(void) {
    struct weir_schema *schema = weir_schema_create();
    int rc = schema != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (size_t i = 0; rc == WEIR_OK && i < COUNT(event_columns); i++) {
        rc = weir_schema_add_text(schema, event_columns[i].name, event_columns[i].type,
                                  event_columns[i].nullable, NULL);
    }
    if (rc != WEIR_OK) {
        weir_schema_unref(schema);
        return NULL;
    }
    return schema;
}

/* --- ids: what exists by event n -------------------------------------------------------------- */

static int64_t last_person(uint64_t n) {
    return (int64_t)(n / OF);
}

static int64_t last_auction(uint64_t n) {
    int64_t epoch = (int64_t)(n / OF);
    int64_t offset = (int64_t)(n % OF);
    if (offset < PERSONS) {
        return epoch * AUCTIONS - 1;
    }
    return epoch * AUCTIONS + (offset < PERSONS + AUCTIONS ? offset - PERSONS : AUCTIONS - 1);
}

static int64_t some_person(uint64_t *state, uint64_t n) {
    int64_t persons = last_person(n) + 1;
    int64_t active = persons < ACTIVE_PERSONS ? persons : ACTIVE_PERSONS;
    return FIRST_ID + persons - 1 - (int64_t)below(state, (uint64_t)active);
}

static int64_t hot_person(uint64_t n, int64_t beside) {
    return FIRST_ID + last_person(n) / HOT_STEP * HOT_STEP + beside;
}

static int64_t some_auction(uint64_t *state, uint64_t n) {
    int64_t last = last_auction(n);
    last = last < 0 ? 0 : last;
    int64_t open = last < OPEN_AUCTIONS ? last + 1 : OPEN_AUCTIONS;
    return FIRST_ID + last - (int64_t)below(state, (uint64_t)open);
}

static int64_t hot_auction(uint64_t n) {
    int64_t last = last_auction(n);
    return FIRST_ID + (last < 0 ? 0 : last) / HOT_STEP * HOT_STEP;
}

/* --- values ------------------------------------------------------------------------------------
 */

/* 10 to the power of 6 i / POWERS, for i in [0, POWERS]: between two of them four terms of
 * its series are all a double holds. pow would be the dearest part of an event. */
static double powers[POWERS + 1];
/* Letters that texts are cut from, the same for every seed. */
static char letters[FILL_BYTES];

static void make_tables(void) {
    uint64_t fixed = 1;
    for (int i = 0; i < FILL_BYTES; i++) {
        letters[i] = (char)('a' + (int)(draw(&fixed) % 26));
    }
    for (int i = 0; i <= POWERS; i++) {
        powers[i] = pow(10.0, 6.0 * i / POWERS);
    }
}

static int64_t some_price(uint64_t *state) {
    uint64_t bits = draw(state) >> 11; /* 53 of them */
    double rest = (double)(bits & ((UINT64_C(1) << (53 - POWER_BITS)) - 1)) / 9007199254740992.0 *
                  6 * 2.302585092994046;
    double power = powers[bits >> (53 - POWER_BITS)] *
                   (1 + rest * (1 + rest / 2 * (1 + rest / 3 * (1 + rest / 4))));
    return (int64_t)(power * 100.0 + 0.5);
}

/* Most values have room: one test in place of a call. */
static inline int put_int64(struct weir_column_builder *column, int64_t value) {
    if (column->length < column->capacity_rows) {
        ((int64_t *)column->values)[column->length++] = value;
        return WEIR_OK;
    }
    return weir_builder_int(column, value);
}

static inline int put_bytes(struct weir_column_builder *column, const char *bytes, size_t length) {
    if (column->length < column->capacity_rows &&
        column->bytes_capacity - column->bytes_size >= length) {
        memcpy((char *)column->values + column->bytes_size, bytes, length);
        column->bytes_size += length;
        column->offsets[++column->length] = (int32_t)column->bytes_size;
        return WEIR_OK;
    }
    return weir_builder_bytes(column, bytes, length);
}

/* The decimal digits of a number, without zeros in front; returns what follows them. */
static char *digits(char *out, uint64_t number) {
    char backward[20];
    int count = 0;
    do {
        backward[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    while (count > 0) {
        *out++ = backward[--count];
    }
    return out;
}

static void four_digits(char *out, uint64_t number) {
    for (int i = 3; i >= 0; i--) {
        out[i] = (char)('0' + number % 10);
        number /= 10;
    }
}

static void three_hex(char *out, uint64_t number) {
    static const char hex[] = "0123456789abcdef";
    out[0] = hex[number >> 8 & 15];
    out[1] = hex[number >> 4 & 15];
    out[2] = hex[number & 15];
}

/* Appends a text behind `at`; returns what follows it. */
static char *text(char *at, const char *what) {
    size_t length = strlen(what);
    memcpy(at, what, length);
    return at + length;
}

static int put_text(struct weir_column_builder *column, const char *words) {
    return put_bytes(column, words, strlen(words));
}

static int put_letters(struct weir_column_builder *column, uint64_t *state, int64_t length) {
    length = length < 0 ? 0 : length > FILL_BYTES / 2 ? FILL_BYTES / 2 : length;
    uint64_t at = below(state, FILL_BYTES / 2);
    return put_bytes(column, letters + at, (size_t)length);
}

/* What fills an event up to its mean, within a fifth of the rest. */
static int put_extra(struct weir_column_builder *column, uint64_t *state, int64_t used,
                     int64_t mean) {
    int64_t rest = mean - used;
    if (rest <= 5) {
        return put_bytes(column, "", 0);
    }
    int64_t spread = rest / 5;
    return put_letters(column, state,
                       rest - spread + (int64_t)below(state, (uint64_t)(2 * spread + 1)));
}

static int put_person(struct weir_column_builder *c, uint64_t *state, uint64_t n, int64_t at_us) {
    char name[64];
    char email[64];
    char card[CARD_BYTES + 1];
    const char *last_name = last_names[below(state, COUNT(last_names))];
    char *name_end = text(name, first_names[below(state, COUNT(first_names))]);
    *name_end++ = ' ';
    name_end = text(name_end, last_name);
    email[0] = 'p';
    char *email_end = text(digits(email + 1, below(state, 1u << 31)), "@example.com");
    uint64_t number = draw(state);
    for (int i = 0; i < 4; i++) {
        four_digits(card + 5 * i, number % 10000);
        card[5 * i + 4] = ' ';
        number /= 10000;
    }
    const char *city = cities[below(state, COUNT(cities))];
    int rc = put_int64(&c[0], FIRST_ID + last_person(n));
    rc |= put_bytes(&c[1], name, (size_t)(name_end - name));
    rc |= put_bytes(&c[2], email, (size_t)(email_end - email));
    rc |= put_bytes(&c[3], card, CARD_BYTES);
    rc |= put_text(&c[4], city);
    rc |= put_text(&c[5], states[below(state, COUNT(states))]);
    rc |= put_int64(&c[6], at_us);
    rc |= put_extra(&c[7], state,
                    16 + (name_end - name) + (email_end - email) + CARD_BYTES +
                        (int64_t)strlen(city) + 2,
                    PERSON_BYTES);
    return rc;
}

static int put_auction(struct weir_column_builder *c, const struct nexmark_settings *settings,
                       uint64_t *state, uint64_t n, int64_t at_us) {
    int64_t initial = some_price(state);
    /* Long enough for the auctions open at a time to be OPEN_AUCTIONS on average. */
    double second_us = 1e6 / settings->per_second;
    int64_t horizon_us = (int64_t)((double)OPEN_AUCTIONS * OF / AUCTIONS * second_us);
    int64_t length_us = 1 + (int64_t)below(state, (uint64_t)(2 * horizon_us + 1));
    bool hot = below(state, 4) != 0;
    int64_t name_bytes = 5 + (int64_t)below(state, 15);
    int64_t text_bytes = 20 + (int64_t)below(state, 80);
    int rc = put_int64(&c[0], FIRST_ID + last_auction(n));
    rc |= put_letters(&c[1], state, name_bytes);
    rc |= put_letters(&c[2], state, text_bytes);
    rc |= put_int64(&c[3], initial);
    rc |= put_int64(&c[4], initial + some_price(state));
    rc |= put_int64(&c[5], at_us);
    rc |= put_int64(&c[6], at_us + length_us);
    rc |= put_int64(&c[7], hot ? hot_person(n, 0) : some_person(state, n));
    rc |= put_int64(&c[8], FIRST_CATEGORY + (int64_t)below(state, CATEGORIES));
    rc |= put_extra(&c[9], state, 56 + name_bytes + text_bytes, AUCTION_BYTES);
    return rc;
}

static int put_bid(struct weir_column_builder *c, uint64_t *state, uint64_t n, int64_t at_us) {
    static const char address[] = "https://www.nexmark.com/xxx/xxx/xxx/item.htm?query=1";
    char channel[32];
    char url[96];
    bool hot_item = below(state, 2) == 0;
    bool hot_bidder = below(state, 4) != 0;
    uint64_t number = below(state, CHANNELS);
    char *channel_end;
    if (below(state, 2) == 0) {
        number %= COUNT(hot_channels);
        channel_end = text(channel, hot_channels[number]);
    } else {
        channel_end = digits(text(channel, "channel-"), number);
    }
    uint64_t place = number * 0x9e3779b97f4a7c15ull;
    char *url_end = text(url, address);
    three_hex(url + 24, place >> 40);
    three_hex(url + 28, place >> 28);
    three_hex(url + 32, place >> 16);
    if (number % 10 != 0) { /* one channel in ten has no id */
        url_end = digits(text(url_end, "&channel_id="), place >> 33);
    }
    int rc = put_int64(&c[0], hot_item ? hot_auction(n) : some_auction(state, n));
    rc |= put_int64(&c[1], hot_bidder ? hot_person(n, 1) : some_person(state, n));
    rc |= put_int64(&c[2], some_price(state));
    rc |= put_bytes(&c[3], channel, (size_t)(channel_end - channel));
    rc |= put_bytes(&c[4], url, (size_t)(url_end - url));
    rc |= put_int64(&c[5], at_us);
    rc |= put_extra(&c[6], state, 32, BID_BYTES);
    return rc;
}

static int put_event(struct weir_column_builder *columns, const struct nexmark_settings *settings,
                     uint64_t n, int64_t row) {
    uint64_t state = settings->seed * 0xd1342543de82ef95ull ^ (n * 0x9e3779b97f4a7c15ull);
    int64_t at_us = settings->start_us + (int64_t)((double)n * 1e6 / settings->per_second);
    if ((draw(&state) & 0xffffffffu) < settings->late) {
        at_us -= (int64_t)below(&state, (uint64_t)settings->late_us + 1);
    }
    uint64_t offset = n % OF;
    int32_t kind = offset < PERSONS ? 0 : offset < PERSONS + AUCTIONS ? 1 : 2;
    struct weir_column_builder *one = &columns[PERSON + kind];
    int rc = weir_builder_int(&columns[EVENT_TYPE], kind);
    if (one->length < row) { /* the events before it were of other kinds */
        rc |= weir_builder_nulls(one, row - one->length);
    }
    rc |= kind == 0   ? put_person(one->children, &state, n, at_us)
          : kind == 1 ? put_auction(one->children, settings, &state, n, at_us)
                      : put_bid(one->children, &state, n, at_us);
    rc |= weir_builder_struct(one);
    rc |= put_int64(&columns[DATE_TIME], at_us);
    return rc;
}

int nexmark_put(struct weir_column_builder *columns, const struct nexmark_settings *settings,
                uint64_t n, int32_t rows) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int rc = pthread_once(&once, make_tables);
    int64_t first = columns[EVENT_TYPE].length;
    for (int32_t i = 0; i < rows && rc == WEIR_OK; i++) {
        rc = put_event(columns, settings, n + (uint64_t)i, first + i);
    }
    for (int32_t kind = 0; kind < 3 && rc == WEIR_OK; kind++) {
        struct weir_column_builder *one = &columns[PERSON + kind];
        rc = weir_builder_nulls(one, first + rows - one->length);
    }
    return rc == WEIR_OK ? WEIR_OK : WEIR_E_LIMIT; /* the one way these fail */
}
