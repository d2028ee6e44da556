/* One asynchronous lookup: what an HTTP service (asking_service.c) says of a key. What it said is
 * state (answers.c). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/http_many.h"
#include "decode/decoder.h"
#include "operator/key.h"
#include "operator/show.h"
#include "pipeline/graph/asking.h"
#include "pipeline/graph/asking_service.h"
#include "pipeline/graph/node.h"
#include "state/image.h"

enum { BLOCK_BYTES_MAX = 512 << 20, AHEAD = 8 };

struct asking {
    struct weir_node *node;
    const struct weir_plan_lookup *plan;
    char *name; /* "<stream>/<lookup>", in messages */
    int32_t batch;
    int64_t cache_us;
    int64_t cache_size;
    struct weir_span nothing;  /* JSON: what is found in place of nothing; data NULL: nothing */
    struct weir_span fallback; /* in place of a failure */
    const int32_t *on;         /* the lookup's */
    const struct weir_key *key;
    struct weir_keys keys;
    struct answers *kept;
    struct answers *given;   /* in replay and specs: the answers there are */
    struct service *service; /* from the first time it is asked */
    struct weir_decoder *decoder;
    struct weir_schema *full;
    struct weir_batch_builder builder;
    bool building;
    struct weir_buffer block;
    struct weir_frame frames[ROWS_MAX];
    int32_t place[ROWS_MAX]; /* by position: the decoded row, or -1 */
    struct weir_asked figures;
    int64_t told;
};

/* --- life --------------------------------------------------------------------------------- */

void asking_destroy(struct asking *a) {
    if (a == NULL) {
        return;
    }
    service_close(a->service);
    answers_destroy(a->kept);
    answers_destroy(a->given);
    weir_keys_fini(&a->keys);
    weir_decoder_destroy(a->decoder);
    if (a->building) {
        weir_batch_builder_fini(&a->builder);
    }
    weir_schema_unref(a->full);
    weir_buffer_fini(&a->block);
    free(a->name);
    free(a);
}

static int make_decoder(struct asking *a, struct weir_error *err) {
    const struct weir_field *row = &a->plan->found->fields[0];
    struct weir_schema *user = weir_schema_create();
    int rc = user != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (int32_t f = 0; rc == WEIR_OK && f < row->child_count; f++) {
        rc = weir_schema_add(user, &row->children[f]);
    }
    if (rc == WEIR_OK) {
        rc = weir_decoder_create(&a->decoder, "json", NULL, user, err);
    }
    if (rc == WEIR_OK && (a->full = weir_decode_full_schema(user)) == NULL) {
        rc = WEIR_E_NOMEM;
    }
    if (rc == WEIR_OK) {
        rc = weir_batch_builder_init(&a->builder, a->node->graph->pool, a->full, ROWS_MAX,
                                     BLOCK_BYTES_MAX, err);
        a->building = rc == WEIR_OK;
    }
    weir_schema_unref(user);
    return rc;
}

/* Whether a text decodes into the columns; *why (512 bytes) otherwise. */
static int fits(struct asking *a, const char *text, size_t size, bool *good, char *why) {
    struct weir_reject_batch *rejects = NULL;
    struct weir_frame frame = {.length = (uint32_t)size};
    int32_t consumed = 0;
    weir_buffer_clear(&a->block);
    int rc = weir_buffer_append(&a->block, text, size);
    rc = rc == WEIR_OK ? weir_buffer_append(&a->block, "\n", 1) : rc;
    rc = rc == WEIR_OK ? weir_buffer_reserve(&a->block, WEIR_DECODE_PADDING) : rc;
    rc = rc == WEIR_OK ? weir_batch_builder_begin_rows(&a->builder, 1) : rc;
    if (rc == WEIR_OK) {
        rc = weir_decoder_decode(a->decoder, a->block.data, &frame, 1, &a->builder, &rejects,
                                 &consumed);
        *good = a->builder.rows == 1;
        if (!*good && rejects != NULL && rejects->count > 0) {
            const char *field = weir_reject_field(rejects, 0);
            snprintf(why, 512, "the answer does not fit: %s%s%s", field,
                     field[0] != '\0' ? ": " : "", weir_reject_reason(rejects, 0));
        } else if (!*good) {
            snprintf(why, 512, "the answer is empty");
        }
        weir_batch_unref(weir_batch_builder_take(&a->builder));
        weir_reject_batch_destroy(rejects);
    }
    return rc;
}

