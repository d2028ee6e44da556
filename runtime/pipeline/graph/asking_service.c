#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/http.h"
#include "core/http_many.h"
#include "core/json_scan.h"
#include "core/option.h"
#include "pipeline/graph/asking_service.h"

enum { ANSWER_BYTES_MAX = 16 << 20, BODY_BYTES_MAX = 512 << 20, HEADERS_MAX = 32 };

struct request { /* under way: the slots it asks for */
    uint64_t id;
    uint32_t *slots;
    int32_t count;
};

struct service {
    const char *name;
    const struct weir_plan_lookup *plan;
    const int32_t *on;
    const char *url;
    int32_t batch; /* keys a request at most; 1: the key stands in the URL */
    struct weir_http_many *http;
    struct request *requests;
    int32_t request_count;
    int32_t request_capacity;
    uint64_t next_id;
};

/* --- life --------------------------------------------------------------------------------- */

int64_t service_number(const struct weir_plan_lookup *plan, const char *name, int64_t otherwise) {
    const json_t *value = json_object_get(plan->http, name);
    return json_is_number(value) ? (int64_t)json_number_value(value) : otherwise;
}

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

static int open_client(struct service *s, struct weir_signal *signal, struct weir_error *err) {
    char lines[HEADERS_MAX][2048];
    const char *headers[HEADERS_MAX + 1] = {NULL};
    int32_t count = 0;
    int rc = WEIR_OK;
    const json_t *token = json_object_get(s->plan->http, "token");
    if (json_is_object(token)) {
        rc = secret_header(token, "Authorization: Bearer ", lines[count], sizeof(lines[0]), err);
        headers[count] = lines[count];
        count++;
    }
    const char *name;
    json_t *value;
    json_t *more = json_object_get(s->plan->http, "headers");
    json_object_foreach(more, name, value) {
        if (count < HEADERS_MAX) {
            snprintf(lines[count], sizeof(lines[0]), "%s: %s", name, json_string_value(value));
            headers[count] = lines[count];
            count++;
        }
    }
    if (rc == WEIR_OK) {
        struct weir_http_many_options options = {
            .timeout_ms = service_number(s->plan, "timeout_us", 5000000) / 1000,
            .attempts = (int32_t)service_number(s->plan, "retries", 3) + 1,
            .backoff_ms = service_number(s->plan, "backoff_us", 100000) / 1000,
            .in_flight = (int32_t)service_number(s->plan, "in_flight", 16),
            .rate = (double)service_number(s->plan, "rate", 0),
            .breaker = (int32_t)service_number(s->plan, "breaker", 20),
            .pause_ms = service_number(s->plan, "pause_us", 10000000) / 1000,
            .authority = json_string_value(json_object_get(s->plan->http, "ca")),
            .headers = headers,
            .answer_bytes_max = ANSWER_BYTES_MAX,
            .signal = signal,
        };
        rc = weir_http_many_create(&options, &s->http, err);
    }
    memset(lines, 0, sizeof(lines));
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "%s", s->name);
}

void service_close(struct service *s) {
    if (s == NULL) {
        return;
    }
    weir_http_many_destroy(s->http);
    for (int32_t i = 0; i < s->request_count; i++) {
        free(s->requests[i].slots);
    }
    free(s->requests);
    free(s);
}

int service_open(const char *name, const struct weir_plan_lookup *plan, const int32_t *on,
                 struct weir_signal *signal, struct service **out, struct weir_error *err) {
    struct service *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", name);
    }
    *s = (struct service){.name = name, .plan = plan, .on = on};
    s->url = json_string_value(json_object_get(plan->http, "url"));
    s->batch = (int32_t)service_number(plan, "batch", 1);
    int rc = open_client(s, signal, err);
    if (rc != WEIR_OK) {
        service_close(s);
        return rc;
    }
    *out = s;
    return WEIR_OK;
}

/* --- asking ------------------------------------------------------------------------------- */

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
    default:
        return json_integer(weir_column_int(column, row));
    }
}

/* What the service knows the k-th column of the key by. */
static const char *key_name(const struct weir_plan_lookup *plan, int32_t k) {
    const char *name =
        json_string_value(json_array_get(json_object_get(plan->http, "keys"), (size_t)k));
    return name != NULL ? name : plan->on[k];
}

char *service_key(const struct weir_plan_lookup *plan, const int32_t *on,
                  const struct weir_batch *batch, int32_t row) {
    json_t *object = json_object();
    for (int32_t i = 0; object != NULL && i < plan->on_count; i++) {
        json_object_set_new_nocheck(object, key_name(plan, i),
                                    key_value(&batch->columns[on[i]], row));
    }
    char *text = object != NULL ? json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(object);
    return text;
}

/* The URL with {column} replaced by the key's values. */
static int fill_url(const struct service *s, const struct weir_batch *batch, int32_t row,
                    struct weir_buffer *out) {
    const char *at = s->url;
    int rc = WEIR_OK;
    while (rc == WEIR_OK && *at != '\0') {
        const char *end = *at == '{' ? strchr(at, '}') : NULL;
        int32_t k = 0;
        while (end != NULL && k < s->plan->on_count &&
               (strlen(key_name(s->plan, k)) != (size_t)(end - at - 1) ||
                strncmp(key_name(s->plan, k), at + 1, (size_t)(end - at - 1)) != 0)) {
            k++;
        }
        if (end == NULL || k == s->plan->on_count) {
            rc = weir_buffer_append(out, at++, 1);
            continue;
        }
        json_t *value = key_value(&batch->columns[s->on[k]], row);
        char *text = json_is_string(value) ? strdup(json_string_value(value))
                                           : json_dumps(value, JSON_ENCODE_ANY);
        rc = text != NULL ? weir_http_encode(out, text, false) : WEIR_E_NOMEM;
        free(text);
        json_decref(value);
        at = end + 1;
    }
    return rc;
}

