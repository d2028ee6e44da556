/* The plan of a rebuild is the pipeline's with less in it: sources are the tables they write, what
 * has nothing to do with the dataset is left out, and only what is made anew is written. */
#include <stdlib.h>
#include <string.h>

#include "pipeline/internal.h"
#include "pipeline/rebuild.h"

enum { PATH_BYTES_MAX = 2048 };

static const char *const lists[] = {"streams", "models"};
enum { LIST_COUNT = sizeof(lists) / sizeof(lists[0]) };

static const char *text(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

static bool has(const json_t *names, const char *name) {
    size_t i;
    json_t *one;
    json_array_foreach(names, i, one) {
        if (name != NULL && strcmp(json_string_value(one), name) == 0) {
            return true;
        }
    }
    return false;
}

/* False where it was there. */
static bool put(json_t *names, const char *name) {
    if (name == NULL || has(names, name)) {
        return false;
    }
    json_array_append_new(names, json_string(name));
    return true;
}

/* What a stream or model writes: itself, or what a rule emits. */
static bool put_written(const json_t *node, json_t *names) {
    bool more = put(names, text(node, "name"));
    size_t i;
    json_t *emit;
    json_array_foreach(json_object_get(json_object_get(node, "rule"), "emits"), i, emit) {
        more |= put(names, text(emit, "name"));
    }
    return more;
}

static bool put_read(const json_t *node, json_t *names) {
    bool more = false;
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(node, "from"), i, one) {
        more |= put(names, json_string_value(one));
    }
    json_array_foreach(json_object_get(node, "lookups"), i, one) {
        more |= put(names, text(one, "from"));
    }
    json_array_foreach(json_object_get(node, "joins"), i, one) {
        more |= put(names, text(one, "from"));
    }
    return more;
}

static bool meets(const json_t *a, const json_t *b) {
    size_t i;
    json_t *one;
    json_array_foreach(a, i, one) {
        if (has(b, json_string_value(one))) {
            return true;
        }
    }
    return false;
}

/* Grows `names`, of datasets, by what stems from them, or by what they stem from. */
static void close_over(const json_t *plan, json_t *names, bool down) {
    for (bool more = true; more;) {
        more = false;
        for (int l = 0; l < LIST_COUNT; l++) {
            size_t i;
            json_t *node;
            json_array_foreach(json_object_get(plan, lists[l]), i, node) {
                json_t *written = json_array();
                json_t *read = json_array();
                put_written(node, written);
                put_read(node, read);
                if (down && meets(read, names)) {
                    more |= put_written(node, names);
                } else if (!down && meets(written, names)) {
                    more |= put_read(node, names);
                }
                json_decref(written);
                json_decref(read);
            }
        }
    }
}

static json_t *find(const json_t *plan, const char *dataset) {
    for (int l = 0; l < LIST_COUNT; l++) {
        size_t i;
        json_t *node;
        json_array_foreach(json_object_get(plan, lists[l]), i, node) {
            json_t *written = json_array();
            put_written(node, written);
            bool found = has(written, dataset);
            json_decref(written);
            if (found) {
                return node;
            }
        }
    }
    return NULL;
}

static int check_into(const char *name, const json_t *into, struct weir_error *err) {
    const char *kind = text(into, "kind");
    if (kind != NULL && strcmp(kind, "delta") != 0 && strcmp(kind, "none") != 0) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "%s goes to %s, where what was written cannot be replaced; write the "
                              "new form under another name",
                              name, kind);
    }
    return WEIR_OK;
}

static void put_table(json_t *tables, const char *name, const json_t *into) {
    if (into != NULL && !json_is_null(into) && text(into, "kind") != NULL &&
        strcmp(text(into, "kind"), "delta") == 0) {
        put(tables, name);
    }
}

