#include "lake/delta/alter.h"

#include <ctype.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lake/delta/alter_schema.h"
#include "lake/delta/maintain.h"
#include "lake/delta/mapping.h"
#include "lake/delta/schema_json.h"
#include "lake/delta/stats.h"

#define ACTIONS_BYTES_MAX ((size_t)128 << 20)
#define LIST_BYTES_MAX ((size_t)1 << 20)
#define FORMER "weir.formerNames"
enum { FEATURES_MAX = 2, ADDED_MAX = 4 };

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "alter table: out of memory");
}

struct altering {
    const struct weir_delta_table *table;
    const struct weir_delta_alter_options *options;
    json_t *root;
    struct weir_delta_metadata next; /* lists of its own, texts borrowed but for those made below */
    char max_id[24];
    char *stats_columns; /* delta.dataSkippingStatsColumns as it will be; NULL: as it is */
    const char *features[FEATURES_MAX];
    int32_t feature_count;
    bool changed;
};

static json_t *find_field(const struct altering *altering, const char *name, size_t *index) {
    json_t *fields = json_object_get(altering->root, "fields");
    for (size_t i = 0; i < json_array_size(fields); i++) {
        json_t *field = json_array_get(fields, i);
        const char *own = json_string_value(json_object_get(field, "name"));
        if (own != NULL && strcasecmp(own, name) == 0) {
            *index = i;
            return field;
        }
    }
    return NULL;
}

static json_t *want_field(const struct altering *altering, const char *name, size_t *index,
                          struct weir_error *err) {
    json_t *field = find_field(altering, name, index);
    if (field == NULL) {
        weir_error_set(err, WEIR_E_SCHEMA, "the table has no column %s", name);
    }
    return field;
}

/* --- who reads it -------------------------------------------------------------------------- */

static bool is_word(char c) {
    return isalnum((unsigned char)c) != 0 || c == '_';
}

/* A word of the text, without case: too many are found rather than too few. */
static bool mentions(const char *text, const char *name) {
    size_t length = strlen(name);
    for (const char *at = text; at != NULL && *at != '\0'; at++) {
        if (strncasecmp(at, name, length) == 0 && !is_word(at[length]) &&
            (at == text || !is_word(at[-1]))) {
            return true;
        }
    }
    return false;
}

static int check_unread(const struct altering *altering, const char *name, struct weir_error *err) {
    static const char *const notes[] = {"delta.generationExpression", "delta.invariants"};
    const struct weir_delta_metadata *metadata = &altering->table->snapshot->metadata;
    const json_t *fields = json_object_get(altering->root, "fields");
    for (int32_t i = 0; i < metadata->configuration_count; i++) {
        const struct weir_delta_pair *pair = &metadata->configuration[i];
        if (strncmp(pair->key, "delta.constraints.", 18) == 0 && mentions(pair->value, name)) {
            return weir_error_set(err, WEIR_E_UNSUPPORTED,
                                  "the check constraint %s reads column %s; drop the constraint "
                                  "first",
                                  pair->key + 18, name);
        }
    }
    for (size_t i = 0; i < json_array_size(fields); i++) {
        const json_t *field = json_array_get(fields, i);
        for (size_t n = 0; n < 2; n++) {
            const char *text =
                json_string_value(json_object_get(json_object_get(field, "metadata"), notes[n]));
            if (text != NULL && mentions(text, name)) {
                return weir_error_set(err, WEIR_E_UNSUPPORTED,
                                      "what column %s must be reads column %s; change that first",
                                      json_string_value(json_object_get(field, "name")), name);
            }
        }
    }
    return WEIR_OK;
}

/* --- the changes --------------------------------------------------------------------------- */

static void need_feature(struct altering *altering, const char *feature) {
    const struct weir_delta_protocol *protocol = &altering->table->snapshot->protocol;
    bool legacy = strcmp(feature, "columnMapping") == 0 && protocol->writer_version < 7 &&
                  protocol->writer_version >= 5 && protocol->reader_version == 2;
    if (!legacy && !delta_has_writer_feature(protocol, feature)) {
        altering->features[altering->feature_count++] = feature;
    }
}

