/* The Debezium decoder: change events in JSON, with a schema beside the payload or without, or in
 * Avro by a schema registry, → a changelog. The row is the `after` of inserts, updates and snapshot
 * reads; of a delete only the key columns are taken, because the others may hold made-up zeros. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "batch/change.h"
#include "decode/debezium/debezium_avro.h"
#include "decode/debezium/debezium_members.h"
#include "decode/json/json_index.h"
#include "decode/json/json_number.h"
#include "decode/json/json_put.h"
#include "decode/json/json_text.h"
#include "decode/row.h"

#define UNAVAILABLE "__debezium_unavailable_value"
#define UNAVAILABLE_BASE64 "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="
#define INFINITE_DAYS INT64_C(2000000000)
#define INFINITE_TIME INT64_C(9200000000000000000)

enum { KEYS_MAX = 64, DECIMAL_BYTES_MAX = 16 };

enum decimals { DECIMALS_BY_SCHEMA, DECIMALS_STRING, DECIMALS_DECLARED };

/* Columns after the table's own. */
enum extra { EXTRA_CHANGE, EXTRA_LSN, EXTRA_TIME, EXTRA_TXID, EXTRA_UNAVAILABLE, EXTRA_COUNT };

/* Members of an envelope, or of what is around it. */
enum member { SCHEMA, PAYLOAD, BEFORE, AFTER, OP, SOURCE, TRANSACTION, MEMBER_COUNT };
static const char *const member_names[] = {"schema", "payload", "before",     "after",
                                           "op",     "source",  "transaction"};
enum origin { LSN, TXID, TS_US, TS_MS, ORIGIN_COUNT };
static const char *const origin_names[] = {"lsn", "txId", "ts_us", "ts_ms"};

struct debezium {
    struct weir_decoder head;
    struct decode_plan plan;
    struct weir_json_index *index;
    struct debezium_avro *avro;        /* NULL: events are JSON */
    struct debezium_field *forms;      /* one a field of the record, of the last schema seen */
    const struct debezium_field *said; /* those of the frame at hand: `forms`, or a writer's */
    bool *is_key;                      /* likewise */
    bool has_schema;                   /* of the frame at hand */
    uint64_t schema_hash;              /* of the last; 0 none */
    enum decimals decimals;
};

/* --- life --------------------------------------------------------------------------------- */

static void destroy(struct weir_decoder *base) {
    struct debezium *d = (struct debezium *)base;
    weir_json_index_destroy(d->index);
    debezium_avro_destroy(d->avro);
    free(d->forms);
    free(d->is_key);
    decode_plan_fini(&d->plan);
    free(d);
}

/* The table's columns, of which only the keys are always there, and the changelog's. */
static int extend_schema(struct debezium *d, const json_t *keys, struct weir_error *err) {
    static const struct {
        const char *name;
        const char *type;
    } extras[EXTRA_COUNT] = {
        {WEIR_CHANGE_COLUMN, "int8"},
        {"_source_lsn", "int64"},
        {"_source_time", "timestamp"},
        {"_source_txid", "int64"},
        {WEIR_UNAVAILABLE_COLUMN, "list<string>"},
    };
    struct weir_schema *table = d->plan.avsc.schema;
    struct weir_schema *schema = weir_schema_create();
    d->is_key = calloc((size_t)table->count + 1, sizeof(*d->is_key));
    d->forms = calloc((size_t)table->count + 1, sizeof(*d->forms));
    int rc = schema == NULL || d->is_key == NULL || d->forms == NULL ? WEIR_E_NOMEM : WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < table->count; i++) {
        struct weir_field field = table->fields[i];
        for (size_t k = 0; k < json_array_size(keys); k++) {
            const char *key = json_string_value(json_array_get(keys, k));
            d->is_key[i] = d->is_key[i] || (key != NULL && strcmp(key, field.name) == 0);
        }
        field.nullable = field.nullable || !d->is_key[i];
        field.default_json = NULL;
        rc = weir_schema_add(schema, &field);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < EXTRA_COUNT; i++) {
        rc = weir_schema_add_text(schema, extras[i].name, extras[i].type, i != EXTRA_CHANGE, err);
    }
    if (rc != WEIR_OK) {
        weir_schema_unref(schema);
        return weir_error_set(err, rc, "debezium decoder: out of memory");
    }
    for (size_t k = 0; k < json_array_size(keys); k++) {
        const char *key = json_string_value(json_array_get(keys, k));
        if (key == NULL || weir_schema_find(table, key) < 0) {
            weir_schema_unref(schema);
            return weir_error_set(err, WEIR_E_SCHEMA, "debezium: the key \"%s\" is no field of %s",
                                  key != NULL ? key : "?", d->plan.avsc.name);
        }
    }
    size_t count = (size_t)schema->count;
    struct weir_avsc_hint *hints = realloc(d->plan.avsc.hints, count * sizeof(*hints));
    if (hints == NULL) {
        weir_schema_unref(schema);
        return weir_error_set(err, WEIR_E_NOMEM, "debezium decoder: out of memory");
    }
    memset(&hints[table->count], 0, EXTRA_COUNT * sizeof(*hints));
    d->plan.avsc.hints = hints;
    d->plan.avsc.schema = schema;
    weir_schema_unref(table);
    return WEIR_OK;
}

