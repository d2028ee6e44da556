/* One asynchronous lookup: what an HTTP service says of a key. Answers are state, by key: the JSON
 * text as it came, until when it holds, in the images of the epoch in which it came. So what is
 * committed is never asked twice, and a replay takes the answers from the record.
 *
 * An answer holds for `cache` of the recorded clock, and in any case to the end of the epoch it
 * came in; which answers go when there are too many is by their age. All of that is a function of
 * the state alone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/http.h"
#include "core/http_many.h"
#include "core/option.h"
#include "decode/decoder.h"
#include "operator/key.h"
#include "pipeline/asking.h"
#include "pipeline/node.h"
#include "state/image.h"
#include "state/table.h"

enum { ON_MAX = 16, ANSWER_BYTES_MAX = 16 << 20, BLOCK_BYTES_MAX = 512 << 20, HEADERS_MAX = 32 };

enum { PENDING = 0, FOUND = 'f', NOTHING = 'n', FAILED = 'e' };

struct entry {
    uint8_t *text; /* of the table's heap; of FAILED: why */
    size_t size;
    int64_t until_us;
    uint8_t status;
};
enum { HEAD_BYTES = 9 };

struct answers { /* stays where it is when a reload hands it on: the table's codec points to it */
    struct weir_table *table;
};

struct request { /* under way: the slots it asks for */
    uint64_t id;
    uint32_t *slots;
    int32_t count;
};

struct asking {
    struct weir_node *node;
    const struct weir_plan_lookup *plan;
    char *name; /* "<stream>/<lookup>", in messages */
    const char *url;
    int32_t batch;
    int64_t cache_us;
    int64_t cache_size;
    const char *nothing;  /* JSON: what is found in place of nothing, or NULL */
    const char *fallback; /* in place of a failure */
    int32_t on[ON_MAX];
    struct weir_key *key;
    struct weir_keys keys;
    struct answers *kept;
    struct answers *given; /* in replay and specs: the answers there are */
    struct weir_http_many *http;
    struct request *requests;
    int32_t request_count;
    int32_t request_capacity;
    uint64_t next_id;
    int32_t outstanding; /* requests */
    struct weir_decoder *decoder;
    struct weir_schema *full;
    struct weir_batch_builder builder;
    bool building;
    struct weir_buffer block;
    struct weir_frame frames[ROWS_MAX];
    int32_t place[ROWS_MAX]; /* by position: the decoded row, or -1 */
    struct weir_asked figures;
};

/* --- state -------------------------------------------------------------------------------- */

static int entry_encode(void *context, const void *value, struct weir_buffer *out) {
    const struct entry *entry = value;
    uint8_t head[HEAD_BYTES] = {entry->status};
    (void)context;
    memcpy(head + 1, &entry->until_us, sizeof(entry->until_us));
    int rc = weir_buffer_append(out, head, sizeof(head));
    return rc == WEIR_OK ? weir_buffer_append(out, entry->text, entry->size) : rc;
}

static void entry_clear(struct weir_table *table, struct entry *entry) {
    if (entry->text != NULL) {
        weir_heap_give(weir_table_heap(table), entry->text, entry->size);
    }
    entry->text = NULL;
    entry->size = 0;
}

