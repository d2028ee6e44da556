#pragma once
/* What a registry keeps under a subject: versions of a schema, and what may follow them. One thread
 * at a time; blocks on the registry. */
#include "decode/avro/avro_registry.h"

/* Registers the schema, or finds it registered; *id is its number. `make` false: only finds it.
 * WEIR_E_CONFLICT where the registry refuses it beside older versions (the message names subject,
 * field and way out), WEIR_E_CONFIG where it is none or, without `make`, is not there. */
int avro_subject_register(struct avro_registry *registry, const char *subject, const char *schema,
                          bool make, int32_t *id, struct weir_error *err) WEIR_MUST_CHECK;

/* The names of all subjects, or the numbers of a subject's versions, as a JSON array, the caller's.
 */
int avro_subject_list(struct avro_registry *registry, struct json_t **out,
                      struct weir_error *err) WEIR_MUST_CHECK;
int avro_subject_versions(struct avro_registry *registry, const char *subject, struct json_t **out,
                          struct weir_error *err) WEIR_MUST_CHECK;
/* What the registry answers for a version ("3", "latest"): id, version, schema, schemaType where it
 * is not Avro, references. A JSON object, the caller's. */
int avro_subject_version(struct avro_registry *registry, const char *subject, const char *version,
                         struct json_t **out, struct weir_error *err) WEIR_MUST_CHECK;
/* "BACKWARD", "FULL_TRANSITIVE", …: the subject's own, else the registry's. */
int avro_subject_level(struct avro_registry *registry, const char *subject, char *out, size_t size,
                       struct weir_error *err) WEIR_MUST_CHECK;