static int read_options(struct debezium *d, const char *options_json, int32_t *count,
                        struct weir_error *err) {
    json_t *options = json_loads(options_json != NULL ? options_json : "{}", 0, NULL);
    const char *path = json_string_value(json_object_get(options, "schema"));
    const char *decimals = json_string_value(json_object_get(options, "decimals"));
    const json_t *keys = json_object_get(options, "key");
    d->decimals = decimals == NULL                  ? DECIMALS_BY_SCHEMA
                  : strcmp(decimals, "string") == 0 ? DECIMALS_STRING
                                                    : DECIMALS_DECLARED;
    int rc = path != NULL && json_array_size(keys) > 0 && json_array_size(keys) <= KEYS_MAX
                 ? decode_plan_load(&d->plan, path, err)
                 : weir_error_set(err, WEIR_E_CONFIG,
                                  "debezium needs its key and the table's schema; write debezium { "
                                  "key = \"id\", schema = \"schemas/customer.avsc\" }");
    if (rc == WEIR_OK) {
        *count = d->plan.avsc.schema->count;
        rc = extend_schema(d, keys, err);
    }
    json_decref(options);
    return rc;
}

static int open_registry(struct debezium *d, const char *options_json, struct weir_error *err) {
    json_t *options = json_loads(options_json != NULL ? options_json : "{}", 0, NULL);
    int rc = json_object_get(options, "registry") == NULL
                 ? WEIR_OK
                 : debezium_avro_create(options, &d->plan.record, &d->plan.reader, &d->avro, err);
    json_decref(options);
    return rc;
}

static int create(struct weir_decoder **out, const char *options_json, struct weir_schema *schema,
                  struct weir_error *err) {
    struct debezium *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "debezium decoder: out of memory");
    }
    int32_t count = 0;
    int rc = read_options(d, options_json, &count, err);
    if (rc == WEIR_OK) {
        rc = decode_plan_settle(&d->plan, "debezium", schema, count, err);
    }
    if (rc == WEIR_OK) {
        d->index = weir_json_index_create();
        rc = d->index == NULL ? weir_error_set(err, WEIR_E_NOMEM, "debezium decoder: out of memory")
                              : open_registry(d, options_json, err);
    }
    if (rc != WEIR_OK) {
        destroy(&d->head);
        return rc;
    }
    *out = &d->head;
    return WEIR_OK;
}

static struct weir_schema *schema_of(const struct weir_decoder *base) {
    return ((const struct debezium *)base)->plan.schema;
}

static int columns(const char *options_json, const char *source_kind,
                   const char *source_options_json, struct weir_schema **out,
                   struct weir_error *err) {
    (void)source_kind;
    (void)source_options_json;
    struct weir_decoder *decoder = NULL;
    int rc = create(&decoder, options_json, NULL, err);
    if (rc == WEIR_OK) {
        *out = weir_schema_ref(schema_of(decoder));
        destroy(decoder);
    }
    return rc;
}

/* --- members ------------------------------------------------------------------------------ */

