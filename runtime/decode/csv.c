/* The CSV decoder: records by RFC 4180 → rows. In a file a header names the columns; a message is
 * one record without one. Cells are found by vector compares (csv_cut.c) and read by the schema's
 * types (text_value.c). */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decode/csv_cut.h"
#include "decode/json/json_text.h"
#include "decode/row.h"
#include "decode/text_value.h"

enum { NULLS_MAX = 16, PROBLEM_BYTES = 256, HEADER_BYTES_MAX = 1 << 20 };

#define TO_RESCUE (-1)

struct csv {
    struct weir_decoder head;
    struct decode_plan plan;
    struct csv_field *fields; /* of the record at hand */
    int32_t *columns;         /* of each cell; TO_RESCUE: the header's name is not the schema's */
    int32_t cells;            /* a record must have */
    char **names;             /* the header's; NULL without one */
    char *nulls[NULLS_MAX];
    size_t null_lengths[NULLS_MAX];
    int32_t null_count;
    struct weir_buffer scratch;  /* a cell without its doubled quotes */
    char problem[PROBLEM_BYTES]; /* of the header: every record of the file is rejected */
    uint8_t delimiter;
    bool has_header;
};

/* --- life --------------------------------------------------------------------------------- */

static void forget_header(struct csv *csv) {
    for (int32_t i = 0; csv->names != NULL && i < csv->cells; i++) {
        free(csv->names[i]);
    }
    free(csv->names);
    csv->names = NULL;
    csv->problem[0] = '\0';
    csv->cells = 0;
}

static void destroy(struct weir_decoder *base) {
    struct csv *csv = (struct csv *)base;
    forget_header(csv);
    for (int32_t i = 0; i < csv->null_count; i++) {
        free(csv->nulls[i]);
    }
    free(csv->fields);
    free(csv->columns);
    weir_buffer_fini(&csv->scratch);
    decode_plan_fini(&csv->plan);
    free(csv);
}

static int read_delimiter(struct csv *csv, const json_t *value, struct weir_error *err) {
    const char *text = json_string_value(value);
    if (text == NULL || strlen(text) != 1 || strchr("\"\r\n", *text) != NULL ||
        (unsigned char)*text >= 0x80) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "csv: delimiter is one ASCII character, like \";\" or \"\\t\"");
    }
    csv->delimiter = (uint8_t)*text;
    return WEIR_OK;
}

static int read_nulls(struct csv *csv, const json_t *value, struct weir_error *err) {
    if (!json_is_array(value) || json_array_size(value) > NULLS_MAX) {
        return weir_error_set(err, WEIR_E_CONFIG, "csv: null is a text or a list of at most %d",
                              NULLS_MAX);
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *text = json_array_get(value, i);
        csv->nulls[i] = json_is_string(text) ? strdup(json_string_value(text)) : NULL;
        if (csv->nulls[i] == NULL) {
            return weir_error_set(err, WEIR_E_CONFIG, "csv: null is a list of texts");
        }
        csv->null_lengths[i] = strlen(csv->nulls[i]);
        csv->null_count = (int32_t)i + 1;
    }
    return WEIR_OK;
}

static int read_options(struct csv *csv, const char *options_json, struct weir_error *err) {
    json_t *options = json_loads(options_json != NULL ? options_json : "{}", 0, NULL);
    int rc = json_is_object(options)
                 ? WEIR_OK
                 : weir_error_set(err, WEIR_E_CONFIG, "csv: options are not an object");
    bool has_nulls = false;
    const char *key;
    json_t *value;
    json_object_foreach(options, key, value) {
        if (rc != WEIR_OK) {
            break;
        }
        if (strcmp(key, "schema") == 0 && json_is_string(value)) {
            rc = decode_plan_load(&csv->plan, json_string_value(value), err);
        } else if (strcmp(key, "header") == 0) {
            csv->has_header = json_is_true(value);
        } else if (strcmp(key, "delimiter") == 0) {
            rc = read_delimiter(csv, value, err);
        } else if (strcmp(key, "null") == 0) {
            has_nulls = true;
            rc = read_nulls(csv, value, err);
        } else {
            rc = weir_error_set(err, WEIR_E_CONFIG,
                                "csv: unknown option \"%s\"; it has schema, header, delimiter and "
                                "null",
                                key);
        }
    }
    if (rc == WEIR_OK && !has_nulls) {
        csv->nulls[0] = strdup("");
        csv->null_count = csv->nulls[0] != NULL;
    }
    json_decref(options);
    return rc;
}

