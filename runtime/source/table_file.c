#include "source/table_file.h"

#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "batch/change.h"
#include "decode/json/json_text.h"
#include "lake/delta/schema_json.h"
#include "lake/delta/table.h"

enum {
    JSON_BYTES_MAX = 16 << 20,    /* of one row */
    RESCUED_BYTES_MAX = 64 << 20, /* of one batch */
};

/* --- life --------------------------------------------------------------------------------- */

int table_file_init(struct table_file *file, struct weir_source *source, struct weir_error *err) {
    memset(file, 0, sizeof(*file));
    file->source = source;
    weir_buffer_init(&file->json, JSON_BYTES_MAX);
    struct weir_schema *meta = weir_schema_create();
    const struct weir_schema *full = source->full_schema;
    int rc = meta != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (int32_t i = full->count - WEIR_META_COUNT; rc == WEIR_OK && i < full->count; i++) {
        rc = weir_schema_add(meta, &full->fields[i]);
    }
    if (rc == WEIR_OK) {
        rc = weir_batch_builder_init(&file->meta, source->pool, meta, WEIR_BATCH_ROWS_MAX,
                                     RESCUED_BYTES_MAX, err);
        file->has_meta = rc == WEIR_OK;
    } else {
        weir_error_set(err, rc, "out of memory");
    }
    weir_schema_unref(meta);
    file->numbers = malloc(WEIR_BATCH_ROWS_MAX * sizeof(*file->numbers));
    file->changes = malloc(WEIR_BATCH_ROWS_MAX);
    return rc == WEIR_OK && (file->numbers == NULL || file->changes == NULL)
               ? weir_error_set(err, WEIR_E_NOMEM, "out of memory")
               : rc;
}

static void forget_columns(struct table_file *file) {
    if (file->columns != NULL && file->owns_columns) {
        weir_delta_columns_free(file->columns, file->schema->count);
    } else {
        free(file->columns);
    }
    file->columns = NULL;
    free(file->looks);
    file->looks = NULL;
    weir_schema_unref(file->schema);
    weir_schema_unref(file->unplanned);
    file->schema = file->unplanned = NULL;
}

void table_file_close(struct table_file *file) {
    if (file->is_open) {
        delta_cursor_close(&file->cursor);
        file->is_open = false;
    }
    weir_batch_unref(file->rows);
    file->rows = NULL;
    free(file->topic);
    file->topic = NULL;
}

void table_file_fini(struct table_file *file) {
    table_file_close(file);
    forget_columns(file);
    if (file->has_meta) {
        weir_batch_builder_fini(&file->meta);
    }
    weir_buffer_fini(&file->json);
    free(file->numbers);
    free(file->changes);
}

/* --- columns ------------------------------------------------------------------------------ */

static bool is_meta(const struct weir_schema *meta, const char *name) {
    return weir_schema_find(meta, name) >= 0;
}

int table_file_columns(const struct weir_schema *fields, bool nullable, struct weir_schema **out,
                       struct weir_error *err) {
    struct weir_schema *none = weir_schema_create();
    struct weir_schema *meta = none != NULL ? weir_decode_full_schema(none) : NULL;
    *out = weir_schema_create();
    int rc = meta != NULL && *out != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (int32_t i = 0; rc == WEIR_OK && i < fields->count; i++) {
        if (!is_meta(meta, fields->fields[i].name)) {
            rc = weir_schema_add(*out, &fields->fields[i]);
            if (rc == WEIR_OK && nullable) {
                (*out)->fields[(*out)->count - 1].nullable = true;
            }
        }
    }
    weir_schema_unref(none);
    weir_schema_unref(meta);
    if (rc != WEIR_OK) {
        weir_schema_unref(*out);
        *out = NULL;
        return weir_error_set(err, rc, "out of memory");
    }
    return WEIR_OK;
}

/* A meta column taken over from the file: its place in the schema to be read, or -1. */
static int take_over(struct table_file *file, const struct weir_schema *fields, int32_t meta,
                     int32_t *place) {
    const struct weir_field *wanted = &file->meta.schema->fields[meta];
    int32_t at = weir_schema_find(fields, wanted->name);
    *place = -1;
    if (at < 0 || fields->fields[at].type != wanted->type) {
        return WEIR_OK;
    }
    *place = file->schema->count;
    return weir_schema_add(file->schema, &fields->fields[at]);
}

