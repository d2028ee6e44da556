/* Columns nobody reads. Lanes look at their values and leave them out; the frames stay with the
 * batch, so that who needs the rest after all (quarantine, rules that read more from the next seal
 * on) has the rows decoded again, whole. That is rare: the loop does it. */
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "source/internal.h"

enum { BATCH_BYTES_MAX = 64 << 20 };

/* In a buffer of the batch. */
struct weir_source_frames {
    struct weir_source *source;
    uint32_t number; /* of the projection */
    int32_t count;
    const uint8_t *block;
    struct weir_frame frames[]; /* by ascending offset */
};

/* Decodes whole rows of columns the source has, or had: made with them, for their file may be
 * another by the time it is needed. */
struct source_completion {
    struct source_completion *before; /* of the columns before these */
    struct weir_schema *full;
    struct weir_decoder *decoder;
    struct weir_batch_builder builder;
    bool has_builder;
};

/* --- lanes -------------------------------------------------------------------------------- */

void source_leave_out(struct weir_source *source, struct source_leaving *leaving,
                      struct weir_batch_builder *builder) {
    source_leaving_fini(leaving);
    pthread_mutex_lock(&source->columns_lock);
    if (builder->schema == source->full_schema) { /* else they change this moment */
        leaving->projection = weir_projection_ref(source->projection);
    }
    leaving->number = source->projection_number;
    pthread_mutex_unlock(&source->columns_lock);
    weir_batch_builder_project(builder, leaving->projection);
}

void source_leaving_fini(struct source_leaving *leaving) {
    weir_projection_unref(leaving->projection);
    leaving->projection = NULL;
}

int source_keep_frames(struct weir_source *source, const struct source_leaving *leaving,
                       struct weir_batch *batch, uint8_t **block, bool give,
                       const struct weir_frame *frames, int32_t count) {
    if (leaving->projection == NULL || batch->rows == 0) {
        return WEIR_OK;
    }
    const struct weir_frame *last = &frames[count - 1];
    uint32_t start = frames[0].start;
    size_t bytes = (size_t)last->start + last->length + 1 - start; /* and its end */
    size_t size = sizeof(struct weir_source_frames) + (size_t)count * sizeof(*frames);
    struct weir_source_frames *kept =
        weir_batch_alloc(batch, size + (give ? 0 : bytes + WEIR_DECODE_PADDING));
    if (kept == NULL || (give && !weir_batch_adopt(batch, *block))) {
        return WEIR_E_LIMIT;
    }
    kept->source = source;
    kept->number = leaving->number;
    kept->count = count;
    memcpy(kept->frames, frames, (size_t)count * sizeof(*frames));
    if (give) {
        kept->block = *block;
        *block = NULL;
    } else {
        uint8_t *copy = (uint8_t *)kept + size;
        memcpy(copy, *block + start, bytes);
        memset(copy + bytes, 0, WEIR_DECODE_PADDING);
        kept->block = copy;
        for (int32_t i = 0; i < count; i++) {
            kept->frames[i].start -= start;
        }
    }
    batch->frames = kept;
    return WEIR_OK;
}

/* --- whoever takes batches ---------------------------------------------------------------- */

void source_completion_destroy(struct source_completion *completion) {
    if (completion != NULL) {
        source_completion_destroy(completion->before);
        if (completion->has_builder) {
            weir_batch_builder_fini(&completion->builder);
        }
        weir_decoder_destroy(completion->decoder);
        weir_schema_unref(completion->full);
        free(completion);
    }
}

static struct source_completion *find_completion(const struct weir_source *source,
                                                 const struct weir_schema *full) {
    struct source_completion *found = source->completion;
    while (found != NULL && found->full != full) {
        found = found->before;
    }
    return found;
}

/* For the columns the source has now. */
static int add_completion(struct weir_source *source, struct weir_error *err) {
    if (find_completion(source, source->full_schema) != NULL) {
        return WEIR_OK;
    }
    struct source_completion *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    int rc = weir_decoder_create(&made->decoder, source->decoder_kind, source->decoder_options,
                                 source->user_schema, err);
    if (rc == WEIR_OK) {
        rc = weir_batch_builder_init(&made->builder, source->pool, source->full_schema,
                                     WEIR_BATCH_ROWS_MAX, BATCH_BYTES_MAX, err);
        made->has_builder = rc == WEIR_OK;
    }
    if (rc != WEIR_OK) {
        source_completion_destroy(made);
        return rc;
    }
    made->full = weir_schema_ref(source->full_schema);
    made->before = source->completion;
    source->completion = made;
    return rc;
}