static int check_types(const struct csv *csv, struct weir_error *err) {
    for (int32_t i = 0; i < csv->plan.record.count; i++) {
        const struct weir_field *field = csv->plan.record.fields[i].field;
        if (weir_type_is_nested(field->type)) {
            return weir_error_set(err, WEIR_E_SCHEMA,
                                  "csv: field \"%s\" is a %s, which a cell cannot hold; make it a "
                                  "string and take it apart in a map",
                                  field->name, weir_type_name(field->type));
        }
    }
    return csv->plan.record.count <= CSV_FIELDS_MAX
               ? WEIR_OK
               : weir_error_set(err, WEIR_E_SCHEMA, "csv: at most %d columns", CSV_FIELDS_MAX);
}

/* The schema's columns in their order. */
static void map_by_place(struct csv *csv) {
    csv->cells = csv->plan.record.count;
    for (int32_t i = 0; i < csv->cells; i++) {
        csv->columns[i] = i;
    }
}

static int create(struct weir_decoder **out, const char *options_json, struct weir_schema *schema,
                  struct weir_error *err) {
    struct csv *csv = calloc(1, sizeof(*csv));
    if (csv == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "csv decoder: out of memory");
    }
    csv->delimiter = ',';
    csv->has_header = true;
    weir_buffer_init(&csv->scratch, WEIR_DECODE_FRAME_BYTES_MAX);
    int rc = read_options(csv, options_json, err);
    if (rc == WEIR_OK) {
        rc = decode_plan_settle(&csv->plan, "csv", schema, -1, err);
    }
    if (rc == WEIR_OK) {
        rc = check_types(csv, err);
    }
    if (rc == WEIR_OK) {
        csv->fields = malloc(CSV_FIELDS_MAX * sizeof(*csv->fields));
        csv->columns = malloc(CSV_FIELDS_MAX * sizeof(*csv->columns));
        rc = csv->fields == NULL || csv->columns == NULL
                 ? weir_error_set(err, WEIR_E_NOMEM, "csv decoder: out of memory")
                 : WEIR_OK;
    }
    if (rc != WEIR_OK) {
        destroy(&csv->head);
        return rc;
    }
    map_by_place(csv);
    *out = &csv->head;
    return WEIR_OK;
}

static struct weir_schema *schema_of(const struct weir_decoder *base) {
    return ((const struct csv *)base)->plan.schema;
}

/* --- cells -------------------------------------------------------------------------------- */

/* The text of a cell, without its quotes and with "" made one. */
static int cell_text(struct csv *csv, const uint8_t *record, const struct csv_field *cell,
                     const uint8_t **text, size_t *length) {
    *text = record + cell->start;
    *length = cell->length;
    if (!cell->doubled) {
        return WEIR_OK;
    }
    weir_buffer_clear(&csv->scratch);
    int rc = weir_buffer_reserve(&csv->scratch, cell->length + 1);
    if (rc != WEIR_OK) {
        return rc;
    }
    uint8_t *to = csv->scratch.data;
    for (size_t i = 0; i < cell->length; i++) {
        *to++ = (*text)[i];
        i += (*text)[i] == '"';
    }
    *length = (size_t)(to - csv->scratch.data);
    *to = '\0';
    *text = csv->scratch.data;
    return WEIR_OK;
}

static bool is_null(const struct csv *csv, const uint8_t *text, size_t length) {
    for (int32_t i = 0; i < csv->null_count; i++) {
        if (csv->null_lengths[i] == length && memcmp(csv->nulls[i], text, length) == 0) {
            return true;
        }
    }
    return false;
}

static int put_cell(struct csv *csv, const uint8_t *record, const struct csv_field *cell,
                    const struct json_field *f, struct weir_column_builder *b) {
    const uint8_t *text;
    size_t length;
    int rc = cell_text(csv, record, cell, &text, &length);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (!cell->quoted && is_null(csv, text, length)) {
        if (f->field->nullable) {
            return weir_builder_null(b);
        }
        if (b->type != WEIR_TYPE_STRING || length > 0) { /* "" is a text where null is none */
            return json_fail(&csv->plan.reader, 0, "null, but the field is not nullable");
        }
    }
    return text_value_put(&csv->plan.reader, f, b, text, length);
}

static int put_absent(struct csv *csv, struct json_field *f, struct weir_column_builder *b) {
    if (f->default_.text != NULL) {
        return json_read_default(&csv->plan.reader, f, b);
    }
    if (f->field->nullable) {
        return weir_builder_null(b);
    }
    return json_fail(&csv->plan.reader, 0, "missing field");
}