/* The planned columns in the planned types, what else `fields` has, and the meta columns taken
 * over. */
static int join_schemas(struct table_file *file, const struct weir_schema *fields) {
    const struct weir_schema *planned = file->source->user_schema;
    file->schema = weir_schema_create();
    file->unplanned = weir_schema_create();
    int rc = file->schema != NULL && file->unplanned != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (int32_t i = 0; rc == WEIR_OK && i < planned->count; i++) {
        rc = weir_schema_add(file->schema, &planned->fields[i]);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < fields->count; i++) {
        if (weir_schema_find(planned, fields->fields[i].name) < 0 &&
            !is_meta(file->meta.schema, fields->fields[i].name)) {
            rc = weir_schema_add(file->schema, &fields->fields[i]);
            rc = rc == WEIR_OK ? weir_schema_add(file->unplanned, &fields->fields[i]) : rc;
        }
    }
    if (rc == WEIR_OK && weir_schema_find(planned, WEIR_CHANGE_COLUMN) >= 0) {
        rc = weir_schema_add_text(file->schema, "_change_type", "string", true, NULL);
    }
    if (rc == WEIR_OK) {
        rc = take_over(file, fields, WEIR_META_RESCUED, &file->rescued);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < WEIR_META_COUNT; i++) {
        bool taken = i != WEIR_META_RESCUED && (i == WEIR_META_TIMESTAMP || file->source->again);
        file->theirs[i] = -1;
        rc = taken ? take_over(file, fields, i, &file->theirs[i]) : rc;
    }
    return rc;
}