static int entry_set(struct weir_table *table, struct entry *entry, uint8_t status,
                     int64_t until_us, const void *text, size_t size, struct weir_error *err) {
    uint8_t *own = NULL;
    int rc = weir_table_check_room(table, size, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (size > 0 && (own = weir_heap_take(weir_table_heap(table), size)) == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", weir_table_name(table));
    }
    if (size > 0) {
        memcpy(own, text, size);
    }
    entry_clear(table, entry);
    *entry = (struct entry){own, size, until_us, status};
    return WEIR_OK;
}

static int entry_decode(void *context, void *value, const uint8_t *bytes, size_t length,
                        struct weir_error *err) {
    struct answers *answers = context;
    int64_t until_us;
    if (length < HEAD_BYTES) {
        return weir_error_set(err, WEIR_E_CORRUPT, "an answer does not parse");
    }
    memcpy(&until_us, bytes + 1, sizeof(until_us));
    return entry_set(answers->table, value, bytes[0], until_us, bytes + HEAD_BYTES,
                     length - HEAD_BYTES, err);
}

static void entry_fini(void *context, void *value) {
    struct answers *answers = context;
    entry_clear(answers->table, value);
}

static const struct weir_table_codec codec = {entry_encode, entry_decode, entry_fini};

static void answers_destroy(struct answers *answers) {
    if (answers != NULL) {
        weir_table_destroy(answers->table);
        free(answers);
    }
}

/* --- life --------------------------------------------------------------------------------- */

void asking_destroy(struct asking *a) {
    if (a == NULL) {
        return;
    }
    weir_http_many_destroy(a->http);
    for (int32_t i = 0; i < a->request_count; i++) {
        free(a->requests[i].slots);
    }
    free(a->requests);
    answers_destroy(a->kept);
    answers_destroy(a->given);
    weir_key_destroy(a->key);
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

static int64_t number(const struct asking *a, const char *name, int64_t otherwise) {
    const json_t *value = json_object_get(a->plan->http, name);
    return json_is_number(value) ? (int64_t)json_number_value(value) : otherwise;
}

static int make_table(struct asking *a, struct answers **out, struct weir_error *err) {
    char cell[300];
    uint64_t shape = weir_key_shape(a->key);
    struct answers *answers = *out = calloc(1, sizeof(*answers));
    if (answers == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    snprintf(cell, sizeof(cell), "asked/%.200s/%016llx", a->plan->name, (unsigned long long)shape);
    struct weir_table_config config = {
        .declaration = a->node->name,
        .cell = cell, /* another key is another cell: answers are only a cache */
        .shape = shape,
        .value_bytes = sizeof(struct entry),
        .max_bytes = (size_t)a->node->graph->plan->state_bytes,
        .option = "memory.state",
        .codec = &codec,
        .codec_context = answers,
    };
    answers->table = weir_table_create(&config, err);
    return answers->table != NULL ? WEIR_OK : (err != NULL ? err->code : WEIR_E_NOMEM);
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

static int check_given(struct asking *a, const char *text, const char *what,
                       struct weir_error *err) {
    char why[512];
    bool good = true;
    int rc = text != NULL ? fits(a, text, strlen(text), &good, why) : WEIR_OK;
    return good || rc != WEIR_OK
               ? rc
               : weir_error_set(err, WEIR_E_CONFIG, "%s of %s: %s", what, a->name, why);
}

int asking_create(struct weir_node *node, const struct weir_plan_lookup *plan, struct asking **out,
                  struct weir_error *err) {
    struct asking *a = *out = calloc(1, sizeof(*a));
    if (a == NULL || (a->name = weir_cell_name(node->name, plan->name)) == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    a->node = node;
    a->plan = plan;
    weir_keys_init(&a->keys);
    weir_buffer_init(&a->block, BLOCK_BYTES_MAX);
    a->url = json_string_value(json_object_get(plan->http, "url"));
    a->nothing = json_string_value(json_object_get(plan->http, "nothing"));
    a->fallback = json_string_value(json_object_get(plan->http, "fallback"));
    a->batch = (int32_t)number(a, "batch", 1);
    a->cache_us = number(a, "cache_us", 0);
    a->cache_size = number(a, "cache_size", 100000);
    for (int32_t i = 0; i < plan->on_count; i++) {
        a->on[i < ON_MAX ? i : 0] = weir_schema_find(node->input, plan->on[i]);
        if (i >= ON_MAX || a->on[i] < 0) {
            return weir_error_set(err, WEIR_E_BUG, "asks by '%s': no such column", plan->on[i]);
        }
    }
    a->key = weir_key_create(node->input, a->on, plan->on_count, err);
    if (a->key == NULL || a->url == NULL) {
        return err != NULL && err->code != WEIR_OK ? err->code
                                                   : weir_error_set(err, WEIR_E_BUG, "asks nobody");
    }
    int rc = make_table(a, &a->kept, err);
    rc = rc == WEIR_OK ? make_decoder(a, err) : rc;
    rc = rc == WEIR_OK ? check_given(a, a->nothing, "default", err) : rc;
    return rc == WEIR_OK ? check_given(a, a->fallback, "fallback", err) : rc;
}

struct weir_cell *asking_cell(struct asking *a) {
    return weir_table_cell(a->kept->table);
}

void asking_take_state(struct asking *to, struct asking *from) {
    if (strcmp(weir_table_name(to->kept->table), weir_table_name(from->kept->table)) == 0 &&
        strcmp(to->url, from->url) == 0) { /* else it is another service, or another key */
        struct answers *answers = to->kept;
        to->kept = from->kept;
        from->kept = answers;
    }
}

/* --- the service -------------------------------------------------------------------------- */

static int secret_header(const json_t *reference, const char *prefix, char *room, size_t size,
                         struct weir_error *err) {
    char *secret = NULL;
    int rc = weir_secret_resolve(reference, &secret, err);
    if (rc == WEIR_OK && (size_t)snprintf(room, size, "%s%s", prefix, secret) >= size) {
        rc = weir_error_set(err, WEIR_E_CONFIG, "a secret of more than %zu bytes", size);
    }
    weir_secret_free(secret);
    return rc;
}

static int open_service(struct asking *a, struct weir_error *err) {
    char lines[HEADERS_MAX][2048];
    const char *headers[HEADERS_MAX + 1] = {NULL};
    int32_t count = 0;
    int rc = WEIR_OK;
    const json_t *token = json_object_get(a->plan->http, "token");
    if (json_is_object(token)) {
        rc = secret_header(token, "Authorization: Bearer ", lines[count], sizeof(lines[0]), err);
        headers[count] = lines[count];
        count++;
    }
    const char *name;
    json_t *value;
    json_t *more = json_object_get(a->plan->http, "headers");
    json_object_foreach(more, name, value) {
        if (count < HEADERS_MAX) {
            snprintf(lines[count], sizeof(lines[0]), "%s: %s", name, json_string_value(value));
            headers[count] = lines[count];
            count++;
        }
    }
    if (rc == WEIR_OK) {
        struct weir_http_many_options options = {
            .timeout_ms = number(a, "timeout_us", 5000000) / 1000,
            .attempts = (int32_t)number(a, "retries", 3) + 1,
            .backoff_ms = number(a, "backoff_us", 100000) / 1000,
            .in_flight = (int32_t)number(a, "in_flight", 16),
            .rate = (double)number(a, "rate", 0),
            .breaker = (int32_t)number(a, "breaker", 20),
            .pause_ms = number(a, "pause_us", 10000000) / 1000,
            .authority = json_string_value(json_object_get(a->plan->http, "ca")),
            .headers = headers,
            .answer_bytes_max = ANSWER_BYTES_MAX,
            .signal = a->node->graph->answers_signal,
        };
        rc = weir_http_many_create(&options, &a->http, err);
    }
    memset(lines, 0, sizeof(lines));
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "%s", a->name);
}

/* A value of a key as JSON; NULL without memory. */
static json_t *key_value(const struct weir_column *column, int32_t row) {
    int32_t size;
    switch (column->type) {
    case WEIR_TYPE_STRING: {
        const char *bytes = weir_column_bytes(column, row, &size);
        return json_stringn_nocheck(bytes, (size_t)size);
    }
    case WEIR_TYPE_BOOL:
        return json_boolean(weir_bit_get(column->values, row));
    case WEIR_TYPE_INT8:
        return json_integer(((const int8_t *)column->values)[row]);
    case WEIR_TYPE_INT16:
        return json_integer(((const int16_t *)column->values)[row]);
    case WEIR_TYPE_INT32:
        return json_integer(((const int32_t *)column->values)[row]);
    default:
        return json_integer(((const int64_t *)column->values)[row]);
    }
}

static char *key_json(const struct asking *a, const struct weir_batch *batch, int32_t row) {
    json_t *object = json_object();
    for (int32_t i = 0; object != NULL && i < a->plan->on_count; i++) {
        json_object_set_new_nocheck(object, a->plan->on[i],
                                    key_value(&batch->columns[a->on[i]], row));
    }
    char *text = object != NULL ? json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(object);
    return text;
}

/* The URL with {column} replaced by the key's values. */
static int fill_url(const struct asking *a, const struct weir_batch *batch, int32_t row,
                    struct weir_buffer *out) {
    const char *at = a->url;
    int rc = WEIR_OK;
    while (rc == WEIR_OK && *at != '\0') {
        const char *end = *at == '{' ? strchr(at, '}') : NULL;
        int32_t k = 0;
        while (end != NULL && k < a->plan->on_count &&
               (strlen(a->plan->on[k]) != (size_t)(end - at - 1) ||
                strncmp(a->plan->on[k], at + 1, (size_t)(end - at - 1)) != 0)) {
            k++;
        }
        if (end == NULL || k == a->plan->on_count) {
            rc = weir_buffer_append(out, at++, 1);
            continue;
        }
        json_t *value = key_value(&batch->columns[a->on[k]], row);
        char *text = json_is_string(value) ? strdup(json_string_value(value))
                                           : json_dumps(value, JSON_ENCODE_ANY);
        rc = text != NULL ? weir_http_encode(out, text, false) : WEIR_E_NOMEM;
        free(text);
        json_decref(value);
        at = end + 1;
    }
    return rc;
}

static int send_request(struct asking *a, const struct weir_batch *batch, const int32_t *rows,
                        const uint32_t *slots, int32_t count) {
    struct weir_buffer url;
    struct weir_buffer body;
    weir_buffer_init(&url, 1 << 20);
    weir_buffer_init(&body, BLOCK_BYTES_MAX);
    if (a->request_count == a->request_capacity) {
        int32_t capacity = a->request_capacity * 2 + 16;
        struct request *grown = realloc(a->requests, (size_t)capacity * sizeof(*grown));
        if (grown == NULL) {
            return WEIR_E_NOMEM;
        }
        a->requests = grown;
        a->request_capacity = capacity;
    }
    struct request *request = &a->requests[a->request_count];
    *request = (struct request){a->next_id++, malloc((size_t)count * sizeof(*slots)), count};
    int rc = request->slots != NULL ? WEIR_OK : WEIR_E_NOMEM;
    if (rc == WEIR_OK) {
        memcpy(request->slots, slots, (size_t)count * sizeof(*slots));
        a->request_count++;
        rc = fill_url(a, batch, rows[0], &url);
    }
    for (int32_t i = 0; rc == WEIR_OK && a->batch > 1 && i < count; i++) {
        char *key = key_json(a, batch, rows[i]);
        rc =
            key != NULL ? weir_buffer_printf(&body, "%s%s", i == 0 ? "[" : ",", key) : WEIR_E_NOMEM;
        free(key);
    }
    rc = rc == WEIR_OK && a->batch > 1 ? weir_buffer_append(&body, "]", 1) : rc;
    if (rc == WEIR_OK) {
        rc = weir_http_many_ask(a->http, request->id, weir_buffer_text(&url),
                                a->batch > 1 ? (const char *)body.data : NULL, body.size);
        a->outstanding += rc == WEIR_OK;
    }
    weir_buffer_fini(&url);
    weir_buffer_fini(&body);
    return rc;
}

/* --- answers ------------------------------------------------------------------------------ */

static int settle(struct asking *a, struct entry *entry, uint8_t status, const char *text,
                  size_t size, struct weir_error *err) {
    char why[512];
    bool good = true;
    int rc = status == FOUND ? fits(a, text, size, &good, why) : WEIR_OK;
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: out of memory", a->name);
    }
    if (!good) {
        status = FAILED;
        text = why;
        size = strlen(why);
    }
    a->figures.failed += status == FAILED;
    int64_t holds_us = status == FAILED ? 0 : a->cache_us;
    return entry_set(a->kept->table, entry, status, a->node->graph->clock_us + holds_us,
                     status == NOTHING ? "" : text, status == NOTHING ? 0 : size, err);
}

/* The next element of a JSON array's text, from *at behind its bracket or comma; false: no more, or
 * it is none. The decoder judges what is inside. */
static bool next_element(const char **at, const char *end, const char **element, size_t *size) {
    int depth = 0;
    bool quoted = false;
    const char *p = *at;
    while (p < end && strchr(" \t\r\n", *p) != NULL) {
        p++;
    }
    *element = p;
    for (; p < end; p++) {
        if (quoted) {
            p += *p == '\\';
            quoted = p < end && *p != '"';
        } else if (*p == '"') {
            quoted = true;
        } else if (*p == '[' || *p == '{') {
            depth++;
        } else if ((*p == ']' || *p == '}') && depth > 0) {
            depth--;
        } else if (depth == 0 && (*p == ',' || *p == ']')) {
            *size = (size_t)(p - *element);
            *at = p + 1;
            return *size > 0;
        }
    }
    return false;
}

static bool is_null(const char *text, size_t size) {
    while (size > 0 && strchr(" \t\r\n", text[size - 1]) != NULL) {
        size--;
    }
    return size == 0 || (size == 4 && memcmp(text, "null", 4) == 0);
}

static int settle_request(struct asking *a, const struct request *request,
                          const struct weir_http_many_answer *answer, struct weir_error *err) {
    const char *end = answer->body + answer->size;
    const char *at = memchr(answer->body, '[', answer->size);
    bool nothing = answer->status == 404 || answer->status == 204;
    int rc = WEIR_OK;
    at = at != NULL ? at + 1 : end;
    for (int32_t i = 0; rc == WEIR_OK && i < request->count; i++) {
        struct entry *entry =
            weir_slot_value(a->kept->table, weir_table_slot(a->kept->table, request->slots[i]));
        const char *text = answer->body;
        size_t size = answer->size;
        if (answer->error[0] != '\0') {
            rc = settle(a, entry, FAILED, answer->error, strlen(answer->error), err);
        } else if (nothing) {
            rc = settle(a, entry, NOTHING, "", 0, err);
        } else if (a->batch > 1 && !next_element(&at, end, &text, &size)) {
            static const char few[] = "the answer is no list with an element for each key";
            rc = settle(a, entry, FAILED, few, sizeof(few) - 1, err);
        } else {
            rc = settle(a, entry, is_null(text, size) ? NOTHING : FOUND, text, size, err);
        }
    }
    return rc;
}

int asking_take(struct asking *a, struct weir_error *err) {
    int rc = WEIR_OK;
    struct weir_http_many_answer *answer = a->http != NULL ? weir_http_many_take(a->http) : NULL;
    while (answer != NULL) {
        struct weir_http_many_answer *next = answer->next;
        for (int32_t i = 0; rc == WEIR_OK && i < a->request_count; i++) {
            if (a->requests[i].id == answer->id) {
                rc = settle_request(a, &a->requests[i], answer, err);
                free(a->requests[i].slots);
                a->requests[i] = a->requests[--a->request_count];
                a->outstanding--;
                break;
            }
        }
        free(answer);
        answer = next;
    }
    return rc;
}

bool asking_waits(const struct asking *a) {
    return a->outstanding > 0;
}

/* --- asking ------------------------------------------------------------------------------- */

static bool holds(const struct asking *a, struct weir_slot *slot) {
    const struct entry *entry = weir_slot_value(a->kept->table, slot);
    return slot->changed == weir_table_view(a->kept->table)->generation ||
           entry->until_us > a->node->graph->clock_us;
}

static int by_sequence(const void *a, const void *b) {
    uint64_t x = ((const uint64_t *)a)[0];
    uint64_t y = ((const uint64_t *)b)[0];
    return x < y ? -1 : x > y;
}

/* Too many answers: those that hold no more go, then the oldest; never one of this epoch. */
static int make_room(struct asking *a) {
    size_t keys = weir_table_keys(a->kept->table);
    if ((int64_t)keys <= a->cache_size + a->cache_size / 8) {
        return WEIR_OK;
    }
    uint32_t slots = weir_table_slots(a->kept->table);
    uint64_t(*live)[2] = calloc(keys + 1, sizeof(*live));
    size_t count = 0;
    int rc = live != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (uint32_t n = 1; rc == WEIR_OK && n <= slots; n++) {
        struct weir_slot *slot = weir_table_slot(a->kept->table, n);
        if (slot->sequence == 0 || slot->changed == weir_table_view(a->kept->table)->generation) {
            continue;
        }
        if (!holds(a, slot)) {
            rc = weir_table_delete(a->kept->table, slot, false);
            keys--;
        } else {
            live[count][0] = slot->sequence;
            live[count++][1] = n;
        }
    }
    if (rc == WEIR_OK && count > 0) {
        qsort(live, count, sizeof(*live), by_sequence);
    }
    for (size_t i = 0; rc == WEIR_OK && i < count && (int64_t)keys > a->cache_size; i++, keys--) {
        rc = weir_table_delete(a->kept->table,
                               weir_table_slot(a->kept->table, (uint32_t)live[i][1]), false);
    }
    free(live);
    return rc;
}

/* In replay and specs: the answer that is there. */
static int take_given(struct asking *a, const struct weir_batch *batch, int32_t row,
                      const uint8_t *key, size_t key_size, struct entry *entry,
                      struct weir_error *err) {
    char why[600];
    struct weir_slot *slot = NULL;
    char *json = NULL;
    if (a->given != NULL && a->node->graph->answers == ANSWERS_RECORDED) {
        slot = weir_table_find(a->given->table, weir_table_hash(a->given->table, key, key_size),
                               key, key_size);
    } else if (a->given != NULL) {
        json = key_json(a, batch, row);
        size_t size = json != NULL ? strlen(json) : 0;
        slot = weir_table_find(a->given->table, weir_table_hash(a->given->table, json, size), json,
                               size);
    }
    free(json);
    if (slot != NULL) {
        const struct entry *given = weir_slot_value(a->given->table, slot);
        if (a->node->graph->answers == ANSWERS_RECORDED) {
            return entry_set(a->kept->table, entry, given->status, given->until_us, given->text,
                             given->size, err);
        }
        return settle(a, entry, given->status, (const char *)given->text, given->size, err);
    }
    json = key_json(a, batch, row);
    snprintf(why, sizeof(why), "no answer is given for %s", json != NULL ? json : "it");
    free(json);
    return settle(a, entry, FAILED, why, strlen(why), err);
}

int asking_begin(struct asking *a, const struct weir_batch *batch, const int32_t *sel,
                 int32_t count, struct weir_error *err) {
    int32_t rows[ROWS_MAX];
    uint32_t slots[ROWS_MAX];
    int32_t group = 0;
    bool live = a->node->graph->answers == ANSWERS_ASKED;
    int rc = live && a->http == NULL ? open_service(a, err) : WEIR_OK;
    if (rc != WEIR_OK) {
        return rc;
    }
    rc = a->outstanding == 0 ? make_room(a) : WEIR_OK;
    rc = rc == WEIR_OK ? weir_key_encode(a->key, batch, sel, count, 0, &a->keys) : rc;
    if (rc == WEIR_OK) {
        weir_keys_hash(&a->keys, weir_table_view(a->kept->table)->seed);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        const uint8_t *key = a->keys.bytes + a->keys.offsets[i];
        size_t size = a->keys.offsets[i + 1] - a->keys.offsets[i];
        bool created = false;
        if (a->keys.any_null[i]) {
            continue;
        }
        struct weir_slot *slot =
            weir_table_get(a->kept->table, a->keys.hashes[i], key, size, &created, err);
        if (slot == NULL) {
            return err != NULL ? err->code : WEIR_E_NOMEM;
        }
        if (!created && holds(a, slot)) {
            continue;
        }
        rc = created ? WEIR_OK : weir_table_touch(a->kept->table, slot);
        struct entry *entry = weir_slot_value(a->kept->table, slot);
        if (rc == WEIR_OK && !live) {
            rc = take_given(a, batch, sel[i], key, size, entry, err);
            continue;
        }
        a->figures.keys++;
        rows[group] = sel[i];
        slots[group++] = slot->number;
        if (rc == WEIR_OK && group == a->batch) {
            rc = send_request(a, batch, rows, slots, group);
            group = 0;
        }
    }
    rc = rc == WEIR_OK && group > 0 ? send_request(a, batch, rows, slots, group) : rc;
    return rc == WEIR_OK || (err != NULL && err->code != WEIR_OK)
               ? rc
               : weir_error_set(err, rc, "%s: out of memory", a->name);
}

/* --- rows --------------------------------------------------------------------------------- */

static const struct entry *entry_of(struct asking *a, int32_t i) {
    size_t size = a->keys.offsets[i + 1] - a->keys.offsets[i];
    struct weir_slot *slot = a->keys.any_null[i]
                                 ? NULL
                                 : weir_table_find(a->kept->table, a->keys.hashes[i],
                                                   a->keys.bytes + a->keys.offsets[i], size);
    return slot != NULL ? weir_slot_value(a->kept->table, slot) : NULL;
}

/* What is decoded for each row, into block and frames. */
static int gather(struct asking *a, int32_t count, struct asking_row *rows, int32_t *frames) {
    int rc = WEIR_OK;
    weir_buffer_clear(&a->block);
    *frames = 0;
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        const struct entry *entry = entry_of(a, i);
        const char *text = a->nothing;
        size_t size = text != NULL ? strlen(text) : 0;
        rows[i] = (struct asking_row){.outcome = ASKING_NOTHING};
        if (entry != NULL && entry->status == FOUND) {
            rows[i].outcome = ASKING_FOUND;
            text = (const char *)entry->text;
            size = entry->size;
        } else if (entry != NULL && entry->status != NOTHING) {
            rows[i].outcome = a->fallback != NULL ? ASKING_FOUND : ASKING_FAILED;
            rows[i].why = (const char *)entry->text;
            rows[i].why_size = (int)entry->size;
            text = a->fallback;
            size = text != NULL ? strlen(text) : 0;
        }
        a->place[i] = text != NULL ? *frames : -1;
        if (text != NULL) {
            a->frames[(*frames)++] =
                (struct weir_frame){.start = (uint32_t)a->block.size, .length = (uint32_t)size};
            rc = weir_buffer_append(&a->block, text, size);
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
        for (; rc == WEIR_OK && row < sel[i]; row++) {
            rc = weir_builder_null(to);
        }
        row++;
        if (rc == WEIR_OK) {
            rc = a->place[i] >= 0 ? put(a, decoded, a->place[i], to) : weir_builder_null(to);
        }
    }
    for (; rc == WEIR_OK && row < batch->rows; row++) {
        rc = weir_builder_null(to);
    }
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
    int rc = a->given == NULL ? make_table(a, &a->given, err) : WEIR_OK;
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
    int rc = a->given == NULL ? make_table(a, &a->given, err) : WEIR_OK;
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
    uint8_t status = fails ? FAILED : is_null(answer, strlen(answer)) ? NOTHING : FOUND;
    return entry_set(a->given->table, weir_slot_value(a->given->table, slot), status, 0, answer,
                     strlen(answer), err);
}

void asking_figures(struct asking *a, struct weir_asked *out) {
    struct weir_http_many_figures http = {0};
    if (a->http != NULL) {
        weir_http_many_figures(a->http, &http);
    }
    *out = a->figures;
    out->name = a->name;
    out->requests = http.asked;
    out->retries = http.retries;
    out->in_flight = http.in_flight;
    out->open = http.open;
    out->cached = (int64_t)weir_table_keys(a->kept->table);
}