static int check_given(struct asking *a, struct weir_span text, const char *what,
                       struct weir_error *err) {
    char why[512];
    bool good = true;
    int rc = text.data != NULL ? fits(a, (const char *)text.data, text.size, &good, why) : WEIR_OK;
    return good || rc != WEIR_OK
               ? rc
               : weir_error_set(err, WEIR_E_CONFIG, "%s of %s: %s", what, a->name, why);
}

static struct weir_span text_option(const struct weir_plan_lookup *plan, const char *name) {
    const char *text = json_string_value(json_object_get(plan->http, name));
    return (struct weir_span){(const uint8_t *)text, text != NULL ? strlen(text) : 0};
}

static const char *url_of(const struct asking *a) {
    return json_string_value(json_object_get(a->plan->http, "url"));
}

static int make_answers(struct asking *a, struct answers **out, struct weir_error *err) {
    return answers_create(a->node->name, a->plan->name, weir_key_shape(a->key),
                          (size_t)a->node->graph->plan->state_bytes, out, err);
}

int asking_create(struct weir_node *node, const struct weir_plan_lookup *plan, const int32_t *on,
                  const struct weir_key *key, struct asking **out, struct weir_error *err) {
    struct asking *a = *out = calloc(1, sizeof(*a));
    if (a == NULL || (a->name = weir_cell_name(node->name, plan->name)) == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    a->node = node;
    a->plan = plan;
    a->on = on;
    a->key = key;
    weir_keys_init(&a->keys);
    weir_buffer_init(&a->block, BLOCK_BYTES_MAX);
    a->nothing = text_option(plan, "nothing");
    a->fallback = text_option(plan, "fallback");
    a->batch = (int32_t)service_number(plan, "batch", 1);
    a->cache_us = service_number(plan, "cache_us", 0);
    a->cache_size = service_number(plan, "cache_size", 100000);
    if (url_of(a) == NULL) {
        return weir_error_set(err, WEIR_E_BUG, "asks nobody");
    }
    int rc = make_answers(a, &a->kept, err);
    rc = rc == WEIR_OK ? make_decoder(a, err) : rc;
    rc = rc == WEIR_OK ? check_given(a, a->nothing, "default", err) : rc;
    return rc == WEIR_OK ? check_given(a, a->fallback, "fallback", err) : rc;
}

struct weir_cell *asking_cell(struct asking *a) {
    return weir_table_cell(a->kept->table);
}

static int show_answer(void *owner, const struct weir_show_entry *entry, struct weir_shown *out,
                       struct weir_error *err) {
    const struct asking *a = owner;
    struct answer answer;
    if (!answers_read(entry->value, entry->value_bytes, &answer)) {
        return weir_error_set(err, WEIR_E_CORRUPT, "an answer does not parse");
    }
    bool json = answer.status == ANSWER_FOUND;
    int rc = weir_shown_key(out, a->key, entry->key, entry->key_bytes, &out->key, err);
    if (rc == WEIR_OK && json) {
        rc = weir_shown_json(&out->value, "answer", answer.text, answer.size);
    } else if (rc == WEIR_OK && answer.status == ANSWER_FAILED) {
        rc = weir_shown_text(&out->value, "failed", answer.text, answer.size);
    } else if (rc == WEIR_OK) {
        rc = weir_shown_json(&out->value, "answer", "null", 4);
    }
    return rc == WEIR_OK ? weir_shown_time(&out->value, "_until", answer.until_us) : rc;
}

void asking_show(struct asking *a, struct weir_show *show) {
    *show = (struct weir_show){asking_cell(a), "answers from outside", a, show_answer, false};
}

void asking_take_state(struct asking *to, struct asking *from) {
    if (strcmp(weir_table_name(to->kept->table), weir_table_name(from->kept->table)) == 0 &&
        strcmp(url_of(to), url_of(from)) == 0) { /* else it is another service, or another key */
        struct answers *answers = to->kept;
        to->kept = from->kept;
        from->kept = answers;
    }
}

/* --- answers ------------------------------------------------------------------------------ */

static int settle(struct asking *a, struct answer *answer, enum answer_status status,
                  const char *text, size_t size, struct weir_error *err) {
    char why[512];
    bool good = true;
    int rc = status == ANSWER_FOUND ? fits(a, text, size, &good, why) : WEIR_OK;
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: out of memory", a->name);
    }
    if (!good) {
        status = ANSWER_FAILED;
        text = why;
        size = strlen(why);
    }
    a->figures.failed += status == ANSWER_FAILED;
    int64_t holds_us = status == ANSWER_FAILED ? 0 : a->cache_us;
    return answers_set(a->kept, answer, status, a->node->graph->clock_us + holds_us,
                       status == ANSWER_NOTHING ? "" : text, status == ANSWER_NOTHING ? 0 : size,
                       err);
}