int table_file_expect(struct table_file *file, const struct weir_schema *fields,
                      const struct weir_delta_column *columns, struct weir_error *err) {
    forget_columns(file);
    int rc = join_schemas(file, fields);
    if (rc == WEIR_OK && file->unplanned->count == 0) {
        weir_schema_unref(file->unplanned);
        file->unplanned = NULL;
    }
    if (rc == WEIR_OK && columns == NULL) {
        file->owns_columns = true;
        file->columns = delta_plain_columns(file->schema->fields, file->schema->count);
    } else if (rc == WEIR_OK) {
        file->owns_columns = false;
        file->columns = calloc((size_t)file->schema->count + 1, sizeof(*file->columns));
    }
    file->looks = rc == WEIR_OK ? malloc((size_t)file->schema->count + 1) : NULL;
    if (rc != WEIR_OK || file->columns == NULL || file->looks == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    for (int32_t i = 0; columns != NULL && i < file->schema->count; i++) {
        int32_t at = weir_schema_find(fields, file->schema->fields[i].name);
        if (at >= 0) {
            file->columns[i] = columns[at];
        } else { /* the table has it no more: null */
            file->columns[i].field_id = -1;
            file->columns[i].physical_name = file->schema->fields[i].name;
        }
    }
    return WEIR_OK;
}

/* --- a batch of the file ------------------------------------------------------------------- */

int table_file_begin(struct table_file *file, const char *topic, int64_t row,
                     struct weir_error *err) {
    file->is_open = true;
    file->next_row = row;
    free(file->topic);
    file->topic = strdup(topic);
    int rc = file->topic != NULL ? WEIR_OK : weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    if (rc == WEIR_OK && row > 0 && row < weir_parquet_reader_rows(file->cursor.file.reader)) {
        rc = delta_cursor_seek(&file->cursor, row, err);
    } else if (rc == WEIR_OK && row > 0) { /* all of it was read: to its end */
        int32_t groups = weir_parquet_reader_row_groups(file->cursor.file.reader);
        rc = weir_parquet_reader_seek(file->cursor.file.reader, groups, err);
        file->cursor.next_row = row;
    }
    if (rc != WEIR_OK) {
        table_file_close(file);
    }
    return rc;
}

static int64_t *fresh_values(struct weir_batch *rows, const char *name, uint8_t type) {
    int32_t at = weir_schema_find(rows->schema, name);
    int64_t *values = weir_batch_alloc(rows, (size_t)rows->rows * sizeof(*values) + 8);
    if (at < 0 || values == NULL || rows->columns[at].type != type) {
        return NULL;
    }
    struct weir_column *column = &rows->columns[at];
    column->values = values;
    column->validity = NULL;
    column->null_count = 0;
    column->codes = NULL;
    return values;
}

/* What rows are and since when, in the columns for it. */
static int put_told(struct table_file *file, struct weir_batch *rows) {
    int8_t *changes = (int8_t *)fresh_values(rows, WEIR_CHANGE_COLUMN, WEIR_TYPE_INT8);
    int64_t *versions = fresh_values(rows, TABLE_FILE_VERSION_COLUMN, WEIR_TYPE_INT64);
    int64_t *times = fresh_values(rows, TABLE_FILE_TIME_COLUMN, WEIR_TYPE_TIMESTAMP);
    if (changes == NULL || versions == NULL || times == NULL) {
        return WEIR_E_LIMIT;
    }
    memcpy(changes, file->changes, (size_t)rows->rows);
    for (int32_t i = 0; i < rows->rows; i++) {
        versions[i] = file->told->version;
        times[i] = file->told->time_us;
    }
    return WEIR_OK;
}

/* The file's next batch without its deleted rows and those before next_row. */
static int load_rows(struct table_file *file, bool *end, struct weir_error *err) {
    struct delta_cursor *cursor = &file->cursor;
    int64_t again = cursor->next_row;
    struct weir_batch *batch = NULL;
    int32_t count = 0;
    int32_t sel[WEIR_BATCH_ROWS_MAX];
    *end = false;
    if (again >= weir_parquet_reader_rows(cursor->file.reader)) {
        *end = true;
        return WEIR_OK;
    }
    int rc = delta_cursor_next(cursor, &batch, err);
    if (rc == WEIR_OK && batch == NULL) {
        return weir_error_set(err, WEIR_E_CORRUPT, "%s: its rows end at %lld, its footer says %lld",
                              file->topic, (long long)again,
                              (long long)weir_parquet_reader_rows(cursor->file.reader));
    }
    if (rc == WEIR_OK && file->told != NULL) {
        file->told->tell(file->told->context, batch, cursor->first_row, cursor->deleted,
                         file->changes);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < batch->rows; i++) {
        int64_t number = cursor->first_row + i;
        bool is = file->told != NULL
                      ? file->changes[i] != TABLE_FILE_UNTOLD
                      : cursor->deleted == NULL || !weir_bit_get(cursor->deleted, number);
        if (number >= file->next_row && is) {
            file->numbers[count] = number;
            file->changes[count] = file->changes[i];
            sel[count++] = i;
        }
    }
    if (rc == WEIR_OK && count < batch->rows) {
        struct weir_batch *live = weir_batch_gather(batch, sel, count);
        weir_batch_unref(batch);
        batch = live;
        rc = live != NULL ? WEIR_OK : WEIR_E_LIMIT;
    }
    if (rc == WEIR_OK && file->told != NULL) {
        rc = put_told(file, batch);
        if (rc != WEIR_OK) {
            weir_batch_unref(batch);
        }
    }
    if (rc == WEIR_E_LIMIT) { /* memory is short: the same rows another time */
        rc = delta_cursor_seek(cursor, again, err);
        return rc == WEIR_OK ? WEIR_E_LIMIT : rc;
    }
    file->rows = rc == WEIR_OK ? batch : NULL;
    file->given = 0;
    return rc;
}

/* Row `row` of `rows` as JSON, of the columns nobody planned only where `rescued`; empty when those
 * are all null. */
static int row_json(struct table_file *file, struct weir_batch *rows, int32_t row, bool rescued) {
    int32_t planned = file->source->user_schema->count;
    weir_buffer_clear(&file->json);
    struct weir_batch view = *rows;
    if (rescued) {
        bool any = false;
        for (int32_t i = planned; i < planned + file->unplanned->count; i++) {
            any = any || !weir_column_is_null(&rows->columns[i], row);
        }
        if (!any) {
            return WEIR_OK;
        }
        view.schema = file->unplanned;
        view.columns = rows->columns + planned;
        view.column_count = file->unplanned->count;
    }
    return weir_delta_row_json(&view, row, &file->json);
}

/* --- rows that are not taken --------------------------------------------------------------- */

/* Why a row is not taken. */
struct fault {
    const char *reason; /* NULL: it is taken */
    const char *field;
    const char *raw; /* NULL: the whole row as JSON */
    int32_t raw_bytes;
};

static bool is_ascii(const uint8_t *bytes, int64_t size) {
    uint8_t bits = 0;
    for (int64_t i = 0; i < size; i++) {
        bits |= bytes[i];
    }
    return (bits & 0x80) == 0;
}

/* Some text in the column, or inside its values, needs a closer look. */
static bool may_hold_bad_text(const struct weir_field *field, const struct weir_column *column) {
    if (field->type == WEIR_TYPE_STRING) {
        const struct weir_column *plain = column->codes != NULL ? column->dictionary : column;
        int32_t first = plain->length > 0 ? plain->offsets[0] : 0;
        int32_t last = plain->length > 0 ? plain->offsets[plain->length] : 0;
        return !is_ascii((const uint8_t *)plain->values + first, last - first);
    }
    for (int32_t i = 0; i < field->child_count; i++) {
        if (may_hold_bad_text(&field->children[i], &column->children[i])) {
            return true;
        }
    }
    return false;
}

/* The first text of a value that is not UTF-8. */
static bool find_bad_text(const struct weir_field *field, const struct weir_column *column,
                          int64_t row, struct fault *fault) {
    if (weir_column_is_null(column, row)) {
        return false;
    }
    if (field->type == WEIR_TYPE_STRING) {
        fault->raw = weir_column_bytes(column, row, &fault->raw_bytes);
        return json_find_bad_utf8((const uint8_t *)fault->raw, (size_t)fault->raw_bytes) >= 0;
    }
    bool repeats = field->type == WEIR_TYPE_LIST || field->type == WEIR_TYPE_MAP;
    int64_t first = repeats ? column->offsets[row] : row;
    int64_t end = repeats ? column->offsets[row + 1] : row + 1;
    for (int32_t i = 0; i < field->child_count; i++) {
        for (int64_t at = first; at < end; at++) {
            if (find_bad_text(&field->children[i], &column->children[i], at, fault)) {
                return true;
            }
        }
    }
    return false;
}

/* What `judge_row` must look at in a batch: two marks a column. */
enum { LOOK_NULL = 1, LOOK_TEXT = 2 };

static bool look_at(struct table_file *file, const struct weir_batch *rows) {
    int32_t planned = file->source->user_schema->count;
    bool any = false;
    for (int32_t i = 0; i < rows->column_count; i++) {
        const struct weir_field *field = &file->schema->fields[i];
        bool null = i < planned && !field->nullable && rows->columns[i].validity != NULL;
        bool text = may_hold_bad_text(field, &rows->columns[i]);
        file->looks[i] = (uint8_t)((null ? LOOK_NULL : 0) | (text ? LOOK_TEXT : 0));
        any = any || file->looks[i] != 0;
    }
    return any;
}

static struct fault judge_row(const struct table_file *file, const struct weir_batch *rows,
                              int32_t row) {
    for (int32_t i = 0; i < rows->column_count; i++) {
        struct fault fault = {.field = file->schema->fields[i].name};
        if ((file->looks[i] & LOOK_NULL) != 0 && weir_column_is_null(&rows->columns[i], row)) {
            fault.reason = "null where the column must have a value";
            return fault;
        }
        if ((file->looks[i] & LOOK_TEXT) != 0 &&
            find_bad_text(&file->schema->fields[i], &rows->columns[i], row, &fault)) {
            fault.reason = "text that is not UTF-8";
            return fault;
        }
    }
    return (struct fault){0};
}

/* What a batch is made from. */
struct making {
    struct weir_batch *rows; /* sliced, and without the rejected ones */
    struct weir_batch *meta;
    struct weir_reject_batch *rejects;
};

static int reject(struct table_file *file, struct making *making, int32_t row, int32_t kept,
                  int64_t number, struct fault fault) {
    if (making->rejects == NULL) {
        making->rejects = weir_reject_batch_create(file->source->pool);
        if (making->rejects == NULL ||
            weir_reject_batch_set_topic(making->rejects, file->topic) != WEIR_OK) {
            return WEIR_E_LIMIT;
        }
    }
    if (fault.raw == NULL) {
        int rc = row_json(file, making->rows, row, false);
        fault.raw = rc == WEIR_OK ? (const char *)file->json.data : "";
        fault.raw_bytes = rc == WEIR_OK ? (int32_t)file->json.size : 0;
    }
    return weir_reject_batch_add(making->rejects, kept, number, fault.raw, (size_t)fault.raw_bytes,
                                 fault.reason, fault.field, -1);
}

/* What was rescued when the file was written goes before what is rescued now. */
static int join_rescued(struct table_file *file, const struct weir_column *column, int32_t row) {
    if (weir_column_is_null(column, row)) {
        return WEIR_OK;
    }
    int32_t length;
    const char *text = weir_column_bytes(column, row, &length);
    if (file->json.size == 0) {
        return weir_buffer_append(&file->json, text, (size_t)length);
    }
    bool is_object = length > 2 && text[0] == '{' && text[length - 1] == '}';
    if (!is_object) {
        return WEIR_OK; /* "{}", or nothing of ours */
    }
    int rc = weir_buffer_append(&file->json, text, (size_t)length - 1); /* to have the room */
    if (rc == WEIR_OK) {
        size_t now = file->json.size - ((size_t)length - 1);
        memmove(file->json.data + length, file->json.data + 1, now - 1);
        memcpy(file->json.data, text, (size_t)length - 1);
        file->json.data[length - 1] = ',';
    }
    return rc;
}

/* The meta columns of one row. WEIR_E_DATA: what nobody planned is too long to keep. */
static int put_meta(struct table_file *file, struct weir_batch *rows, int32_t row, int64_t number) {
    struct weir_column_builder *meta = file->meta.columns;
    weir_buffer_clear(&file->json);
    if (file->unplanned != NULL && row_json(file, rows, row, true) != WEIR_OK) {
        return WEIR_E_DATA;
    }
    if (file->rescued >= 0 && join_rescued(file, &rows->columns[file->rescued], row) != WEIR_OK) {
        return WEIR_E_DATA;
    }
    int rc = weir_builder_int(&meta[WEIR_META_OFFSET], number);
    if (rc == WEIR_OK) {
        rc = file->json.size > 0
                 ? weir_builder_bytes(&meta[WEIR_META_RESCUED], file->json.data, file->json.size)
                 : weir_builder_null(&meta[WEIR_META_RESCUED]);
    }
    if (rc == WEIR_OK) {
        weir_batch_builder_finish_row(&file->meta);
    }
    return rc;
}

/* The meta columns of the rows kept, and rejects of the others. */
static int judge_rows(struct table_file *file, struct making *making, const int64_t *numbers) {
    int32_t sel[WEIR_BATCH_ROWS_MAX];
    int32_t kept = 0;
    bool looks = look_at(file, making->rows);
    int rc = weir_batch_builder_begin(&file->meta);
    for (int32_t i = 0; rc == WEIR_OK && i < making->rows->rows; i++) {
        struct fault fault = {0};
        if (looks) {
            fault = judge_row(file, making->rows, i);
        }
        if (fault.reason == NULL) {
            rc = put_meta(file, making->rows, i, numbers[i]);
            if (rc == WEIR_OK) {
                sel[kept++] = i;
                continue;
            }
            fault = (struct fault){.reason = "columns nobody planned are over 16 MB long as JSON",
                                   .field = "",
                                   .raw = ""};
        }
        if (rc == WEIR_OK || rc == WEIR_E_DATA) {
            rc = reject(file, making, i, kept, numbers[i], fault);
        }
    }
    if (rc == WEIR_OK && kept < making->rows->rows) {
        struct weir_batch *good = weir_batch_gather(making->rows, sel, kept);
        rc = good != NULL ? WEIR_OK : WEIR_E_LIMIT;
        if (good != NULL) {
            weir_batch_unref(making->rows);
            making->rows = good;
        }
    }
    making->meta = weir_batch_builder_take(&file->meta);
    return rc == WEIR_OK && making->meta == NULL ? WEIR_E_LIMIT : rc;
}

/* --- a batch of the source ----------------------------------------------------------------- */

/* Planned columns and meta columns side by side. */
static int put_together(struct table_file *file, struct making *making, int32_t partition,
                        struct weir_batch **out) {
    int32_t planned = file->source->user_schema->count;
    int rc = weir_decode_finish(making->meta, file->topic, partition);
    struct weir_batch *batch =
        rc == WEIR_OK ? weir_batch_create(file->source->pool, file->source->full_schema) : NULL;
    rc = batch != NULL ? WEIR_OK : WEIR_E_LIMIT;
    if (batch != NULL) {
        batch->rows = making->rows->rows;
    }
    for (int32_t i = 0; rc == WEIR_OK && i < planned; i++) {
        rc = weir_batch_borrow(batch, i, making->rows, i);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < WEIR_META_COUNT; i++) {
        rc = file->theirs[i] >= 0
                 ? weir_batch_borrow(batch, planned + i, making->rows, file->theirs[i])
                 : weir_batch_borrow(batch, planned + i, making->meta, i);
    }
    if (rc != WEIR_OK) {
        weir_batch_unref(batch);
        return rc;
    }
    *out = batch;
    return WEIR_OK;
}

static uint64_t hash_rows(const struct table_file *file, int32_t count) {
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, file->topic, strlen(file->topic));
    XXH3_64bits_update(&state, file->cursor.file.path, strlen(file->cursor.file.path));
    XXH3_64bits_update(&state, file->numbers + file->given, (size_t)count * sizeof(*file->numbers));
    return XXH3_64bits_digest(&state);
}

