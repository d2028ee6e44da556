#include "serve/http/body.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

#include "serve/http/json_check.h"

enum form { FORM_NONE, FORM_JSON, FORM_LINES, FORM_CLOUD, FORM_CLOUD_BATCH, FORM_WHOLE };

#define DECODED_MAX ((size_t)65 << 20)

void http_events_init(struct http_events *events) {
    *events = (struct http_events){0};
    weir_buffer_init(&events->decoded, DECODED_MAX);
    weir_buffer_init(&events->envelope, 2 * DECODED_MAX);
}

void http_events_fini(struct http_events *events) {
    free(events->list);
    weir_buffer_fini(&events->decoded);
    weir_buffer_fini(&events->envelope);
}

/* --- what form ---------------------------------------------------------------------------- */

static bool is_one_of(const char *text, const char *const *list) {
    for (; *list != NULL; list++) {
        if (strcmp(text, *list) == 0) {
            return true;
        }
    }
    return false;
}

static bool reads_json(const struct weir_http_path *path) {
    return strcmp(path->decoder, "json") == 0 || strcmp(path->decoder, "debezium") == 0;
}

static enum form form_of(const struct http_body *body) {
    static const char *const json[] = {"application/json", "text/json", NULL};
    static const char *const lines[] = {"application/x-ndjson", "application/ndjson",
                                        "application/jsonl", "application/x-jsonlines", NULL};
    static const char *const binary[] = {"application/octet-stream",
                                         "application/avro",
                                         "avro/binary",
                                         "application/x-avro",
                                         "application/msgpack",
                                         "application/x-msgpack",
                                         "application/vnd.apache.avro+binary",
                                         "application/vnd.msgpack",
                                         NULL};
    const char *type = body->content_type;
    size_t length = strlen(type);
    if (!reads_json(body->path)) {
        bool any = strcmp(body->path->decoder, "raw") == 0;
        bool cloud = body->attribute_count > 0 && !body->path->cloud_data;
        return !cloud && (any || is_one_of(type, binary)) ? FORM_WHOLE : FORM_NONE;
    }
    if (strcmp(type, "application/cloudevents+json") == 0) {
        return FORM_CLOUD;
    }
    if (strcmp(type, "application/cloudevents-batch+json") == 0) {
        return FORM_CLOUD_BATCH;
    }
    if (is_one_of(type, lines)) {
        return FORM_LINES;
    }
    return is_one_of(type, json) || (length > 5 && strcmp(type + length - 5, "+json") == 0)
               ? FORM_JSON
               : FORM_NONE;
}

int http_body_type(const struct http_body *body, char *message, size_t size) {
    const char *coding = body->content_encoding;
    if (*coding != '\0' && strcasecmp(coding, "identity") != 0 && strcasecmp(coding, "gzip") != 0 &&
        strcasecmp(coding, "x-gzip") != 0 && strcasecmp(coding, "deflate") != 0) {
        snprintf(message, size, "Content-Encoding %.40s is not read here; use gzip or deflate",
                 coding);
        return 415;
    }
    if (form_of(body) != FORM_NONE) {
        return 0;
    }
    bool json = reads_json(body->path);
    snprintf(message, size, "Content-Type %.80s is not read here; %s",
             *body->content_type != '\0' ? body->content_type : "is missing and nothing",
             json ? "use application/json, application/x-ndjson, application/cloudevents+json or "
                    "application/cloudevents-batch+json"
                  : "use application/octet-stream or avro/binary");
    return 415;
}

/* --- codings ------------------------------------------------------------------------------ */

