/* Commands: rows of sources with `reply = true`, one a batch. What each leads to is kept as state
 * with the epoch, and the door sends it once that is durable. An epoch with commands in it ends as
 * soon as it may, so that nobody waits for `commit.every`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "pipeline/graph/command.h"
#include "pipeline/internal.h"

enum { SEALS_APART_NS = 1000000 };
#define REPLIES_BYTES ((size_t)64 << 20)
#define KEEP_US (INT64_C(24) * 3600 * 1000000)

static int64_t option(const struct weir_plan_source *source, const char *name, int64_t otherwise) {
    const json_t *value = json_object_get(source->connector_options, name);
    return value != NULL ? (int64_t)json_number_value(value) : otherwise;
}

bool weir_plan_replies(const struct weir_plan_source *source) {
    return source->connector != NULL && strcmp(source->connector, "http") == 0 &&
           json_is_true(json_object_get(source->connector_options, "reply"));
}

int replying_create(struct weir_pipeline *p, struct weir_error *err) {
    p->replies = calloc((size_t)p->plan->source_count + 1, sizeof(*p->replies));
    bool any = false;
    bool good = p->replies != NULL;
    p->reply_count = good ? p->plan->source_count : 0;
    for (int32_t s = 0; s < p->reply_count && good; s++) {
        const struct weir_plan_source *source = &p->plan->sources[s];
        if (!weir_plan_replies(source)) {
            continue;
        }
        char name[512];
        snprintf(name, sizeof(name), "%s/replies", source->name);
        struct weir_replies_options options = {
            .cell = name,
            .keep_us = option(source, "remember", KEEP_US),
            .bytes_max = (size_t)option(source, "replies", (int64_t)REPLIES_BYTES),
        };
        p->replies[s] = weir_replies_create(&options);
        good = p->replies[s] != NULL;
        any = true;
    }
    if (good && any) {
        p->command = weir_command_create();
        good = p->command != NULL;
    }
    return good ? WEIR_OK : weir_error_set(err, WEIR_E_NOMEM, "out of memory");
}

void replying_destroy(struct weir_pipeline *p) {
    for (int32_t s = 0; s < p->reply_count; s++) {
        weir_replies_destroy(p->replies[s]);
    }
    free(p->replies);
    weir_command_destroy(p->command);
}

int32_t pipeline_cells(struct weir_pipeline *p, struct weir_cell **cells, int32_t capacity) {
    int32_t count = weir_graph_cells(p->graph, cells, capacity);
    for (int32_t s = 0; s < p->reply_count; s++) {
        if (p->replies[s] != NULL && count < capacity) {
            cells[count++] = weir_replies_cell(p->replies[s]);
        }
    }
    return count;
}

void replying_begin(struct weir_pipeline *p, int32_t source,
                    const struct weir_source_batch *batch) {
    if (weir_pipeline_replies(p, source) == NULL || batch->rows == 0) {
        return;
    }
    const struct weir_batch *rows = batch->batch;
    const struct weir_column *offsets =
        &rows->columns[rows->column_count - WEIR_META_COUNT + WEIR_META_OFFSET];
    int64_t number =
        rows->rows > 0 ? ((const int64_t *)offsets->values)[0] : batch->rejects->rejects[0].offset;
    weir_command_begin(p->command, (uint64_t)number);
}

int replying_end(struct weir_pipeline *p, int32_t source, struct weir_error *err) {
    if (!weir_command_open(p->command)) {
        return WEIR_OK;
    }
    int status;
    struct weir_span body;
    int rc = weir_command_end(p->command, &status, &body, err);
    if (rc == WEIR_OK) {
        rc = weir_replies_put(p->replies[source], weir_command_number(p->command), status,
                              body.data, body.size, p->clock_us, p->epoch);
        rc = rc == WEIR_OK ? rc : weir_error_set(err, rc, "replies: out of memory");
    }
    p->commands++;
    p->commands_open++;
    return rc;
}

bool replying_due(const struct weir_pipeline *p) {
    return p->commands_open > 0 && weir_clock_mono_ns() - p->sealed_at_ns >= SEALS_APART_NS;
}

void replying_durable(struct weir_pipeline *p, uint64_t epoch) {
    for (int32_t s = 0; s < p->reply_count; s++) {
        if (p->replies[s] != NULL) {
            weir_replies_durable(p->replies[s], epoch);
        }
    }
}

void replying_restored(struct weir_pipeline *p) {
    for (int32_t s = 0; s < p->reply_count; s++) {
        if (p->replies[s] != NULL) {
            weir_replies_restored(p->replies[s], p->epoch - 1);
        }
    }
}

struct weir_replies *weir_pipeline_replies(const struct weir_pipeline *p, int32_t source) {
    return source < p->reply_count ? p->replies[source] : NULL;
}