/* The schema beside the payload; read when it is another than the last. */
static int read_schema(struct debezium *d, const uint32_t *value) {
    struct json_reader *r = &d->plan.reader;
    d->has_schema = !debezium_is_null(r, value);
    if (!d->has_schema) {
        return WEIR_OK;
    }
    uint32_t end;
    uint32_t start = *value;
    r->next = value;
    int rc = json_skip_value(r, &end);
    if (rc != WEIR_OK) {
        return rc;
    }
    uint64_t hash = XXH3_64bits(r->block + start, end - start) | 1;
    if (hash != d->schema_hash) {
        d->schema_hash = 0;
        if (!debezium_schema_read(r->block + start, end - start, &d->plan.record, d->forms)) {
            return json_fail(r, start, "the schema is not one of a change event");
        }
        d->schema_hash = hash;
    }
    return WEIR_OK;
}

/* --- values ------------------------------------------------------------------------------- */

static int put_unscaled(struct debezium *d, const struct json_field *f, uint32_t at, int32_t scale,
                        struct weir_column_builder *b) {
    struct json_reader *r = &d->plan.reader;
    const uint8_t *text;
    size_t length;
    uint8_t bytes[DECIMAL_BYTES_MAX * 3];
    if (r->block[at] != '"') {
        return json_fail(r, at, "expected the base64 text of a decimal");
    }
    int rc = json_string_view(r, at, &text, &length);
    if (rc != WEIR_OK) {
        return rc;
    }
    int64_t size = length <= sizeof(bytes) ? json_base64(text, length, bytes) : -1;
    if (size < 1 || size > DECIMAL_BYTES_MAX) {
        return json_fail(r, at, "not the base64 text of a decimal of at most 38 digits");
    }
    __int128 value = bytes[0] & 0x80 ? -1 : 0;
    for (int64_t i = 0; i < size; i++) {
        value = (__int128)((unsigned __int128)value << 8 | bytes[i]);
    }
    struct json_number n = {
        .mantissa = value < 0 ? 0 - (unsigned __int128)value : (unsigned __int128)value,
        .exponent = -scale,
        .negative = value < 0,
    };
    unsigned __int128 out;
    if (!json_number_decimal(&n, f->field->precision, f->field->scale, &out)) {
        return json_fail(r, at, "a decimal of scale %d that is not decimal(%d,%d)", scale,
                         f->field->precision, f->field->scale);
    }
    return weir_builder_decimal(b, (uint64_t)out, (int64_t)(out >> 64));
}

/* numeric without a scale: {"scale": 2, "value": "…"} says its own. */
static int put_free_decimal(struct debezium *d, const struct json_field *f,
                            struct weir_column_builder *b) {
    static const char *const names[] = {"scale", "value"};
    struct json_reader *r = &d->plan.reader;
    const uint32_t *found[2];
    uint32_t at = *r->next;
    int64_t scale;
    int rc = debezium_scan(r, names, 2, found);
    if (rc == WEIR_OK && (!debezium_whole(r, found[0], &scale) || scale < -1000 || scale > 1000 ||
                          debezium_is_null(r, found[1]))) {
        rc = json_fail(r, at, "expected a decimal's scale and value");
    }
    return rc == WEIR_OK ? put_unscaled(d, f, *found[1], (int32_t)scale, b) : rc;
}

static int put_decimal(struct debezium *d, int32_t i, struct json_field *f,
                       struct weir_column_builder *b) {
    struct json_reader *r = &d->plan.reader;
    uint32_t at = *r->next;
    if (r->block[at] == '{') {
        return put_free_decimal(d, f, b);
    }
    if (r->block[at] != '"') {
        return json_read_value(r, f, b, NULL);
    }
    bool by_schema = d->has_schema && d->decimals == DECIMALS_BY_SCHEMA;
    if (by_schema && d->said[i].form == DEBEZIUM_DECIMAL) {
        r->next++;
        return put_unscaled(d, f, at, d->said[i].scale, b);
    }
    if (d->decimals == DECIMALS_DECLARED) {
        r->next++;
        return put_unscaled(d, f, at, f->field->scale, b);
    }
    if (by_schema || d->decimals == DECIMALS_STRING) {
        return json_read_value(r, f, b, NULL);
    }
    return json_fail(r, at,
                     "a decimal without its scale; give the connector "
                     "decimal.handling.mode=string and write debezium { decimals = \"string\" }, "
                     "or send schemas (schemas.enable=true), or, when the table's scale never "
                     "changes, write decimals = \"declared\"");
}

