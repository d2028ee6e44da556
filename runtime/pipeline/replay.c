/* Replay. The state before the epoch is the newest snapshot that ends before it plus the records
 * up to it; nothing is written anywhere. */
#include "pipeline/replay.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch/digest.h"
#include "core/clock.h"
#include "pipeline/evolve.h"
#include "pipeline/past.h"
#include "sink/sinks.h"
#include "source/source.h"
#include "state/image.h"

enum { IMAGE_BYTES_MAX = 1 << 30 };

struct output {
    const char *dataset;
    uint64_t rows;
    uint64_t digest;
};

struct replay {
    const struct weir_replay_options *options;
    struct weir_replay_result *result;
    struct past past;
    struct weir_source **sources; /* by source of the plan, opened on first use */
    uint64_t *versions;           /* by source: the columns it was opened with; 0: the plan's */
    struct output *outputs;
    size_t output_count;
};

static void differ(struct replay *r, const char *format, ...) WEIR_PRINTF(2, 3);
static void differ(struct replay *r, const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    r->result->differences++;
    r->options->difference(r->options->context, text);
}

static int output(void *context, struct weir_dataset *dataset, struct weir_batch *batch,
                  const int32_t *sel, int32_t count, struct weir_error *err) {
    struct replay *r = context;
    for (size_t i = 0; i < r->output_count; i++) {
        if (strcmp(r->outputs[i].dataset, dataset->name) == 0) {
            r->outputs[i].rows += (uint64_t)count;
            r->outputs[i].digest = weir_batch_digest(batch, sel, count, r->outputs[i].digest);
            return WEIR_OK;
        }
    }
    struct output *outputs = realloc(r->outputs, (r->output_count + 1) * sizeof(*outputs));
    if (outputs == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "replay: out of memory");
    }
    r->outputs = outputs;
    r->outputs[r->output_count++] =
        (struct output){dataset->name, (uint64_t)count, weir_batch_digest(batch, sel, count, 0)};
    return WEIR_OK;
}

static int breach(void *context, const struct weir_dataset *dataset, int32_t function, int32_t row,
                  struct weir_error *err) {
    struct replay *r = context;
    (void)err;
    differ(r, "%s: function %d exceeded its budget at row %d, which it did not then", dataset->name,
           function, row);
    return WEIR_OK;
}

/* --- the epoch -------------------------------------------------------------------------------- */

static int find_source(struct replay *r, const struct weir_message *message) {
    for (int32_t i = 0; i < r->past.plan->source_count; i++) {
        if (strlen(r->past.plan->sources[i].name) == message->subject_size &&
            memcmp(r->past.plan->sources[i].name, message->subject, message->subject_size) == 0) {
            return i;
        }
    }
    return -1;
}

/* The columns a batch was decoded into; 0: the plan's. */
static struct weir_schema *schema_of(struct replay *r, int32_t s, uint64_t version) {
    const struct weir_plan_source *source = &r->past.plan->sources[s];
    for (size_t i = 0; version != 0 && i < r->past.column_count; i++) {
        struct weir_schema *before = r->past.columns[i].before;
        bool same = before != NULL && strcmp(r->past.columns[i].source, source->name) == 0;
        struct weir_schema *full = same ? weir_decode_full_schema(before) : NULL;
        same = full != NULL && weir_schema_hash(full) == version;
        weir_schema_unref(full);
        if (same) {
            return before;
        }
    }
    return source->schema;
}

