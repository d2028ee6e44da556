#pragma once
/* Options of connectors: what `kafka { … }`, `json { … }` take. Each kind of source, decoder and
 * sink brings a table of them; the rules' checker reads it, so that an unknown or ill-typed option
 * is refused with its place before anything runs, and the C side gets a JSON object whose values
 * have the forms said here. */
#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is written → what C gets. A placeholder (`env "X"`) is resolved first, but for secrets. */
enum weir_option_form {
    WEIR_OPTION_TEXT,     /* a text → string */
    WEIR_OPTION_COUNT,    /* a whole number from 0 → integer */
    WEIR_OPTION_NUMBER,   /* a number from 0 → number */
    WEIR_OPTION_RATIO,    /* a number from 0 to 1 → number */
    WEIR_OPTION_FLAG,     /* true or false → boolean */
    WEIR_OPTION_TIME,     /* "2026-01-05T06:00:00Z" → the text */
    WEIR_OPTION_DURATION, /* "10s" → microseconds, integer */
    WEIR_OPTION_BYTES,    /* "16MB" → bytes, integer */
    WEIR_OPTION_PATH,     /* a path or pattern, from the project root → absolute text */
    WEIR_OPTION_FILE,     /* a file whose text belongs to the rule set → absolute path */
    WEIR_OPTION_TEXTS,    /* a text or a list of texts → array of strings */
    WEIR_OPTION_COLUMNS,  /* a column's name or a list; a sink's must exist → array of strings */
    WEIR_OPTION_SETTINGS, /* { ["a.b"] = text, number or boolean } → object of strings */
    WEIR_OPTION_SECRET, /* env "X" or { file = "path" } → a reference, see weir_secret_resolve */
    WEIR_OPTION_DATA,   /* anything made of texts, numbers, booleans and tables → as written */
};

struct weir_option {
    const char *name; /* NULL ends a table */
    enum weir_option_form form;
    bool required;
    const char *example; /* in messages: topic = "pos"; NULL without */
    /* The texts it may be ("earliest", "latest"), NULL-ended, for form TEXT; NULL: any. */
    const char *const *choices;
};

const char *weir_option_form_name(enum weir_option_form form);

/* --- sinks, which lie beside the room that checks ------------------------------------------ */

struct weir_connector {
    const char *kind;
    const struct weir_option *options;
};

/* At start, before rules are read; `connectors` outlives the process's use of them. */
void weir_sink_connectors_set(const struct weir_connector *connectors, size_t count);
const struct weir_connector *weir_sink_connectors(size_t *count);

/* What `storage = delta { … }` takes beside its root. As above. */
void weir_storage_options_set(const struct weir_option *options);
const struct weir_option *weir_storage_options(void); /* NULL until set */

/* --- secrets ------------------------------------------------------------------------------ */

struct json_t;

/* The text behind a reference {"env": "NAME"[, "default": text]}, {"file": path} (without the line
 * end at its end) or {"parts": [text or reference…]}, joined. *out is the caller's, to be given to
 * weir_secret_free, which wipes it. WEIR_E_ENVIRONMENT when the variable or file is absent;
 * messages never hold the secret. */
int weir_secret_resolve(const struct json_t *reference, char **out,
                        struct weir_error *err) WEIR_MUST_CHECK;
void weir_secret_free(char *secret);

#ifdef __cplusplus
}
#endif