static int make_batch(struct table_file *file, int32_t partition, int32_t count,
                      uint32_t position_bytes, struct weir_source_batch **out) {
    struct making making = {.rows = weir_batch_slice(file->rows, file->given, count)};
    struct weir_batch *batch = NULL;
    int rc =
        making.rows != NULL ? judge_rows(file, &making, file->numbers + file->given) : WEIR_E_LIMIT;
    if (rc == WEIR_OK) {
        rc = put_together(file, &making, partition, &batch);
    }
    struct weir_source_batch *made =
        rc == WEIR_OK
            ? source_batch_create(file->source->pool, batch, making.rejects, position_bytes)
            : NULL;
    weir_batch_unref(making.rows);
    weir_batch_unref(making.meta);
    if (made == NULL) {
        weir_batch_unref(batch);
        weir_reject_batch_destroy(making.rejects);
        return rc == WEIR_OK ? WEIR_E_LIMIT : rc;
    }
    made->hash = hash_rows(file, count);
    made->partition = made->number = partition;
    made->rows = count;
    *out = made;
    return WEIR_OK;
}

int table_file_next(struct table_file *file, int32_t partition, int32_t max_rows,
                    uint32_t position_bytes, struct weir_source_batch **out,
                    struct weir_error *err) {
    int rc = WEIR_OK;
    bool end = false;
    *out = NULL;
    while (rc == WEIR_OK && !end && (file->rows == NULL || file->given == file->rows->rows)) {
        weir_batch_unref(file->rows);
        file->rows = NULL;
        rc = load_rows(file, &end, err);
    }
    if (rc != WEIR_OK && rc != WEIR_E_LIMIT) {
        return weir_error_wrap(err, "%s", file->topic);
    }
    if (rc != WEIR_OK || end) {
        file->next_row = end ? file->cursor.next_row : file->next_row;
        return rc;
    }
    int32_t left = file->rows->rows - file->given;
    int32_t count = left < max_rows ? left : max_rows;
    rc = make_batch(file, partition, count, position_bytes, out);
    if (rc == WEIR_OK) {
        file->given += count;
        file->next_row =
            file->given == file->rows->rows ? file->cursor.next_row : file->numbers[file->given];
    }
    return rc;
}

int table_file_last(struct table_file *file, int32_t partition, uint32_t position_bytes,
                    struct weir_source_batch **out) {
    struct weir_batch *batch = weir_batch_create(file->source->pool, file->source->full_schema);
    struct weir_source_batch *made =
        batch != NULL ? source_batch_create(file->source->pool, batch, NULL, position_bytes) : NULL;
    if (made == NULL) {
        weir_batch_unref(batch);
        return WEIR_E_LIMIT;
    }
    made->partition = made->number = partition;
    made->end = true;
    *out = made;
    return WEIR_OK;
}