static int inflate_body(const struct http_body *body, struct http_events *events) {
    z_stream z = {0};
    if (inflateInit2(&z, 15 + 32) != Z_OK) { /* gzip or zlib, by its header */
        snprintf(events->message, sizeof(events->message), "out of memory");
        return 503;
    }
    union { /* zlib reads only */
        const uint8_t *borrowed;
        uint8_t *given;
    } in = {body->bytes};
    z.next_in = in.given;
    z.avail_in = (uInt)body->size;
    uint64_t limit = body->path->max_body_bytes;
    int status = 0;
    int rc = Z_OK;
    weir_buffer_clear(&events->decoded);
    while (status == 0 && rc != Z_STREAM_END) {
        uint8_t chunk[16384];
        z.next_out = chunk;
        z.avail_out = sizeof(chunk);
        rc = inflate(&z, Z_NO_FLUSH);
        size_t made = sizeof(chunk) - z.avail_out;
        if (rc != Z_OK && rc != Z_STREAM_END) {
            status = 400;
            snprintf(events->message, sizeof(events->message),
                     "the body is not what Content-Encoding says: %s",
                     z.msg != NULL ? z.msg : "it ends too early");
        } else if (events->decoded.size + made > limit) {
            status = 413;
            snprintf(events->message, sizeof(events->message),
                     "the body unpacks to more than %llu bytes", (unsigned long long)limit);
        } else if (weir_buffer_append(&events->decoded, chunk, made) != WEIR_OK) {
            status = 503;
            snprintf(events->message, sizeof(events->message), "out of memory");
        } else if (rc == Z_STREAM_END && z.avail_in > 0) {
            status = 400;
            snprintf(events->message, sizeof(events->message),
                     "bytes follow the end of the packed body");
        }
    }
    inflateEnd(&z);
    return status;
}

/* --- events ------------------------------------------------------------------------------- */

static int add(struct http_events *events, const uint8_t *bytes, size_t size) {
    if (events->count == HTTP_EVENTS_MAX) {
        snprintf(events->message, sizeof(events->message), "more than %d events in one request",
                 HTTP_EVENTS_MAX);
        return 413;
    }
    if (events->count == events->capacity) {
        uint32_t capacity = events->capacity == 0 ? 64 : 2 * events->capacity;
        struct weir_http_event *grown = realloc(events->list, capacity * sizeof(*grown));
        if (grown == NULL) {
            snprintf(events->message, sizeof(events->message), "out of memory");
            return 503;
        }
        events->list = grown;
        events->capacity = capacity;
    }
    events->list[events->count++] = (struct weir_http_event){bytes, (uint32_t)size};
    return 0;
}

static int bad_json(struct http_events *events, const struct json_cursor *c) {
    size_t line;
    size_t column;
    json_check_place(c->bytes, c->at, &line, &column);
    snprintf(events->message, sizeof(events->message), "line %zu, column %zu: %s", line, column,
             c->problem != NULL ? c->problem : "something follows the end of the value");
    return 400;
}

static int not_an_object(struct http_events *events, const struct json_cursor *c, size_t at) {
    struct json_cursor place = {c->bytes, c->size, at, "an event is an object"};
    return bad_json(events, &place);
}

static int none(struct http_events *events) {
    snprintf(events->message, sizeof(events->message), "the body holds no event");
    return 400;
}

/* --- CloudEvents -------------------------------------------------------------------------- */

static bool named(const struct json_member *member, const char *name) {
    return member->name_size == strlen(name) && memcmp(member->name, name, member->name_size) == 0;
}

/* A text with something in it. */
static bool says(const struct json_member *member) {
    return member->value_size > 2 && member->value[0] == '"';
}

/* CloudEvents 1.0: specversion, id, source and type must be there. `data`: only that is the
 * event. */