static int told(void *context, uint32_t slot, enum answer_status status, const char *text,
                size_t size, struct weir_error *err) {
    struct asking *a = context;
    struct weir_table *table = a->kept->table;
    a->told++;
    return settle(a, weir_slot_value(table, weir_table_slot(table, slot)), status, text, size, err);
}

int asking_take(struct asking *a, struct weir_error *err) {
    return a->service != NULL ? service_take(a->service, told, a, err) : WEIR_OK;
}

bool asking_waits(const struct asking *a) {
    return a->service != NULL && service_waits(a->service);
}

/* --- asking ------------------------------------------------------------------------------- */

/* In replay and specs: the answer that is there. */
static int take_given(struct asking *a, const struct weir_batch *batch, int32_t row,
                      const uint8_t *key, size_t key_size, struct answer *entry,
                      struct weir_error *err) {
    char why[600];
    struct weir_slot *slot = NULL;
    bool recorded = a->node->graph->answers == WEIR_ANSWERS_RECORDED;
    char *json = a->given == NULL || !recorded ? service_key(a->plan, a->on, batch, row) : NULL;
    if (a->given != NULL && recorded) {
        slot = weir_table_find(a->given->table, weir_table_hash(a->given->table, key, key_size),
                               key, key_size);
    } else if (a->given != NULL) {
        size_t size = json != NULL ? strlen(json) : 0;
        slot = weir_table_find(a->given->table, weir_table_hash(a->given->table, json, size), json,
                               size);
    }
    if (slot != NULL) {
        const struct answer *given = weir_slot_value(a->given->table, slot);
        free(json);
        if (recorded) {
            return answers_set(a->kept, entry, given->status, given->until_us, given->text,
                               given->size, err);
        }
        return settle(a, entry, given->status, (const char *)given->text, given->size, err);
    }
    json = json != NULL ? json : service_key(a->plan, a->on, batch, row);
    snprintf(why, sizeof(why), "no answer is given for %s", json != NULL ? json : "it");
    free(json);
    return settle(a, entry, ANSWER_FAILED, why, strlen(why), err);
}

bool asking_pending(struct asking *a, uint32_t slot) {
    struct weir_table *table = a->kept->table;
    const struct answer *answer = weir_slot_value(table, weir_table_slot(table, slot));
    return answer->status == ANSWER_PENDING;
}

int64_t asking_told(const struct asking *a) {
    return a->told;
}

bool asking_unordered(const struct asking *a) {
    return json_is_false(json_object_get(a->plan->http, "ordered"));
}

/* The slot of a key, which is asked for where it holds no answer: *ask. NULL with *err set. */
static struct weir_slot *slot_of(struct asking *a, int32_t i, bool *ask, struct weir_error *err) {
    bool created = false;
    struct weir_slot *slot =
        weir_table_get(a->kept->table, a->keys.hashes[i], a->keys.bytes + a->keys.offsets[i],
                       a->keys.offsets[i + 1] - a->keys.offsets[i], &created, err);
    *ask = slot != NULL && (created || !answers_hold(a->kept, slot, a->node->graph->clock_us));
    if (*ask && !created && weir_table_touch(a->kept->table, slot) != WEIR_OK) {
        (void)weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", a->name);
        return NULL;
    }
    if (*ask) {
        ((struct answer *)weir_slot_value(a->kept->table, slot))->status = ANSWER_PENDING;
    }
    return slot;
}

