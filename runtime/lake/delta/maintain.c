/* What the maintenance of tables shares. */
#include "lake/delta/maintain.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lake/delta/partition.h"
#include "lake/delta/stats.h"

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "table maintenance: out of memory");
}

int delta_snapshot_head(const struct weir_delta_snapshot *from, struct weir_delta_snapshot **out,
                        struct weir_error *err) {
    struct weir_delta_snapshot *head = calloc(1, sizeof(*head));
    if (head == NULL) {
        return no_memory(err);
    }
    head->store = from->store;
    head->dir = strdup(from->dir);
    int rc = head->dir != NULL ? delta_apply_protocol(head, &from->protocol, err) : no_memory(err);
    if (rc == WEIR_OK) {
        rc = delta_apply_metadata(head, &from->metadata, err);
    }
    head->version = from->version;
    head->timestamp_ms = from->timestamp_ms;
    head->checkpoint_version = from->checkpoint_version;
    if (rc != WEIR_OK) {
        weir_delta_snapshot_destroy(head);
        return rc;
    }
    *out = head;
    return WEIR_OK;
}

static bool same_text(const char *a, const char *b) {
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

bool delta_same_table(const struct weir_delta_snapshot *head,
                      const struct weir_delta_snapshot *now) {
    const struct weir_delta_metadata *a = &head->metadata;
    const struct weir_delta_metadata *b = &now->metadata;
    static const char mapping[] = "delta.columnMapping.mode";
    bool same = same_text(a->id, b->id) && same_text(a->schema_string, b->schema_string) &&
                a->partition_count == b->partition_count &&
                same_text(weir_delta_metadata_property(a, mapping),
                          weir_delta_metadata_property(b, mapping));
    for (int32_t i = 0; same && i < a->partition_count; i++) {
        same = same_text(a->partition_columns[i], b->partition_columns[i]);
    }
    return same;
}

int delta_commit_actions(struct weir_delta_table *table, const struct delta_commit_body *body,
                         struct weir_error *err) {
    struct weir_delta_snapshot *snapshot = table->snapshot;
    const struct weir_delta_action_visitor visitor = {.context = snapshot,
                                                      .protocol = delta_apply_protocol,
                                                      .metadata = delta_apply_metadata,
                                                      .add = delta_apply_add,
                                                      .remove = delta_apply_remove,
                                                      .domain = delta_apply_domain};
    int64_t timestamp_ms;
    int rc = delta_commit_try(table, body, NULL, &timestamp_ms, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (body->actions->size > 0) {
        rc = weir_delta_actions_parse((const char *)body->actions->data, body->actions->size,
                                      "our own commit", &visitor, err);
    }
    snapshot->version++;
    snapshot->timestamp_ms = timestamp_ms;
    return rc;
}

int delta_check_maintainable(const struct weir_delta_table *table, const char *what,
                             struct weir_error *err) {
    const struct weir_delta_protocol *protocol = &table->snapshot->protocol;
    const char *dir = DELTA_SHOWN(table->store, table->dir);
    for (int32_t i = 0; i < protocol->writer_feature_count; i++) {
        const char *feature = protocol->writer_features[i];
        if (strncmp(feature, "icebergCompat", 13) == 0) {
            return weir_error_set(err, WEIR_E_UNSUPPORTED,
                                  "%s: table %s has the feature %s, whose duties for rewritten "
                                  "files weir does not know yet; use the engine that turned it on",
                                  what, dir, feature);
        }
    }
    return WEIR_OK;
}

bool delta_property_is_true(const struct weir_delta_metadata *metadata, const char *key) {
    const char *value = weir_delta_metadata_property(metadata, key);
    return value != NULL && strcasecmp(value, "true") == 0;
}

int delta_check_may_remove(const struct weir_delta_table *table, const char *what,
                           struct weir_error *err) {
    return delta_property_is_true(&table->snapshot->metadata, "delta.appendOnly")
               ? weir_error_set(err, WEIR_E_UNSUPPORTED,
                                "%s: the table %s is append-only (delta.appendOnly); append to it, "
                                "or unset the property",
                                what, DELTA_SHOWN(table->store, table->dir))
               : WEIR_OK;
}

int64_t delta_add_rows(const struct weir_delta_add *add) {
    return delta_stats_rows(add->stats);
}

char *delta_add_folder(const struct weir_delta_add *add) {
    struct weir_buffer text;
    weir_buffer_init(&text, 1u << 20);
    int rc = WEIR_OK;
    for (int32_t i = 0; i < add->partition_count && rc == WEIR_OK; i++) {
        const char *value = add->partition_values[i].value;
        rc = delta_partition_folder(add->partition_values[i].key,
                                    value != NULL && *value != '\0' ? value : NULL, &text);
    }
    const char *folder = rc == WEIR_OK ? weir_buffer_text(&text) : NULL;
    char *copy = folder != NULL ? strdup(folder) : NULL;
    weir_buffer_fini(&text);
    return copy;
}

/* The pair whose key comes next after `last` in order of bytes, or NULL. Writers list the columns
 * in any order, even from file to file. */
static const struct weir_delta_pair *next_pair(const struct weir_delta_add *add, const char *last) {
    const struct weir_delta_pair *next = NULL;
    for (int32_t i = 0; i < add->partition_count; i++) {
        const struct weir_delta_pair *pair = &add->partition_values[i];
        if ((last == NULL || strcmp(pair->key, last) > 0) &&
            (next == NULL || strcmp(pair->key, next->key) < 0)) {
            next = pair;
        }
    }
    return next;
}

static int compare_texts(const char *a, const char *b) {
    if (a == NULL || b == NULL) {
        return (a != NULL) - (b != NULL);
    }
    return strcmp(a, b);
}

int delta_compare_partitions(const struct weir_delta_add *a, const struct weir_delta_add *b) {
    const char *last = NULL;
    for (;;) {
        const struct weir_delta_pair *left = next_pair(a, last);
        const struct weir_delta_pair *right = next_pair(b, last);
        if (left == NULL || right == NULL) {
            return (left != NULL) - (right != NULL);
        }
        int order = strcmp(left->key, right->key);
        order = order != 0 ? order : compare_texts(left->value, right->value);
        if (order != 0) {
            return order;
        }
        last = left->key;
    }
}

void delta_remove_files(struct weir_store *store, const char *dir,
                        const struct weir_delta_adds *adds) {
    for (int32_t i = 0; i < adds->count; i++) {
        char *path = NULL;
        bool gone = delta_file_path(store, dir, adds->items[i]->path, &path, NULL) == WEIR_OK &&
                    weir_store_remove(store, path, NULL) == WEIR_OK;
        free(path);
        if (!gone) {
            return;
        }
    }
}