static int open_source(struct replay *r, int32_t s, uint64_t version, struct weir_error *err) {
    const struct weir_plan_source *plan = &r->past.plan->sources[s];
    char *options =
        plan->connector_options != NULL ? json_dumps(plan->connector_options, JSON_COMPACT) : NULL;
    char *decoder_options =
        plan->decoder_options != NULL ? json_dumps(plan->decoder_options, JSON_COMPACT) : NULL;
    char ledger[1024];
    char log_path[1400];
    weir_plan_ledger_path(r->past.plan, ledger, sizeof(ledger));
    snprintf(log_path, sizeof(log_path), "%s/http/%s", ledger, plan->name);
    struct weir_source_config config = {
        .name = plan->name,
        .log_path = log_path,
        .kind = plan->connector,
        .options_json = options,
        .decoder = plan->decoder,
        .decoder_options_json = decoder_options,
        .schema = schema_of(r, s, version),
        .pool = r->past.pool,
        .until_end = true,
    };
    int rc = weir_source_create(&r->sources[s], &config, err);
    free(options);
    free(decoder_options);
    struct weir_position *positions = calloc(WEIR_SOURCE_PARTITIONS_MAX, sizeof(*positions));
    int32_t known = 0;
    if (rc == WEIR_OK && positions == NULL) {
        rc = weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    for (size_t i = 0; rc == WEIR_OK && i < r->past.position_count; i++) {
        size_t length = strlen(plan->name);
        if (strncmp(r->past.positions[i].key, plan->name, length) == 0 &&
            r->past.positions[i].key[length] == '/') {
            long number = strtol(r->past.positions[i].key + length + 1, NULL, 10);
            if (number >= 0 && number < WEIR_SOURCE_PARTITIONS_MAX) {
                positions[number].bytes = r->past.positions[i].bytes;
                positions[number].size = (uint32_t)r->past.positions[i].size;
                known = number + 1 > known ? (int32_t)number + 1 : known;
            }
        }
    }
    if (rc == WEIR_OK) {
        rc = weir_source_open(r->sources[s], positions, known, err);
    }
    free(positions);
    return rc;
}

static int push_batch(struct replay *r, int32_t s, struct weir_source_batch *batch,
                      struct weir_error *err) {
    char partition[256];
    snprintf(partition, sizeof(partition), "%s/%d", r->past.plan->sources[s].name,
             batch->partition);
    int rc = WEIR_OK;
    if (batch->batch->rows > 0) {
        weir_graph_set_partitions(r->past.graph, weir_source_partitions(r->sources[s]));
        rc = weir_graph_push(r->past.graph, s, partition, batch->batch, err);
    }
    for (int32_t i = 0; rc == WEIR_OK && batch->rejects != NULL && i < batch->rejects->count; i++) {
        rc = weir_graph_reject_of(r->past.graph, s, batch->number, batch->rejects, i, err);
    }
    return rc == WEIR_OK ? weir_graph_flush_rejects(r->past.graph, err) : rc;
}

/* Where a source opened anew, with other columns, goes on. */
static int move_position(struct replay *r, int32_t s, const struct weir_source_batch *batch,
                         struct weir_error *err) {
    char key[256];
    snprintf(key, sizeof(key), "%s/%d", r->past.plan->sources[s].name, batch->partition);
    struct weir_keyed_entry entry = {
        .key = {(const uint8_t *)key, strlen(key)},
        .body = {batch->position.bytes, batch->position.size},
    };
    return batch->position.size == 0 || past_keep_position(&r->past, &entry) == WEIR_OK
               ? WEIR_OK
               : weir_error_set(err, WEIR_E_NOMEM, "replay: out of memory");
}

static int replay_batch(struct replay *r, const struct weir_message *message, int64_t clock_us,
                        struct weir_error *err) {
    int32_t s = find_source(r, message);
    if (s < 0) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "the epoch read source '%.*s', which the rules no longer have",
                              (int)message->subject_size, message->subject);
    }
    if (r->sources[s] != NULL && message->rows > 0 && r->versions[s] != message->version) {
        weir_source_destroy(r->sources[s]); /* from where the rows so far end */
        r->sources[s] = NULL;
    }
    int rc = WEIR_OK;
    if (r->sources[s] == NULL) {
        r->versions[s] = message->version;
        rc = open_source(r, s, message->version, err);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    if (message->rows == 0) { /* a partition was met */
        char partition[256];
        snprintf(partition, sizeof(partition), "%s/%u", r->past.plan->sources[s].name,
                 message->partition);
        bool anew = message->hash != 0;
        rc = anew ? weir_source_assign(r->sources[s], (int32_t)message->partition, message->hash,
                                       err)
                  : WEIR_OK;
        return rc == WEIR_OK ? weir_graph_open_partition(r->past.graph, s, partition, anew, err)
                             : rc;
    }
    struct weir_source_batch *batch = NULL;
    rc = weir_source_next(r->sources[s], (int32_t)message->partition, (int32_t)message->rows,
                          &batch, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (batch == NULL || (uint64_t)batch->rows != message->rows) {
        differ(r,
               "source %s gives %d rows where the epoch read %" PRIu64
               ": its input is no longer what it was",
               r->past.plan->sources[s].name, batch != NULL ? batch->rows : 0, message->rows);
    } else if (batch->hash != message->hash) {
        differ(r, "source %s: %" PRIu64 " rows are not the ones the epoch read",
               r->past.plan->sources[s].name, message->rows);
    }
    if (batch == NULL) {
        return WEIR_OK;
    }
    rc = evolve_batch(r->past.pool, &r->past.plan->sources[s], &batch->batch, err);
    if (rc != WEIR_OK) {
        weir_source_batch_release(batch);
        return rc;
    }
    weir_batch_fill_int64(batch->batch,
                          batch->batch->column_count - WEIR_META_COUNT + WEIR_META_INGESTED_AT,
                          clock_us);
    r->result->batches++;
    r->result->rows += batch->rows;
    rc = move_position(r, s, batch, err);
    rc = rc == WEIR_OK ? push_batch(r, s, batch, err) : rc;
    weir_source_batch_release(batch);
    return rc;
}

/* The runtime held rows back: all of them for a while, or one partition's from now on. */
static int replay_idle(struct replay *r, const struct weir_message *message,
                       struct weir_error *err) {
    char partition[256];
    int s = message->subject_size > 0 ? find_source(r, message) : -1;
    if (message->subject_size == 0) {
        weir_graph_held(r->past.graph, (int64_t)message->rows);
    }
    snprintf(partition, sizeof(partition), "%.*s/%u", (int)message->subject_size, message->subject,
             message->partition);
    return s < 0 ? WEIR_OK : weir_graph_block(r->past.graph, s, partition, message->rows != 0, err);
}

static int replay_messages(struct replay *r, const struct weir_record_view *record,
                           struct weir_error *err) {
    struct weir_message message;
    struct weir_message verdict;
    struct weir_section_iterator messages = weir_section_iterate(record->schedule);
    int rc = WEIR_OK;
    while (rc == WEIR_OK && weir_message_next(&messages, &message)) {
        weir_graph_set_moment(r->past.graph, message.clock_us, (int64_t)r->options->epoch);
        weir_script_set_clock(message.clock_us);
        /* Verdicts are recorded after the batch they came in: look ahead for them. */
        weir_graph_expect_none(r->past.graph);
        struct weir_section_iterator ahead = messages;
        while (weir_message_next(&ahead, &verdict) && verdict.kind == WEIR_MESSAGE_VERDICT) {
            weir_graph_expect_breach(r->past.graph, (int32_t)verdict.version, (int32_t)verdict.row,
                                     verdict.reason, verdict.reason_size);
        }
        char partition[256];
        int32_t s;
        bool moved;
        switch (message.kind) {
        case WEIR_MESSAGE_BATCH:
            rc = replay_batch(r, &message, message.clock_us, err);
            break;
        case WEIR_MESSAGE_TICK:
            rc = weir_graph_tick(r->past.graph, &moved, err);
            break;
        case WEIR_MESSAGE_IDLE:
            rc = replay_idle(r, &message, err);
            break;
        case WEIR_MESSAGE_END:
            s = find_source(r, &message);
            snprintf(partition, sizeof(partition), "%.*s/%u", (int)message.subject_size,
                     message.subject, message.partition);
            if (s >= 0) {
                rc = weir_graph_finish(r->past.graph, s, partition, err);
            }
            break;
        case WEIR_MESSAGE_ADMIN:
            rc = weir_graph_finish_all(r->past.graph, err);
            break;
        case WEIR_MESSAGE_ANSWERED:
            rc = weir_graph_released(
                r->past.graph,
                (struct weir_span){(const uint8_t *)message.subject, message.subject_size},
                (int32_t)message.partition,
                (struct weir_span){(const uint8_t *)message.reason, message.reason_size}, err);
            break;
        default:
            break; /* verdicts are applied with their batch; rule sets are compared at the start */
        }
        bool fired;
        rc = rc == WEIR_OK ? weir_graph_fire(r->past.graph, -1, &fired, err) : rc;
    }
    return rc;
}

/* --- comparing ------------------------------------------------------------------------------- */

static void compare_outputs(struct replay *r, const struct weir_record_view *record) {
    struct weir_named_blob effect;
    struct weir_section_iterator effects = weir_section_iterate(record->effects);
    while (weir_effect_next(&effects, &effect)) {
        char head[256];
        uint64_t rows;
        uint64_t digest;
        snprintf(head, sizeof(head), "%.*s", (int)(effect.body.size < 200 ? effect.body.size : 200),
                 (const char *)effect.body.data);
        if (sscanf(head, "{\"digest\":{\"rows\":%" SCNu64 ",\"hash\":\"%" SCNx64 "\"}}", &rows,
                   &digest) != 2) {
            continue;
        }
        struct output *found = NULL;
        for (size_t i = 0; i < r->output_count; i++) {
            if (strlen(r->outputs[i].dataset) == effect.name.size &&
                memcmp(r->outputs[i].dataset, effect.name.data, effect.name.size) == 0) {
                found = &r->outputs[i];
            }
        }
        if (found == NULL || found->rows != rows) {
            differ(r, "%.*s: %" PRIu64 " rows then, %" PRIu64 " now", (int)effect.name.size,
                   (const char *)effect.name.data, rows, found != NULL ? found->rows : 0);
        } else if (found->digest != digest) {
            differ(r, "%.*s: the same number of rows, but not the same values",
                   (int)effect.name.size, (const char *)effect.name.data);
        }
        if (found != NULL) {
            found->rows = UINT64_MAX; /* seen */
        }
    }
    for (size_t i = 0; i < r->output_count; i++) {
        struct weir_dataset *dataset = weir_graph_find(r->past.graph, r->outputs[i].dataset);
        bool written = dataset != NULL && dataset->into != NULL && dataset->into->present;
        if (written && r->outputs[i].rows != UINT64_MAX) {
            differ(r, "%s: no rows then, %" PRIu64 " now", r->outputs[i].dataset,
                   r->outputs[i].rows);
        }
    }
}

/* Images of the replayed epoch against the recorded ones, cell by cell. */
static int compare_state(struct replay *r, const struct weir_record_view *record,
                         struct weir_error *err) {
    struct weir_buffer now;
    struct weir_buffer then;
    weir_buffer_init(&now, IMAGE_BYTES_MAX);
    weir_buffer_init(&then, IMAGE_BYTES_MAX);
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < r->past.cell_count; i++) {
        struct weir_cell *cell = r->past.cells[i];
        bool done = false;
        weir_buffer_clear(&now);
        weir_buffer_clear(&then);
        rc = cell->ops->seal(cell->self, err);
        while (rc == WEIR_OK && !done) {
            rc = cell->ops->collect(cell->self, &now, 2048, &done, err);
        }
        struct weir_named_blob image;
        struct weir_section_iterator images = weir_section_iterate(record->images);
        while (rc == WEIR_OK && weir_image_next(&images, &image)) {
            if (image.name.size == strlen(cell->name) &&
                memcmp(image.name.data, cell->name, image.name.size) == 0) {
                rc = weir_buffer_append(&then, image.body.data, image.body.size);
            }
        }
        /* Copy on write may order images differently, and slices end anywhere: sizes say how much
         * changed. */
        size_t then_bytes = weir_images_bytes(then.data, then.size);
        size_t now_bytes = weir_images_bytes(now.data, now.size);
        if (rc == WEIR_OK && then_bytes != now_bytes) {
            differ(r, "state of %s: %zu bytes changed then, %zu now", cell->name, then_bytes,
                   now_bytes);
        }
    }
    weir_buffer_fini(&now);
    weir_buffer_fini(&then);
    return rc;
}

