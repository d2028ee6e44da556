/* Columns that a table which exists gains, with or without the files of the same commit. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "lake/delta/alter.h"
#include "lake/delta/alter_schema.h"
#include "lake/delta/mapping.h"
#include "lake/delta/schema_json.h"
#include "lake/delta/table_state.h"

#define SCHEMA_BYTES_MAX (64u << 20)

#define MAX_COLUMN_ID "delta.columnMapping.maxColumnId"

/* Under column mapping new columns get names and ids of their own, and the table remembers the
 * highest id. `next->configuration` is the caller's to free, its texts are borrowed (`max_id` holds
 * one). */
static int map_columns(const struct weir_delta_metadata *now, struct weir_buffer *schema_text,
                       struct weir_delta_metadata *next, char max_id[24], struct weir_error *err) {
    next->configuration = delta_pairs_copy(now->configuration, now->configuration_count, 0);
    if (next->configuration == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "add columns: out of memory");
    }
    if (delta_mapping_mode(now) == NULL) {
        return WEIR_OK;
    }
    const char *text = weir_delta_metadata_property(now, MAX_COLUMN_ID);
    int64_t max = text != NULL ? strtoll(text, NULL, 10) : -1;
    char *before = NULL;
    if (max < 0) {
        return weir_error_set(err, WEIR_E_CORRUPT,
                              "the table maps columns but has no " MAX_COLUMN_ID);
    }
    const char *schema = weir_buffer_text(schema_text);
    before = schema != NULL ? strdup(schema) : NULL;
    int rc = before != NULL ? delta_mapping_assign(before, &max, schema_text, err)
                            : weir_error_set(err, WEIR_E_NOMEM, "add columns: out of memory");
    free(before);
    snprintf(max_id, 24, "%" PRId64, max);
    for (int32_t i = 0; i < now->configuration_count; i++) {
        if (strcmp(now->configuration[i].key, MAX_COLUMN_ID) == 0) {
            next->configuration[i].value = max_id;
        }
    }
    return rc;
}

static bool has_ntz(const struct weir_field *field) {
    struct weir_schema one = {.count = 1, .fields = (struct weir_field *)(uintptr_t)field};
    return weir_delta_schema_has_ntz(&one);
}

/* Lines for the columns the table lacks, holds without null, or with fewer members; *missing says
 * how many. */
static int format_columns(struct weir_delta_table *table, const struct weir_field *fields,
                          int32_t count, int32_t *missing, struct weir_buffer *out,
                          struct weir_error *err) {
    const struct weir_schema *have;
    struct weir_schema *added = weir_schema_create();
    int32_t relaxed = 0;
    int32_t widened = 0;
    int32_t grown = 0;
    bool ntz = false;
    struct weir_buffer schema_text;
    struct weir_delta_metadata next = table->snapshot->metadata; /* texts are borrowed */
    char max_id[24];
    next.configuration = NULL;
    weir_buffer_init(&schema_text, SCHEMA_BYTES_MAX);
    weir_buffer_clear(out);
    int rc = added != NULL ? weir_delta_snapshot_schema(table->snapshot, &have, NULL, err)
                           : weir_error_set(err, WEIR_E_NOMEM, "add columns: out of memory");
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        int32_t at = delta_find_column(have, fields[i].name);
        bool grows = false;
        char *renamed =
            at < 0 ? weir_delta_renamed_to(&table->snapshot->metadata, fields[i].name) : NULL;
        if (renamed != NULL) { /* written before it got its name */
            free(renamed);
            continue;
        }
        if (at < 0) {
            rc = weir_schema_add(added, &fields[i]);
            if (rc == WEIR_OK) {
                added->fields[added->count - 1].nullable = true;
            } else {
                weir_error_set(err, rc, "add columns: %s", weir_error_text(rc));
            }
        } else if (strcmp(have->fields[at].name, fields[i].name) == 0 &&
                   weir_delta_widens(&have->fields[at], &fields[i]) &&
                   delta_widens_by_itself(table, fields[i].name)) {
            widened++;
        } else if (strcmp(have->fields[at].name, fields[i].name) == 0 &&
                   weir_delta_widens(&fields[i], &have->fields[at])) {
            relaxed += fields[i].nullable && !have->fields[at].nullable; /* rows are fitted */
        } else if (strcmp(have->fields[at].name, fields[i].name) != 0 ||
                   !delta_meets(&have->fields[at], &fields[i], &grows)) {
            rc =
                weir_error_set(err, WEIR_E_SCHEMA,
                               "cannot add column %s to table %s: it has %s of type %s; rename the "
                               "new one or convert it",
                               fields[i].name, table->dir, have->fields[at].name,
                               weir_type_name((enum weir_type)have->fields[at].type));
        } else {
            relaxed += fields[i].nullable && !have->fields[at].nullable;
            grown += grows;
            ntz = ntz || (grows && has_ntz(&fields[i]));
        }
    }
    if (rc != WEIR_OK || added->count + relaxed + widened + grown == 0) {
        goto out;
    }
    *missing = added->count + relaxed + widened + grown;
    rc = weir_delta_schema_append(next.schema_string, added->fields, added->count, &schema_text,
                                  err);
    if (rc == WEIR_OK && relaxed > 0) {
        rc = weir_delta_schema_relax(&schema_text, fields, count, err);
    }
    if (rc == WEIR_OK && widened > 0) {
        rc = delta_schema_widen(&schema_text, have, fields, count, err);
    }
    if (rc == WEIR_OK && grown > 0) {
        rc = delta_schema_grow(&schema_text, fields, count, err);
    }
    if (rc != WEIR_OK) {
        goto out;
    }
    rc = map_columns(&table->snapshot->metadata, &schema_text, &next, max_id, err);
    if (rc != WEIR_OK) {
        goto out;
    }
    next.schema_string = (char *)(uintptr_t)weir_buffer_text(&schema_text);
    const struct weir_delta_protocol *protocol = &table->snapshot->protocol;
    rc = next.schema_string != NULL ? WEIR_OK : WEIR_E_NOMEM;
    if (rc == WEIR_OK && (ntz || weir_delta_schema_has_ntz(added)) &&
        !delta_has_writer_feature(protocol, "timestampNtz")) {
        rc = delta_protocol_add(protocol, (const char *const[]){"timestampNtz"}, 1, out);
    }
    if (rc == WEIR_OK) {
        rc = weir_delta_metadata_format(&next, out);
    }
    if (rc == WEIR_OK) {
        rc = weir_buffer_append(out, "\n", 1);
    }
    if (rc != WEIR_OK) {
        weir_error_set(err, rc, "add columns: %s", weir_error_text(rc));
    }