static int put_time(struct debezium *d, int32_t i, const struct json_field *f,
                    struct weir_column_builder *b) {
    static const int64_t units[] = {
        [DEBEZIUM_MILLIS] = 1000, [DEBEZIUM_MICROS] = 1000000, [DEBEZIUM_NANOS] = 1000000000};
    struct json_reader *r = &d->plan.reader;
    uint32_t at = *r->next;
    struct json_field said = *f;
    int64_t value;
    bool is_date = b->type == WEIR_TYPE_DATE;
    if (debezium_whole(r, r->next, &value)) {
        int64_t most = is_date ? INFINITE_DAYS : INFINITE_TIME;
        if (value >= most || value <= -most) {
            return json_fail(r, at, "%lld is infinity, which %s cannot hold", (long long)value,
                             weir_type_name(b->type));
        }
        enum debezium_form form = d->has_schema ? d->said[i].form : DEBEZIUM_PLAIN;
        if (!is_date && form >= DEBEZIUM_MILLIS) {
            if (units[form] > f->per_second) {
                int64_t down = units[form] / f->per_second;
                r->next++;
                return value % down == 0 ? json_put_int(b, value / down, 8)
                                         : json_fail(r, at, "%lld %s", (long long)value,
                                                     json_time_error_text(JSON_TIME_TOO_PRECISE));
            }
            said.epoch_factor = f->per_second / units[form];
        }
    }
    return json_read_value(r, &said, b, NULL);
}

/* The value of a column whose update left it where it was, outside the row: a text, or a list of
 * it. */
static bool is_unavailable(const struct json_reader *r, const uint32_t *value) {
    value += r->block[*value] == '[';
    const uint8_t *p = r->block + *value;
    if (*p != '"') {
        return false;
    }
    size_t left = value[1] - value[0]; /* up to the next structural byte */
    return left > sizeof(UNAVAILABLE) &&
           (memcmp(p, "\"" UNAVAILABLE "\"", sizeof(UNAVAILABLE) + 1) == 0 ||
            (left > sizeof(UNAVAILABLE_BASE64) &&
             memcmp(p, "\"" UNAVAILABLE_BASE64 "\"", sizeof(UNAVAILABLE_BASE64) + 1) == 0));
}

static int put_value(struct debezium *d, int32_t i, bool only_key, struct weir_column_builder *b,
                     struct weir_column_builder *unavailable) {
    struct json_reader *r = &d->plan.reader;
    struct json_field *f = &d->plan.record.fields[i];
    bool gone = !d->is_key[i] && is_unavailable(r, r->next);
    if ((only_key && !d->is_key[i]) || gone || debezium_is_null(r, r->next)) {
        uint32_t end;
        int rc = debezium_is_null(r, r->next) && d->is_key[i]
                     ? json_fail(r, *r->next, "null in a key")
                     : json_skip_value(r, &end);
        if (rc == WEIR_OK && gone && !only_key) {
            rc = weir_builder_bytes(&unavailable->children[0], f->field->name,
                                    strlen(f->field->name));
        }
        return rc == WEIR_OK ? weir_builder_null(b) : rc;
    }
    switch (b->type) {
    case WEIR_TYPE_DECIMAL:
        return put_decimal(d, i, f, b);
    case WEIR_TYPE_DATE:
    case WEIR_TYPE_TIMESTAMP:
    case WEIR_TYPE_TIMESTAMP_NTZ:
    case WEIR_TYPE_TIMESTAMP_NS:
    case WEIR_TYPE_TIMESTAMP_NS_NTZ:
        return put_time(d, i, f, b);
    default:
        return json_read_value(r, f, b, NULL);
    }
}

/* --- rows --------------------------------------------------------------------------------- */