static int add_cloud_event(struct http_events *events, const uint8_t *bytes, size_t size,
                           bool data) {
    struct json_cursor c = {bytes, size, 1, NULL};
    struct json_member member;
    struct json_member payload = {0};
    static const char *const required[] = {"specversion", "id", "source", "type"};
    unsigned found = 0;
    bool base64 = false;
    for (bool first = true; json_check_member(&c, first, &member); first = false) {
        for (unsigned i = 0; i < 4; i++) {
            found |= named(&member, required[i]) && says(&member) ? 1u << i : 0;
        }
        if (named(&member, "data")) {
            payload = member;
        }
        base64 |= named(&member, "data_base64");
    }
    for (unsigned i = 0; i < 4; i++) {
        if ((found & 1u << i) == 0) {
            snprintf(events->message, sizeof(events->message),
                     "event %u of the request is no CloudEvent: it has no %s", events->count + 1,
                     required[i]);
            return 400;
        }
    }
    if (!data) {
        return add(events, bytes, size);
    }
    if (payload.value_size == 0 || payload.value[0] != '{') {
        snprintf(events->message, sizeof(events->message),
                 "event %u of the request has no object as data%s", events->count + 1,
                 base64 ? " (data_base64 is read with cloudevents = \"envelope\" only)" : "");
        return 400;
    }
    return add(events, payload.value, payload.value_size);
}

static int put_text(struct weir_buffer *out, const char *text) {
    int rc = weir_buffer_append_text(out, "\"");
    for (const char *p = text; *p != '\0' && rc == WEIR_OK; p++) {
        uint8_t byte = (uint8_t)*p;
        if (byte == '"' || byte == '\\' || byte < 0x20) {
            rc = weir_buffer_printf(out, "\\u%04x", byte);
        } else {
            rc = weir_buffer_append(out, p, 1);
        }
    }
    return rc == WEIR_OK ? weir_buffer_append_text(out, "\"") : rc;
}

/* Binary mode in the structured form, so that both reach the decoder alike. */
static int add_binary(const struct http_body *body, const uint8_t *bytes, size_t size,
                      struct http_events *events) {
    struct weir_buffer *out = &events->envelope;
    weir_buffer_clear(out);
    int rc = weir_buffer_append_text(out, "{");
    for (int i = 0; i < body->attribute_count && rc == WEIR_OK; i++) {
        rc = put_text(out, body->attributes[i].name);
        rc = rc == WEIR_OK ? weir_buffer_append_text(out, ":") : rc;
        rc = rc == WEIR_OK ? put_text(out, body->attributes[i].value) : rc;
        rc = rc == WEIR_OK ? weir_buffer_append_text(out, ",") : rc;
    }
    rc = rc == WEIR_OK ? weir_buffer_append_text(out, "\"datacontenttype\":") : rc;
    rc = rc == WEIR_OK ? put_text(out, body->content_type) : rc;
    if (rc == WEIR_OK && size > 0) {
        rc = weir_buffer_append_text(out, ",\"data\":");
        rc = rc == WEIR_OK ? weir_buffer_append(out, bytes, size) : rc;
    }
    rc = rc == WEIR_OK ? weir_buffer_append_text(out, "}") : rc;
    if (rc != WEIR_OK) {
        snprintf(events->message, sizeof(events->message), "out of memory");
        return 503;
    }
    struct json_cursor c = {out->data, out->size, 0, NULL}; /* attributes came unchecked */
    if (!json_check_value(&c)) {
        snprintf(events->message, sizeof(events->message),
                 "an attribute or the data of the CloudEvent: %s", c.problem);
        return 400;
    }
    return add_cloud_event(events, out->data, out->size, body->path->cloud_data);
}

/* --- forms -------------------------------------------------------------------------------- */

static int add_value(const struct http_body *body, struct http_events *events,
                     const struct json_cursor *c, const uint8_t *value, size_t size, bool cloud) {
    if (value[0] != '{') {
        return not_an_object(events, c, (size_t)(value - c->bytes));
    }
    return cloud ? add_cloud_event(events, value, size, body->path->cloud_data)
                 : add(events, value, size);
}