int rebuild_names(const json_t *plan, const char *dataset, json_t **declarations, json_t **tables,
                  struct weir_error *err) {
    json_t *node = find(plan, dataset);
    *declarations = json_array();
    *tables = json_array();
    if (node == NULL) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "there is no stream, model or rule that writes %s; `weir explain` "
                              "lists them",
                              dataset);
    }
    json_t *made = json_array();
    put_written(node, made);
    close_over(plan, made, true);
    int rc = WEIR_OK;
    for (int l = 0; l < LIST_COUNT; l++) {
        size_t i;
        json_array_foreach(json_object_get(plan, lists[l]), i, node) {
            if (!has(made, text(node, "name"))) {
                continue;
            }
            put(*declarations, text(node, "name"));
            size_t e;
            json_t *emit;
            const json_t *emits = json_object_get(json_object_get(node, "rule"), "emits");
            json_array_foreach(emits, e, emit) {
                put_table(*tables, text(emit, "name"), json_object_get(emit, "into"));
                rc = rc == WEIR_OK
                         ? check_into(text(emit, "name"), json_object_get(emit, "into"), err)
                         : rc;
            }
            put_table(*tables, text(node, "name"), json_object_get(node, "into"));
            rc = rc == WEIR_OK ? check_into(text(node, "name"), json_object_get(node, "into"), err)
                               : rc;
        }
    }
    json_decref(made);
    return rc;
}

/* --- what it is made from --------------------------------------------------------------------
 */

/* Bronze holds all rows of the source, as they came. */
static int check_source(const json_t *source, struct weir_error *err) {
    const char *name = text(source, "name");
    const json_t *into = json_object_get(source, "into");
    const json_t *options = json_object_get(json_object_get(source, "connector"), "options");
    const char *kind = text(into, "kind");
    const char *mode = text(into, "mode");
    const char *partitions = text(options, "partitions");
    const json_t *topic = json_object_get(options, "topic");
    if (kind == NULL || strcmp(kind, "delta") != 0) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "%s is not kept in a table (into = %s), so there is nothing to make "
                              "it from anew; keep the source, or give the new form another name, "
                              "which begins with the rows that come",
                              name, kind != NULL ? kind : "none");
    }
    if (mode != NULL && strcmp(mode, "merge") == 0) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "the table of %s holds one row a key, not the rows that came; it "
                              "takes into = delta { mode = \"append\" } to make what stems from it "
                              "anew",
                              name);
    }
    if (json_integer_value(json_object_get(into, "keep_us")) > 0 ||
        text(into, "overwrite") != NULL) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "the table of %s does not keep all rows (%s); what is older cannot "
                              "be made anew",
                              name, text(into, "overwrite") != NULL ? "overwrite" : "keep");
    }
    if ((partitions != NULL && strcmp(partitions, "file") == 0) ||
        text(options, "pattern") != NULL || json_array_size(topic) > 1) {
        return weir_error_set(err, WEIR_E_UNSUPPORTED,
                              "%s reads several topics, or files side by side, whose times cannot "
                              "be told apart in its table yet",
                              name);
    }
    return WEIR_OK;
}

