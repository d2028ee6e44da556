/* Z-ORDER: rows of a partition are put into files so that each file holds a small range of every
 * one of the columns, and a predicate on any of them skips most files by their statistics.
 *
 * Each column's values are mapped to ranks by a sample (so that skewed values spread evenly), the
 * bits of the ranks are interleaved (Morton 1966; Orenstein and Merrett 1984), and the sample's
 * quantiles of the interleaved value say which file a row belongs to. Memory is that of the sample
 * and of the files open at once; where there are more files than may be open the input is read once
 * more for each further lot. */
#include <stdlib.h>
#include <string.h>

#include "lake/upkeep/compaction.h"
#include "lake/upkeep/order_key.h"

#define MEMORY_BYTES ((size_t)256 << 20)
#define WRITER_BYTES_MIN ((size_t)4 << 20)
enum { SAMPLE_ROWS = 32768, OPEN_MAX = 32, TEXT_BYTES = 48, FILES_MAX = 100000 };

struct text {
    uint8_t length;
    uint8_t bytes[TEXT_BYTES];
};

/* One of the columns: its place in the batches at hand, its sample, and how values become ranks. */
struct axis {
    int32_t column;
    const struct weir_field *field;
    struct text *texts; /* of the sample, for texts */
    uint64_t *keys;     /* of the sample, by row */
    uint64_t *sorted;
    struct text prefix; /* that all texts of the sample share */
};

struct zorder {
    struct weir_delta_compaction *compaction;
    struct axis axes[DELTA_ZORDER_COLUMNS_MAX];
    int32_t count;
    int32_t sample; /* rows */
    int64_t seen;
    uint64_t random;
    int32_t bits;   /* of a rank */
    uint64_t *cuts; /* files - 1 of them: file i holds values below cuts[i] */
    int32_t files;
    int32_t first_open;
    int32_t open;
    struct weir_delta_writer *writers[OPEN_MAX];
    int32_t *sel; /* open * WEIR_BATCH_ROWS_MAX */
};

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "Z-ORDER: out of memory");
}

/* --- values to keys of one order ----------------------------------------------------------- */

static bool is_text(const struct weir_field *field) {
    return field->type == WEIR_TYPE_STRING || field->type == WEIR_TYPE_BINARY;
}

static uint64_t text_key(const struct axis *axis, const uint8_t *bytes, int32_t length) {
    int32_t prefix = axis->prefix.length;
    int order = memcmp(bytes, axis->prefix.bytes, (size_t)(length < prefix ? length : prefix));
    if (order != 0 || length < prefix) {
        return order > 0 ? UINT64_MAX : 0;
    }
    uint64_t key = 0;
    for (int32_t i = 0; i < 8; i++) {
        key = key << 8 | (prefix + i < length ? bytes[prefix + i] : 0);
    }
    return key;
}

static uint64_t key_of(const struct axis *axis, const struct weir_column *column, int32_t row) {
    if (!is_text(axis->field)) {
        return delta_order_key(axis->field->type, column, row);
    }
    if (weir_column_is_null(column, row)) {
        return 0;
    }
    int32_t length;
    const char *bytes = weir_column_bytes(column, row, &length);
    return text_key(axis, (const uint8_t *)bytes, length);
}

/* --- the sample ---------------------------------------------------------------------------- */

static void sample_row(struct zorder *zorder, const struct weir_batch *batch, int32_t row) {
    int64_t at = zorder->seen++;
    if (at >= SAMPLE_ROWS) { /* every row is as likely to stay (Vitter's algorithm R) */
        zorder->random = zorder->random * 6364136223846793005u + 1442695040888963407u;
        at = (int64_t)((zorder->random >> 11) % (uint64_t)zorder->seen);
        if (at >= SAMPLE_ROWS) {
            return;
        }
    } else {
        zorder->sample++;
    }
    for (int32_t a = 0; a < zorder->count; a++) {
        struct axis *axis = &zorder->axes[a];
        const struct weir_column *column = &batch->columns[a];
        if (axis->texts == NULL) {
            axis->keys[at] = key_of(axis, column, row);
            continue;
        }
        int32_t length = 0;
        const char *bytes =
            weir_column_is_null(column, row) ? "" : weir_column_bytes(column, row, &length);
        axis->texts[at].length = (uint8_t)(length < TEXT_BYTES ? length : TEXT_BYTES);
        memcpy(axis->texts[at].bytes, bytes, axis->texts[at].length);
    }
}

static int sample_rows(void *context, struct weir_batch **batch, int64_t first_row,
                       const uint8_t *deleted, struct weir_error *err) {
    struct zorder *zorder = context;
    (void)err;
    for (int32_t i = 0; i < (*batch)->rows; i++) {
        if (deleted == NULL || !weir_bit_get(deleted, first_row + i)) {
            sample_row(zorder, *batch, i);
        }
    }
    return WEIR_OK;
}

