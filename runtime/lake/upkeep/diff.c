/* Rows are counted by a 128-bit hash of their values: once down for the old version's files, once
 * up for the new one's; what does not come out even is read again and told. */
#include "lake/upkeep/diff.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "lake/delta/scan.h"
#include "lake/delta/state.h"
#include "lake/delta/table_state.h"
#include "lake/delta/text.h"

#define POOL_BYTES ((size_t)1 << 30)
#define SLOTS_MAX ((size_t)1 << 26)
enum { KEYS_MAX = 16, LINE_BYTES = 1024 };

struct hash {
    uint64_t low;
    uint64_t high;
};

/* Counts by hash; a zero hash marks a free place. */
struct counts {
    struct count_slot {
        struct hash hash;
        int64_t old_rows;
        int64_t new_rows;
    } * slots;
    size_t capacity;
    size_t used;
};

struct diff {
    struct weir_delta_snapshot *side[2]; /* old, new */
    const struct weir_delta_diff_options *options;
    struct weir_delta_diff_result *result;
    struct counts rows;
    struct counts keys; /* of the rows that differ */
    struct weir_pool *pool;
    struct weir_buffer cell;
    int now; /* the side being read */
    enum { COUNT_ROWS, COUNT_KEYS, TELL } pass;
};

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "diff: out of memory");
}

/* --- counting ------------------------------------------------------------------------------ */

static struct count_slot *place_of(const struct counts *counts, struct hash hash) {
    size_t at = hash.low & (counts->capacity - 1);
    while ((counts->slots[at].hash.low | counts->slots[at].hash.high) != 0 &&
           memcmp(&counts->slots[at].hash, &hash, sizeof(hash)) != 0) {
        at = (at + 1) & (counts->capacity - 1);
    }
    return &counts->slots[at];
}

static int grow(struct counts *counts, struct weir_error *err) {
    struct counts grown = {.capacity = counts->capacity > 0 ? counts->capacity * 2 : 4096,
                           .used = counts->used};
    if (grown.capacity > SLOTS_MAX) {
        return weir_error_set(
            err, WEIR_E_LIMIT,
            "diff: too many rows differ to be held at once; compare versions that "
            "lie closer");
    }
    grown.slots = calloc(grown.capacity, sizeof(*grown.slots));
    if (grown.slots == NULL) {
        return no_memory(err);
    }
    for (size_t i = 0; i < counts->capacity; i++) {
        if ((counts->slots[i].hash.low | counts->slots[i].hash.high) != 0) {
            *place_of(&grown, counts->slots[i].hash) = counts->slots[i];
        }
    }
    free(counts->slots);
    *counts = grown;
    return WEIR_OK;
}