/* --- records ------------------------------------------------------------------------------ */

static bool is_cut(struct csv *csv, const uint8_t *record, uint32_t length,
                   struct decode_fault *fault) {
    int32_t count;
    uint32_t at;
    bool ascii;
    char *text = csv->plan.reader.reason;
    enum csv_problem problem =
        csv_cut_fields(record, length, csv->delimiter, csv->fields, &count, &at, &ascii);
    int64_t bad = ascii ? -1 : json_find_bad_utf8(record, length);
    *fault = (struct decode_fault){.field = "", .reason = text, .at = at};
    if (csv->problem[0] != '\0') {
        *fault = (struct decode_fault){.field = "", .reason = csv->problem, .at = -1};
    } else if (problem == CSV_UNCLOSED) {
        fault->reason = "a quote that is not closed";
    } else if (problem == CSV_STRAY_QUOTE) {
        fault->reason = record[at] == '"' ? "a quote inside a cell without quotes"
                                          : "text behind a quoted cell";
    } else if (bad >= 0) {
        fault->reason = "not valid UTF-8";
        fault->at = bad;
    } else if (problem == CSV_TOO_MANY || count != csv->cells) {
        snprintf(text, JSON_REASON_BYTES, "%d%s cells where %s %d", count,
                 problem == CSV_TOO_MANY ? " and more" : "",
                 csv->names != NULL ? "the header has" : "there are columns for", csv->cells);
        fault->at = -1;
    } else {
        return true;
    }
    return false;
}

static int read_record(struct csv *csv, const uint8_t *record, struct weir_batch_builder *builder,
                       struct decode_fault *fault) {
    struct json_record *plan = &csv->plan.record;
    struct weir_buffer *rescued = &csv->plan.reader.rescued;
    int rc = WEIR_OK;
    weir_buffer_clear(rescued);
    for (int32_t i = 0; i < csv->cells; i++) {
        const struct csv_field *cell = &csv->fields[i];
        int32_t column = csv->columns[i];
        if (column != TO_RESCUE) {
            rc = put_cell(csv, record, cell, &plan->fields[column], &builder->columns[column]);
        } else {
            const uint8_t *text;
            size_t length;
            rc = cell_text(csv, record, cell, &text, &length);
            rc = rc != WEIR_OK
                     ? rc
                     : decode_rescue(rescued, csv->names[i], strlen(csv->names[i]), text, length);
        }
        if (rc != WEIR_OK) {
            fault->field = column != TO_RESCUE ? plan->fields[column].field->name : csv->names[i];
            fault->at = cell->start;
            return rc;
        }
    }
    for (int32_t i = 0; csv->names != NULL && i < plan->count; i++) {
        if ((plan->seen[i >> 6] >> (i & 63) & 1) == 0) {
            rc = put_absent(csv, &plan->fields[i], &builder->columns[i]);
            if (rc != WEIR_OK) {
                fault->field = plan->fields[i].field->name;
                fault->at = -1;
                return rc;
            }
        }
    }
    return rescued->size > 0 ? weir_buffer_append(rescued, "}", 1) : WEIR_OK;
}

static int read_one(void *decoder, const uint8_t *block, struct weir_frame *frame,
                    struct weir_batch_builder *builder, struct decode_fault *fault) {
    struct csv *csv = decoder;
    const uint8_t *record = block + frame->start;
    if (!is_cut(csv, record, frame->length, fault)) {
        return WEIR_E_DATA;
    }
    fault->reason = csv->plan.reader.reason;
    int rc = read_record(csv, record, builder, fault);
    return rc == WEIR_OK ? decode_finish_row(builder, csv->plan.record.count, frame->offset,
                                             &csv->plan.reader.rescued)
                         : rc;
}

static int decode(struct weir_decoder *base, const uint8_t *block, const struct weir_frame *frames,
                  int32_t count, struct weir_batch_builder *builder,
                  struct weir_reject_batch **rejects, int32_t *consumed) {
    return decode_frames(base, read_one, block, frames, count, builder, rejects, consumed);
}

/* --- files -------------------------------------------------------------------------------- */

static bool is_blank(const uint8_t *p, size_t length) {
    return length == 0 || (length == 1 && *p == '\r');
}