/* The source reads the table it writes. */
static int turn_source(json_t *source, const json_t *storage, struct weir_error *err) {
    char path[PATH_BYTES_MAX];
    const char *root = text(storage, "root");
    if (root == NULL) {
        return weir_error_set(err, WEIR_E_CONFIG, "the pipeline has no tables to rebuild from");
    }
    int used = snprintf(path, sizeof(path), "%s/", root);
    if (used >= (int)sizeof(path)) {
        return weir_error_set(err, WEIR_E_LIMIT, "the path of a table is too long");
    }
    int rc = weir_sink_folder(text(source, "name"), path + used, sizeof(path) - (size_t)used, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    json_t *options = json_deep_copy(json_object_get(storage, "options"));
    options = options != NULL ? options : json_object();
    json_object_set_new(options, "path", json_string(path));
    json_object_set_new(source, "connector",
                        json_pack("{s:s,s:o}", "kind", "delta", "options", options));
    json_object_set_new(source, "decoder", json_null());
    json_object_set_new(source, "into", json_null());
    return WEIR_OK;
}

static json_t *nowhere(void) {
    return json_pack("{s:s}", "kind", "none");
}

/* Only those of `needed`; written only those of `made`. */
static int keep_nodes(json_t *plan, const json_t *needed, const json_t *made,
                      struct weir_error *err) {
    for (int l = 0; l < LIST_COUNT; l++) {
        json_t *list = json_object_get(plan, lists[l]);
        for (size_t i = json_array_size(list); i-- > 0;) {
            json_t *node = json_array_get(list, i);
            json_t *written = json_array();
            put_written(node, written);
            bool kept = meets(written, needed);
            json_decref(written);
            if (!kept) {
                json_array_remove(list, i);
                continue;
            }
            size_t k;
            json_t *one;
            json_array_foreach(json_object_get(node, "lookups"), k, one) {
                if (json_object_get(one, "http") != NULL) {
                    return weir_error_set(err, WEIR_E_CONFIG,
                                          "%s asks a service about its rows, which answers for now "
                                          "and not for then; it cannot be made anew",
                                          text(node, "name"));
                }
            }
            json_object_set_new(node, "quarantine", nowhere());
            if (has(made, text(node, "name"))) {
                continue;
            }
            json_object_set_new(node, "into", json_null());
            json_array_foreach(json_object_get(json_object_get(node, "rule"), "emits"), k, one) {
                json_object_set_new(one, "into", json_null());
            }
        }
    }
    return WEIR_OK;
}

static int keep_sources(json_t *plan, const json_t *needed, struct weir_error *err) {
    json_t *list = json_object_get(plan, "sources");
    const json_t *storage = json_object_get(json_object_get(plan, "pipeline"), "storage");
    int rc = WEIR_OK;
    for (size_t i = json_array_size(list); rc == WEIR_OK && i-- > 0;) {
        json_t *source = json_array_get(list, i);
        if (!has(needed, text(source, "name"))) {
            json_array_remove(list, i);
            continue;
        }
        rc = check_source(source, err);
        rc = rc == WEIR_OK ? turn_source(source, storage, err) : rc;
        json_object_set_new(source, "quarantine", nowhere());
    }
    return rc;
}

static int narrow(json_t *plan, const struct rebuilding *rebuilding, struct weir_error *err) {
    json_t *pipeline = json_object_get(plan, "pipeline");
    json_t *ledger = json_object_get(pipeline, "ledger");
    json_t *made = NULL;
    json_t *tables = NULL;
    json_object_del(pipeline, "serve");
    if (rebuilding->dataset == NULL) {
        for (int l = 0; l < LIST_COUNT; l++) {
            json_array_clear(json_object_get(plan, lists[l]));
        }
        return WEIR_OK;
    }
    if (ledger == NULL) {
        ledger = json_object();
        json_object_set_new(pipeline, "ledger", ledger);
    }
    json_object_set_new(ledger, "path", json_string(rebuilding->ledger));
    json_object_set_new(pipeline, "commit", json_pack("{s:i}", "every_us", 1000000));
    json_object_set_new(pipeline, "quarantine", nowhere());
    int rc = rebuild_names(plan, rebuilding->dataset, &made, &tables, err);
    json_t *needed = json_deep_copy(made);
    close_over(plan, needed, false);
    rc = rc == WEIR_OK ? keep_sources(plan, needed, err) : rc;
    rc = rc == WEIR_OK ? keep_nodes(plan, needed, made, err) : rc;
    json_decref(needed);
    json_decref(made);
    json_decref(tables);
    return rc;
}

int rebuild_document(const struct rebuilding *rebuilding, const char *plan, char **out,
                     struct weir_error *err) {
    json_t *root = json_loads(plan, 0, NULL);
    *out = NULL;
    int rc = root != NULL ? narrow(root, rebuilding, err)
                          : weir_error_set(err, WEIR_E_BUG, "rebuild: the plan cannot be read");
    if (rc == WEIR_OK) {
        *out = json_dumps(root, JSON_COMPACT);
        rc = *out != NULL ? rc : weir_error_set(err, WEIR_E_NOMEM, "rebuild: out of memory");
    }
    json_decref(root);
    return rc == WEIR_OK || rebuilding->dataset == NULL
               ? rc
               : weir_error_wrap(err, "rebuild %s", rebuilding->dataset);
}