static void set_property(struct altering *altering, const char *key, const char *value) {
    struct weir_delta_metadata *next = &altering->next;
    for (int32_t i = 0; i < next->configuration_count; i++) {
        if (strcmp(next->configuration[i].key, key) == 0) {
            next->configuration[i].value = value;
            return;
        }
    }
    next->configuration[next->configuration_count++] = (struct weir_delta_pair){key, value};
}

/* Of a column with another name, or none any more (to: NULL), the statistics go with it. */
static int rename_statistics(struct altering *altering, const char *from, const char *to,
                             struct weir_error *err) {
    struct weir_delta_metadata *next = &altering->next;
    struct weir_buffer list;
    int32_t at = 0;
    while (at < next->configuration_count &&
           strcmp(next->configuration[at].key, DELTA_STATS_COLUMNS) != 0) {
        at++;
    }
    if (at == next->configuration_count) {
        return WEIR_OK;
    }
    weir_buffer_init(&list, LIST_BYTES_MAX);
    int rc = delta_stats_columns_rename(next->configuration[at].value, from, to, &list);
    const char *text = rc == WEIR_OK ? weir_buffer_text(&list) : NULL;
    char *kept = text != NULL ? strdup(text) : NULL;
    weir_buffer_fini(&list);
    if (kept == NULL) {
        return no_memory(err);
    }
    free(altering->stats_columns);
    altering->stats_columns = kept;
    next->configuration[at].value = kept;
    if (*kept == '\0') { /* none are named: the first ones have them again */
        next->configuration[at] = next->configuration[--next->configuration_count];
    }
    return WEIR_OK;
}

static int turn_on_mapping(struct altering *altering, struct weir_error *err) {
    const struct weir_delta_alter_options *options = altering->options;
    if (options->rename_count + options->drop_count == 0 ||
        delta_mapping_mode(&altering->table->snapshot->metadata) != NULL) {
        return WEIR_OK;
    }
    int64_t max = 0;
    int rc = delta_mapping_keep_names(altering->root, &max, err);
    snprintf(altering->max_id, sizeof(altering->max_id), "%" PRId64, max);
    set_property(altering, "delta.columnMapping.mode", "name");
    set_property(altering, "delta.columnMapping.maxColumnId", altering->max_id);
    need_feature(altering, "columnMapping");
    return rc;
}

/* A run that was killed after its commit may be repeated. */
static bool is_renamed(const struct altering *altering, const struct weir_delta_rename *rename) {
    char *now = weir_delta_renamed_to(&altering->table->snapshot->metadata, rename->from);
    bool done = now != NULL && strcmp(now, rename->to) == 0;
    free(now);
    return done;
}

static int rename_column(struct altering *altering, const struct weir_delta_rename *rename,
                         struct weir_error *err) {
    size_t at;
    size_t other;
    if (find_field(altering, rename->from, &at) == NULL && is_renamed(altering, rename)) {
        return WEIR_OK;
    }
    altering->changed = true;
    json_t *field = want_field(altering, rename->from, &at, err);
    int rc = field != NULL ? check_unread(altering, rename->from, err) : WEIR_E_SCHEMA;
    if (rc != WEIR_OK) {
        return rc;
    }
    if (*rename->to == '\0' || strpbrk(rename->to, " ,;{}()\n\t=.") != NULL) {
        return weir_error_set(err, WEIR_E_SCHEMA, "\"%s\" cannot be the name of a column",
                              rename->to);
    }
    if (find_field(altering, rename->to, &other) != NULL && other != at) {
        return weir_error_set(err, WEIR_E_SCHEMA, "the table has a column %s already", rename->to);
    }
    json_t *metadata = json_object_get(field, "metadata");
    json_t *former = json_object_get(metadata, FORMER);
    if (!json_is_array(former)) {
        former = json_array();
        rc = json_object_set_new(metadata, FORMER, former) == 0 ? WEIR_OK : no_memory(err);
    }
    const char *name = json_string_value(json_object_get(field, "name"));
    struct weir_delta_metadata *next = &altering->next;
    for (int32_t i = 0; i < next->partition_count && rc == WEIR_OK; i++) {
        if (strcmp(next->partition_columns[i], name) == 0) {
            next->partition_columns[i] = (char *)(uintptr_t)rename->to;
        }
    }
    rc = rc == WEIR_OK ? rename_statistics(altering, name, rename->to, err) : rc;
    if (rc == WEIR_OK && (json_array_append_new(former, json_string(name)) != 0 ||
                          json_object_set_new(field, "name", json_string(rename->to)) != 0)) {
        rc = no_memory(err);
    }
    return rc;
}