static int split(struct weir_decoder *base, struct weir_split *work, struct weir_error *err) {
    struct csv *csv = (struct csv *)base;
    (void)err;
    size_t at = 0;
    work->count = 0;
    while (work->count < work->max && at < work->size) {
        size_t length;
        size_t whole;
        if (!csv_cut_record(work->bytes + at, work->size - at, csv->delimiter, work->last, &length,
                            &whole) ||
            length > WEIR_SPLIT_BYTES_MAX) {
            break;
        }
        if (!is_blank(work->bytes + at, length)) {
            work->frames[work->count++] = (struct weir_frame){
                .start = (uint32_t)at,
                .length = (uint32_t)length,
                .offset = (int64_t)(work->offset + at),
            };
        }
        at += whole;
    }
    work->used = at;
    return WEIR_OK;
}

static int keep_name(struct csv *csv, int32_t i, const uint8_t *text, size_t length) {
    struct json_record *plan = &csv->plan.record;
    csv->names[i] = strndup((const char *)text, length);
    if (csv->names[i] == NULL) {
        return WEIR_E_NOMEM;
    }
    int32_t column = json_record_meant(plan, text, length);
    csv->columns[i] = column >= 0 ? column : TO_RESCUE;
    bool twice = false;
    if (column >= 0) {
        uint64_t bit = 1ull << (column & 63);
        twice = (plan->seen[column >> 6] & bit) != 0;
        plan->seen[column >> 6] |= bit;
    }
    for (int32_t j = 0; column < 0 && !twice && j < i; j++) {
        twice = strcmp(csv->names[j], csv->names[i]) == 0;
    }
    if (twice) {
        snprintf(csv->problem, sizeof(csv->problem), "the header has the column \"%.100s\" twice",
                 csv->names[i]);
    }
    return WEIR_OK;
}

static int read_header(struct csv *csv, const uint8_t *record, uint32_t length,
                       struct weir_error *err) {
    uint32_t at;
    int32_t count;
    bool ascii;
    enum csv_problem problem =
        csv_cut_fields(record, length, csv->delimiter, csv->fields, &count, &at, &ascii);
    memset(csv->plan.record.seen, 0, (size_t)csv->plan.record.words * sizeof(uint64_t));
    if (problem != CSV_GOOD || (!ascii && json_find_bad_utf8(record, length) >= 0)) {
        snprintf(csv->problem, sizeof(csv->problem),
                 "the header (the file's first line) is not CSV in UTF-8");
        return WEIR_OK;
    }
    csv->names = calloc((size_t)count, sizeof(*csv->names));
    if (csv->names == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "csv decoder: out of memory");
    }
    csv->cells = count;
    for (int32_t i = 0; i < count; i++) {
        const uint8_t *text;
        size_t size;
        int rc = cell_text(csv, record, &csv->fields[i], &text, &size);
        rc = rc == WEIR_OK ? keep_name(csv, i, text, size) : rc;
        if (rc != WEIR_OK) {
            return weir_error_set(err, rc, "csv decoder: out of memory");
        }
    }
    return WEIR_OK;
}

static int begin(struct weir_decoder *base, const uint8_t *bytes, size_t size, bool last,
                 size_t *used, struct weir_error *err) {
    struct csv *csv = (struct csv *)base;
    size_t length = 0;
    forget_header(csv);
    map_by_place(csv);
    *used = 0;
    if (!csv->has_header) {
        return WEIR_OK;
    }
    if (!csv_cut_record(bytes, size, csv->delimiter, last, &length, used)) {
        if (size <= HEADER_BYTES_MAX) {
            *used = WEIR_SPLIT_MORE;
            return WEIR_OK;
        }
        length = *used = HEADER_BYTES_MAX;
        snprintf(csv->problem, sizeof(csv->problem), "the header is longer than %d bytes",
                 HEADER_BYTES_MAX);
        return WEIR_OK;
    }
    return length == 0 && last ? WEIR_OK : read_header(csv, bytes, (uint32_t)length, err);
}

static const struct weir_option options[] = {
    {.name = "schema",
     .form = WEIR_OPTION_FILE,
     .required = true,
     .example = "\"schemas/supplier.avsc\""},
    {.name = "header", .form = WEIR_OPTION_FLAG, .example = "true"},
    {.name = "delimiter", .form = WEIR_OPTION_TEXT, .example = "\";\""},
    {.name = "null", .form = WEIR_OPTION_TEXTS, .example = "{ \"\", \"NULL\" }"},
    {0},
};

const struct weir_decoder_vtable weir_decoder_csv = {
    .name = "csv",
    .options = options,
    .create = create,
    .schema = schema_of,
    .decode = decode,
    .destroy = destroy,
    .split = split,
    .begin = begin,
};