/* Room for one request more, behind those under way; it counts once it is sent. */
static struct request *new_request(struct service *s, const uint32_t *slots, int32_t count) {
    if (s->request_count == s->request_capacity) {
        int32_t capacity = s->request_capacity * 2 + 16;
        struct request *grown = realloc(s->requests, (size_t)capacity * sizeof(*grown));
        if (grown == NULL) {
            return NULL;
        }
        s->requests = grown;
        s->request_capacity = capacity;
    }
    struct request *request = &s->requests[s->request_count];
    *request = (struct request){s->next_id++, malloc((size_t)count * sizeof(*slots)), count};
    if (request->slots == NULL) {
        return NULL;
    }
    memcpy(request->slots, slots, (size_t)count * sizeof(*slots));
    return request;
}

static int list_keys(const struct service *s, const struct weir_batch *batch, const int32_t *rows,
                     int32_t count, struct weir_buffer *body) {
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        char *key = service_key(s->plan, s->on, batch, rows[i]);
        rc = key != NULL ? weir_buffer_printf(body, "%s%s", i == 0 ? "[" : ",", key) : WEIR_E_NOMEM;
        free(key);
    }
    return rc == WEIR_OK ? weir_buffer_append(body, "]", 1) : rc;
}

int service_ask(struct service *s, const struct weir_batch *batch, const int32_t *rows,
                const uint32_t *slots, int32_t count) {
    struct weir_buffer url;
    struct weir_buffer body;
    struct request *request = new_request(s, slots, count);
    if (request == NULL) {
        return WEIR_E_NOMEM;
    }
    weir_buffer_init(&url, 1 << 20);
    weir_buffer_init(&body, BODY_BYTES_MAX);
    int rc = fill_url(s, batch, rows[0], &url);
    rc = rc == WEIR_OK && s->batch > 1 ? list_keys(s, batch, rows, count, &body) : rc;
    if (rc == WEIR_OK) {
        rc = weir_http_many_ask(s->http, request->id, weir_buffer_text(&url),
                                s->batch > 1 ? (const char *)body.data : NULL, body.size);
    }
    if (rc == WEIR_OK) {
        s->request_count++;
    } else {
        free(request->slots);
    }
    weir_buffer_fini(&url);
    weir_buffer_fini(&body);
    return rc;
}

/* --- answers ------------------------------------------------------------------------------ */

/* The next element of a JSON array's text, from *at behind its bracket or comma; false: no more, or
 * it is none. The decoder judges what is inside. */
static bool next_element(const char **at, const char *end, const char **element, size_t *size) {
    const char *p = *at;
    while (p < end && strchr(" \t\r\n", *p) != NULL) {
        p++;
    }
    *element = p;
    p = weir_json_value_end(p, end);
    *size = (size_t)(p - *element);
    *at = p < end ? p + 1 : end;
    return *size > 0 && p < end && *p != '}';
}

bool service_is_null(const char *text, size_t size) {
    while (size > 0 && strchr(" \t\r\n", text[size - 1]) != NULL) {
        size--;
    }
    return size == 0 || (size == 4 && memcmp(text, "null", 4) == 0);
}

/* What each key of a request is told. */
static int tell(const struct service *s, const struct request *request,
                const struct weir_http_many_answer *answer, service_told told, void *context,
                struct weir_error *err) {
    static const char few[] = "the answer is no list with an element for each key";
    const char *end = answer->body + answer->size;
    const char *at = memchr(answer->body, '[', answer->size);
    bool nothing = answer->status == 404 || answer->status == 204;
    int rc = WEIR_OK;
    at = at != NULL ? at + 1 : end;
    for (int32_t i = 0; rc == WEIR_OK && i < request->count; i++) {
        enum answer_status status = ANSWER_FAILED;
        const char *text = answer->body;
        size_t size = answer->size;
        if (answer->error[0] != '\0') {
            text = answer->error;
            size = strlen(text);
        } else if (nothing) {
            status = ANSWER_NOTHING;
        } else if (s->batch > 1 && !next_element(&at, end, &text, &size)) {
            text = few;
            size = sizeof(few) - 1;
        } else {
            status = service_is_null(text, size) ? ANSWER_NOTHING : ANSWER_FOUND;
        }
        rc = told(context, request->slots[i], status, text, size, err);
    }
    return rc;
}

int service_take(struct service *s, service_told told, void *context, struct weir_error *err) {
    int rc = WEIR_OK;
    struct weir_http_many_answer *answer = weir_http_many_take(s->http);
    while (answer != NULL) {
        struct weir_http_many_answer *next = answer->next;
        for (int32_t i = 0; rc == WEIR_OK && i < s->request_count; i++) {
            if (s->requests[i].id == answer->id) {
                rc = tell(s, &s->requests[i], answer, told, context, err);
                free(s->requests[i].slots);
                s->requests[i] = s->requests[--s->request_count];
                break;
            }
        }
        free(answer);
        answer = next;
    }
    return rc;
}

bool service_waits(const struct service *s) {
    return s->request_count > 0;
}

void service_figures(const struct service *s, struct weir_http_many_figures *out) {
    weir_http_many_figures(s->http, out);
}