static int check_unclustered(const struct altering *altering, const json_t *field,
                             struct weir_error *err) {
    const char *name = json_string_value(json_object_get(field, "name"));
    const char *physical = json_string_value(
        json_object_get(json_object_get(field, "metadata"), "delta.columnMapping.physicalName"));
    bool does;
    int rc = delta_clusters_by(altering->table->snapshot, physical != NULL ? physical : name, &does,
                               err);
    return rc == WEIR_OK && does
               ? weir_error_set(err, WEIR_E_UNSUPPORTED,
                                "the table is clustered by column %s, which cannot be dropped; "
                                "cluster it by others first (ALTER TABLE … CLUSTER BY, in Spark)",
                                name)
               : rc;
}

static int drop_column(struct altering *altering, const char *name, struct weir_error *err) {
    size_t at;
    json_t *fields = json_object_get(altering->root, "fields");
    altering->changed = true;
    const json_t *field = want_field(altering, name, &at, err);
    int rc = field != NULL ? check_unread(altering, name, err) : WEIR_E_SCHEMA;
    rc = rc == WEIR_OK ? check_unclustered(altering, field, err) : rc;
    for (int32_t i = 0; i < altering->next.partition_count && rc == WEIR_OK; i++) {
        if (strcasecmp(altering->next.partition_columns[i], name) == 0) {
            rc = weir_error_set(err, WEIR_E_SCHEMA,
                                "the table is partitioned by column %s, which cannot be dropped",
                                name);
        }
    }
    if (rc == WEIR_OK && (int32_t)json_array_size(fields) <= altering->next.partition_count + 1) {
        rc = weir_error_set(err, WEIR_E_SCHEMA,
                            "%s is the last column the files have, and cannot be dropped", name);
    }
    rc = rc == WEIR_OK ? rename_statistics(altering, name, NULL, err) : rc;
    return rc == WEIR_OK && json_array_remove(fields, at) != 0 ? no_memory(err) : rc;
}

static int widen_column(struct altering *altering, const struct weir_delta_widening *widening,
                        struct weir_error *err) {
    size_t at;
    json_t *field = want_field(altering, widening->column, &at, err);
    altering->changed = true;
    int rc = field != NULL ? WEIR_OK : WEIR_E_SCHEMA;
    for (int32_t i = 0; i < altering->next.partition_count && rc == WEIR_OK; i++) {
        if (strcasecmp(altering->next.partition_columns[i], widening->column) == 0) {
            rc = weir_error_set(err, WEIR_E_UNSUPPORTED,
                                "the table is partitioned by column %s, whose type stays",
                                widening->column);
        }
    }
    rc = rc == WEIR_OK ? delta_schema_widen_field(field, widening->type, err) : rc;
    if (rc == WEIR_OK && altering->feature_count < FEATURES_MAX) {
        set_property(altering, "delta.enableTypeWidening", "true");
    }
    return rc;
}

static int apply_options(struct altering *altering, struct weir_error *err) {
    const struct weir_delta_alter_options *options = altering->options;
    int rc = turn_on_mapping(altering, err);
    for (int32_t i = 0; i < options->rename_count && rc == WEIR_OK; i++) {
        rc = rename_column(altering, &options->renames[i], err);
    }
    for (int32_t i = 0; i < options->drop_count && rc == WEIR_OK; i++) {
        rc = drop_column(altering, options->drops[i], err);
    }
    for (int32_t i = 0; i < options->widening_count && rc == WEIR_OK; i++) {
        rc = widen_column(altering, &options->widenings[i], err);
    }
    if (options->widening_count > 0) {
        need_feature(altering, "typeWidening");
    }
    return rc;
}

/* --- the commit ---------------------------------------------------------------------------- */