/* --- the whole ---------------------------------------------------------------------------------
 */

/* What was answered from outside in the epoch is in its images: nobody is asked again. */
static int record_answers(struct replay *r, const struct weir_record_view *record,
                          struct weir_error *err) {
    struct weir_named_blob image;
    struct weir_section_iterator images = weir_section_iterate(record->images);
    int rc = WEIR_OK;
    while (rc == WEIR_OK && weir_image_next(&images, &image)) {
        rc = weir_graph_record_answers(r->past.graph, image.name, image.body, err);
    }
    return rc;
}

static int run(struct replay *r, struct weir_error *err) {
    struct weir_record_view record;
    bool there = false;
    int rc = r->options->epoch <= r->past.ledger->last ? past_load(&r->past, &record, &there, err)
                                                       : past_out_of_reach(&r->past, err);
    if (rc != WEIR_OK || !there) {
        return rc;
    }
    const char *hash = weir_rule_set_hash(r->past.rule_set);
    r->result->same_rules = record.rule_set.size == strlen(hash) &&
                            memcmp(record.rule_set.data, hash, record.rule_set.size) == 0;
    /* Other rules are said once; they are no difference of every rejected row. */
    weir_graph_set_rule_set_hash(r->past.graph, (const char *)record.rule_set.data,
                                 record.rule_set.size);
    rc = record_answers(r, &record, err);
    rc = rc == WEIR_OK ? replay_messages(r, &record, err) : rc;
    if (rc == WEIR_OK) {
        compare_outputs(r, &record);
        rc = compare_state(r, &record, err);
    }
    return rc;
}

int weir_pipeline_replay(const struct weir_replay_options *options,
                         struct weir_replay_result *result, struct weir_error *err) {
    struct replay r = {.options = options, .result = result};
    struct past_options past = {
        .path = options->path,
        .settings = options->settings,
        .setting_count = options->setting_count,
        .epoch = options->epoch,
        .callbacks = {.context = &r, .output = output, .breach = breach},
    };
    int rc = past_open(&r.past, &past, err);
    int32_t sources = rc == WEIR_OK ? r.past.plan->source_count : 0;
    if (rc == WEIR_OK) {
        r.versions = calloc((size_t)sources + 1, sizeof(*r.versions));
        r.sources = calloc((size_t)sources + 1, sizeof(struct weir_source *));
        rc = r.versions == NULL || r.sources == NULL
                 ? weir_error_set(err, WEIR_E_NOMEM, "replay: out of memory")
                 : run(&r, err);
    }
    for (int32_t s = 0; r.sources != NULL && s < sources; s++) {
        weir_source_destroy(r.sources[s]);
    }
    free(r.sources);
    free(r.outputs);
    free(r.versions);
    past_close(&r.past);
    return rc;
}