static int count_one(struct counts *counts, struct hash hash, int side, struct weir_error *err) {
    if ((counts->used + 1) * 2 > counts->capacity) {
        int rc = grow(counts, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    struct count_slot *slot = place_of(counts, hash);
    counts->used += (slot->hash.low | slot->hash.high) == 0;
    slot->hash = hash;
    if (side == 0) {
        slot->old_rows++;
    } else {
        slot->new_rows++;
    }
    return WEIR_OK;
}

/* Of the columns named (NULL: all), in any order; a null is as if there were no such column. */
static int hash_row(struct diff *diff, const struct weir_batch *batch, int32_t row,
                    const char *const *names, int32_t count, struct hash *out,
                    struct weir_error *err) {
    *out = (struct hash){1, 0};
    for (int32_t i = 0; i < (names != NULL ? count : batch->column_count); i++) {
        int32_t at = names != NULL ? weir_schema_find(batch->schema, names[i]) : i;
        if (at < 0 || weir_column_is_null(&batch->columns[at], row)) {
            continue;
        }
        const char *name = batch->schema->fields[at].name;
        weir_buffer_clear(&diff->cell);
        int rc = weir_buffer_append(&diff->cell, name, strlen(name) + 1);
        if (rc == WEIR_OK) {
            rc = delta_cell_text(batch, at, row, &diff->cell);
        }
        if (rc != WEIR_OK) {
            return weir_error_set(err, rc, "diff: column %s: %s", name, weir_error_text(rc));
        }
        XXH128_hash_t cell = XXH3_128bits(diff->cell.data, diff->cell.size);
        out->low += cell.low64;
        out->high += cell.high64;
    }
    return WEIR_OK;
}

/* Takes one of the rows by which this side has more; false when there is none. */
static bool take_surplus(struct count_slot *slot, int side) {
    if (side == 0 ? slot->old_rows <= slot->new_rows : slot->new_rows <= slot->old_rows) {
        return false;
    }
    if (side == 0) {
        slot->old_rows--;
    } else {
        slot->new_rows--;
    }
    return true;
}

static int tell_row(struct diff *diff, const struct weir_batch *batch, int32_t row,
                    struct weir_error *err) {
    const struct weir_delta_diff_options *options = diff->options;
    bool changed = false;
    if (options->key_count > 0) {
        struct hash key;
        int rc = hash_row(diff, batch, row, options->keys, options->key_count, &key, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        const struct count_slot *slot = place_of(&diff->keys, key);
        changed = slot->old_rows > 0 && slot->new_rows > 0;
    }
    if (changed) {
        diff->result->changed += diff->now == 1;
    } else if (diff->now == 0) {
        diff->result->removed++;
    } else {
        diff->result->added++;
    }
    return options->row != NULL
               ? options->row(options->context,
                              diff->now == 0 ? WEIR_DELTA_DIFF_OLD : WEIR_DELTA_DIFF_NEW, changed,
                              batch, row, err)
               : WEIR_OK;
}

static int look_at_row(struct diff *diff, const struct weir_batch *batch, int32_t row,
                       struct weir_error *err) {
    struct hash hash;
    int rc = hash_row(diff, batch, row, NULL, 0, &hash, err);
    if (rc != WEIR_OK || diff->pass == COUNT_ROWS) {
        return rc == WEIR_OK ? count_one(&diff->rows, hash, diff->now, err) : rc;
    }
    struct count_slot *slot = place_of(&diff->rows, hash);
    if (diff->pass == TELL) {
        return take_surplus(slot, diff->now) ? tell_row(diff, batch, row, err) : WEIR_OK;
    }
    bool differs =
        diff->now == 0 ? slot->old_rows > slot->new_rows : slot->new_rows > slot->old_rows;
    struct hash key;
    if (differs) {
        rc = hash_row(diff, batch, row, diff->options->keys, diff->options->key_count, &key, err);
        rc = rc == WEIR_OK ? count_one(&diff->keys, key, diff->now, err) : rc;
    }
    return rc;
}

static int visit_rows(void *context, struct weir_batch **batch, int64_t first_row,
                      const uint8_t *deleted, struct weir_error *err) {
    struct diff *diff = context;
    int rc = WEIR_OK;
    for (int32_t i = 0; i < (*batch)->rows && rc == WEIR_OK; i++) {
        if (deleted == NULL || !weir_bit_get(deleted, first_row + i)) {
            rc = look_at_row(diff, *batch, i, err);
        }
    }
    return rc;
}

static int visit_file(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct diff *diff = context;
    if (delta_snapshot_find(diff->side[1 - diff->now], add) != NULL) {
        diff->result->files_same += diff->pass == COUNT_ROWS && diff->now == 0;
        return WEIR_OK;
    }
    diff->result->files_read += diff->pass == COUNT_ROWS;
    return delta_scan_file(diff->side[diff->now], add, NULL, 0, NULL, diff->pool, visit_rows, diff,
                           err);
}

static int diff_rows(struct diff *diff, struct weir_error *err) {
    int rc = WEIR_OK;
    for (diff->pass = COUNT_ROWS; diff->pass <= TELL && rc == WEIR_OK; diff->pass++) {
        if (diff->pass == COUNT_KEYS && diff->options->key_count == 0) {
            continue;
        }
        for (diff->now = 0; diff->now < 2 && rc == WEIR_OK; diff->now++) {
            rc = weir_delta_snapshot_each_file(diff->side[diff->now], visit_file, diff, err);
        }
        if (rc == WEIR_OK && diff->pass == COUNT_ROWS) {
            rc = grow(&diff->rows, err); /* there is a free place even when no row was counted */
        }
        if (rc == WEIR_OK && diff->pass == COUNT_KEYS) {
            rc = grow(&diff->keys, err);
        }
    }
    return rc;
}

/* --- the schema ---------------------------------------------------------------------------- */

static int say(struct diff *diff, struct weir_error *err, const char *format, ...)
    WEIR_PRINTF(3, 4);
static int say(struct diff *diff, struct weir_error *err, const char *format, ...) {
    char line[LINE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    diff->result->schema_changes++;
    return diff->options->schema != NULL ? diff->options->schema(diff->options->context, line, err)
                                         : WEIR_OK;
}

static int type_text(const struct weir_field *field, struct weir_buffer *out) {
    weir_buffer_clear(out);
    return weir_field_format_type(field, out);
}

static int diff_columns(struct diff *diff, const struct weir_schema *a, const struct weir_schema *b,
                        struct weir_error *err) {
    struct weir_buffer type;
    struct weir_buffer other;
    weir_buffer_init(&type, 1u << 20);
    weir_buffer_init(&other, 1u << 20);
    int rc = WEIR_OK;
    for (int32_t i = 0; i < a->count && rc == WEIR_OK; i++) {
        const struct weir_field *field = &a->fields[i];
        int32_t at = weir_schema_find(b, field->name);
        rc = type_text(field, &type);
        if (rc == WEIR_OK && at < 0) {
            rc = say(diff, err, "column %s %.200s removed", field->name, weir_buffer_text(&type));
        } else if (rc == WEIR_OK && !delta_same_type(field, &b->fields[at])) {
            rc = type_text(&b->fields[at], &other);
            rc = rc == WEIR_OK ? say(diff, err, "column %s was %.200s, is %.200s", field->name,
                                     weir_buffer_text(&type), weir_buffer_text(&other))
                               : rc;
        } else if (rc == WEIR_OK && field->nullable != b->fields[at].nullable) {
            rc = say(diff, err, "column %s may %s be null", field->name,
                     b->fields[at].nullable ? "now" : "no longer");
        }
    }
    for (int32_t i = 0; i < b->count && rc == WEIR_OK; i++) {
        if (weir_schema_find(a, b->fields[i].name) < 0) {
            rc = type_text(&b->fields[i], &type);
            rc = rc == WEIR_OK ? say(diff, err, "column %s %.200s added", b->fields[i].name,
                                     weir_buffer_text(&type))
                               : rc;
        }
    }
    weir_buffer_fini(&type);
    weir_buffer_fini(&other);
    return rc;
}

static int diff_metadata(struct diff *diff, struct weir_error *err) {
    const struct weir_delta_metadata *a = &diff->side[0]->metadata;
    const struct weir_delta_metadata *b = &diff->side[1]->metadata;
    int rc = WEIR_OK;
    bool same = a->partition_count == b->partition_count;
    for (int32_t i = 0; same && i < a->partition_count; i++) {
        same = strcmp(a->partition_columns[i], b->partition_columns[i]) == 0;
    }
    if (!same) {
        rc = say(diff, err, "partitioning changed");
    }
    for (int32_t i = 0; i < a->configuration_count && rc == WEIR_OK; i++) {
        const char *key = a->configuration[i].key;
        const char *was = a->configuration[i].value;
        const char *is = weir_delta_metadata_property(b, key);
        if (is == NULL) {
            rc = say(diff, err, "property %s removed", key);
        } else if (was == NULL || strcmp(was, is) != 0) {
            rc = say(diff, err, "property %s was %s, is %s", key, was != NULL ? was : "null", is);
        }
    }
    for (int32_t i = 0; i < b->configuration_count && rc == WEIR_OK; i++) {
        const char *key = b->configuration[i].key;
        if (weir_delta_metadata_property(a, key) == NULL) {
            const char *is = b->configuration[i].value;
            rc = say(diff, err, "property %s is %s", key, is != NULL ? is : "null");
        }
    }
    return rc;
}

int weir_delta_diff(struct weir_delta_snapshot *from, struct weir_delta_snapshot *to,
                    const struct weir_delta_diff_options *options,
                    struct weir_delta_diff_result *result, struct weir_error *err) {
    struct diff diff = {.side = {from, to}, .options = options, .result = result};
    const struct weir_schema *a;
    const struct weir_schema *b = NULL;
    memset(result, 0, sizeof(*result));
    weir_buffer_init(&diff.cell, (size_t)256 << 20);
    int rc = weir_delta_snapshot_schema(from, &a, NULL, err);
    if (rc == WEIR_OK) {
        rc = weir_delta_snapshot_schema(to, &b, NULL, err);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < options->key_count; i++) {
        if (weir_schema_find(a, options->keys[i]) < 0 ||
            weir_schema_find(b, options->keys[i]) < 0) {
            rc = weir_error_set(err, WEIR_E_USAGE, "--keys: not both versions have a column %s",
                                options->keys[i]);
        }
    }
    if (rc == WEIR_OK) {
        diff.pool = weir_pool_create(POOL_BYTES);
        rc = diff.pool != NULL ? diff_columns(&diff, a, b, err) : no_memory(err);
    }
    if (rc == WEIR_OK) {
        rc = diff_metadata(&diff, err);
    }
    if (rc == WEIR_OK) {
        rc = diff_rows(&diff, err);
    }
    free(diff.rows.slots);
    free(diff.keys.slots);
    weir_buffer_fini(&diff.cell);
    if (diff.pool != NULL) {
        weir_pool_destroy(diff.pool);
    }
    return rc;
}