out:
    free(next.configuration);
    weir_buffer_fini(&schema_text);
    weir_schema_unref(added);
    return rc;
}

int weir_delta_append_columns(struct weir_delta_table *table, const struct weir_field *fields,
                              int32_t field_count, struct weir_delta_add *const *adds,
                              int32_t add_count, const struct weir_delta_commit_options *options,
                              struct weir_delta_commit_result *result, struct weir_error *err) {
    static const struct weir_delta_txn no_txn;
    const struct weir_delta_txn *txn = options != NULL ? &options->txn : &no_txn;
    struct weir_buffer actions;
    struct weir_delta_commit_result dropped;
    result = result != NULL ? result : &dropped;
    memset(result, 0, sizeof(*result));
    weir_buffer_init(&actions, SCHEMA_BYTES_MAX * 2);
    int rc = WEIR_OK;
    for (bool won = false; rc == WEIR_OK && !won;) {
        int32_t missing = 0;
        int64_t timestamp_ms;
        bool there = txn->app_id != NULL &&
                     weir_delta_snapshot_txn(table->snapshot, txn->app_id) >= txn->version;
        rc = format_columns(table, fields, field_count, &missing, &actions, err);
        if (rc == WEIR_OK && add_count > 0 && (missing == 0 || there)) {
            weir_buffer_fini(&actions);
            return weir_delta_append(table, adds, add_count, options, result, err);
        }
        if (rc != WEIR_OK || missing == 0) {
            result->skipped = rc == WEIR_OK && result->attempts == 0;
            break;
        }
        struct delta_commit_body body = {
            .operation = add_count > 0 ? "STREAMING UPDATE" : "ADD COLUMNS",
            .parameters_json = add_count > 0 ? NULL : "{}",
            .actions = &actions,
        };
        rc = delta_format_adds(table, adds, add_count, &body, &actions, err);
        if (rc != WEIR_OK) {
            break;
        }
        result->attempts++;
        rc = delta_commit_try(table, &body, add_count > 0 ? txn : NULL, &timestamp_ms, err);
        won = rc == WEIR_OK;
        if (rc == WEIR_OK || rc == WEIR_E_CONFLICT) {
            /* won or lost, the log now holds more: read it, our own entry included */
            rc = delta_commit_rebase(table, won ? 1 : result->attempts, options, err);
        }
    }
    if (rc == WEIR_OK) {
        rc = delta_table_remember(table, err);
    }
    result->version = table->snapshot->version;
    weir_buffer_fini(&actions);
    return rc;
}

int weir_delta_add_columns(struct weir_delta_table *table, const struct weir_field *fields,
                           int32_t field_count, const struct weir_delta_commit_options *options,
                           struct weir_delta_commit_result *result, struct weir_error *err) {
    return weir_delta_append_columns(table, fields, field_count, NULL, 0, options, result, err);
}
