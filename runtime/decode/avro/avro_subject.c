#include "decode/avro/avro_subject.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decode/avro/avro_compat.h"

/* Why the registry did not take it: the first thing by which the newest version and this one
 * cannot read each other. */
static int refused(struct avro_registry *registry, const char *subject, const char *schema,
                   const char *answer, struct weir_error *err) {
    struct weir_buffer newest;
    struct weir_error ignored;
    char why[AVRO_COMPAT_TEXT_BYTES] = "";
    weir_buffer_init(&newest, 16 << 20);
    if (avro_registry_latest(registry, subject, &newest, &ignored) == WEIR_OK) {
        struct avro_schema old = {0};
        struct avro_schema new = {0};
        if (avro_schema_parse(&old, (const char *)newest.data, newest.size, subject, &ignored) ==
                WEIR_OK &&
            avro_schema_parse(&new, schema, strlen(schema), subject, &ignored) == WEIR_OK) {
            if (avro_compat_first(new.top, old.top, why, sizeof(why))) {
                avro_compat_first(old.top, new.top, why, sizeof(why));
            }
        }
        avro_schema_fini(&old);
        avro_schema_fini(&new);
    }
    weir_buffer_fini(&newest);
    return weir_error_set(err, WEIR_E_CONFLICT,
                          "the registry refuses the schema for subject %s: %s; make the column one "
                          "that may be null, write under another subject, or let the registry's "
                          "compatibility of it be wider",
                          subject, why[0] != '\0' ? why : answer);
}

int avro_subject_register(struct avro_registry *registry, const char *subject, const char *schema,
                          bool make, int32_t *id, struct weir_error *err) {
    struct weir_buffer path;
    weir_buffer_init(&path, 8192);
    json_t *answer = NULL;
    json_t *request = json_pack("{s:s}", "schema", schema);
    char *body = request != NULL ? json_dumps(request, JSON_COMPACT) : NULL;
    int rc = body == NULL ? WEIR_E_NOMEM : weir_buffer_append_text(&path, "/subjects/");
    rc = rc == WEIR_OK ? weir_http_encode(&path, subject, false) : rc;
    rc = rc == WEIR_OK && make ? weir_buffer_append_text(&path, "/versions") : rc;
    const char *text = rc == WEIR_OK ? weir_buffer_text(&path) : NULL;
    if (text == NULL) {
        rc = weir_error_set(err, WEIR_E_NOMEM, "registry: out of memory");
    } else {
        rc = avro_registry_call(registry, "POST", text, body, &answer, err);
    }
    const json_t *number = json_object_get(answer, "id");
    if (rc == WEIR_OK && !json_is_integer(number)) {
        rc = weir_error_set(err, WEIR_E_ENVIRONMENT, "the registry gave no id for subject %s",
                            subject);
    } else if (rc == WEIR_OK) {
        *id = (int32_t)json_integer_value(number);
    } else if (rc == WEIR_E_CONFLICT) {
        struct weir_error why = err != NULL ? *err : (struct weir_error){0};
        rc = refused(registry, subject, schema, why.message, err);
    } else if (rc == WEIR_E_SCHEMA) {
        weir_error_wrap(err, "the registry takes the schema for subject %s for none", subject);
        rc = err != NULL ? (err->code = WEIR_E_CONFIG) : WEIR_E_CONFIG;
    } else if (rc == WEIR_E_NOTFOUND) {
        rc = weir_error_set(err, WEIR_E_CONFIG,
                            "the registry does not hold this schema under subject %s; register it "
                            "first, or let Weir: register = true",
                            subject);
    }
    json_decref(answer);
    json_decref(request);
    free(body);
    weir_buffer_fini(&path);
    return rc;
}

static int ask_for(struct avro_registry *registry, const char *before, const char *subject,
                   const char *after, json_t **out, struct weir_error *err) {
    struct weir_buffer path;
    weir_buffer_init(&path, 8192);
    *out = NULL;
    int rc = weir_buffer_append_text(&path, before);
    rc = rc == WEIR_OK && subject != NULL ? weir_http_encode(&path, subject, false) : rc;
    rc = rc == WEIR_OK ? weir_buffer_append_text(&path, after) : rc;
    const char *text = rc == WEIR_OK ? weir_buffer_text(&path) : NULL;
    rc = text != NULL ? avro_registry_call(registry, "GET", text, NULL, out, err)
                      : weir_error_set(err, WEIR_E_NOMEM, "registry: out of memory");
    weir_buffer_fini(&path);
    return rc;
}

static int wants_array(json_t **answer, struct weir_error *err) {
    if (json_is_array(*answer)) {
        return WEIR_OK;
    }
    json_decref(*answer);
    *answer = NULL;
    return weir_error_set(err, WEIR_E_ENVIRONMENT,
                          "the registry answered no list; is it a schema registry?");
}

int avro_subject_list(struct avro_registry *registry, struct json_t **out, struct weir_error *err) {
    int rc = ask_for(registry, "/subjects", NULL, "", out, err);
    return rc == WEIR_OK ? wants_array(out, err) : rc;
}

int avro_subject_versions(struct avro_registry *registry, const char *subject, struct json_t **out,
                          struct weir_error *err) {
    int rc = ask_for(registry, "/subjects/", subject, "/versions", out, err);
    return rc == WEIR_OK ? wants_array(out, err) : rc;
}

int avro_subject_version(struct avro_registry *registry, const char *subject, const char *version,
                         struct json_t **out, struct weir_error *err) {
    char after[64];
    snprintf(after, sizeof(after), "/versions/%.32s", version);
    int rc = ask_for(registry, "/subjects/", subject, after, out, err);
    if (rc == WEIR_OK && !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        rc = weir_error_set(err, WEIR_E_ENVIRONMENT,
                            "the registry answered no version; is it a schema registry?");
    }
    return rc;
}

int avro_subject_level(struct avro_registry *registry, const char *subject, char *out, size_t size,
                       struct weir_error *err) {
    json_t *answer;
    int rc = ask_for(registry, "/config/", subject, "?defaultToGlobal=true", &answer, err);
    if (rc == WEIR_E_NOTFOUND) { /* none of its own */
        rc = ask_for(registry, "/config", NULL, "", &answer, err);
    }
    const char *level = json_string_value(json_object_get(answer, "compatibilityLevel"));
    if (rc == WEIR_OK) {
        snprintf(out, size, "%s", level != NULL ? level : "BACKWARD");
    }
    json_decref(answer);
    return rc;
}
