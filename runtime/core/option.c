#include "core/option.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SECRET_BYTES_MAX = 64 * 1024 };

static const struct weir_connector *sinks;
static size_t sink_count;
static const struct weir_option *storage;

const char *weir_option_form_name(enum weir_option_form form) {
    static const char *const names[] = {
        [WEIR_OPTION_TEXT] = "text",         [WEIR_OPTION_COUNT] = "count",
        [WEIR_OPTION_NUMBER] = "number",     [WEIR_OPTION_RATIO] = "ratio",
        [WEIR_OPTION_FLAG] = "flag",         [WEIR_OPTION_TIME] = "time",
        [WEIR_OPTION_DURATION] = "duration", [WEIR_OPTION_BYTES] = "bytes",
        [WEIR_OPTION_PATH] = "path",         [WEIR_OPTION_FILE] = "file",
        [WEIR_OPTION_TEXTS] = "texts",       [WEIR_OPTION_COLUMNS] = "columns",
        [WEIR_OPTION_SETTINGS] = "settings", [WEIR_OPTION_SECRET] = "secret",
        [WEIR_OPTION_DATA] = "data",
    };
    return names[form];
}

void weir_sink_connectors_set(const struct weir_connector *connectors, size_t count) {
    sinks = connectors;
    sink_count = count;
}

const struct weir_connector *weir_sink_connectors(size_t *count) {
    *count = sink_count;
    return sinks;
}

void weir_storage_options_set(const struct weir_option *options) {
    storage = options;
}

const struct weir_option *weir_storage_options(void) {
    return storage;
}

/* --- secrets ------------------------------------------------------------------------------ */

static void wipe(char *text, size_t size) {
    explicit_bzero(text, size);
}

static int append(char *out, size_t *used, const char *text, size_t length,
                  struct weir_error *err) {
    if (*used + length >= SECRET_BYTES_MAX) {
        return weir_error_set(err, WEIR_E_LIMIT, "a secret is longer than %d bytes",
                              SECRET_BYTES_MAX - 1);
    }
    memcpy(out + *used, text, length);
    *used += length;
    return WEIR_OK;
}

static int append_file(char *out, size_t *used, const char *path, struct weir_error *err) {
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return weir_error_system(err, WEIR_E_ENVIRONMENT, errno, "the secret's file %s", path);
    }
    char text[4096];
    size_t length;
    int rc = WEIR_OK;
    while (rc == WEIR_OK && (length = fread(text, 1, sizeof(text), file)) > 0) {
        rc = append(out, used, text, length, err);
    }
    if (rc == WEIR_OK && ferror(file)) {
        rc = weir_error_set(err, WEIR_E_ENVIRONMENT, "the secret's file %s cannot be read", path);
    }
    wipe(text, sizeof(text));
    fclose(file);
    while (*used > 0 && (out[*used - 1] == '\n' || out[*used - 1] == '\r')) {
        (*used)--;
    }
    return rc;
}

static int append_reference(char *out, size_t *used, const json_t *reference,
                            struct weir_error *err) {
    if (json_is_string(reference)) {
        return append(out, used, json_string_value(reference), json_string_length(reference), err);
    }
    const char *file = json_string_value(json_object_get(reference, "file"));
    if (file != NULL) {
        return append_file(out, used, file, err);
    }
    const char *name = json_string_value(json_object_get(reference, "env"));
    if (name != NULL) {
        const char *text = getenv(name);
        if (text == NULL) {
            text = json_string_value(json_object_get(reference, "default"));
        }
        return text != NULL
                   ? append(out, used, text, strlen(text), err)
                   : weir_error_set(err, WEIR_E_ENVIRONMENT,
                                    "the environment variable %s, which holds a secret, is not set",
                                    name);
    }
    const json_t *parts = json_object_get(reference, "parts");
    if (!json_is_array(parts)) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "a secret is env \"NAME\" or { file = \"path\" }");
    }
    int rc = WEIR_OK;
    for (size_t i = 0; rc == WEIR_OK && i < json_array_size(parts); i++) {
        rc = append_reference(out, used, json_array_get(parts, i), err);
    }
    return rc;
}

int weir_secret_resolve(const struct json_t *reference, char **out, struct weir_error *err) {
    *out = NULL;
    char *text = calloc(1, SECRET_BYTES_MAX);
    if (text == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory for a secret");
    }
    size_t used = 0;
    int rc = append_reference(text, &used, reference, err);
    text[used] = '\0';
    *out = rc == WEIR_OK ? strdup(text) : NULL;
    wipe(text, SECRET_BYTES_MAX);
    free(text);
    if (rc == WEIR_OK && *out == NULL) {
        rc = weir_error_set(err, WEIR_E_NOMEM, "out of memory for a secret");
    }
    return rc;
}

void weir_secret_free(char *secret) {
    if (secret != NULL) {
        wipe(secret, strlen(secret));
        free(secret);
    }
}