static int format(struct altering *altering, struct weir_buffer *out, struct weir_error *err) {
    char *schema = json_dumps(altering->root, JSON_COMPACT);
    int rc = schema != NULL ? WEIR_OK : WEIR_E_NOMEM;
    altering->next.schema_string = schema;
    if (rc == WEIR_OK && altering->feature_count > 0) {
        rc = delta_protocol_add(&altering->table->snapshot->protocol, altering->features,
                                altering->feature_count, out);
    }
    rc = rc == WEIR_OK ? weir_delta_metadata_format(&altering->next, out) : rc;
    rc = rc == WEIR_OK ? weir_buffer_append(out, "\n", 1) : rc;
    free(schema);
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "alter table: %s", weir_error_text(rc));
}

static int derive(const struct weir_delta_table *table,
                  const struct weir_delta_alter_options *options, struct weir_buffer *out,
                  struct weir_error *err) {
    const struct weir_delta_metadata *now = &table->snapshot->metadata;
    struct altering altering = {.table = table, .options = options, .next = *now};
    size_t partitions = (size_t)now->partition_count;
    altering.root = json_loads(now->schema_string, 0, NULL);
    altering.next.configuration =
        delta_pairs_copy(now->configuration, now->configuration_count, ADDED_MAX);
    altering.next.partition_columns = calloc(partitions + 1, sizeof(char *));
    weir_buffer_clear(out);
    int rc = altering.root != NULL && altering.next.configuration != NULL &&
                     altering.next.partition_columns != NULL
                 ? WEIR_OK
                 : no_memory(err);
    if (rc == WEIR_OK) {
        for (size_t i = 0; i < partitions; i++) {
            altering.next.partition_columns[i] = now->partition_columns[i];
        }
        rc = apply_options(&altering, err);
    }
    rc = rc == WEIR_OK && altering.changed ? format(&altering, out, err) : rc;
    free(altering.next.configuration);
    free(altering.stats_columns);
    free((void *)altering.next.partition_columns);
    json_decref(altering.root);
    return rc;
}

int weir_delta_alter(struct weir_delta_table *table, const struct weir_delta_alter_options *options,
                     struct weir_error *err) {
    static const struct weir_delta_commit_options retry;
    struct weir_buffer actions;
    weir_buffer_init(&actions, ACTIONS_BYTES_MAX);
    struct delta_commit_body body = {.operation = options->widening_count > 0  ? "CHANGE COLUMNS"
                                                  : options->rename_count == 0 ? "DROP COLUMNS"
                                                                               : "RENAME COLUMN",
                                     .parameters_json = "{}",
                                     .actions = &actions};
    int rc = WEIR_OK;
    for (int32_t attempt = 1; rc == WEIR_OK; attempt++) {
        rc = derive(table, options, &actions, err);
        if (rc == WEIR_OK && actions.size > 0) {
            rc = delta_commit_actions(table, &body, err);
        }
        if (rc != WEIR_E_CONFLICT) {
            break;
        }
        rc = delta_commit_rebase(table, attempt, &retry, err);
    }
    weir_buffer_fini(&actions);
    return rc == WEIR_OK
               ? rc
               : weir_error_wrap(err, "alter table %s", DELTA_SHOWN(table->store, table->dir));
}

char *weir_delta_renamed_to(const struct weir_delta_metadata *metadata, const char *former) {
    if (strstr(metadata->schema_string, FORMER) == NULL) {
        return NULL;
    }
    json_t *root = json_loads(metadata->schema_string, 0, NULL);
    const json_t *fields = json_object_get(root, "fields");
    char *found = NULL;
    for (size_t i = 0; i < json_array_size(fields) && found == NULL; i++) {
        const json_t *field = json_array_get(fields, i);
        const json_t *names = json_object_get(json_object_get(field, "metadata"), FORMER);
        const char *own = json_string_value(json_object_get(field, "name"));
        for (size_t n = 0; n < json_array_size(names) && own != NULL && found == NULL; n++) {
            const char *name = json_string_value(json_array_get(names, n));
            found = name != NULL && strcasecmp(name, former) == 0 ? strdup(own) : NULL;
        }
    }
    json_decref(root);
    return found;
}
