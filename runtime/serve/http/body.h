#pragma once
/* A request's body → events: content codings undone, the body's form checked, cut into the frames
 * the source's decoder reads. What is checked here is what the body says of itself (gzip, JSON,
 * lines, CloudEvents); fields and types are the decoder's, and go to quarantine. */
#include "core/buffer.h"
#include "source/http/http.h"

enum { HTTP_EVENTS_MAX = 100000 };

struct http_attribute { /* of a CloudEvent in binary mode: ce-<name> */
    char name[64];
    char value[1024];
};

struct http_body {
    const struct weir_http_path *path;
    const char *content_type;     /* as sent, lower case up to `;`; "" when absent */
    const char *content_encoding; /* "" when absent */
    const struct http_attribute *attributes;
    int attribute_count;  /* > 0: binary mode */
    const uint8_t *bytes; /* as they came */
    size_t size;
};

struct http_events { /* reused from request to request */
    struct weir_http_event *list;
    uint32_t count;
    uint32_t capacity;
    struct weir_buffer decoded; /* what the events point into, where not the body */
    struct weir_buffer envelope;
    char message[512]; /* why it was refused */
};

void http_events_init(struct http_events *events);
void http_events_fini(struct http_events *events);
/* The status a body of this type would be refused with before it is read: 0 or 415. */
int http_body_type(const struct http_body *body, char *message, size_t size);
/* 0, or the status to answer with and events->message. */
int http_body_events(const struct http_body *body, struct http_events *events);
