/* The runtime under test: a graph whose outputs are kept as JSON lines, fed through the same
 * decoder as production, on a clock that moves only when told. */
#include "pipeline/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/export.h"
#include "decode/decoder.h"
#include "lake/delta/table.h"
#include "pipeline/graph/graph.h"
#include "pipeline/graph/plan.h"
#include "pipeline/summary.h"

enum { KEPT_BYTES_MAX = 256 << 20, POOL_BYTES = 256 << 20 };

struct kept { /* what left a dataset */
    char *name;
    struct weir_buffer lines;
};

struct weir_harness {
    struct weir_harness *next_open;
    struct weir_rule_set *rule_set;
    struct weir_plan *plan;
    struct weir_graph *graph;
    struct weir_pool *pool;
    struct kept *kept;
    int32_t kept_count;
    struct weir_buffer answer;
    int64_t clock_us;
};

static struct weir_script *used_script;
static struct weir_harness *first_open;
static struct weir_error last_error;

void weir_harness_use(struct weir_script *script) {
    while (script == NULL && first_open != NULL) {
        weir_harness_close(first_open);
    }
    used_script = script;
}

WEIR_EXPORT const char *weir_harness_error(void) {
    return last_error.message;
}

static struct kept *kept_of(struct weir_harness *h, const char *name) {
    for (int32_t i = 0; i < h->kept_count; i++) {
        if (strcmp(h->kept[i].name, name) == 0) {
            return &h->kept[i];
        }
    }
    struct kept *kept = realloc(h->kept, ((size_t)h->kept_count + 1) * sizeof(*kept));
    if (kept == NULL) {
        return NULL;
    }
    h->kept = kept;
    kept = &h->kept[h->kept_count];
    kept->name = strdup(name);
    if (kept->name == NULL) {
        return NULL;
    }
    weir_buffer_init(&kept->lines, KEPT_BYTES_MAX);
    h->kept_count++;
    return kept;
}

static int keep(void *context, struct weir_dataset *dataset, struct weir_batch *batch,
                const int32_t *sel, int32_t count, struct weir_error *err) {
    struct kept *kept = kept_of(context, dataset->name);
    int rc = kept == NULL ? WEIR_E_NOMEM : WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        rc = weir_delta_row_json(batch, sel[i], &kept->lines);
        if (rc == WEIR_OK) {
            rc = weir_buffer_append(&kept->lines, "\n", 1);
        }
    }
    return rc == WEIR_OK ? rc
                         : weir_error_set(err, rc, "%s: too many rows for a spec", dataset->name);
}

static int breach(void *context, const struct weir_dataset *dataset, int32_t function, int32_t row,
                  struct weir_error *err) {
    (void)context;
    (void)dataset;
    (void)function;
    (void)row;
    (void)err;
    return WEIR_OK; /* its rows are in quarantine, reason `budget` */
}

/* "key=value" lines into settings; the text is cut up in place. */
static size_t split_settings(char *text, struct weir_script_setting *settings, size_t max) {
    size_t count = 0;
    char *rest = text;
    char *line;
    while (count < max && (line = strsep(&rest, "\n")) != NULL) {
        char *equals = strchr(line, '=');
        if (equals != NULL) {
            *equals = '\0';
            settings[count++] = (struct weir_script_setting){line, equals + 1};
        }
    }
    return count;
}