void weir_source_project(struct weir_source *source, struct weir_projection *projection) {
    const struct weir_decoder_vtable *decoder =
        source->decoder_kind != NULL ? weir_decoder_find(source->decoder_kind) : NULL;
    if (!source->vtable->projects || decoder == NULL || !decoder->projects) {
        return;
    }
    struct weir_error err = {0};
    if (projection != NULL && add_completion(source, &err) != WEIR_OK) {
        weir_log_warn("source", "%s decodes all columns: %s", source->name, err.message);
        projection = NULL;
    }
    if (weir_projection_equal(source->projection, projection)) {
        return;
    }
    pthread_mutex_lock(&source->columns_lock);
    weir_projection_unref(source->projection);
    source->projection = weir_projection_ref(projection);
    source->projection_number++;
    pthread_mutex_unlock(&source->columns_lock);
    __atomic_add_fetch(&source->columns_changed, 1, __ATOMIC_RELEASE);
}

static const struct weir_column *meta_of(const struct weir_batch *batch, int32_t which) {
    return &batch->columns[batch->column_count - WEIR_META_COUNT + which];
}

static int32_t find_frame(const struct weir_source_frames *kept, int64_t offset) {
    int32_t low = 0;
    int32_t high = kept->count - 1;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (kept->frames[middle].offset < offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static int decode_rows(struct source_completion *completion, const struct weir_batch *batch,
                       const int32_t *rows, int32_t count, struct weir_error *err) {
    const struct weir_source_frames *kept = batch->frames;
    const int64_t *offsets = meta_of(batch, WEIR_META_OFFSET)->values;
    struct weir_reject_batch *rejects = NULL;
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < count;) {
        int32_t first = find_frame(kept, offsets[rows[i]]);
        int32_t run = 1; /* frames in a call follow each other */
        while (i + run < count && first + run < kept->count &&
               kept->frames[first + run].offset == offsets[rows[i + run]]) {
            run++;
        }
        int32_t taken = 0;
        rc = weir_decoder_decode(completion->decoder, kept->block, kept->frames + first, run,
                                 &completion->builder, &rejects, &taken);
        if (rc == WEIR_OK && taken < run) {
            rc = WEIR_E_LIMIT;
        }
        i += run;
    }
    if (rc == WEIR_OK && (rejects != NULL || completion->builder.rows != count)) {
        rc = weir_error_set(err, WEIR_E_BUG, "a row that was decoded is not any more");
    }
    weir_reject_batch_destroy(rejects);
    return rc;
}

int weir_source_complete(struct weir_batch *batch, struct weir_pool *pool, const int32_t *rows,
                         int32_t count, struct weir_batch **out, struct weir_error *err) {
    struct weir_source *source = batch->frames->source;
    struct source_completion *completion = find_completion(source, batch->schema);
    struct weir_batch *made = NULL;
    if (completion == NULL) {
        return weir_error_set(err, WEIR_E_BUG, "%s: columns nobody knows", source->name);
    }
    completion->builder.pool = pool;
    int rc = weir_batch_builder_begin_rows(&completion->builder, count);
    if (rc == WEIR_OK) {
        rc = decode_rows(completion, batch, rows, count, err);
    }
    if (rc == WEIR_OK) {
        made = weir_batch_builder_take(&completion->builder);
        rc = made == NULL ? WEIR_E_LIMIT : WEIR_OK;
    }
    for (int32_t i = 0; rc == WEIR_OK && i < WEIR_META_COUNT; i++) {
        if (i != WEIR_META_OFFSET && i != WEIR_META_RESCUED) {
            rc = weir_batch_gather_column(made, made->column_count - WEIR_META_COUNT + i, batch,
                                          meta_of(batch, i), rows, count);
        }
    }
    if (rc == WEIR_OK) {
        *out = made;
        return rc;
    }
    weir_batch_unref(made);
    return err != NULL && err->code != WEIR_OK
               ? rc
               : weir_error_set(err, rc, "%s: the memory cap is reached", source->name);
}

int weir_source_keep_up(struct weir_source *source, struct weir_pool *pool,
                        struct weir_batch **batch, struct weir_error *err) {
    const struct weir_source_frames *kept = (*batch)->frames;
    struct weir_batch *whole = NULL;
    int32_t rows[WEIR_BATCH_ROWS_MAX];
    if (kept == NULL || kept->number == source->projection_number) {
        return WEIR_OK;
    }
    for (int32_t i = 0; i < (*batch)->rows; i++) {
        rows[i] = i;
    }
    int rc = weir_source_complete(*batch, pool, rows, (*batch)->rows, &whole, err);
    if (rc == WEIR_OK) {
        weir_batch_unref(*batch);
        *batch = whole;
    }
    return rc;
}
