#include "operator/dedup.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "operator/show.h"

struct weir_dedup {
    struct weir_key *key;
    struct weir_fingerprints *store;
    struct weir_keys keys;
    uint64_t shape;
    /* The last feed: its keyed rows, dense, in order. */
    int32_t count; /* positions fed */
    int32_t keyed;
    int32_t capacity;
    struct weir_fingerprint *fingerprints;
    int64_t *times;
    int64_t *watermarks;
    int32_t *positions;
    int32_t *order; /* keyed rows by (fingerprint, order of arrival); made when settling */
    uint8_t *duplicate;
    uint8_t *evaluated; /* by position: the caller has been told to evaluate it */
    bool ordered;
};

struct weir_dedup *weir_dedup_create(const struct weir_dedup_config *config,
                                     struct weir_error *err) {
    struct weir_dedup *dedup = calloc(1, sizeof *dedup);
    if (dedup == NULL) {
        weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for dedup", config->declaration);
        return NULL;
    }
    weir_keys_init(&dedup->keys);
    dedup->key = weir_key_create(config->input, config->by, config->by_count, err);
    if (dedup->key == NULL) {
        weir_error_wrap(err, "%s: dedup", config->declaration);
        goto fail;
    }
    dedup->shape = weir_key_shape(dedup->key) + config->state_version;
    struct weir_fingerprints_config store = {
        .declaration = config->declaration,
        .cell = "dedup",
        .shape = dedup->shape,
        .within_us = config->within_us,
        .max_keys = config->max_keys,
        .max_bytes = config->max_bytes,
        .option = config->option,
    };
    dedup->store = weir_fingerprints_create(&store, err);
    if (dedup->store == NULL) {
        goto fail;
    }
    return dedup;
fail:
    weir_dedup_destroy(dedup);
    return NULL;
}

static void free_rows(struct weir_dedup *dedup) {
    free(dedup->fingerprints);
    free(dedup->times);
    free(dedup->watermarks);
    free(dedup->positions);
    free(dedup->order);
    free(dedup->duplicate);
    free(dedup->evaluated);
    dedup->capacity = 0;
}

void weir_dedup_destroy(struct weir_dedup *dedup) {
    if (dedup == NULL) {
        return;
    }
    weir_fingerprints_destroy(dedup->store);
    weir_key_destroy(dedup->key);
    weir_keys_fini(&dedup->keys);
    free_rows(dedup);
    free(dedup);
}

static int reserve(struct weir_dedup *dedup, int32_t count) {
    if (count <= dedup->capacity) {
        return WEIR_OK;
    }
    size_t rows = (size_t)(count < WEIR_BATCH_ROWS_MAX ? WEIR_BATCH_ROWS_MAX : count);
    free_rows(dedup);
    dedup->fingerprints = malloc(rows * sizeof *dedup->fingerprints);
    dedup->times = malloc(rows * sizeof *dedup->times);
    dedup->watermarks = malloc(rows * sizeof *dedup->watermarks);
    dedup->positions = malloc(rows * sizeof *dedup->positions);
    dedup->order = malloc(rows * sizeof *dedup->order);
    dedup->duplicate = malloc(rows);
    dedup->evaluated = malloc(rows);
    if (dedup->fingerprints == NULL || dedup->times == NULL || dedup->watermarks == NULL ||
        dedup->positions == NULL || dedup->order == NULL || dedup->duplicate == NULL ||
        dedup->evaluated == NULL) {
        return WEIR_E_NOMEM;
    }
    dedup->capacity = (int32_t)rows;
    return WEIR_OK;
}

