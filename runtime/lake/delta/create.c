/* Making, opening and widening tables. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/random.h>

#include "core/clock.h"
#include "core/log.h"
#include "lake/delta/alter.h"
#include "lake/delta/alter_schema.h"
#include "lake/delta/duties.h"
#include "lake/delta/follow.h"
#include "lake/delta/maintain.h"
#include "lake/delta/mapping.h"
#include "lake/delta/schema_json.h"
#include "lake/delta/table_state.h"

#define SCHEMA_BYTES_MAX (64u << 20)
#define LEFTOVER_MS (3600 * 1000) /* no write in progress takes an hour between two bytes */

int32_t delta_find_column(const struct weir_schema *schema, const char *name) {
    for (int32_t i = 0; i < schema->count; i++) {
        if (strcasecmp(schema->fields[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

/* --- schema -------------------------------------------------------------------------------- */

static int add_derived(struct weir_schema *schema, const struct weir_delta_partition *partition,
                       struct weir_error *err) {
    int32_t at = weir_schema_find(schema, partition->column);
    if (at < 0) {
        return weir_error_set(err, WEIR_E_SCHEMA,
                              "partition_by: there is no column %s; name one of the data's columns",
                              partition->column);
    }
    const struct weir_field *field = &schema->fields[at];
    if (partition->transform == WEIR_DELTA_IDENTITY) {
        if (weir_type_is_nested(field->type)) {
            return weir_error_set(err, WEIR_E_SCHEMA,
                                  "partition_by: column %s of type %s cannot be a partition; use a "
                                  "text, number, date or timestamp",
                                  field->name, weir_type_name((enum weir_type)field->type));
        }
        return WEIR_OK;
    }
    bool is_date = partition->transform == WEIR_DELTA_DATE;
    if (!weir_type_is_timestamp(field->type) && !(is_date && field->type == WEIR_TYPE_DATE)) {
        return weir_error_set(
            err, WEIR_E_SCHEMA, "partition_by: %s \"%s\" needs a timestamp, but the column is %s",
            is_date ? "date" : "hour", field->name, weir_type_name((enum weir_type)field->type));
    }
    struct weir_buffer name;
    weir_buffer_init(&name, 4096);
    int rc = weir_buffer_printf(&name, "%s_%s", field->name, is_date ? "date" : "hour");
    const char *text = rc == WEIR_OK ? weir_buffer_text(&name) : NULL;
    if (text == NULL) {
        rc = weir_error_set(err, WEIR_E_NOMEM, "partition_by: out of memory");
    } else if (delta_find_column(schema, text) >= 0) {
        rc = weir_error_set(err, WEIR_E_SCHEMA,
                            "partition_by: the derived column %s is already a column of the data; "
                            "rename that one, or partition by it directly",
                            text);
    } else {
        rc = weir_schema_add_text(schema, text, is_date ? "date" : "int32", true, err);
    }
    weir_buffer_fini(&name);
    return rc;
}

int weir_delta_table_schema(const struct weir_delta_create_options *options,
                            struct weir_schema **out, struct weir_error *err) {
    struct weir_schema *schema = weir_schema_create();
    int rc =
        schema != NULL ? WEIR_OK : weir_error_set(err, WEIR_E_NOMEM, "table schema: out of memory");
    for (int32_t i = 0; i < options->schema->count && rc == WEIR_OK; i++) {
        const struct weir_field *field = &options->schema->fields[i];
        if (delta_find_column(schema, field->name) >= 0) {
            rc = weir_error_set(err, WEIR_E_SCHEMA,
                                "column %s appears twice (Delta compares names without case); "
                                "rename one",
                                field->name);
        } else if (field->name[0] == '\0' || strpbrk(field->name, " ,;{}()\n\t=") != NULL) {
            rc = weir_error_set(
                err, WEIR_E_SCHEMA,
                "column \"%s\": a Delta column name may not be empty nor hold any of "
                "\" ,;{}()=\", tab or newline; rename it",
                field->name);
        } else {
            rc = weir_schema_add(schema, field);
            if (rc != WEIR_OK) {
                weir_error_set(err, rc, "table schema: %s", weir_error_text(rc));
            }
        }
    }
    for (int32_t i = 0; i < options->partition_count && rc == WEIR_OK; i++) {
        rc = add_derived(schema, &options->partitions[i], err);
    }
    if (rc == WEIR_OK && options->partition_count >= options->schema->count &&
        options->partition_count > 0) {
        int32_t plain = 0;
        for (int32_t i = 0; i < options->partition_count; i++) {
            plain += options->partitions[i].transform == WEIR_DELTA_IDENTITY;
        }
        if (plain >= options->schema->count) {
            rc = weir_error_set(err, WEIR_E_SCHEMA,
                                "partition_by names every column; at least one must stay in the "
                                "files");
        }
    }
    if (rc != WEIR_OK) {
        weir_schema_unref(schema);
        return rc;
    }
    *out = schema;
    return WEIR_OK;
}

/* Names of the partition columns, as the table knows them; freed with free_names. */
static void free_names(char **names, int32_t count) {
    for (int32_t i = 0; names != NULL && i < count; i++) {
        free(names[i]);
    }
    free(names);
}

static char **partition_names(const struct weir_delta_create_options *options) {
    char **names = calloc((size_t)options->partition_count + 1, sizeof(*names));
    for (int32_t i = 0; names != NULL && i < options->partition_count; i++) {
        static const char *const tail[] = {"", "_date", "_hour"};
        if (asprintf(&names[i], "%s%s", options->partitions[i].column,
                     tail[options->partitions[i].transform]) < 0) {
            names[i] = NULL;
            free_names(names, i);
            return NULL;
        }
    }
    return names;
}

/* --- opening ------------------------------------------------------------------------------- */

void weir_delta_table_close(struct weir_delta_table *table) {
    if (table != NULL) {
        weir_delta_snapshot_destroy(table->snapshot);
        free(table->dir);
        free(table->id);
        free(table->schema_string);
        free(table->duties);
        delta_table_writes_fini(table);
        free(table);
    }
}

static int table_alloc(struct weir_store *store, const char *dir, struct weir_delta_table **out,
                       struct weir_error *err) {
    struct weir_delta_table *table = calloc(1, sizeof(*table));
    if (table != NULL) {
        table->store = store;
        table->dir = strdup(dir);
        if (getrandom(&table->random, sizeof(table->random), 0) < 0) {
            table->random = (uint64_t)weir_clock_mono_ns(); /* jitter wants no more */
        }
    }
    if (table == NULL || table->dir == NULL) {
        free(table);
        return weir_error_set(err, WEIR_E_NOMEM, "open table %s: out of memory", dir);
    }
    *out = table;
    return WEIR_OK;
}

int delta_table_remember(struct weir_delta_table *table, struct weir_error *err) {
    free(table->id);
    free(table->schema_string);
    free(table->duties);
    table->duties = weir_delta_duties_text(&table->snapshot->metadata);
    table->id = strdup(table->snapshot->metadata.id);
    table->schema_string = strdup(table->snapshot->metadata.schema_string);
    return table->id != NULL && table->schema_string != NULL && table->duties != NULL
               ? WEIR_OK
               : weir_error_set(err, WEIR_E_NOMEM, "open table %s: out of memory", table->dir);
}

/* Entries and checkpoints whose writers died before they had a name. Data files no commit names
 * stay: only a look at the whole log tells them from those of a commit to come. */
static void sweep_log(struct weir_store *store, const char *log) {
    struct weir_error err;
    if (weir_store_sweep(store, log, LEFTOVER_MS, &err) != WEIR_OK) {
        weir_log_warn("lake", "temporary files stay folder=%s error=%s", log, err.message);
    }
}

int weir_delta_table_open(struct weir_store *store, const char *dir, struct weir_delta_table **out,
                          struct weir_error *err) {
    struct weir_delta_table *table;
    int rc = table_alloc(store, dir, &table, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    rc = weir_delta_snapshot_open(store, dir, NULL, &table->snapshot, err);
    if (rc == WEIR_OK) {
        rc = weir_delta_check_appendable(&table->snapshot->protocol, &table->snapshot->metadata,
                                         err);
    }
    if (rc == WEIR_OK) {
        rc = delta_table_remember(table, err);
    }
    if (rc == WEIR_OK) {
        /* a commit whose writer died just before syncing the directory is seen now: make it stay */
        char *log = delta_log_path(dir, "%s", "");
        rc = log != NULL ? weir_store_sync_dir(store, log, err)
                         : weir_error_set(err, WEIR_E_NOMEM, "open table: out of memory");
        if (rc == WEIR_OK) {
            sweep_log(store, log);
        }
        free(log);
    }
    if (rc != WEIR_OK) {
        weir_delta_table_close(table);
        return rc;
    }
    *out = table;
    return WEIR_OK;
}

struct weir_delta_snapshot *weir_delta_table_snapshot(struct weir_delta_table *table) {
    return table->snapshot;
}

struct weir_store *weir_delta_table_store(struct weir_delta_table *table) {
    return table->store;
}

const char *weir_delta_table_dir(const struct weir_delta_table *table) {
    return table->dir;
}

/* --- creating ------------------------------------------------------------------------------ */

enum { NEW_FEATURES_MAX = 12 };

/* The protocol of a new table: 1/2 unless a property or a type asks for more. */
struct new_protocol {
    struct weir_delta_protocol protocol;
    char *readers[NEW_FEATURES_MAX];
    char *writers[NEW_FEATURES_MAX];
};

static bool is_true(const struct weir_delta_pair *property, const char *key) {
    return strcmp(property->key, key) == 0 && strcasecmp(property->value, "true") == 0;
}

static int check_property(const struct weir_delta_pair *property, struct weir_error *err) {
    static const char *const features[] = {"delta.enable", "delta.columnMapping", "delta.feature.",
                                           "delta.minReaderVersion", "delta.minWriterVersion"};
    static const char *const known[] = {"delta.enableExpiredLogCleanup",
                                        "delta.enableDeletionVectors", "delta.enableChangeDataFeed",
                                        "delta.enableTypeWidening"};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(property->key, known[i]) == 0) {
            return WEIR_OK;
        }
    }
    for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
        if (strncmp(property->key, features[i], strlen(features[i])) == 0) {
            return weir_error_set(err, WEIR_E_UNSUPPORTED,
                                  "table property %s turns on a feature that weir does not create "
                                  "tables with; leave it out",
                                  property->key);
        }
    }
    return WEIR_OK;
}

static void need(struct new_protocol *to, const char *feature, bool reader) {
    to->writers[to->protocol.writer_feature_count++] = (char *)(uintptr_t)feature;
    if (reader) {
        to->readers[to->protocol.reader_feature_count++] = (char *)(uintptr_t)feature;
    }
}

static bool forbids_null(const struct weir_field *fields, int32_t count) {
    bool forbids = false;
    for (int32_t i = 0; i < count && !forbids; i++) {
        forbids = !fields[i].nullable || forbids_null(fields[i].children, fields[i].child_count);
    }
    return forbids;
}

static int choose_protocol(const struct weir_delta_create_options *options,
                           const struct weir_schema *schema, struct new_protocol *out,
                           struct weir_error *err) {
    bool append_only = false;
    bool feed = false;
    bool constraints = false;
    *out = (struct new_protocol){.protocol = {1, 2, out->readers, out->writers, 0, 0}};
    for (int32_t i = 0; i < options->property_count; i++) {
        const struct weir_delta_pair *property = &options->properties[i];
        int rc = check_property(property, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        append_only |= strcmp(property->key, "delta.appendOnly") == 0;
        feed |= is_true(property, "delta.enableChangeDataFeed");
        constraints |= strncmp(property->key, "delta.constraints.", 18) == 0;
        if (is_true(property, "delta.enableDeletionVectors")) {
            need(out, "deletionVectors", true);
        }
        if (is_true(property, "delta.enableTypeWidening")) {
            need(out, "typeWidening", true);
        }
        if (strcmp(property->key, "delta.checkpointPolicy") == 0 &&
            strcasecmp(property->value, "v2") == 0) {
            need(out, "v2Checkpoint", true);
        }
    }
    if (weir_delta_schema_has_ntz(schema)) {
        need(out, "timestampNtz", true);
    }
    if (out->protocol.writer_feature_count == 0) { /* lists belong to 3/7 alone */
        out->protocol.reader_feature_count = -1;
        out->protocol.writer_feature_count = -1;
        out->protocol.writer_version = feed ? 4 : constraints ? 3 : 2;
        return WEIR_OK;
    }
    out->protocol.reader_version = 3;
    out->protocol.writer_version = 7;
    if (append_only) {
        need(out, "appendOnly", false);
    }
    if (forbids_null(schema->fields, schema->count)) { /* Spark refuses the table without */
        need(out, "invariants", false);
    }
    if (feed) {
        need(out, "changeDataFeed", false);
    }
    if (constraints) {
        need(out, "checkConstraints", false);
    }
    return WEIR_OK;
}

static int format_create(const struct weir_delta_create_options *options,
                         const struct weir_schema *schema, char **partitions,
                         struct weir_buffer *out, struct weir_error *err) {
    struct new_protocol protocol;
    struct weir_delta_metadata metadata;
    struct weir_buffer schema_text;
    char id[DELTA_UUID_BYTES];
    memset(&metadata, 0, sizeof(metadata));
    weir_buffer_init(&schema_text, SCHEMA_BYTES_MAX);
    int rc = choose_protocol(options, schema, &protocol, err);
    if (rc == WEIR_OK) {
        rc = delta_uuid(id, err);
    }
    if (rc == WEIR_OK) {
        rc = weir_delta_schema_format(schema, &schema_text, err);
    }
    if (rc != WEIR_OK) {
        goto out;
    }
    metadata.id = id;
    metadata.description = (char *)(uintptr_t)options->description;
    metadata.schema_string = (char *)(uintptr_t)weir_buffer_text(&schema_text);
    metadata.partition_columns = partitions;
    metadata.partition_count = options->partition_count;
    metadata.configuration = (struct weir_delta_pair *)(uintptr_t)options->properties;
    metadata.configuration_count = options->property_count;
    metadata.created_ms = weir_clock_wall_us() / 1000;
    if (metadata.schema_string == NULL) {
        rc = WEIR_E_NOMEM;
    }
    if (rc == WEIR_OK) {
        rc = weir_delta_protocol_format(&protocol.protocol, out);
    }
    if (rc == WEIR_OK) {
        rc = weir_buffer_append(out, "\n", 1);
    }
    if (rc == WEIR_OK) {
        rc = weir_delta_metadata_format(&metadata, out);
    }
    if (rc == WEIR_OK) {
        rc = weir_buffer_append(out, "\n", 1);
    }
    if (rc != WEIR_OK) {
        weir_error_set(err, rc, "create table: %s", weir_error_text(rc));
    }
out:
    weir_buffer_fini(&schema_text);
    return rc;
}

int weir_delta_table_create(struct weir_store *store, const char *dir,
                            const struct weir_delta_create_options *options,
                            struct weir_delta_table **out, struct weir_error *err) {
    struct weir_schema *schema = NULL;
    char **partitions = NULL;
    struct weir_delta_table *table = NULL;
    struct weir_buffer actions;
    int64_t timestamp_ms;
    weir_buffer_init(&actions, SCHEMA_BYTES_MAX * 2);
    int rc = weir_delta_table_schema(options, &schema, err);
    if (rc == WEIR_OK) {
        rc = table_alloc(store, dir, &table, err);
    }
    if (rc == WEIR_OK) {
        partitions = partition_names(options);
        rc = partitions != NULL ? WEIR_OK
                                : weir_error_set(err, WEIR_E_NOMEM, "create table: out of memory");
    }
    if (rc == WEIR_OK) {
        rc = format_create(options, schema, partitions, &actions, err);
    }
    if (rc == WEIR_OK) { /* a table whose first entries were cleaned up must not get a new 0 */
        struct weir_delta_snapshot *existing;
        rc = weir_delta_snapshot_open(store, dir, NULL, &existing, err);
        if (rc == WEIR_OK) {
            weir_delta_snapshot_destroy(existing);
            rc = weir_error_set(err, WEIR_E_EXISTS, "table %s already exists", dir);
        } else if (rc == WEIR_E_NOTFOUND) {
            rc = WEIR_OK;
        }
    }
    if (rc == WEIR_OK) {
        struct delta_commit_body body = {.operation = "CREATE TABLE",
                                         .parameters_json = "{}",
                                         .actions = &actions,
                                         .blind = true};
        rc = delta_commit_try(table, &body, NULL, &timestamp_ms, err);
        if (rc == WEIR_E_CONFLICT) {
            rc = weir_error_set(err, WEIR_E_EXISTS, "table %s already exists", dir);
        }
    }
    weir_buffer_fini(&actions);
    free_names(partitions, options->partition_count);
    weir_schema_unref(schema);
    weir_delta_table_close(table);
    return rc == WEIR_OK ? weir_delta_table_open(store, dir, out, err) : rc;
}

/* --- open or create ------------------------------------------------------------------------ */

bool delta_widens_by_itself(const struct weir_delta_table *table, const char *column) {
    const struct weir_delta_metadata *metadata = &table->snapshot->metadata;
    for (int32_t i = 0; i < metadata->partition_count; i++) {
        if (strcmp(metadata->partition_columns[i], column) == 0) {
            return false;
        }
    }
    return delta_property_is_true(&table->snapshot->metadata, "delta.enableTypeWidening") &&
           delta_has_writer_feature(&table->snapshot->protocol, "typeWidening");
}

/* With whole types: those of structs differ inside. */
static int other_type(const struct weir_delta_table *table, const struct weir_field *wanted,
                      const struct weir_field *held, bool wider, struct weir_error *err) {
    struct weir_buffer is;
    struct weir_buffer would;
    weir_buffer_init(&is, SCHEMA_BYTES_MAX);
    weir_buffer_init(&would, SCHEMA_BYTES_MAX);
    bool told = weir_field_format_type(held, &is) == WEIR_OK &&
                weir_field_format_type(wanted, &would) == WEIR_OK &&
                weir_buffer_append(&is, "", 1) == WEIR_OK &&
                weir_buffer_append(&would, "", 1) == WEIR_OK;
    int rc = weir_error_set(
        err, WEIR_E_SCHEMA,
        "column %s of table %s is %s, but the stream's is %s; %sconvert it in "
        "the stream, or write to a new table",
        wanted->name, table->dir,
        told ? (const char *)is.data : weir_type_name((enum weir_type)held->type),
        told ? (const char *)would.data : weir_type_name((enum weir_type)wanted->type),
        wider ? "widen it (weir table alter --widen), " : "");
    weir_buffer_fini(&is);
    weir_buffer_fini(&would);
    return rc;
}

static int compare_schema(const struct weir_delta_table *table, const struct weir_schema *have,
                          const struct weir_schema *want, bool may_add, bool may_lose,
                          struct weir_error *err) {
    for (int32_t i = 0; i < want->count; i++) {
        const struct weir_field *field = &want->fields[i];
        int32_t at = weir_schema_find(have, field->name);
        if (at < 0) {
            char *now = weir_delta_renamed_to(&table->snapshot->metadata, field->name);
            if (now != NULL) {
                weir_error_set(err, WEIR_E_SCHEMA,
                               "column %s of table %s was renamed to %s; call it that in the "
                               "stream",
                               field->name, table->dir, now);
                free(now);
                return WEIR_E_SCHEMA;
            }
            if (may_add && delta_find_column(have, field->name) < 0) {
                continue;
            }
            return weir_error_set(err, WEIR_E_SCHEMA,
                                  "table %s has no column %s, which the stream has; let the stream "
                                  "add columns, or write to a new table",
                                  table->dir, field->name);
        }
        bool wider = weir_delta_widens(&have->fields[at], field);
        if (wider && may_add && delta_widens_by_itself(table, field->name)) {
            continue;
        }
        bool grows = false;
        bool meets = delta_meets(&have->fields[at], field, &grows) && (!grows || may_add);
        if (!meets && !weir_delta_widens(field, &have->fields[at])) { /* narrower rows are fitted */
            return other_type(table, field, &have->fields[at], wider, err);
        }
        if (field->nullable && !have->fields[at].nullable && !may_add) {
            return weir_error_set(
                err, WEIR_E_SCHEMA,
                "column %s of table %s may not be null, but the stream's may; add "
                "an expect not_null, or write to a new table",
                field->name, table->dir);
        }
    }
    for (int32_t i = 0; i < have->count && !may_lose; i++) {
        if (!have->fields[i].nullable && weir_schema_find(want, have->fields[i].name) < 0 &&
            !weir_delta_fills(&table->snapshot->metadata, have->fields[i].name)) {
            return weir_error_set(err, WEIR_E_SCHEMA,
                                  "column %s of table %s may not be null, and the stream does not "
                                  "have it; let it have it, or drop it from the table (weir table "
                                  "alter --drop)",
                                  have->fields[i].name, table->dir);
        }
    }
    return WEIR_OK;
}

/* Rows have the columns the table is partitioned by, or it generates them. */
static bool brings_partitions(const struct weir_delta_metadata *metadata,
                              const struct weir_schema *want) {
    for (int32_t i = 0; i < metadata->partition_count; i++) {
        if (weir_schema_find(want, metadata->partition_columns[i]) < 0 &&
            !weir_delta_fills(metadata, metadata->partition_columns[i])) {
            return false;
        }
    }
    return true;
}

static int compare_partitions(const struct weir_delta_table *table, char *const *names,
                              int32_t count, const struct weir_schema *want,
                              struct weir_error *err) {
    const struct weir_delta_metadata *metadata = &table->snapshot->metadata;
    bool same = metadata->partition_count == count;
    if (count == 0 && brings_partitions(metadata, want)) {
        return WEIR_OK; /* none was asked for: the table's own */
    }
    for (int32_t i = 0; same && i < count; i++) {
        same = strcmp(metadata->partition_columns[i], names[i]) == 0;
    }
    return same ? WEIR_OK
                : weir_error_set(
                      err, WEIR_E_SCHEMA,
                      "table %s is partitioned by %s%s, not as partition_by says; change "
                      "partition_by, or write to a new table",
                      table->dir,
                      metadata->partition_count > 0 ? metadata->partition_columns[0] : "nothing",
                      metadata->partition_count > 1 ? ", …" : "");
}

static int compare(const struct weir_delta_table *table,
                   const struct weir_delta_create_options *options, bool may_add,
                   struct weir_error *err) {
    struct weir_schema *want = NULL;
    const struct weir_schema *have;
    char **names = partition_names(options);
    int rc = names != NULL ? weir_delta_table_schema(options, &want, err)
                           : weir_error_set(err, WEIR_E_NOMEM, "open table: out of memory");
    if (rc == WEIR_OK) {
        rc = weir_delta_snapshot_schema(table->snapshot, &have, NULL, err);
    }
    if (rc == WEIR_OK) {
        bool wrote = options->app_id != NULL &&
                     weir_delta_snapshot_txn(table->snapshot, options->app_id) >= 0;
        rc = compare_schema(table, have, want, may_add, may_add && wrote, err);
    }
    if (rc == WEIR_OK) {
        rc = compare_partitions(table, names, options->partition_count, want, err);
    }
    free_names(names, options->partition_count);
    weir_schema_unref(want);
    return rc;
}

int weir_delta_table_takes(const struct weir_delta_table *table,
                           const struct weir_delta_create_options *options,
                           struct weir_error *err) {
    return compare(table, options, true, err);
}

int weir_delta_table_open_or_create(struct weir_store *store, const char *dir,
                                    const struct weir_delta_create_options *options,
                                    bool may_add_columns, struct weir_delta_table **out,
                                    struct weir_error *err) {
    struct weir_delta_table *table = NULL;
    int rc = weir_delta_table_open(store, dir, &table, err);
    if (rc == WEIR_E_NOTFOUND) {
        rc = weir_delta_table_create(store, dir, options, out, err);
        if (rc != WEIR_E_EXISTS) {
            return rc;
        }
        rc = weir_delta_table_open(store, dir, &table, err); /* someone else just made it */
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    rc = compare(table, options, may_add_columns, err);
    if (rc != WEIR_OK) {
        weir_delta_table_close(table);
        return rc;
    }
    *out = table;
    return WEIR_OK;
}