static int load(struct weir_harness *h, const char *path, const char *setting_lines) {
    struct weir_script_setting settings[64];
    char *text = strdup(setting_lines != NULL ? setting_lines : "");
    if (text == NULL) {
        return weir_error_set(&last_error, WEIR_E_NOMEM, "out of memory");
    }
    size_t setting_count = split_settings(text, settings, 64);
    struct weir_buffer report;
    weir_buffer_init(&report, 1 << 20);
    int rc = weir_script_load(used_script, path, settings, setting_count, &h->rule_set, &report,
                              NULL, &last_error);
    if (rc != WEIR_OK && report.size > 0) {
        weir_error_set(&last_error, rc, "%.*s", (int)report.size, (const char *)report.data);
    }
    weir_buffer_fini(&report);
    free(text);
    if (rc == WEIR_OK) {
        rc = weir_plan_parse(weir_rule_set_plan(h->rule_set, NULL), &h->plan, &last_error);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    struct weir_graph_options options = {
        .plan = h->plan,
        .rule_set = h->rule_set,
        .pool = h->pool,
        .callbacks = {.context = h, .output = keep, .breach = breach},
        .output_all = true,
    };
    return weir_graph_create(&options, &h->graph, &last_error);
}

WEIR_EXPORT void weir_harness_close(struct weir_harness *h) {
    if (h == NULL) {
        return;
    }
    struct weir_harness **link = &first_open;
    while (*link != NULL && *link != h) {
        link = &(*link)->next_open;
    }
    if (*link == h) {
        *link = h->next_open;
    }
    weir_graph_destroy(h->graph);
    weir_plan_destroy(h->plan);
    weir_rule_set_unref(h->rule_set);
    for (int32_t i = 0; i < h->kept_count; i++) {
        free(h->kept[i].name);
        weir_buffer_fini(&h->kept[i].lines);
    }
    free(h->kept);
    weir_buffer_fini(&h->answer);
    weir_pool_destroy(h->pool);
    free(h);
}

WEIR_EXPORT struct weir_harness *weir_harness_open(const char *path, const char *settings) {
    struct weir_harness *h = calloc(1, sizeof(*h));
    if (h == NULL || used_script == NULL) {
        weir_error_set(&last_error, WEIR_E_BUG, "no VM to load rules into");
        free(h);
        return NULL;
    }
    weir_buffer_init(&h->answer, KEPT_BYTES_MAX);
    h->pool = weir_pool_create(POOL_BYTES);
    h->clock_us = weir_clock_wall_us(); /* what happened is not `future` */
    weir_script_set_clock(h->clock_us);
    if (h->pool == NULL || load(h, path, settings) != WEIR_OK) {
        weir_harness_close(h);
        return NULL;
    }
    h->next_open = first_open;
    first_open = h;
    weir_graph_set_moment(h->graph, h->clock_us, 1);
    return h;
}

static const char *answer(struct weir_harness *h) {
    return weir_buffer_text(&h->answer);
}

/* User columns of a dataset: meta columns are not fed. */
static int32_t user_columns(const struct weir_harness *h, const struct weir_dataset *dataset) {
    for (int32_t i = 0; i < h->plan->source_count; i++) {
        if (strcmp(h->plan->sources[i].name, dataset->name) == 0) {
            return h->plan->sources[i].schema->count;
        }
    }
    return dataset->schema->count;
}

static struct weir_dataset *find(struct weir_harness *h, const char *name) {
    struct weir_dataset *dataset = weir_graph_find(h->graph, name);
    if (dataset == NULL) {
        weir_error_set(&last_error, WEIR_E_NOTFOUND, "there is no dataset '%s'", name);
    }
    return dataset;
}

WEIR_EXPORT const char *weir_harness_columns(struct weir_harness *h, const char *name) {
    struct weir_dataset *dataset = find(h, name);
    if (dataset == NULL) {
        return NULL;
    }
    weir_buffer_clear(&h->answer);
    int rc = weir_buffer_append_text(&h->answer, "[");
    int32_t count = user_columns(h, dataset);
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        const struct weir_field *field = &dataset->schema->fields[i];
        rc = weir_buffer_append_text(&h->answer, i > 0 ? ",{\"name\":" : "{\"name\":");
        if (rc == WEIR_OK) {
            rc = weir_delta_json_string(&h->answer, field->name, strlen(field->name));
        }
        if (rc == WEIR_OK) {
            rc = weir_buffer_append_text(&h->answer, ",\"type\":\"");
        }
        if (rc == WEIR_OK) {
            rc = weir_field_format_type(field, &h->answer);
        }
        if (rc == WEIR_OK) {
            rc = weir_buffer_append_text(&h->answer, "\"}");
        }
    }
    if (rc == WEIR_OK) {
        rc = weir_buffer_append_text(&h->answer, "]");
    }
    return rc == WEIR_OK ? answer(h) : NULL;
}