int weir_dedup_feed(struct weir_dedup *dedup, const struct weir_batch *batch, const int32_t *sel,
                    int32_t count, const int64_t *times_us, const int64_t *watermark_before_us,
                    uint8_t *duplicate, struct weir_error *err) {
    dedup->count = 0;
    dedup->keyed = 0;
    dedup->ordered = false;
    int rc = reserve(dedup, count);
    if (rc == WEIR_OK) {
        rc = weir_key_encode(dedup->key, batch, sel, count, 0, &dedup->keys);
    }
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: no memory for the keys of %d rows",
                              weir_fingerprints_cell(dedup->store)->name, count);
    }
    weir_keys_fingerprint(&dedup->keys);
    int32_t keyed = 0;
    for (int32_t i = 0; i < count; i++) {
        int32_t row = sel != NULL ? sel[i] : i;
        duplicate[i] = 0;
        if (dedup->keys.any_null[i]) {
            continue;
        }
        dedup->fingerprints[keyed] = dedup->keys.fingerprints[i];
        dedup->times[keyed] = times_us[row];
        dedup->watermarks[keyed] = watermark_before_us[row];
        dedup->positions[keyed] = i;
        keyed++;
    }
    int32_t judged;
    rc = weir_fingerprints_feed(dedup->store, keyed, dedup->fingerprints, dedup->times,
                                dedup->watermarks, dedup->duplicate, &judged, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    for (int32_t i = 0; i < keyed; i++) {
        duplicate[dedup->positions[i]] = dedup->duplicate[i];
    }
    for (int32_t i = 0; i < count; i++) {
        dedup->evaluated[i] = !duplicate[i];
    }
    dedup->count = count;
    dedup->keyed = keyed;
    return WEIR_OK;
}

static int compare_rows(const void *a, const void *b, void *context) {
    const struct weir_dedup *dedup = context;
    int32_t x = *(const int32_t *)a;
    int32_t y = *(const int32_t *)b;
    const struct weir_fingerprint *p = &dedup->fingerprints[x];
    const struct weir_fingerprint *q = &dedup->fingerprints[y];
    if (p->lo != q->lo) {
        return p->lo < q->lo ? -1 : 1;
    }
    if (p->hi != q->hi) {
        return p->hi < q->hi ? -1 : 1;
    }
    return (x > y) - (x < y);
}

/* Judges one key's rows of the batch anew, in order, remembering those that were not rejected.
 * A row never evaluated is taken for good until the caller says otherwise. */
