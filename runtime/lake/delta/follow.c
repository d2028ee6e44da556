/* What a table that others change still takes. Files are made for the columns the table had: they
 * fit it by the names files have, whatever it calls those columns by now, and readers cast what is
 * of a narrower type. A column that went is an error only where it is written. */
#include "lake/delta/follow.h"

#include <stdlib.h>
#include <string.h>

#include "lake/delta/alter.h"
#include "lake/delta/duties.h"

enum { WRITTEN_MAX = 100000 };

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "commit: out of memory");
}

static bool is_written(const struct weir_delta_table *table, const char *physical) {
    for (int32_t i = 0; i < table->written_count; i++) {
        if (strcmp(table->written[i], physical) == 0) {
            return true;
        }
    }
    return false;
}

static int note_written(struct weir_delta_table *table, const char *physical,
                        struct weir_error *err) {
    if (is_written(table, physical) || table->written_count == WRITTEN_MAX) {
        return WEIR_OK;
    }
    char **names =
        realloc((void *)table->written, ((size_t)table->written_count + 1) * sizeof(char *));
    char *copy = names != NULL ? strdup(physical) : NULL;
    table->written = names != NULL ? names : table->written;
    if (copy == NULL) {
        return no_memory(err);
    }
    table->written[table->written_count++] = copy;
    return WEIR_OK;
}

int delta_table_writes(struct weir_delta_table *table, const struct weir_schema *schema,
                       struct weir_error *err) {
    const struct weir_schema *have;
    const struct weir_delta_column *columns;
    int rc = weir_delta_snapshot_schema(table->snapshot, &have, &columns, err);
    for (int32_t i = 0; rc == WEIR_OK && i < schema->count; i++) {
        const char *name = schema->fields[i].name;
        int32_t at = weir_schema_find(have, name);
        rc = note_written(table, at >= 0 ? columns[at].physical_name : name, err);
    }
    return rc;
}

void weir_delta_table_writes_others(struct weir_delta_table *table) {
    for (int32_t i = 0; i < table->written_count; i++) {
        free(table->written[i]);
    }
    table->written_count = 0;
}

void delta_table_writes_fini(struct weir_delta_table *table) {
    weir_delta_table_writes_others(table);
    free((void *)table->written);
}

static int32_t find_physical(const struct weir_schema *schema,
                             const struct weir_delta_column *columns, const char *name) {
    for (int32_t i = 0; i < schema->count; i++) {
        if (strcmp(columns[i].physical_name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static int refuse(const struct weir_delta_table *table, const char *column, bool gone,
                  struct weir_error *err) {
    return gone
               ? weir_error_set(err, WEIR_E_SCHEMA,
                                "another writer removed column %s of table %s, which is written "
                                "here; take it out of the stream, or restart to add it anew",
                                column, table->dir)
               : weir_error_set(err, WEIR_E_SCHEMA,
                                "another writer changed the type of column %s of table %s; restart "
                                "with the schema the table has now, or change it back",
                                column, table->dir);
}

static int compare(const struct weir_delta_table *table, const struct weir_schema *made_for,
                   const struct weir_delta_column *then, const struct weir_schema *now,
                   const struct weir_delta_column *columns, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < made_for->count; i++) {
        const struct weir_field *field = &made_for->fields[i];
        int32_t at = find_physical(now, columns, then[i].physical_name);
        bool fits = at >= 0 && (weir_field_holds(&now->fields[at], field) ||
                                weir_delta_widens(field, &now->fields[at]));
        if (!fits && is_written(table, then[i].physical_name)) {
            rc = refuse(table, field->name, at < 0, err);
        }
    }
    for (int32_t i = 0; rc == WEIR_OK && i < now->count; i++) {
        if (!now->fields[i].nullable &&
            find_physical(made_for, then, columns[i].physical_name) < 0) {
            rc = weir_error_set(err, WEIR_E_SCHEMA,
                                "another writer added column %s, which may not be null, to table "
                                "%s; add it to the stream",
                                now->fields[i].name, table->dir);
        }
    }
    return rc;
}

static int check_schema(struct weir_delta_table *table, struct weir_error *err) {
    const struct weir_delta_metadata *metadata = &table->snapshot->metadata;
    if (strcmp(metadata->schema_string, table->schema_string) == 0) {
        return WEIR_OK;
    }
    struct weir_schema *made_for = NULL;
    struct weir_delta_column *then = NULL;
    const struct weir_schema *now;
    const struct weir_delta_column *columns;
    int rc = weir_delta_schema_parse(table->schema_string, &made_for, &then, err);
    rc = rc == WEIR_OK ? weir_delta_snapshot_schema(table->snapshot, &now, &columns, err) : rc;
    rc = rc == WEIR_OK ? compare(table, made_for, then, now, columns, err) : rc;
    if (made_for != NULL) {
        weir_delta_columns_free(then, made_for->count);
        weir_schema_unref(made_for);
    }
    char *latest = rc == WEIR_OK ? strdup(metadata->schema_string) : NULL;
    if (rc == WEIR_OK && latest == NULL) {
        rc = no_memory(err);
    }
    if (rc == WEIR_OK) {
        free(table->schema_string);
        table->schema_string = latest;
        table->schema_changes++;
    }
    return rc;
}

uint32_t weir_delta_table_schema_changes(const struct weir_delta_table *table) {
    return table->schema_changes;
}

/* Rows were judged by the constraints the table had; one more, or another, is not theirs. */
static int check_duties(struct weir_delta_table *table, struct weir_error *err) {
    char *now = weir_delta_duties_text(&table->snapshot->metadata);
    int rc = now != NULL && table->duties != NULL
                 ? WEIR_OK
                 : weir_error_set(err, WEIR_E_NOMEM, "commit: out of memory");
    if (rc == WEIR_OK && strcmp(now, table->duties) != 0 && strcmp(now, "{}") != 0) {
        rc = weir_error_set(err, WEIR_E_SCHEMA,
                            "another writer changed what rows of table %s must hold: constraints "
                            "and generated columns were %.300s and are %.300s; restart, so that "
                            "rows are judged by those",
                            table->dir, table->duties, now);
    }
    free(now);
    return rc;
}

int delta_table_follow(struct weir_delta_table *table, struct weir_error *err) {
    const struct weir_delta_metadata *metadata = &table->snapshot->metadata;
    if (strcmp(metadata->id, table->id) != 0) {
        return weir_error_set(
            err, WEIR_E_SCHEMA,
            "table %s was dropped and made anew by another writer (its id changed "
            "from %s to %s); restart to write to the new one",
            table->dir, table->id, metadata->id);
    }
    int rc = weir_delta_check_appendable(&table->snapshot->protocol, metadata, err);
    rc = rc == WEIR_OK ? check_schema(table, err) : rc;
    return rc == WEIR_OK ? check_duties(table, err) : rc;
}