static int read_member(struct debezium *d, bool only_key, uint32_t object,
                       struct weir_column_builder *columns) {
    struct json_reader *r = &d->plan.reader;
    struct json_record *record = &d->plan.record;
    uint32_t at;
    const uint8_t *key;
    size_t length;
    int rc = debezium_key(r, &at, &key, &length);
    if (rc != WEIR_OK) {
        return rc;
    }
    int32_t i = json_record_meant(record, key, length);
    if (i < 0) {
        return json_rescue(r, at, object, NULL);
    }
    uint64_t bit = 1ull << (i & 63);
    if ((record->seen[i >> 6] & bit) != 0) {
        return json_fail(r, at, "the key \"%s\" comes twice", record->fields[i].field->name);
    }
    record->seen[i >> 6] |= bit;
    if (r->block[*r->next++] != ':') {
        return json_fail(r, r->next[-1], "expected a colon after the key");
    }
    rc = put_value(d, i, only_key, &columns[i], &columns[record->count + EXTRA_UNAVAILABLE]);
    const char *name = record->fields[i].field->name;
    return rc == WEIR_OK ? WEIR_OK : json_fail_within(r, rc, name, strlen(name), 0);
}

/* The row at `value` (of `before` or `after`) into the table's columns. */
static int read_table_row(struct debezium *d, const uint32_t *value, bool only_key,
                          struct weir_column_builder *columns) {
    struct json_reader *r = &d->plan.reader;
    struct json_record *record = &d->plan.record;
    uint32_t object = ++r->objects;
    memset(record->seen, 0, (size_t)record->words * sizeof(uint64_t));
    r->next = value;
    uint32_t at = *r->next++;
    if (r->block[at] != '{') {
        return json_fail(r, at, "expected a row");
    }
    bool more = r->block[*r->next] != '}';
    while (more) {
        int rc = read_member(d, only_key, object, columns);
        if (rc != WEIR_OK) {
            return rc;
        }
        at = *r->next++;
        more = r->block[at] == ',';
        if (!more && r->block[at] != '}') {
            return json_fail(r, at, "expected a comma or }");
        }
    }
    for (int32_t i = 0; i < record->count; i++) {
        if ((record->seen[i >> 6] >> (i & 63) & 1) == 0) {
            const char *name = record->fields[i].field->name;
            int rc =
                d->is_key[i] ? json_fail(r, at, "missing field") : weir_builder_null(&columns[i]);
            if (rc != WEIR_OK) {
                return json_fail_within(r, rc, name, strlen(name), 0);
            }
        }
    }
    return r->rescued.size > 0 ? weir_buffer_append(&r->rescued, "}", 1) : WEIR_OK;
}

static int put_optional(struct weir_column_builder *b, bool has, int64_t value) {
    return has ? weir_builder_int(b, value) : weir_builder_null(b);
}

static int put_extras(struct debezium *d, enum weir_change change,
                      const uint32_t *const found[MEMBER_COUNT],
                      struct weir_column_builder *extras) {
    struct json_reader *r = &d->plan.reader;
    const uint32_t *origin[ORIGIN_COUNT] = {NULL};
    int64_t lsn = 0;
    int64_t txid = 0;
    int64_t time = 0;
    int rc = WEIR_OK;
    if (!debezium_is_null(r, found[SOURCE])) {
        r->next = found[SOURCE];
        rc = debezium_scan(r, origin_names, ORIGIN_COUNT, origin);
    }
    bool has_time = debezium_whole(r, origin[TS_US], &time);
    if (!has_time && debezium_whole(r, origin[TS_MS], &time)) {
        has_time = !__builtin_mul_overflow(time, 1000, &time);
    }
    bool has_lsn = debezium_whole(r, origin[LSN], &lsn);
    bool has_txid = debezium_transaction(r, found[TRANSACTION], &txid) ||
                    debezium_whole(r, origin[TXID], &txid);
    if (rc == WEIR_OK) {
        rc = weir_builder_int(&extras[EXTRA_CHANGE], change);
    }
    if (rc == WEIR_OK) {
        rc = put_optional(&extras[EXTRA_LSN], has_lsn, lsn);
    }
    if (rc == WEIR_OK) {
        rc = put_optional(&extras[EXTRA_TIME], has_time, time);
    }
    if (rc == WEIR_OK) {
        rc = put_optional(&extras[EXTRA_TXID], has_txid, txid);
    }
    struct weir_column_builder *gone = &extras[EXTRA_UNAVAILABLE];
    int64_t listed = gone->length > 0 ? gone->offsets[gone->length] : 0;
    if (rc == WEIR_OK) {
        rc = gone->children[0].length > listed ? weir_builder_list(gone) : weir_builder_null(gone);
    }
    return rc;
}