int asking_begin(struct asking *a, const struct weir_batch *batch, const int32_t *sel,
                 int32_t count, uint32_t *asked, struct weir_error *err) {
    int32_t rows[ROWS_MAX];
    uint32_t slots[ROWS_MAX];
    int32_t group = 0;
    bool live = a->node->graph->answers == WEIR_ANSWERS_ASKED;
    int rc = live && a->service == NULL
                 ? service_open(a->name, a->plan, a->on, a->node->graph->answers_signal,
                                &a->service, err)
                 : WEIR_OK;
    if (rc != WEIR_OK) {
        return rc;
    }
    /* Slots that are asked for stay where they are, and so do answers of rows that wait. */
    if (!asking_waits(a) && a->node->graph->parked == 0) {
        rc = answers_make_room(a->kept, a->node->graph->clock_us, a->cache_size);
    }
    rc = rc == WEIR_OK ? weir_key_encode(a->key, batch, sel, count, 0, &a->keys) : rc;
    if (rc == WEIR_OK) {
        weir_keys_hash(&a->keys, weir_table_view(a->kept->table)->seed);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        const uint8_t *key = a->keys.bytes + a->keys.offsets[i];
        size_t size = a->keys.offsets[i + 1] - a->keys.offsets[i];
        bool ask;
        if (a->keys.any_null[i]) {
            continue;
        }
        struct weir_slot *slot = slot_of(a, i, &ask, err);
        if (slot == NULL) {
            return err != NULL ? err->code : WEIR_E_NOMEM;
        }
        if (asked != NULL) {
            asked[i] = slot->number;
        }
        if (!ask) {
            continue;
        }
        if (!live) {
            rc =
                take_given(a, batch, sel[i], key, size, weir_slot_value(a->kept->table, slot), err);
            continue;
        }
        a->figures.keys++;
        rows[group] = sel[i];
        slots[group++] = slot->number;
        if (rc == WEIR_OK && group == a->batch) {
            rc = service_ask(a->service, batch, rows, slots, group);
            group = 0;
        }
    }
    rc = rc == WEIR_OK && group > 0 ? service_ask(a->service, batch, rows, slots, group) : rc;
    return rc == WEIR_OK || (err != NULL && err->code != WEIR_OK)
               ? rc
               : weir_error_set(err, rc, "%s: out of memory", a->name);
}

/* --- rows --------------------------------------------------------------------------------- */

static const struct answer *entry_of(struct asking *a, int32_t i) {
    struct weir_slot *slot =
        a->keys.any_null[i]
            ? NULL
            : weir_table_find(a->kept->table, a->keys.hashes[i], a->keys.bytes + a->keys.offsets[i],
                              a->keys.offsets[i + 1] - a->keys.offsets[i]);
    return slot != NULL ? weir_slot_value(a->kept->table, slot) : NULL;
}

/* What is decoded for each row, into block and frames. */
static int gather(struct asking *a, int32_t count, struct asking_row *rows, int32_t *frames) {
    int rc = WEIR_OK;
    weir_buffer_clear(&a->block);
    *frames = 0;
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        const struct answer *entry;
        if (i + AHEAD < count) {
            weir_table_prefetch_slot(a->kept->table, a->keys.hashes[i + AHEAD]);
        }
        entry = entry_of(a, i);
        struct weir_span text = a->nothing;
        rows[i] = (struct asking_row){.outcome = ASKING_NOTHING};
        if (entry != NULL && entry->status == ANSWER_FOUND) {
            rows[i].outcome = ASKING_FOUND;
            text = (struct weir_span){entry->text, entry->size};
        } else if (entry != NULL && entry->status != ANSWER_NOTHING) {
            rows[i].outcome = a->fallback.data != NULL ? ASKING_FOUND : ASKING_FAILED;
            rows[i].why = (const char *)entry->text;
            rows[i].why_size = (int)entry->size;
            text = a->fallback;
        }
        a->place[i] = text.data != NULL ? *frames : -1;
        if (text.data != NULL) {
            a->frames[(*frames)++] = (struct weir_frame){.start = (uint32_t)a->block.size,
                                                         .length = (uint32_t)text.size};
            rc = weir_buffer_append(&a->block, text.data, text.size);
            rc = rc == WEIR_OK ? weir_buffer_append(&a->block, "\n", 1) : rc;
        }
    }
    return rc == WEIR_OK ? weir_buffer_reserve(&a->block, WEIR_DECODE_PADDING) : rc;
}