static int settle_key(struct weir_dedup *dedup, const int32_t *rows, int32_t count,
                      const uint8_t *rejected, uint8_t *duplicate, struct weir_error *err) {
    for (int32_t i = 0; i < count; i++) {
        if (!duplicate[dedup->positions[rows[i]]]) {
            int rc = weir_fingerprints_forget(dedup->store, dedup->fingerprints[rows[i]],
                                              dedup->times[rows[i]]);
            if (rc != WEIR_OK) {
                return weir_error_set(err, rc, "%s: no memory to forget a rejected row",
                                      weir_fingerprints_cell(dedup->store)->name);
            }
        }
    }
    for (int32_t i = 0; i < count; i++) {
        int32_t row = rows[i];
        int32_t position = dedup->positions[row];
        int32_t judged;
        int rc =
            weir_fingerprints_feed(dedup->store, 1, &dedup->fingerprints[row], &dedup->times[row],
                                   &dedup->watermarks[row], &duplicate[position], &judged, err);
        if (rc == WEIR_OK && !duplicate[position] && dedup->evaluated[position] &&
            rejected[position]) {
            rc =
                weir_fingerprints_forget(dedup->store, dedup->fingerprints[row], dedup->times[row]);
        }
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}

int weir_dedup_settle(struct weir_dedup *dedup, const uint8_t *rejected, uint8_t *duplicate,
                      int32_t *fresh, int32_t *fresh_count, struct weir_error *err) {
    *fresh_count = 0;
    bool any = false;
    for (int32_t i = 0; i < dedup->keyed && !any; i++) {
        int32_t position = dedup->positions[i];
        any = !duplicate[position] && rejected[position];
    }
    if (!any) {
        return WEIR_OK;
    }
    if (!dedup->ordered) {
        for (int32_t i = 0; i < dedup->keyed; i++) {
            dedup->order[i] = i;
        }
        qsort_r(dedup->order, (size_t)dedup->keyed, sizeof *dedup->order, compare_rows, dedup);
        dedup->ordered = true;
    }
    for (int32_t begin = 0, end; begin < dedup->keyed; begin = end) {
        struct weir_fingerprint key = dedup->fingerprints[dedup->order[begin]];
        bool hit = false;
        for (end = begin; end < dedup->keyed; end++) {
            int32_t row = dedup->order[end];
            if (dedup->fingerprints[row].lo != key.lo || dedup->fingerprints[row].hi != key.hi) {
                break;
            }
            int32_t position = dedup->positions[row];
            hit |= !duplicate[position] && rejected[position];
        }
        if (hit) {
            int rc = settle_key(dedup, dedup->order + begin, end - begin, rejected, duplicate, err);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
    }
    int32_t count = 0;
    for (int32_t i = 0; i < dedup->count; i++) {
        if (!duplicate[i] && !dedup->evaluated[i]) {
            dedup->evaluated[i] = 1;
            fresh[count++] = i;
        }
    }
    *fresh_count = count;
    return WEIR_OK;
}

void weir_dedup_expire(struct weir_dedup *dedup, int64_t watermark_us) {
    weir_fingerprints_expire(dedup->store, watermark_us);
}

size_t weir_dedup_keys(const struct weir_dedup *dedup) {
    return weir_fingerprints_keys(dedup->store);
}

size_t weir_dedup_bytes(const struct weir_dedup *dedup) {
    return weir_fingerprints_bytes(dedup->store);
}

void weir_dedup_follow(struct weir_dedup *dedup, struct weir_dedup *as) {
    struct weir_key *key = dedup->key;
    dedup->key = as->key;
    as->key = key;
}

uint64_t weir_dedup_shape(const struct weir_dedup *dedup) {
    return dedup->shape;
}

struct weir_cell *weir_dedup_cell(struct weir_dedup *dedup) {
    return weir_fingerprints_cell(dedup->store);
}

/* --- to people -------------------------------------------------------------------------------- */

static int show_key(void *owner, const struct weir_show_entry *entry, struct weir_shown *out,
                    struct weir_error *err) {
    struct weir_fingerprint print;
    char text[40];
    (void)owner;
    (void)err;
    memcpy(&print, entry->key, sizeof print);
    snprintf(text, sizeof text, "%016" PRIx64 "%016" PRIx64, print.hi, print.lo);
    int rc = weir_shown_text(&out->key, "fingerprint", text, strlen(text));
    return rc == WEIR_OK ? weir_shown_time(&out->value, "time", entry->time_us) : rc;
}

void weir_dedup_show(struct weir_dedup *dedup, struct weir_show *show) {
    *show = (struct weir_show){weir_dedup_cell(dedup), "keys seen, as fingerprints", dedup,
                               show_key, false};
}

struct weir_schema *weir_dedup_schema(const struct weir_dedup *dedup) {
    return weir_key_schema(dedup->key);
}

int weir_dedup_fingerprint(struct weir_dedup *dedup, const struct weir_batch *row,
                           struct weir_fingerprint *out) {
    const struct weir_column **columns =
        calloc((size_t)row->column_count + 1, sizeof(const struct weir_column *));
    for (int32_t c = 0; columns != NULL && c < row->column_count; c++) {
        columns[c] = &row->columns[c];
    }
    int rc = columns != NULL
                 ? weir_key_encode_columns(dedup->key, columns, NULL, 1, 0, &dedup->keys)
                 : WEIR_E_NOMEM;
    free(columns);
    if (rc == WEIR_OK) {
        weir_keys_fingerprint(&dedup->keys);
        *out = dedup->keys.fingerprints[0];
    }
    return rc;
}
