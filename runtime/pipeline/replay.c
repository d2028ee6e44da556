/* Replay. The state before the epoch is the newest snapshot that ends before it plus the records
 * up to it; nothing is written anywhere. */
#include "pipeline/replay.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch/digest.h"
#include "commit/ledger.h"
#include "commit/recover.h"
#include "commit/snapshot.h"
#include "core/clock.h"
#include "pipeline/evolve.h"
#include "pipeline/plan.h"
#include "sink/sinks.h"
#include "source/source.h"
#include "state/image.h"

enum { IMAGE_BYTES_MAX = 1 << 30 };

struct position {
    char *key;
    uint8_t *bytes;
    size_t size;
};

/* Columns of a source that come from outside, as the ledger has them. */
struct columns {
    char *source;
    struct weir_schema *now;    /* of the epoch */
    struct weir_schema *before; /* those it had before these, or NULL */
};

struct output {
    const char *dataset;
    uint64_t rows;
    uint64_t digest;
};

struct replay {
    const struct weir_replay_options *options;
    struct weir_replay_result *result;
    struct weir_script *script;
    struct weir_rule_set *rule_set;
    struct weir_plan *plan;
    struct weir_pool *pool;
    struct weir_graph *graph;
    struct weir_ledger *ledger;
    struct weir_cell *cells[CELLS_MAX];
    int32_t cell_count;
    struct position *positions;
    size_t position_count;
    struct weir_source **sources; /* by source of the plan, opened on first use */
    uint64_t *versions;           /* by source: the columns it was opened with; 0: the plan's */
    struct columns *columns;
    size_t column_count;
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

/* --- the state before ------------------------------------------------------------------------ */

static int apply_image(struct replay *r, struct weir_span table, struct weir_span bytes,
                       struct weir_error *err) {
    for (int32_t i = 0; i < r->cell_count; i++) {
        if (strlen(r->cells[i]->name) == table.size &&
            memcmp(r->cells[i]->name, table.data, table.size) == 0) {
            return r->cells[i]->ops->apply(r->cells[i]->self, bytes.data, bytes.size, err);
        }
    }
    return WEIR_OK;
}

static int keep_position(struct replay *r, const struct weir_keyed_entry *entry) {
    for (size_t i = 0; i < r->position_count; i++) {
        struct position *p = &r->positions[i];
        if (strlen(p->key) == entry->key.size &&
            memcmp(p->key, entry->key.data, entry->key.size) == 0) {
            uint8_t *bytes = realloc(p->bytes, entry->body.size + 1);
            if (bytes == NULL) {
                return WEIR_E_NOMEM;
            }
            memcpy(bytes, entry->body.data, entry->body.size);
            p->bytes = bytes;
            p->size = entry->body.size;
            return WEIR_OK;
        }
    }
    struct position *positions =
        realloc(r->positions, (r->position_count + 1) * sizeof(*positions));
    if (positions == NULL) {
        return WEIR_E_NOMEM;
    }
    r->positions = positions;
    struct position *p = &positions[r->position_count];
    p->key = strndup((const char *)entry->key.data, entry->key.size);
    p->bytes = malloc(entry->body.size + 1);
    if (p->key == NULL || p->bytes == NULL) {
        return WEIR_E_NOMEM;
    }
    memcpy(p->bytes, entry->body.data, entry->body.size);
    p->size = entry->body.size;
    r->position_count++;
    return WEIR_OK;
}

static int keep_columns(struct replay *r, const struct weir_record_view *record,
                        struct weir_error *err) {
    static const char prefix[] = EVOLVE_KEY;
    struct weir_keyed_entry entry;
    struct weir_section_iterator counters =
        weir_section_iterate(record->keyed[WEIR_SECTION_COUNTERS]);
    int rc = WEIR_OK;
    while (rc == WEIR_OK && weir_keyed_next(&counters, &entry)) {
        size_t skip = sizeof(prefix) - 1;
        if (entry.removed || entry.is_int || entry.key.size <= skip ||
            memcmp(entry.key.data, prefix, skip) != 0) {
            continue;
        }
        const char *name = (const char *)entry.key.data + skip;
        size_t length = entry.key.size - skip;
        struct columns *found = NULL;
        for (size_t i = 0; i < r->column_count; i++) {
            bool same = strlen(r->columns[i].source) == length &&
                        memcmp(r->columns[i].source, name, length) == 0;
            found = same ? &r->columns[i] : found;
        }
        if (found == NULL) {
            struct columns *grown = realloc(r->columns, (r->column_count + 1) * sizeof(*grown));
            r->columns = grown != NULL ? grown : r->columns;
            char *copy = grown != NULL ? strndup(name, length) : NULL;
            if (copy == NULL) {
                return weir_error_set(err, WEIR_E_NOMEM, "replay: out of memory");
            }
            found = &r->columns[r->column_count++];
            *found = (struct columns){.source = copy};
        }
        struct weir_schema *schema;
        rc = evolve_parse(entry.body.data, entry.body.size, &schema, err);
        if (rc == WEIR_OK && found->now != NULL && weir_schema_equal(found->now, schema)) {
            weir_schema_unref(schema);
        } else if (rc == WEIR_OK) {
            weir_schema_unref(found->before);
            found->before = found->now;
            found->now = schema;
        }
    }
    return rc;
}

static int apply_record(struct replay *r, const struct weir_record_view *record,
                        struct weir_error *err) {
    struct weir_named_blob blob;
    struct weir_section_iterator images = weir_section_iterate(record->images);
    while (weir_image_next(&images, &blob)) {
        int rc = apply_image(r, blob.name, blob.body, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    struct weir_keyed_entry entry;
    struct weir_section_iterator positions =
        weir_section_iterate(record->keyed[WEIR_SECTION_POSITIONS]);
    while (weir_keyed_next(&positions, &entry)) {
        if (!entry.removed && keep_position(r, &entry) != WEIR_OK) {
            return weir_error_set(err, WEIR_E_NOMEM, "replay: out of memory");
        }
    }
    struct weir_section_iterator counters =
        weir_section_iterate(record->keyed[WEIR_SECTION_COUNTERS]);
    while (weir_keyed_next(&counters, &entry)) {
        if (!entry.removed && entry.key.size == 5 && memcmp(entry.key.data, "graph", 5) == 0) {
            int rc = weir_graph_load(r->graph, entry.body.data, entry.body.size, err);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
    }
    return WEIR_OK;
}

/* Before there is a graph, only what it says of columns. */
static int load_snapshot(struct replay *r, uint64_t *from, struct weir_error *err) {
    char ledger_path[1024];
    char path[1100];
    weir_plan_ledger_path(r->plan, ledger_path, sizeof(ledger_path));
    snprintf(path, sizeof(path), "%s/snapshots", ledger_path);
    struct weir_snapshots_options options = {.path = path, .identity = r->ledger->identity};
    struct weir_snapshots *snapshots;
    struct weir_snapshot *snapshot = NULL;
    uint32_t damaged = 0;
    *from = 1;
    int rc = weir_snapshots_open(&options, &snapshots, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (r->options->epoch > 1) {
        rc = weir_snapshot_load_at(snapshots, r->options->epoch - 1, &snapshot, &damaged, err);
    }
    if (rc == WEIR_OK && snapshot != NULL) {
        struct weir_span table;
        struct weir_span bytes;
        bool end = false;
        *from = weir_snapshot_view_begin(snapshot);
        const struct weir_record_view *state = weir_snapshot_view_state(snapshot);
        rc = r->graph != NULL ? apply_record(r, state, err) : keep_columns(r, state, err);
        while (rc == WEIR_OK && r->graph != NULL) {
            rc = weir_snapshot_next(snapshot, &table, &bytes, &end, err);
            if (rc != WEIR_OK || end) {
                break;
            }
            rc = apply_image(r, table, bytes, err);
        }
    }
    if (snapshot != NULL) {
        weir_snapshot_close(snapshot);
    }
    weir_snapshots_close(snapshots);
    return rc;
}

/* --- the epoch -------------------------------------------------------------------------------- */

static int find_source(struct replay *r, const struct weir_message *message) {
    for (int32_t i = 0; i < r->plan->source_count; i++) {
        if (strlen(r->plan->sources[i].name) == message->subject_size &&
            memcmp(r->plan->sources[i].name, message->subject, message->subject_size) == 0) {
            return i;
        }
    }
    return -1;
}

/* The columns a batch was decoded into; 0: the plan's. */
static struct weir_schema *schema_of(struct replay *r, int32_t s, uint64_t version) {
    const struct weir_plan_source *source = &r->plan->sources[s];
    for (size_t i = 0; version != 0 && i < r->column_count; i++) {
        struct weir_schema *before = r->columns[i].before;
        bool same = before != NULL && strcmp(r->columns[i].source, source->name) == 0;
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
    const struct weir_plan_source *plan = &r->plan->sources[s];
    char *options =
        plan->connector_options != NULL ? json_dumps(plan->connector_options, JSON_COMPACT) : NULL;
    char *decoder_options =
        plan->decoder_options != NULL ? json_dumps(plan->decoder_options, JSON_COMPACT) : NULL;
    char ledger[1024];
    char log_path[1400];
    weir_plan_ledger_path(r->plan, ledger, sizeof(ledger));
    snprintf(log_path, sizeof(log_path), "%s/http/%s", ledger, plan->name);
    struct weir_source_config config = {
        .name = plan->name,
        .log_path = log_path,
        .kind = plan->connector,
        .options_json = options,
        .decoder = plan->decoder,
        .decoder_options_json = decoder_options,
        .schema = schema_of(r, s, version),
        .pool = r->pool,
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
    for (size_t i = 0; rc == WEIR_OK && i < r->position_count; i++) {
        size_t length = strlen(plan->name);
        if (strncmp(r->positions[i].key, plan->name, length) == 0 &&
            r->positions[i].key[length] == '/') {
            long number = strtol(r->positions[i].key + length + 1, NULL, 10);
            if (number >= 0 && number < WEIR_SOURCE_PARTITIONS_MAX) {
                positions[number].bytes = r->positions[i].bytes;
                positions[number].size = (uint32_t)r->positions[i].size;
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
    snprintf(partition, sizeof(partition), "%s/%d", r->plan->sources[s].name, batch->partition);
    int rc = WEIR_OK;
    if (batch->batch->rows > 0) {
        weir_graph_set_partitions(r->graph, weir_source_partitions(r->sources[s]));
        rc = weir_graph_push(r->graph, s, partition, batch->batch, err);
    }
    for (int32_t i = 0; rc == WEIR_OK && batch->rejects != NULL && i < batch->rejects->count; i++) {
        rc = weir_graph_reject_of(r->graph, s, batch->number, batch->rejects, i, err);
    }
    return rc == WEIR_OK ? weir_graph_flush_rejects(r->graph, err) : rc;
}

/* Where a source opened anew, with other columns, goes on. */
static int move_position(struct replay *r, int32_t s, const struct weir_source_batch *batch,
                         struct weir_error *err) {
    char key[256];
    snprintf(key, sizeof(key), "%s/%d", r->plan->sources[s].name, batch->partition);
    struct weir_keyed_entry entry = {
        .key = {(const uint8_t *)key, strlen(key)},
        .body = {batch->position.bytes, batch->position.size},
    };
    return batch->position.size == 0 || keep_position(r, &entry) == WEIR_OK
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
        snprintf(partition, sizeof(partition), "%s/%u", r->plan->sources[s].name,
                 message->partition);
        bool anew = message->hash != 0;
        rc = anew ? weir_source_assign(r->sources[s], (int32_t)message->partition, message->hash,
                                       err)
                  : WEIR_OK;
        return rc == WEIR_OK ? weir_graph_open_partition(r->graph, s, partition, anew, err) : rc;
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
               r->plan->sources[s].name, batch != NULL ? batch->rows : 0, message->rows);
    } else if (batch->hash != message->hash) {
        differ(r, "source %s: %" PRIu64 " rows are not the ones the epoch read",
               r->plan->sources[s].name, message->rows);
    }
    if (batch == NULL) {
        return WEIR_OK;
    }
    rc = evolve_batch(r->pool, &r->plan->sources[s], &batch->batch, err);
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
        weir_graph_held(r->graph, (int64_t)message->rows);
    }
    snprintf(partition, sizeof(partition), "%.*s/%u", (int)message->subject_size, message->subject,
             message->partition);
    return s < 0 ? WEIR_OK : weir_graph_block(r->graph, s, partition, message->rows != 0, err);
}

static int replay_messages(struct replay *r, const struct weir_record_view *record,
                           struct weir_error *err) {
    struct weir_message message;
    struct weir_message verdict;
    struct weir_section_iterator messages = weir_section_iterate(record->schedule);
    int rc = WEIR_OK;
    while (rc == WEIR_OK && weir_message_next(&messages, &message)) {
        weir_graph_set_moment(r->graph, message.clock_us, (int64_t)r->options->epoch);
        weir_script_set_clock(message.clock_us);
        /* Verdicts are recorded after the batch they came in: look ahead for them. */
        weir_graph_expect_none(r->graph);
        struct weir_section_iterator ahead = messages;
        while (weir_message_next(&ahead, &verdict) && verdict.kind == WEIR_MESSAGE_VERDICT) {
            weir_graph_expect_breach(r->graph, (int32_t)verdict.version, (int32_t)verdict.row,
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
            rc = weir_graph_tick(r->graph, &moved, err);
            break;
        case WEIR_MESSAGE_IDLE:
            rc = replay_idle(r, &message, err);
            break;
        case WEIR_MESSAGE_END:
            s = find_source(r, &message);
            snprintf(partition, sizeof(partition), "%.*s/%u", (int)message.subject_size,
                     message.subject, message.partition);
            if (s >= 0) {
                rc = weir_graph_finish(r->graph, s, partition, err);
            }
            break;
        case WEIR_MESSAGE_ADMIN:
            rc = weir_graph_finish_all(r->graph, err);
            break;
        default:
            break; /* verdicts are applied with their batch; rule sets are compared at the start */
        }
        bool fired;
        rc = rc == WEIR_OK ? weir_graph_fire(r->graph, -1, &fired, err) : rc;
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
        struct weir_dataset *dataset = weir_graph_find(r->graph, r->outputs[i].dataset);
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
    for (int32_t i = 0; rc == WEIR_OK && i < r->cell_count; i++) {
        struct weir_cell *cell = r->cells[i];
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

static int open_ledger(struct replay *r, struct weir_error *err) {
    char path[1024];
    weir_plan_ledger_path(r->plan, path, sizeof(path));
    struct weir_ledger_options ledger_options = {.path = path, .read_only = true};
    int rc = weir_ledger_open(&ledger_options, &r->ledger, err);
    uint64_t epoch = r->options->epoch;
    if (rc == WEIR_OK && (epoch < r->ledger->first || epoch > r->ledger->last)) {
        rc = weir_error_set(err, WEIR_E_NOTFOUND,
                            "the ledger holds epochs %" PRIu64 " to %" PRIu64
                            "; `ledger = { keep = … }` says how far back it goes",
                            r->ledger->first, r->ledger->last);
    }
    return rc;
}

/* The columns sources from outside had in the epoch, as far as the ledger goes back. */
static int learn_columns(struct replay *r, struct weir_error *err) {
    struct weir_ledger_cursor *cursor = NULL;
    uint64_t from = 1;
    int rc = load_snapshot(r, &from, err);
    rc = rc == WEIR_OK ? weir_ledger_cursor_open(r->ledger, from, &cursor, err) : rc;
    if (rc == WEIR_E_NOTFOUND) {
        weir_error_wrap(err, "the state before epoch %" PRIu64 " is gone", r->options->epoch);
    }
    bool end = false;
    while (rc == WEIR_OK && !end) {
        struct weir_ledger_frame frame;
        struct weir_record_view record;
        rc = weir_ledger_cursor_next(cursor, &frame, &end, err);
        if (rc != WEIR_OK || end || frame.number > r->options->epoch) {
            break;
        }
        rc = weir_record_parse(frame.payload, frame.size, &record, err);
        rc = rc == WEIR_OK ? keep_columns(r, &record, err) : rc;
    }
    weir_ledger_cursor_close(cursor);
    return rc;
}

static int load_rules(struct replay *r, struct weir_error *err) {
    struct weir_buffer report;
    weir_buffer_init(&report, 1 << 20);
    weir_plan_destroy(r->plan);
    weir_rule_set_unref(r->rule_set);
    r->plan = NULL;
    r->rule_set = NULL;
    int rc = weir_script_load(r->script, r->options->path, r->options->settings,
                              r->options->setting_count, &r->rule_set, &report, NULL, err);
    weir_buffer_fini(&report);
    return rc == WEIR_OK ? weir_plan_parse(weir_rule_set_plan(r->rule_set, NULL), &r->plan, err)
                         : rc;
}

/* The rules as they were: with the columns of then. */
static int load_rules_of_then(struct replay *r, struct weir_error *err) {
    bool changed = false;
    int rc = WEIR_OK;
    for (size_t i = 0; rc == WEIR_OK && i < r->column_count; i++) {
        for (int32_t s = 0; s < r->plan->source_count; s++) {
            changed |= strcmp(r->plan->sources[s].name, r->columns[i].source) == 0 &&
                       !weir_schema_equal(r->plan->sources[s].schema, r->columns[i].now);
        }
        rc = weir_script_set_columns(r->script, r->columns[i].source, r->columns[i].now, err);
    }
    return rc == WEIR_OK && changed ? load_rules(r, err) : rc;
}

static int prepare(struct replay *r, struct weir_error *err) {
    struct weir_script_options script_options = {0};
    int rc = weir_script_create(&script_options, &r->script, err);
    rc = rc == WEIR_OK ? load_rules(r, err) : rc;
    rc = rc == WEIR_OK ? open_ledger(r, err) : rc;
    rc = rc == WEIR_OK ? learn_columns(r, err) : rc;
    rc = rc == WEIR_OK ? load_rules_of_then(r, err) : rc;
    if (rc != WEIR_OK) {
        return rc;
    }
    r->versions = calloc((size_t)r->plan->source_count + 1, sizeof(*r->versions));
    if (r->versions == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "replay: out of memory");
    }
    r->pool = weir_pool_create((size_t)r->plan->data_bytes);
    r->sources = calloc((size_t)r->plan->source_count + 1, sizeof(struct weir_source *));
    if (r->pool == NULL || r->sources == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "replay: out of memory");
    }
    struct weir_graph_options options = {
        .plan = r->plan,
        .rule_set = r->rule_set,
        .pool = r->pool,
        .callbacks = {.context = r, .output = output, .breach = breach},
        .past_failed = true,
        .answers = WEIR_ANSWERS_RECORDED,
    };
    rc = weir_graph_create(&options, &r->graph, err);
    if (rc == WEIR_OK) {
        r->cell_count = weir_graph_cells(r->graph, r->cells, CELLS_MAX);
    }
    return rc;
}

/* What was answered from outside in the epoch is in its images: nobody is asked again. */
static int record_answers(struct replay *r, const struct weir_record_view *record,
                          struct weir_error *err) {
    struct weir_named_blob image;
    struct weir_section_iterator images = weir_section_iterate(record->images);
    int rc = WEIR_OK;
    while (rc == WEIR_OK && weir_image_next(&images, &image)) {
        rc = weir_graph_record_answers(r->graph, image.name, image.body, err);
    }
    return rc;
}

static int run(struct replay *r, struct weir_error *err) {
    uint64_t epoch = r->options->epoch;
    uint64_t from = 1;
    int rc = load_snapshot(r, &from, err);
    struct weir_ledger_cursor *cursor = NULL;
    if (rc == WEIR_OK) {
        rc = weir_ledger_cursor_open(r->ledger, from, &cursor, err);
        if (rc == WEIR_E_NOTFOUND) {
            weir_error_wrap(err, "the state before epoch %" PRIu64 " is gone", epoch);
        }
    }
    while (rc == WEIR_OK) {
        struct weir_ledger_frame frame;
        struct weir_record_view record;
        bool end = false;
        rc = weir_ledger_cursor_next(cursor, &frame, &end, err);
        if (rc != WEIR_OK || end) {
            break;
        }
        rc = weir_record_parse(frame.payload, frame.size, &record, err);
        if (rc == WEIR_OK && frame.number < epoch) {
            rc = apply_record(r, &record, err);
            continue;
        }
        const char *hash = weir_rule_set_hash(r->rule_set);
        r->result->same_rules = record.rule_set.size == strlen(hash) &&
                                memcmp(record.rule_set.data, hash, record.rule_set.size) == 0;
        /* Other rules are said once; they are no difference of every rejected row. */
        weir_graph_set_rule_set_hash(r->graph, (const char *)record.rule_set.data,
                                     record.rule_set.size);
        if (rc == WEIR_OK) {
            rc = weir_graph_restore(r->graph, err);
        }
        if (rc == WEIR_OK) {
            rc = record_answers(r, &record, err);
        }
        if (rc == WEIR_OK) {
            rc = replay_messages(r, &record, err);
        }
        if (rc == WEIR_OK) {
            compare_outputs(r, &record);
            rc = compare_state(r, &record, err);
        }
        break;
    }
    weir_ledger_cursor_close(cursor);
    return rc;
}

int weir_pipeline_replay(const struct weir_replay_options *options,
                         struct weir_replay_result *result, struct weir_error *err) {
    struct replay r = {.options = options, .result = result};
    int rc = prepare(&r, err);
    if (rc == WEIR_OK) {
        rc = run(&r, err);
    }
    for (int32_t s = 0; r.sources != NULL && s < r.plan->source_count; s++) {
        weir_source_destroy(r.sources[s]);
    }
    free(r.sources);
    for (size_t i = 0; i < r.position_count; i++) {
        free(r.positions[i].key);
        free(r.positions[i].bytes);
    }
    free(r.positions);
    free(r.outputs);
    free(r.versions);
    for (size_t i = 0; i < r.column_count; i++) {
        free(r.columns[i].source);
        weir_schema_unref(r.columns[i].now);
        weir_schema_unref(r.columns[i].before);
    }
    free(r.columns);
    weir_graph_destroy(r.graph);
    if (r.ledger != NULL) {
        weir_ledger_close(r.ledger);
    }
    weir_plan_destroy(r.plan);
    weir_rule_set_unref(r.rule_set);
    weir_script_destroy(r.script);
    weir_pool_destroy(r.pool);
    return rc;
}