static int put(const struct asking *a, const struct weir_batch *decoded, int32_t row,
               struct weir_column_builder *to) {
    int32_t fields = a->plan->found->fields[0].child_count;
    int rc = WEIR_OK;
    for (int32_t f = 0; rc == WEIR_OK && f < fields; f++) {
        rc = weir_builder_copy(&to->children[f], &decoded->columns[f], row);
    }
    return rc == WEIR_OK ? weir_builder_struct(to) : rc;
}

int asking_find(struct asking *a, const struct weir_batch *batch, const int32_t *sel, int32_t count,
                struct weir_column_builder *to, struct asking_row *rows) {
    struct weir_reject_batch *rejects = NULL;
    int32_t frames = 0;
    int32_t consumed = 0;
    int32_t row = 0;
    int rc = weir_key_encode(a->key, batch, sel, count, 0, &a->keys);
    if (rc == WEIR_OK) {
        weir_keys_hash(&a->keys, weir_table_view(a->kept->table)->seed);
        rc = gather(a, count, rows, &frames);
    }
    rc = rc == WEIR_OK ? weir_batch_builder_begin(&a->builder) : rc;
    if (rc == WEIR_OK && frames > 0) {
        rc = weir_decoder_decode(a->decoder, a->block.data, a->frames, frames, &a->builder,
                                 &rejects, &consumed);
    }
    weir_reject_batch_destroy(rejects);
    struct weir_batch *decoded = a->building ? weir_batch_builder_take(&a->builder) : NULL;
    if (rc == WEIR_OK && (decoded == NULL || decoded->rows != frames)) {
        rc = WEIR_E_LIMIT; /* each was decoded before: what is missing is room */
    }
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        rc = weir_builder_nulls(to, sel[i] - row);
        row = sel[i] + 1;
        if (rc == WEIR_OK) {
            rc = a->place[i] >= 0 ? put(a, decoded, a->place[i], to) : weir_builder_null(to);
        }
    }
    rc = rc == WEIR_OK ? weir_builder_nulls(to, batch->rows - row) : rc;
    weir_batch_unref(decoded);
    return rc;
}

/* --- answers that are there ---------------------------------------------------------------- */

int asking_record(struct asking *a, struct weir_span cell, struct weir_span bytes,
                  struct weir_error *err) {
    const char *name = weir_table_cell(a->kept->table)->name;
    if (strlen(name) != cell.size || memcmp(name, cell.data, cell.size) != 0) {
        return WEIR_OK;
    }
    int rc = a->given == NULL ? make_answers(a, &a->given, err) : WEIR_OK;
    return rc == WEIR_OK ? weir_table_apply(a->given->table, bytes.data, bytes.size, err) : rc;
}

int asking_give(struct asking *a, const char *key, const char *answer, bool fails,
                struct weir_error *err) {
    json_error_t error;
    json_t *parsed = json_loads(key, JSON_DISABLE_EOF_CHECK, &error);
    char *canonical =
        json_is_object(parsed) ? json_dumps(parsed, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(parsed);
    if (canonical == NULL) {
        return weir_error_set(err, WEIR_E_CONFIG, "%s: a key is { column = value }", a->name);
    }
    int rc = a->given == NULL ? make_answers(a, &a->given, err) : WEIR_OK;
    bool created;
    size_t size = strlen(canonical);
    struct weir_slot *slot =
        rc == WEIR_OK
            ? weir_table_get(a->given->table, weir_table_hash(a->given->table, canonical, size),
                             canonical, size, &created, err)
            : NULL;
    free(canonical);
    if (slot == NULL) {
        return rc != WEIR_OK ? rc : WEIR_E_NOMEM;
    }
    uint8_t status = fails                                     ? ANSWER_FAILED
                     : service_is_null(answer, strlen(answer)) ? ANSWER_NOTHING
                                                               : ANSWER_FOUND;
    return answers_set(a->given, weir_slot_value(a->given->table, slot), status, 0, answer,
                       strlen(answer), err);
}

void asking_figures(struct asking *a, struct weir_asked *out) {
    struct weir_http_many_figures http = {0};
    if (a->service != NULL) {
        service_figures(a->service, &http);
    }
    *out = a->figures;
    out->name = a->name;
    out->requests = http.asked;
    out->retries = http.retries;
    out->in_flight = http.in_flight;
    out->open = http.open;
    out->waiting = waiting_rows(a->node);
    out->cached = (int64_t)weir_table_keys(a->kept->table);
}