static int put_zero(struct weir_column_builder *b) {
    switch (b->type) {
    case WEIR_TYPE_BOOL:
        return weir_builder_bool(b, false);
    case WEIR_TYPE_FLOAT:
        return weir_builder_float(b, 0);
    case WEIR_TYPE_DOUBLE:
        return weir_builder_double(b, 0);
    case WEIR_TYPE_DECIMAL:
        return weir_builder_decimal(b, 0, 0);
    default:
        return weir_type_is_bytes(b->type) ? weir_builder_bytes(b, "", 0) : weir_builder_int(b, 0);
    }
}

/* Of a truncate: null, but where a key may not be. */
static int put_no_row(struct debezium *d, struct weir_column_builder *columns) {
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < d->plan.record.count; i++) {
        rc = d->is_key[i] ? put_zero(&columns[i]) : weir_builder_null(&columns[i]);
    }
    return rc;
}

/* Which members the event has; *found are those of its payload. */
static int read_envelope(struct debezium *d, const uint32_t *found[MEMBER_COUNT]) {
    struct json_reader *r = &d->plan.reader;
    int rc = debezium_scan(r, member_names, MEMBER_COUNT, found);
    if (rc != WEIR_OK || found[PAYLOAD] == NULL) {
        d->has_schema = d->avro != NULL;
        return rc;
    }
    const uint32_t *payload = found[PAYLOAD];
    rc = read_schema(d, found[SCHEMA]);
    if (rc == WEIR_OK && debezium_is_null(r, payload)) {
        memset(found, 0, MEMBER_COUNT * sizeof(const uint32_t *));
        found[PAYLOAD] = payload;
        return WEIR_OK;
    }
    r->next = payload;
    return rc == WEIR_OK ? debezium_scan(r, member_names, MEMBER_COUNT, found) : rc;
}

/* *ignored: nothing of the table changes (a tombstone, a logical message). */
static int read_event(struct debezium *d, struct weir_column_builder *columns, bool *ignored) {
    struct json_reader *r = &d->plan.reader;
    const uint32_t *found[MEMBER_COUNT];
    *ignored = false;
    if (r->block[*r->next] == 'n') {
        *ignored = true;
        return WEIR_OK;
    }
    int rc = read_envelope(d, found);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (found[PAYLOAD] != NULL && debezium_is_null(r, found[PAYLOAD])) {
        *ignored = true;
        return WEIR_OK;
    }
    const uint8_t *op = found[OP] != NULL ? r->block + *found[OP] : NULL;
    if (op == NULL || op[0] != '"' || op[1] == '"' || op[2] != '"') {
        return json_fail(
            r, 0,
            "no change event: it has no op (a flattened one is read by json, topics of "
            "heartbeats and transactions are not the table's)");
    }
    bool is_delete = op[1] == 'd';
    switch (op[1]) {
    case 'c':
    case 'r':
    case 'u':
    case 'd':
        break;
    case 'm':
        *ignored = true;
        return WEIR_OK;
    case 't':
        rc = put_no_row(d, columns);
        return rc == WEIR_OK
                   ? put_extras(d, WEIR_CHANGE_TRUNCATE, found, columns + d->plan.record.count)
                   : rc;
    default:
        return json_fail(r, 0, "the op \"%c\" is not known", op[1] >= ' ' ? op[1] : '?');
    }
    const uint32_t *row = found[is_delete ? BEFORE : AFTER];
    if (debezium_is_null(r, row)) {
        return json_fail(r, 0,
                         is_delete ? "a delete without before; give the table a primary key"
                                   : "no row in after");
    }
    rc = read_table_row(d, row, is_delete, columns);
    enum weir_change change = is_delete      ? WEIR_CHANGE_DELETE
                              : op[1] == 'u' ? WEIR_CHANGE_AFTER
                                             : WEIR_CHANGE_INSERT;
    return rc == WEIR_OK ? put_extras(d, change, found, columns + d->plan.record.count) : rc;
}