WEIR_EXPORT const char *weir_harness_input(struct weir_harness *h, const char *of) {
    for (int32_t i = 0; i < h->plan->stream_count; i++) {
        if (strcmp(h->plan->streams[i].name, of) == 0) {
            return h->plan->streams[i].from;
        }
        const struct weir_plan_rule *rule = h->plan->streams[i].rule;
        for (int32_t e = 0; rule != NULL && e < rule->emit_count; e++) {
            if (strcmp(rule->emits[e].name, of) == 0) {
                return h->plan->streams[i].name;
            }
        }
    }
    for (int32_t i = 0; i < h->plan->model_count; i++) {
        if (strcmp(h->plan->models[i].name, of) == 0) {
            return h->plan->models[i].from;
        }
    }
    weir_error_set(&last_error, WEIR_E_NOTFOUND, "there is no stream or model '%s'", of);
    return NULL;
}

WEIR_EXPORT const char *weir_harness_emits(struct weir_harness *h, const char *of) {
    int rc = WEIR_OK;
    weir_buffer_clear(&h->answer);
    for (int32_t i = 0; i < h->plan->stream_count; i++) {
        const struct weir_plan_rule *rule = h->plan->streams[i].rule;
        bool found = rule != NULL && strcmp(h->plan->streams[i].name, of) == 0;
        for (int32_t e = 0; found && rc == WEIR_OK && e < rule->emit_count; e++) {
            rc = weir_buffer_printf(&h->answer, "%s\n", rule->emits[e].name);
        }
    }
    return rc == WEIR_OK ? answer(h) : NULL;
}

WEIR_EXPORT const char *weir_harness_time(struct weir_harness *h, const char *of) {
    const struct weir_plan_time *time = NULL;
    for (int32_t i = 0; i < h->plan->stream_count; i++) {
        if (strcmp(h->plan->streams[i].name, of) == 0) {
            time = &h->plan->streams[i].time;
        }
    }
    for (int32_t i = 0; i < h->plan->model_count; i++) {
        if (strcmp(h->plan->models[i].name, of) == 0) {
            time = &h->plan->models[i].time;
        }
    }
    return time != NULL && time->present ? time->field : "";
}

/* --- feeding --------------------------------------------------------------------------------- */

