#pragma once
/* A client of a Confluent-compatible schema registry (docs.confluent.io, "Schema Registry API"):
 * schemas by id and by subject, with the schemas they refer to. Private to the Avro decoder. One
 * thread at a time. */
#include "core/http.h"
#include "decode/avro_type.h"

struct avro_registry;

/* `options`: the decoder's, for registry, username, password and token. No request is sent. */
int avro_registry_create(const struct json_t *options, struct avro_registry **out,
                         struct weir_error *err) WEIR_MUST_CHECK;
void avro_registry_destroy(struct avro_registry *registry);

/* The schema with that id, its references parsed before it. WEIR_E_NOTFOUND: the registry says
 * there is none. WEIR_E_UNAVAILABLE: it says nothing. */
int avro_registry_by_id(struct avro_registry *registry, int32_t id, struct avro_schema *schema,
                        struct weir_error *err) WEIR_MUST_CHECK;
/* The text of a subject's newest schema. WEIR_E_UNSUPPORTED where it refers to others. */
int avro_registry_latest(struct avro_registry *registry, const char *subject,
                         struct weir_buffer *text, struct weir_error *err) WEIR_MUST_CHECK;
