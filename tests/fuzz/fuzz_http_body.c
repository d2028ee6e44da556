/* Any bytes as a request's body: the first byte says its type and coding. What is taken lies inside
 * what was given and, where it is JSON, is one object of JSON by itself.
 *
 * fuzz:
 *   runtime/serve/http/body.c
 *   runtime/serve/http/json_check.c */
#include <stdlib.h>
#include <string.h>

#include "serve/http/body.h"
#include "serve/http/json_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const types[] = {"application/json", "application/x-ndjson",
                                    "application/cloudevents+json",
                                    "application/cloudevents-batch+json"};

static void check(const struct http_events *events) {
    for (uint32_t i = 0; i < events->count; i++) {
        const struct weir_http_event *event = &events->list[i];
        struct json_cursor cursor = {event->bytes, event->size, 0, NULL};
        if (event->size == 0 || event->bytes[0] != '{' || !json_check_value(&cursor) ||
            cursor.at != event->size) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char decoder[] = "json";
    static const struct http_attribute attributes[] = {
        {"specversion", "1.0"}, {"id", "a\"b"}, {"source", "/s"}, {"type", "t\xc3\xa9"}};
    if (size == 0) {
        return 0;
    }
    struct weir_http_path path = {
        .decoder = decoder, .max_body_bytes = 1 << 16, .cloud_data = (data[0] & 4) != 0};
    uint8_t *copy = malloc(size); /* exactly as long, so that a byte too far is seen */
    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, data + 1, size - 1);
    struct http_events events;
    http_events_init(&events);
    struct http_body body = {.path = &path,
                             .content_type = types[data[0] & 3],
                             .content_encoding = (data[0] & 8) != 0 ? "gzip" : "",
                             .attributes = attributes,
                             .attribute_count = (data[0] & 16) != 0 ? 4 : 0,
                             .bytes = copy,
                             .size = size - 1};
    copy = realloc(copy, size > 1 ? size - 1 : 1);
    body.bytes = copy;
    int status = http_body_events(&body, &events);
    if (status == 0 && events.count > 0) {
        check(&events);
    } else if (status == 0 || events.message[0] == '\0') {
        abort();
    }
    http_events_fini(&events);
    free(copy);
    return 0;
}