/* The text of a frame; its structural positions go to the reader. */
static int index_frame(struct debezium *d, const uint8_t *block, const struct weir_frame *frame,
                       struct decode_fault *fault) {
    struct json_reader *r = &d->plan.reader;
    const uint8_t *text = block + frame->start;
    size_t size = frame->length;
    uint32_t *positions;
    uint32_t count;
    d->said = d->forms;
    r->path[0] = '\0';
    int rc = d->avro != NULL ? debezium_avro_text(d->avro, block, frame, &text, &size, &d->said)
                             : WEIR_OK;
    if (rc != WEIR_OK) {
        *fault = (struct decode_fault){"", r->reason, r->error_at};
        return rc;
    }
    enum weir_json_index_result result =
        weir_json_index_run(d->index, text, size, &positions, &count);
    if (result == WEIR_JSON_NOMEM) {
        return WEIR_E_NOMEM;
    }
    if (result != WEIR_JSON_INDEXED) {
        *fault = (struct decode_fault){
            "", result == WEIR_JSON_UTF8 ? "not valid UTF-8" : "not JSON", -1};
        return WEIR_E_DATA;
    }
    r->block = text;
    r->next = positions;
    return WEIR_OK;
}

static int read_one(void *decoder, const uint8_t *block, struct weir_frame *frame,
                    struct weir_batch_builder *builder, struct decode_fault *fault) {
    struct debezium *d = decoder;
    struct json_reader *r = &d->plan.reader;
    bool ignored;
    int rc = index_frame(d, block, frame, fault);
    if (rc != WEIR_OK) {
        return rc;
    }
    r->depth = 1;
    r->objects = 0;
    r->path[0] = '\0';
    json_keys_clear(&r->keys);
    weir_buffer_clear(&r->rescued);
    rc = read_event(d, builder->columns, &ignored);
    if (rc == WEIR_E_DATA && d->avro != NULL) {
        debezium_avro_name(d->avro);
    }
    if (rc == WEIR_E_DATA) { /* positions of Avro are of the text, not of the message */
        *fault =
            (struct decode_fault){r->path, r->reason, d->avro != NULL ? -1 : (int64_t)r->error_at};
    }
    return rc == WEIR_OK && !ignored
               ? decode_finish_row(builder, d->plan.schema->count, frame->offset, &r->rescued)
               : rc;
}

static int decode(struct weir_decoder *base, const uint8_t *block, const struct weir_frame *frames,
                  int32_t count, struct weir_batch_builder *builder,
                  struct weir_reject_batch **rejects, int32_t *consumed) {
    return decode_frames(base, read_one, block, frames, count, builder, rejects, consumed);
}

static const char *const decimals_choices[] = {"string", "declared", NULL};

static const struct weir_option options[] = {
    {.name = "key", .form = WEIR_OPTION_TEXTS, .required = true, .example = "\"id\""},
    {.name = "schema",
     .form = WEIR_OPTION_FILE,
     .required = true,
     .example = "\"schemas/customer.avsc\""},
    {.name = "decimals",
     .form = WEIR_OPTION_TEXT,
     .example = "\"string\"",
     .choices = decimals_choices},
    {.name = "registry", .form = WEIR_OPTION_TEXT, .example = "env \"REGISTRY\""},
    {.name = "username", .form = WEIR_OPTION_TEXT},
    {.name = "password", .form = WEIR_OPTION_SECRET},
    {.name = "token", .form = WEIR_OPTION_SECRET},
    {.name = "ca_file", .form = WEIR_OPTION_PATH},
    {0},
};

const struct weir_decoder_vtable weir_decoder_debezium = {
    .name = "debezium",
    .options = options,
    .columns = columns,
    .create = create,
    .schema = schema_of,
    .decode = decode,
    .destroy = destroy,
};