static int push_rejects(struct weir_harness *h, int32_t source,
                        const struct weir_reject_batch *rejects) {
    for (int32_t i = 0; rejects != NULL && i < rejects->count; i++) {
        if (source < 0) {
            return weir_error_set(&last_error, WEIR_E_DATA, "row %d: %s: %s", i + 1,
                                  weir_reject_field(rejects, i), weir_reject_reason(rejects, i));
        }
        int rc = weir_graph_reject_of(h->graph, source, 0, rejects, i, &last_error);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return weir_graph_flush_rejects(h->graph, &last_error);
}

static int fill_meta(struct weir_harness *h, struct weir_batch *batch) {
    struct weir_column *meta = &batch->columns[batch->column_count - WEIR_META_COUNT];
    size_t rows = (size_t)batch->rows;
    int32_t *partition = weir_batch_alloc(batch, (rows + 1) * sizeof(*partition));
    int32_t *offsets = weir_batch_alloc(batch, (rows + 2) * sizeof(*offsets));
    int64_t *ingested = weir_batch_alloc(batch, (rows + 1) * sizeof(*ingested));
    if (partition == NULL || offsets == NULL || ingested == NULL) {
        return weir_error_set(&last_error, WEIR_E_LIMIT, "too many rows for a spec");
    }
    memset(partition, 0, (rows + 1) * sizeof(*partition));
    memset(offsets, 0, (rows + 2) * sizeof(*offsets));
    for (size_t i = 0; i < rows; i++) {
        ingested[i] = h->clock_us;
    }
    meta[WEIR_META_PARTITION].values = partition;
    meta[WEIR_META_PARTITION].null_count = 0;
    meta[WEIR_META_PARTITION].validity = NULL;
    meta[WEIR_META_PARTITION].length = batch->rows;
    meta[WEIR_META_INGESTED_AT].values = ingested;
    meta[WEIR_META_INGESTED_AT].null_count = 0;
    meta[WEIR_META_INGESTED_AT].validity = NULL;
    meta[WEIR_META_INGESTED_AT].length = batch->rows;
    struct weir_column *topic = &meta[WEIR_META_TOPIC];
    topic->offsets = offsets;
    topic->values = ingested;
    topic->codes = NULL;
    topic->dictionary = NULL;
    topic->validity = NULL;
    topic->null_count = 0;
    topic->length = batch->rows;
    return WEIR_OK;
}

static int fire(struct weir_harness *h, int rc) {
    bool done;
    return rc == WEIR_OK ? weir_graph_fire(h->graph, -1, &done, &last_error) : rc;
}

static int push_batch(struct weir_harness *h, struct weir_dataset *dataset, int32_t source,
                      struct weir_batch *batch) {
    int rc = fill_meta(h, batch);
    if (rc != WEIR_OK || batch->rows == 0) {
        return rc;
    }
    if (source >= 0) {
        return fire(h, weir_graph_push(h->graph, source, "spec/0", batch, &last_error));
    }
    struct weir_batch *narrow = weir_batch_create(h->pool, dataset->schema);
    rc = narrow == NULL ? weir_error_set(&last_error, WEIR_E_LIMIT, "too many rows for a spec")
                        : WEIR_OK;
    for (int32_t c = 0; rc == WEIR_OK && c < dataset->schema->count; c++) {
        rc = weir_batch_borrow(narrow, c, batch, c);
    }
    if (rc == WEIR_OK) {
        narrow->rows = batch->rows;
        rc = fire(h, weir_graph_inject(h->graph, dataset, "spec/0", narrow, &last_error));
    }
    weir_batch_unref(narrow);
    return rc;
}

static int source_index(const struct weir_harness *h, const char *name) {
    for (int32_t i = 0; i < h->plan->source_count; i++) {
        if (strcmp(h->plan->sources[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

struct feed {
    struct weir_decoder *decoder;
    struct weir_batch_builder builder;
    bool has_builder;
    uint8_t *block; /* the lines with their padding */
    struct weir_frame *frames;
    int32_t frame_count;
};

static int split_lines(struct feed *feed, const char *lines, size_t length) {
    feed->block = malloc(length + WEIR_DECODE_PADDING + 1);
    size_t count = 1;
    for (size_t i = 0; i < length; i++) {
        count += lines[i] == '\n';
    }
    feed->frames = calloc(count, sizeof(*feed->frames));
    if (feed->block == NULL || feed->frames == NULL) {
        return weir_error_set(&last_error, WEIR_E_NOMEM, "out of memory");
    }
    memcpy(feed->block, lines, length);
    memset(feed->block + length, ' ', WEIR_DECODE_PADDING);
    size_t start = 0;
    while (start < length) {
        const uint8_t *newline = memchr(feed->block + start, '\n', length - start);
        size_t end = newline != NULL ? (size_t)(newline - feed->block) : length;
        size_t stop = end;
        while (stop > start && (feed->block[stop - 1] == '\r' || feed->block[stop - 1] == ' ')) {
            stop--;
        }
        if (stop > start) {
            feed->frames[feed->frame_count++] = (struct weir_frame){
                .start = (uint32_t)start,
                .length = (uint32_t)(stop - start),
                .offset = (int64_t)start,
            };
        }
        start = end + 1;
    }
    return WEIR_OK;
}

static int decode_all(struct weir_harness *h, struct feed *feed, struct weir_dataset *dataset,
                      int32_t source) {
    int32_t done = 0;
    while (done < feed->frame_count) {
        struct weir_reject_batch *rejects = NULL;
        int32_t consumed = 0;
        int rc = weir_batch_builder_begin(&feed->builder);
        if (rc == WEIR_OK) {
            rc = weir_decoder_decode(feed->decoder, feed->block, feed->frames + done,
                                     feed->frame_count - done, &feed->builder, &rejects, &consumed);
        }
        struct weir_batch *batch = rc == WEIR_OK ? weir_batch_builder_take(&feed->builder) : NULL;
        if (rc != WEIR_OK) {
            weir_error_set(&last_error, rc, "too many rows for a spec");
        } else {
            rc = push_batch(h, dataset, source, batch);
        }
        if (rc == WEIR_OK) {
            rc = push_rejects(h, source, rejects);
        }
        weir_batch_unref(batch);
        weir_reject_batch_destroy(rejects);
        if (rc != WEIR_OK) {
            return rc;
        }
        done += consumed > 0 ? consumed : 1;
    }
    return WEIR_OK;
}

WEIR_EXPORT int weir_harness_feed(struct weir_harness *h, const char *name, const char *lines,
                                  int64_t length) {
    struct weir_dataset *dataset = find(h, name);
    if (dataset == NULL) {
        return -1;
    }
    int32_t source = source_index(h, name);
    struct feed feed = {0};
    struct weir_schema *user = weir_schema_create();
    struct weir_schema *full = NULL;
    int rc = user == NULL ? WEIR_E_NOMEM : WEIR_OK;
    int32_t count = user_columns(h, dataset);
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        rc = weir_schema_add(user, &dataset->schema->fields[i]);
    }
    if (rc == WEIR_OK) {
        full = weir_decode_full_schema(user);
        rc = full == NULL ? WEIR_E_NOMEM : WEIR_OK;
    }
    if (rc == WEIR_OK) {
        char *options = source >= 0 && h->plan->sources[source].decoder_options != NULL
                            ? json_dumps(h->plan->sources[source].decoder_options, JSON_COMPACT)
                            : NULL;
        rc = weir_decoder_create(&feed.decoder, "json", options, user, &last_error);
        free(options);
    }
    if (rc == WEIR_OK) {
        rc = weir_batch_builder_init(&feed.builder, h->pool, full, WEIR_BATCH_ROWS_MAX,
                                     (size_t)64 << 20, &last_error);
        feed.has_builder = rc == WEIR_OK;
    }
    if (rc == WEIR_OK) {
        rc = split_lines(&feed, lines, (size_t)length);
    }
    if (rc == WEIR_OK) {
        rc = decode_all(h, &feed, dataset, source);
    }
    if (feed.has_builder) {
        weir_batch_builder_fini(&feed.builder);
    }
    if (feed.decoder != NULL) {
        weir_decoder_destroy(feed.decoder);
    }
    free(feed.block);
    free(feed.frames);
    weir_schema_unref(full);
    weir_schema_unref(user);
    return rc == WEIR_OK ? feed.frame_count : -1;
}

WEIR_EXPORT int weir_harness_answer(struct weir_harness *h, const char *stream, const char *lookup,
                                    const char *key, const char *answer, int fails) {
    int rc = weir_graph_give_answer(h->graph, stream, lookup, key, answer, fails != 0, &last_error);
    return rc == WEIR_OK ? 0 : -1;
}

WEIR_EXPORT int weir_harness_finish(struct weir_harness *h) {
    return fire(h, weir_graph_finish_all(h->graph, &last_error)) == WEIR_OK ? 0 : -1;
}

WEIR_EXPORT int weir_harness_advance(struct weir_harness *h, int64_t us) {
    h->clock_us += us > 0 ? us : 0;
    weir_script_set_clock(h->clock_us);
    weir_graph_set_moment(h->graph, h->clock_us, 1);
    bool moved;
    return fire(h, weir_graph_tick(h->graph, &moved, &last_error)) == WEIR_OK ? 0 : -1;
}

WEIR_EXPORT int weir_harness_watermark(struct weir_harness *h, int64_t time_us) {
    int rc = weir_graph_move_watermark(h->graph, "spec/0", time_us, &last_error);
    return fire(h, rc) == WEIR_OK ? 0 : -1;
}

WEIR_EXPORT const char *weir_harness_rows(struct weir_harness *h, const char *name) {
    struct kept *kept = kept_of(h, name);
    return kept != NULL ? weir_buffer_text(&kept->lines) : NULL;
}

WEIR_EXPORT void weir_harness_clear(struct weir_harness *h) {
    for (int32_t i = 0; i < h->kept_count; i++) {
        weir_buffer_clear(&h->kept[i].lines);
    }
}

WEIR_EXPORT const char *weir_harness_counters(struct weir_harness *h, const char *name) {
    struct weir_dataset *dataset = find(h, name);
    if (dataset == NULL) {
        return NULL;
    }
    weir_buffer_clear(&h->answer);
    int rc = weir_dataset_json(dataset, &h->answer);
    return rc == WEIR_OK ? answer(h) : NULL;
}
