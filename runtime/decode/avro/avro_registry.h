#pragma once
/* A client of a Confluent-compatible schema registry (docs.confluent.io, "Schema Registry API"):
 * schemas by id and by subject, with the schemas they refer to. One thread at a time. */
#include "core/http.h"
#include "decode/avro/avro_type.h"

struct avro_registry;

/* `options`: the decoder's, for registry, username, password and token. No request is sent. */
int avro_registry_create(const struct json_t *options, struct avro_registry **out,
                         struct weir_error *err) WEIR_MUST_CHECK;
void avro_registry_destroy(struct avro_registry *registry);
/* True: a request gives up at once (WEIR_E_CLOSED). */
void avro_registry_set_stop(struct avro_registry *registry, bool (*stop)(void *context),
                            void *context);

/* One request, answered with JSON; *out is the caller's. `body` NULL: none. WEIR_E_NOTFOUND,
 * WEIR_E_CONFLICT (409), WEIR_E_SCHEMA (422), WEIR_E_ENVIRONMENT (other refusals),
 * WEIR_E_UNAVAILABLE (no answer in three seconds). */
int avro_registry_call(struct avro_registry *registry, const char *method, const char *path,
                       const char *body, struct json_t **out,
                       struct weir_error *err) WEIR_MUST_CHECK;

/* The schema with that id, its references parsed before it. WEIR_E_NOTFOUND: the registry says
 * there is none. WEIR_E_UNAVAILABLE: it says nothing. */
int avro_registry_by_id(struct avro_registry *registry, int32_t id, struct avro_schema *schema,
                        struct weir_error *err) WEIR_MUST_CHECK;
struct avro_version {
    int32_t version;
    int32_t id;
    struct avro_schema schema; /* the caller's */
};
/* A subject's version ("3", "latest"), what it refers to parsed before it. As by_id. */
int avro_registry_version(struct avro_registry *registry, const char *subject, const char *version,
                          struct avro_version *out, struct weir_error *err) WEIR_MUST_CHECK;
/* The text of a subject's newest schema. WEIR_E_UNSUPPORTED where it refers to others. */
int avro_registry_latest(struct avro_registry *registry, const char *subject,
                         struct weir_buffer *text, struct weir_error *err) WEIR_MUST_CHECK;