/* One object, or an array of them. */
static int json_events(const struct http_body *body, struct http_events *events,
                       const uint8_t *bytes, size_t size, enum form form) {
    struct json_cursor c = {bytes, size, 0, NULL};
    bool cloud = form == FORM_CLOUD || form == FORM_CLOUD_BATCH;
    int status = 0;
    json_check_space(&c);
    if (c.at == size) {
        return body->attribute_count > 0 ? add_binary(body, bytes, 0, events) : none(events);
    }
    bool array = bytes[c.at] == '[';
    if ((array && (form == FORM_CLOUD || body->attribute_count > 0)) ||
        (!array && form == FORM_CLOUD_BATCH)) {
        snprintf(events->message, sizeof(events->message), "%s",
                 array ? "one CloudEvent was expected; a batch is "
                         "application/cloudevents-batch+json"
                       : "application/cloudevents-batch+json is an array of CloudEvents");
        return 400;
    }
    if (!array) {
        size_t from = c.at;
        bool good = json_check_value(&c);
        size_t to = c.at;
        json_check_space(&c);
        if (!good || c.at != size) {
            return bad_json(events, &c);
        }
        return body->attribute_count > 0
                   ? add_binary(body, bytes + from, to - from, events)
                   : add_value(body, events, &c, bytes + from, to - from, cloud);
    }
    c.at++;
    const uint8_t *value;
    size_t length;
    for (bool first = true; status == 0 && json_check_element(&c, first, &value, &length);
         first = false) {
        status = add_value(body, events, &c, value, length, cloud);
    }
    json_check_space(&c);
    if (status == 0 && (c.problem != NULL || c.at != size)) {
        return bad_json(events, &c);
    }
    return status != 0 ? status : events->count == 0 ? none(events) : 0;
}

static int line_events(struct http_events *events, const uint8_t *bytes, size_t size) {
    int status = 0;
    for (size_t at = 0; at < size && status == 0;) {
        const uint8_t *newline = memchr(bytes + at, '\n', size - at);
        size_t end = newline != NULL ? (size_t)(newline - bytes) : size;
        struct json_cursor c = {bytes, end, at, NULL};
        json_check_space(&c);
        size_t from = c.at;
        if (from < end) {
            bool good = json_check_value(&c);
            size_t to = c.at;
            json_check_space(&c);
            if (!good || c.at != end) {
                return bad_json(events, &c);
            }
            status = bytes[from] == '{' ? add(events, bytes + from, to - from)
                                        : not_an_object(events, &c, from);
        }
        at = end + 1;
    }
    return status != 0 ? status : events->count == 0 ? none(events) : 0;
}

/* One event after the other, where the decoder can tell. A body that does not come out even is one
 * event, about which the decoder has more to say. */
static int whole_events(const struct http_body *body, struct http_events *events,
                        const uint8_t *bytes, size_t size) {
    struct weir_decoder *cutter = body->path->cutter;
    int status = 0;
    size_t at = 0;
    while (status == 0 && at < size) {
        size_t length = cutter != NULL ? cutter->vtable->cut(cutter, bytes + at, size - at) : size;
        if (length == 0) {
            events->count = 0;
            at = 0;
            length = size;
        }
        status = add(events, bytes + at, length);
        at += length;
    }
    return status != 0 ? status : events->count == 0 ? none(events) : 0;
}

int http_body_events(const struct http_body *body, struct http_events *events) {
    const uint8_t *bytes = body->bytes;
    size_t size = body->size;
    const char *coding = body->content_encoding;
    events->count = 0;
    events->message[0] = '\0';
    if (*coding != '\0' && strcasecmp(coding, "identity") != 0) {
        int status = inflate_body(body, events);
        if (status != 0) {
            return status;
        }
        bytes = events->decoded.data;
        size = events->decoded.size;
    }
    enum form form = form_of(body);
    if (form == FORM_WHOLE) {
        return whole_events(body, events, bytes, size);
    }
    if (size >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0) { /* a byte order mark */
        bytes += 3;
        size -= 3;
    }
    return form == FORM_LINES ? line_events(events, bytes, size)
                              : json_events(body, events, bytes, size, form);
}