static int compare_keys(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

/* What all texts begin with says nothing of their order: eight bytes after it do. */
static void strip_prefix(struct axis *axis, int32_t sample) {
    int32_t first = 0;
    while (first < sample && axis->texts[first].length == 0) {
        first++; /* null and empty texts share nothing with anything */
    }
    if (first < sample) {
        axis->prefix = axis->texts[first];
    }
    for (int32_t i = first; i < sample; i++) {
        const struct text *text = &axis->texts[i];
        if (text->length == 0) {
            continue;
        }
        uint8_t shared = 0;
        while (shared < axis->prefix.length && shared < text->length &&
               axis->prefix.bytes[shared] == text->bytes[shared]) {
            shared++;
        }
        axis->prefix.length = shared;
    }
    for (int32_t i = 0; i < sample; i++) {
        axis->keys[i] = text_key(axis, axis->texts[i].bytes, axis->texts[i].length);
    }
}

static uint64_t rank_of(const struct zorder *zorder, const struct axis *axis, uint64_t key) {
    int32_t low = 0;
    int32_t high = zorder->sample;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (axis->sorted[middle] < key) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return ((uint64_t)low << zorder->bits) / ((uint64_t)zorder->sample + 1);
}

/* The top bits of all ranks, then the next, and so on. */
static uint64_t interleave(const struct zorder *zorder, const uint64_t *ranks) {
    uint64_t value = 0;
    for (int32_t bit = zorder->bits - 1; bit >= 0; bit--) {
        for (int32_t a = 0; a < zorder->count; a++) {
            value = value << 1 | (ranks[a] >> bit & 1);
        }
    }
    return value;
}

static int plan_cuts(struct zorder *zorder, const struct delta_group *group,
                     struct weir_error *err) {
    int64_t target = zorder->compaction->target_bytes;
    int64_t files = (group->bytes + target - 1) / target;
    uint64_t *values = calloc((size_t)zorder->sample + 1, sizeof(*values));
    zorder->files = (int32_t)(files < 1 ? 1 : files > FILES_MAX ? FILES_MAX : files);
    zorder->cuts = calloc((size_t)zorder->files, sizeof(*zorder->cuts));
    if (values == NULL || zorder->cuts == NULL) {
        free(values);
        return no_memory(err);
    }
    zorder->bits = 64 / zorder->count < 16 ? 64 / zorder->count : 16;
    for (int32_t a = 0; a < zorder->count; a++) {
        struct axis *axis = &zorder->axes[a];
        if (axis->texts != NULL) {
            strip_prefix(axis, zorder->sample);
        }
        memcpy(axis->sorted, axis->keys, (size_t)zorder->sample * sizeof(*axis->sorted));
        qsort(axis->sorted, (size_t)zorder->sample, sizeof(*axis->sorted), compare_keys);
    }
    for (int32_t i = 0; i < zorder->sample; i++) {
        uint64_t ranks[DELTA_ZORDER_COLUMNS_MAX];
        for (int32_t a = 0; a < zorder->count; a++) {
            ranks[a] = rank_of(zorder, &zorder->axes[a], zorder->axes[a].keys[i]);
        }
        values[i] = interleave(zorder, ranks);
    }
    qsort(values, (size_t)zorder->sample, sizeof(*values), compare_keys);
    for (int32_t i = 0; i + 1 < zorder->files && zorder->sample > 0; i++) {
        zorder->cuts[i] = values[(int64_t)(i + 1) * zorder->sample / zorder->files];
    }
    free(values);
    return WEIR_OK;
}

/* Reads the columns of the order alone. */
static int take_sample(struct zorder *zorder, const struct delta_group *group,
                       struct weir_error *err) {
    const struct weir_delta_compaction *compaction = zorder->compaction;
    int32_t positions[DELTA_ZORDER_COLUMNS_MAX];
    for (int32_t a = 0; a < zorder->count; a++) {
        positions[a] = compaction->positions[zorder->axes[a].column];
    }
    int rc = WEIR_OK;
    for (int32_t i = 0; i < group->count && rc == WEIR_OK; i++) {
        rc =
            delta_scan_file(compaction->head, compaction->inputs.items[group->first + i], positions,
                            zorder->count, NULL, compaction->pool, sample_rows, zorder, err);
    }
    return rc;
}

/* --- the files ----------------------------------------------------------------------------- */

static int32_t file_of(const struct zorder *zorder, const struct weir_batch *batch, int32_t row) {
    uint64_t ranks[DELTA_ZORDER_COLUMNS_MAX];
    for (int32_t a = 0; a < zorder->count; a++) {
        const struct axis *axis = &zorder->axes[a];
        ranks[a] = rank_of(zorder, axis, key_of(axis, &batch->columns[axis->column], row));
    }
    uint64_t value = interleave(zorder, ranks);
    int32_t low = 0;
    int32_t high = zorder->files - 1;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (value < zorder->cuts[middle]) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

static int spread_rows(void *context, struct weir_batch **batch, int64_t first_row,
                       const uint8_t *deleted, struct weir_error *err) {
    struct zorder *zorder = context;
    int32_t counts[OPEN_MAX] = {0};
    int rc = delta_compaction_pace(zorder->compaction, (int64_t)weir_batch_bytes(*batch), err);
    for (int32_t i = 0; i < (*batch)->rows && rc == WEIR_OK; i++) {
        if (deleted != NULL && weir_bit_get(deleted, first_row + i)) {
            continue;
        }
        int32_t file = file_of(zorder, *batch, i) - zorder->first_open;
        if (file >= 0 && file < zorder->open) {
            zorder->sel[(size_t)file * WEIR_BATCH_ROWS_MAX + (size_t)counts[file]++] = i;
        }
    }
    for (int32_t f = 0; f < zorder->open && rc == WEIR_OK; f++) {
        rc =
            weir_delta_writer_append(zorder->writers[f], *batch,
                                     &zorder->sel[(size_t)f * WEIR_BATCH_ROWS_MAX], counts[f], err);
    }
    return rc;
}

static void close_writers(struct zorder *zorder) {
    for (int32_t f = 0; f < OPEN_MAX; f++) {
        weir_delta_writer_destroy(zorder->writers[f]);
        zorder->writers[f] = NULL;
    }
}

/* Some of the files, in one reading of the input. */
static int write_lot(struct zorder *zorder, struct delta_group *group, struct weir_error *err) {
    struct weir_delta_compaction *compaction = zorder->compaction;
    size_t memory =
        compaction->options->memory_bytes > 0 ? compaction->options->memory_bytes : MEMORY_BYTES;
    int32_t left = zorder->files - zorder->first_open;
    zorder->open = left < OPEN_MAX ? left : OPEN_MAX;
    memory /= (size_t)zorder->open;
    struct weir_delta_writer_options options = {
        .memory_bytes = memory > WRITER_BYTES_MIN ? memory : WRITER_BYTES_MIN,
        .target_file_bytes = delta_group_file_bytes(compaction)};
    int rc = WEIR_OK;
    for (int32_t f = 0; f < zorder->open && rc == WEIR_OK; f++) {
        rc = delta_group_writer(compaction, group, &options, &zorder->writers[f], err);
    }
    for (int32_t i = 0; i < group->count && rc == WEIR_OK; i++) {
        const struct weir_delta_add *add = compaction->inputs.items[group->first + i];
        rc = delta_group_scan(compaction, add, spread_rows, zorder, err);
        if (zorder->first_open == 0) {
            delta_compaction_advance(compaction, add->size_bytes);
        }
    }
    for (int32_t f = 0; f < zorder->open && rc == WEIR_OK; f++) {
        rc = delta_group_seal(compaction, group, zorder->writers[f], err);
    }
    close_writers(zorder);
    return rc;
}

static int plan_axes(struct zorder *zorder, struct weir_error *err) {
    const struct weir_delta_compaction *compaction = zorder->compaction;
    zorder->count = compaction->options->zorder_count;
    zorder->sel = malloc((size_t)OPEN_MAX * WEIR_BATCH_ROWS_MAX * sizeof(*zorder->sel));
    bool good = zorder->sel != NULL;
    for (int32_t a = 0; a < zorder->count && good; a++) {
        struct axis *axis = &zorder->axes[a];
        axis->column = weir_schema_find(compaction->schema, compaction->options->zorder[a]);
        axis->field = &compaction->schema->fields[axis->column];
        axis->keys = calloc(SAMPLE_ROWS, sizeof(*axis->keys));
        axis->sorted = calloc(SAMPLE_ROWS, sizeof(*axis->sorted));
        axis->texts = is_text(axis->field) ? calloc(SAMPLE_ROWS, sizeof(*axis->texts)) : NULL;
        good = axis->keys != NULL && axis->sorted != NULL &&
               (axis->texts != NULL || !is_text(axis->field));
    }
    return good ? WEIR_OK : no_memory(err);
}

int delta_zorder_write(struct weir_delta_compaction *compaction, struct delta_group *group,
                       struct weir_error *err) {
    struct zorder zorder = {.compaction = compaction, .random = 88172645463325252u};
    int rc = plan_axes(&zorder, err);
    if (rc == WEIR_OK) {
        rc = take_sample(&zorder, group, err);
    }
    if (rc == WEIR_OK) {
        rc = plan_cuts(&zorder, group, err);
    }
    while (rc == WEIR_OK && zorder.first_open < zorder.files) {
        rc = write_lot(&zorder, group, err);
        zorder.first_open += OPEN_MAX;
    }
    close_writers(&zorder);
    for (int32_t a = 0; a < DELTA_ZORDER_COLUMNS_MAX; a++) {
        free(zorder.axes[a].texts);
        free(zorder.axes[a].keys);
        free(zorder.axes[a].sorted);
    }
    free(zorder.cuts);
    free(zorder.sel);
    return rc;
}
