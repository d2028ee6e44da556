/* The Delta sink: an effect is the add actions of data files already written and synced, one JSON
 * text a line; applying it appends them to the table's log in one commit with a txn action whose
 * version is the record's number. The first effect after the columns changed begins with a line
 * that says them, and its commit adds them to the table. Where rows are merged by key, an effect is
 * the changes themselves (delta_merge.h). */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fault.h"
#include "core/log.h"
#include "lake/delta/commit.h"
#include "lake/delta/duties.h"
#include "lake/delta/schema_json.h"
#include "lake/delta/writer.h"
#include "lake/upkeep/replace.h"
#include "sink/delta_merge.h"
#include "sink/delta_upkeep.h"
#include "sink/sink.h"

enum { TOGETHER_BYTES = 1 << 18 }; /* rows of an epoch that go into its record */
enum { DIRECTORY_BYTES = 512, PARTITIONS_MAX = 16, KEYS_MAX = 16, PROPERTIES_MAX = 16 };
#define COLUMNS_MARK "{\"columns\":"

struct delta_sink {
    struct weir_sink_config config;
    struct weir_delta_partition delta_partitions[PARTITIONS_MAX];
    char *columns[PARTITIONS_MAX]; /* owned names for delta_partitions */
    char *keys[KEYS_MAX];          /* owned */
    char *time;
    char *overwrite;
    struct weir_delta_pair properties[PROPERTIES_MAX]; /* owned texts */
    struct weir_schema *table_schema;                  /* the config's without the change column */
    char *root;
    char directory[DIRECTORY_BYTES];
    struct weir_store *store;
    pthread_mutex_t lock; /* guards `table`: the worker looks at it where the applier moves it on */
    struct weir_delta_table *table;
    uint32_t table_changes;  /* atomic: how often others changed the table's columns */
    uint32_t writer_changes; /* worker's: of them the writer knows */
    bool columns_due;        /* under the lock: rows merged from now on may have more */
    struct delta_upkept upkept;
    struct weir_delta_writer *writer; /* worker's, as are the next */
    struct delta_changes *changes;
    bool spilled;  /* rows of the epoch are more than go into a record */
    bool announce; /* the next effect says which columns its files have */
};

int weir_sink_folder(const char *dataset, char *out, size_t size, struct weir_error *err) {
    if (strlen(dataset) >= size) {
        return weir_error_set(err, WEIR_E_CONFIG, "dataset name '%.40s…' is too long", dataset);
    }
    size_t i = 0;
    for (; dataset[i] != '\0'; i++) {
        out[i] = dataset[i] == '.' ? '/' : dataset[i];
    }
    out[i] = '\0';
    return WEIR_OK;
}

static int directory_of(const char *name, const char *within, char *out, struct weir_error *err) {
    size_t inner = within != NULL ? strlen(within) + 1 : 0;
    int rc =
        weir_sink_folder(name, out, inner < DIRECTORY_BYTES ? DIRECTORY_BYTES - inner : 0, err);
    if (rc == WEIR_OK && within != NULL) {
        snprintf(out + strlen(name), inner + 1, "/%s", within);
    }
    return rc;
}

static void destroy(void *self) {
    struct delta_sink *sink = self;
    delta_upkeep_leave(sink->config.shared, &sink->upkept);
    weir_delta_writer_destroy(sink->writer);
    delta_changes_destroy(sink->changes);
    if (sink->table != NULL) {
        weir_delta_table_close(sink->table);
    }
    if (sink->config.store == NULL) {
        weir_store_destroy(sink->store);
    }
    weir_schema_unref(sink->config.schema);
    weir_schema_unref(sink->table_schema);
    for (int32_t i = 0; i < KEYS_MAX; i++) {
        free(sink->keys[i]);
    }
    free(sink->time);
    free(sink->overwrite);
    for (int32_t i = 0; i < PROPERTIES_MAX; i++) {
        free((void *)(uintptr_t)sink->properties[i].key);
        free((void *)(uintptr_t)sink->properties[i].value);
    }
    for (int32_t i = 0; i < PARTITIONS_MAX; i++) {
        free(sink->columns[i]);
    }
    free(sink->upkept.options.keep_by);
    free(sink->upkept.options.tier_root);
    for (int32_t i = 0; i < DELTA_UPKEEP_ORDER_MAX; i++) {
        free(sink->upkept.options.zorder[i]);
    }
    free(sink->root);
    pthread_mutex_destroy(&sink->lock);
    free(sink);
}

/* The table's schema: the rows', but where they are merged what became of each is no column. */
static int table_schema_of(const struct delta_sink *sink, struct weir_schema *schema,
                           struct weir_schema **out) {
    *out = NULL;
    if (schema == NULL || sink->config.key_count == 0) {
        *out = schema != NULL ? weir_schema_ref(schema) : NULL;
        return WEIR_OK;
    }
    struct weir_schema *made = weir_schema_create();
    int rc = made != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (int32_t i = 0; i < schema->count && rc == WEIR_OK; i++) {
        if (!delta_changes_is_note(&schema->fields[i])) {
            rc = weir_schema_add(made, &schema->fields[i]);
        }
    }
    *out = made;
    return rc;
}

static int make_table_schema(struct delta_sink *sink) {
    return table_schema_of(sink, sink->config.schema, &sink->table_schema);
}

/* Copies what says how rows are merged; the config keeps the copies. */
static int copy_merge(struct delta_sink *sink, const struct weir_sink_config *config) {
    bool good = true;
    for (int32_t i = 0; i < config->key_count; i++) {
        sink->keys[i] = strdup(config->keys[i]);
        good = good && sink->keys[i] != NULL;
    }
    for (int32_t i = 0; i < config->property_count; i++) {
        sink->properties[i].key = strdup(config->properties[i].name);
        sink->properties[i].value = strdup(config->properties[i].value);
        good = good && sink->properties[i].key != NULL && sink->properties[i].value != NULL;
    }
    sink->time = config->time != NULL ? strdup(config->time) : NULL;
    sink->overwrite = config->overwrite != NULL ? strdup(config->overwrite) : NULL;
    good = good && (config->time == NULL || sink->time != NULL) &&
           (config->overwrite == NULL || sink->overwrite != NULL);
    sink->config.keys = (const char *const *)sink->keys;
    sink->config.time = sink->time;
    sink->config.overwrite = NULL;  /* likewise */
    sink->config.properties = NULL; /* the caller's; ours are properties */
    sink->upkept.name = config->name;
    sink->upkept.lock = &sink->lock;
    sink->upkept.table = &sink->table;
    sink->upkept.options = (struct delta_upkeep_options){
        .compact = config->compact,
        .vacuum = config->vacuum,
        .target_bytes = config->target_bytes,
        .keep_us = config->keep_us,
        .keep_by = config->keep_by != NULL ? strdup(config->keep_by) : NULL,
        .direct_lake = config->direct_lake,
        .tier_root = config->tier_root != NULL ? strdup(config->tier_root) : NULL,
        .tier_us = config->tier_us};
    good = good && (config->tier_root == NULL || sink->upkept.options.tier_root != NULL);
    for (int32_t i = 0; i < config->zorder_count && i < DELTA_UPKEEP_ORDER_MAX; i++) {
        sink->upkept.options.zorder[i] = strdup(config->zorder[i]);
        good = good && sink->upkept.options.zorder[i] != NULL;
        sink->upkept.options.zorder_count++;
    }
    sink->config.zorder = NULL; /* the caller's; ours are the upkeep's */
    good = good && (config->keep_by == NULL || sink->upkept.options.keep_by != NULL);
    return good ? make_table_schema(sink) : WEIR_E_NOMEM;
}

static int create(const struct weir_sink_config *config, void **self, struct weir_error *err) {
    if (config->partition_count > PARTITIONS_MAX || config->key_count > KEYS_MAX ||
        config->property_count > PROPERTIES_MAX) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "%s: more than %d partition columns, key columns or properties",
                              config->name, PARTITIONS_MAX);
    }
    struct delta_sink *sink = calloc(1, sizeof(*sink));
    if (sink == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", config->name);
    }
    sink->config = *config;
    sink->config.schema = config->schema != NULL ? weir_schema_ref(config->schema) : NULL;
    pthread_mutex_init(&sink->lock, NULL);
    for (int32_t i = 0; i < config->partition_count; i++) {
        static const enum weir_delta_transform transforms[] = {
            [WEIR_SINK_PARTITION_COLUMN] = WEIR_DELTA_IDENTITY,
            [WEIR_SINK_PARTITION_DATE] = WEIR_DELTA_DATE,
            [WEIR_SINK_PARTITION_HOUR] = WEIR_DELTA_HOUR,
        };
        sink->columns[i] = strdup(config->partitions[i].column);
        sink->delta_partitions[i] = (struct weir_delta_partition){
            .column = sink->columns[i],
            .transform = transforms[config->partitions[i].kind],
        };
    }
    sink->store = config->store;
    sink->config.partitions = NULL; /* the caller's; ours are delta_partitions */
    sink->root = strdup(config->root);
    int rc = directory_of(config->name, config->within, sink->directory, err);
    for (int32_t i = 0; rc == WEIR_OK && i < config->partition_count; i++) {
        rc = sink->columns[i] == NULL ? WEIR_E_NOMEM : WEIR_OK;
    }
    rc = rc == WEIR_OK ? copy_merge(sink, config) : rc;
    if (sink->root == NULL || rc == WEIR_E_NOMEM) {
        rc = weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", config->name);
    }
    if (rc != WEIR_OK) {
        destroy(sink);
        return rc;
    }
    *self = sink;
    return WEIR_OK;
}

static struct weir_delta_create_options options_of(const struct delta_sink *sink) {
    return (struct weir_delta_create_options){
        .schema = sink->table_schema,
        .partitions = sink->delta_partitions,
        .partition_count = sink->config.partition_count,
        .properties = sink->properties,
        .property_count = sink->config.property_count,
        .app_id = sink->config.application_id,
    };
}

/* The columns of the table that may not be null, rows do not have and nothing fills, as ones that
 * may be, behind those in `out`. */
static int put_lost(const struct delta_sink *sink, struct weir_schema *out,
                    struct weir_error *err) {
    struct weir_delta_snapshot *snapshot = weir_delta_table_snapshot(sink->table);
    const struct weir_delta_create_options options = options_of(sink);
    const struct weir_schema *have;
    struct weir_schema *brought = NULL;
    int rc = weir_delta_table_schema(&options, &brought, err);
    rc = rc == WEIR_OK ? weir_delta_snapshot_schema(snapshot, &have, NULL, err) : rc;
    for (int32_t i = 0; rc == WEIR_OK && i < have->count; i++) {
        const char *name = have->fields[i].name;
        if (have->fields[i].nullable || weir_schema_find(brought, name) >= 0 ||
            weir_delta_fills(weir_delta_snapshot_metadata(snapshot), name)) {
            continue;
        }
        rc = weir_schema_add(out, &have->fields[i]);
        if (rc == WEIR_OK) {
            out->fields[out->count - 1].nullable = true;
        } else {
            weir_error_set(err, rc, "%s: %s", sink->config.name, weir_error_text(rc));
        }
    }
    weir_schema_unref(brought);
    return rc;
}

/* Columns that the rules gained since the table was made, before any file holds them; what they
 * lost may be null before any file lacks it. */
static int add_columns(struct delta_sink *sink, struct weir_error *err) {
    const struct weir_delta_commit_options options = {
        .stop = sink->config.stop,
        .stop_context = sink->config.stop_context,
    };
    struct weir_delta_commit_result result;
    struct weir_schema *schema = weir_schema_create();
    int rc = schema != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (int32_t i = 0; rc == WEIR_OK && i < sink->table_schema->count; i++) {
        rc = weir_schema_add(schema, &sink->table_schema->fields[i]);
    }
    rc = rc == WEIR_OK ? put_lost(sink, schema, err)
                       : weir_error_set(err, rc, "%s: out of memory", sink->config.name);
    if (rc == WEIR_OK) {
        rc = weir_delta_add_columns(sink->table, schema->fields, schema->count, &options, &result,
                                    err);
    }
    weir_schema_unref(schema);
    if (rc != WEIR_OK) {
        weir_delta_table_close(sink->table);
        sink->table = NULL;
    } else if (!result.skipped) {
        weir_log_info("sink", "added columns table=%s version=%" PRId64, sink->config.name,
                      result.version);
    }
    return rc;
}

/* With the lock held. */
static int ensure_table(struct delta_sink *sink, struct weir_error *err) {
    int rc = WEIR_OK;
    if (sink->table == NULL) {
        const struct weir_delta_create_options options = options_of(sink);
        if (WEIR_FAULT(delta_before_create)) {
            rc = weir_error_set(err, WEIR_E_FAULT, "injected at delta_before_create");
        } else if (sink->config.schema == NULL) {
            rc = weir_delta_table_open(sink->store, sink->directory, &sink->table, err);
        } else {
            rc = weir_delta_table_open_or_create(sink->store, sink->directory, &options, true,
                                                 &sink->table, err);
            if (rc == WEIR_OK) {
                rc = add_columns(sink, err);
            }
            if (rc == WEIR_OK && sink->overwrite != NULL) {
                rc = weir_delta_overwrite_check(sink->table, sink->overwrite, err);
            }
        }
    }
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "%s", sink->config.name);
}

/* With the lock held. */
static int open_table(struct delta_sink *sink, uint64_t *marker, struct weir_error *err) {
    int rc = sink->store == NULL ? weir_store_local_create(sink->root, &sink->store, err) : WEIR_OK;
    if (rc == WEIR_OK && sink->config.lazy) {
        struct weir_error quiet;
        rc = weir_delta_table_open(sink->store, sink->directory, &sink->table, &quiet);
        if (rc == WEIR_E_NOTFOUND) {
            return WEIR_OK;
        }
        if (rc != WEIR_OK && err != NULL) {
            *err = quiet;
        }
        weir_delta_table_close(sink->table);
        sink->table = NULL;
    }
    if (rc == WEIR_OK) {
        rc = ensure_table(sink, err);
    }
    if (rc == WEIR_OK) {
        int64_t txn = weir_delta_snapshot_txn(weir_delta_table_snapshot(sink->table),
                                              sink->config.application_id);
        *marker = txn > 0 ? (uint64_t)txn : 0;
    }
    return rc;
}

static int start(void *self, uint64_t *marker, struct weir_error *err) {
    struct delta_sink *sink = self;
    *marker = 0;
    pthread_mutex_lock(&sink->lock);
    int rc = open_table(sink, marker, err);
    pthread_mutex_unlock(&sink->lock);
    if (rc == WEIR_OK && sink->upkept.upkeep == NULL && sink->config.shared != NULL) {
        rc = delta_upkeep_join(sink->config.shared, &sink->upkept, sink->config.draining,
                               sink->config.stop_context, err);
    }
    return rc;
}

/* The writer fills in what the rows lack; whether they hold what they must is the loop's to say,
 * since rows that do not go to quarantine. */
static int duties(void *self, struct weir_schema *schema, struct weir_delta_duties **out,
                  struct weir_error *err) {
    struct delta_sink *sink = self;
    *out = NULL;
    pthread_mutex_lock(&sink->lock);
    int rc = sink->table != NULL ? weir_delta_duties_create(weir_delta_table_snapshot(sink->table),
                                                            schema, out, err)
                                 : WEIR_OK;
    pthread_mutex_unlock(&sink->lock);
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "%s", sink->config.name);
}

/* Whether columns come, go and get other types while the pipeline runs is the table's to say, as it
 * is now. */
static int takes(void *self, struct weir_schema *schema, struct weir_error *err) {
    struct delta_sink *sink = self;
    struct weir_schema *wanted;
    if (table_schema_of(sink, schema, &wanted) != WEIR_OK) {
        weir_schema_unref(wanted);
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", sink->config.name);
    }
    struct weir_delta_create_options options = options_of(sink);
    options.schema = wanted;
    pthread_mutex_lock(&sink->lock);
    int rc = sink->table != NULL ? weir_delta_table_refresh(sink->table, err) : WEIR_OK;
    if (rc == WEIR_OK && sink->table != NULL) {
        rc = weir_delta_table_takes(sink->table, &options, err);
    }
    pthread_mutex_unlock(&sink->lock);
    weir_schema_unref(wanted);
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "%s", sink->config.name);
}

/* One made for the columns the table has now: others may have changed them since. */
static int open_writer(struct delta_sink *sink, struct weir_error *err) {
    uint32_t changes = __atomic_load_n(&sink->table_changes, __ATOMIC_ACQUIRE);
    if (sink->writer != NULL &&
        (changes == sink->writer_changes || weir_delta_writer_rows(sink->writer) > 0)) {
        return WEIR_OK;
    }
    weir_delta_writer_destroy(sink->writer); /* sealed: it holds nothing */
    sink->writer = NULL;
    sink->writer_changes = changes;
    struct weir_delta_writer_options options = {.memory_bytes = sink->config.memory_bytes,
                                                .judged = true,
                                                .target_file_bytes =
                                                    (size_t)sink->config.target_bytes};
    pthread_mutex_lock(&sink->lock);
    int rc = ensure_table(sink, err);
    if (rc == WEIR_OK) {
        rc = weir_delta_writer_create(sink->table, sink->config.schema, sink->delta_partitions,
                                      sink->config.partition_count, &options, &sink->writer, err);
    }
    pthread_mutex_unlock(&sink->lock);
    return rc;
}

/* Rows that are merged, or may go into the record. */
static int gather_rows(struct delta_sink *sink, struct weir_batch *batch, const int32_t *sel,
                       int32_t count, struct weir_error *err) {
    int rc = WEIR_OK;
    if (sink->changes == NULL) {
        rc = delta_changes_create(&sink->config, sink->delta_partitions, &sink->changes, err);
    }
    if (rc == WEIR_OK) {
        rc = delta_changes_write(sink->changes, batch, sel, count, err);
    }
    if (rc == WEIR_OK && sink->config.key_count == 0 &&
        delta_changes_bytes(sink->changes) > TOGETHER_BYTES) {
        sink->spilled = true;
        rc = open_writer(sink, err);
        rc = rc == WEIR_OK ? delta_changes_move(sink->changes, sink->writer, err) : rc;
    }
    return rc;
}

static int write_rows(void *self, struct weir_batch *batch, const int32_t *sel, int32_t count,
                      struct weir_error *err) {
    struct delta_sink *sink = self;
    int rc;
    if (sink->config.key_count > 0 || (sink->config.together && !sink->spilled)) {
        rc = gather_rows(sink, batch, sel, count, err);
    } else {
        rc = open_writer(sink, err);
        rc = rc == WEIR_OK ? weir_delta_writer_append(sink->writer, batch, sel, count, err) : rc;
    }
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "write %s", sink->config.name);
}

/* A table whose columns have other names in its files must know them before a file is made. */
static bool maps_columns(const struct delta_sink *sink) {
    const char *mode = weir_delta_metadata_property(
        weir_delta_snapshot_metadata(weir_delta_table_snapshot(sink->table)),
        "delta.columnMapping.mode");
    return mode != NULL && strcmp(mode, "none") != 0;
}

/* Whether the table must change before the first file of the columns that rows have from now on. */
static int changes_first(const struct delta_sink *sink, bool *does, struct weir_error *err) {
    *does = sink->table != NULL && maps_columns(sink);
    if (sink->table == NULL || *does) {
        return WEIR_OK;
    }
    struct weir_schema *lost = weir_schema_create();
    int rc = lost != NULL
                 ? put_lost(sink, lost, err)
                 : weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", sink->config.name);
    *does = rc == WEIR_OK && lost->count > 0;
    weir_schema_unref(lost);
    return rc;
}

static int evolve(void *self, struct weir_schema *schema, struct weir_error *err) {
    struct delta_sink *sink = self;
    weir_delta_writer_destroy(sink->writer); /* sealed: it holds nothing */
    delta_changes_destroy(sink->changes);
    sink->writer = NULL;
    sink->changes = NULL;
    pthread_mutex_lock(&sink->lock);
    weir_schema_unref(sink->config.schema);
    weir_schema_unref(sink->table_schema);
    sink->config.schema = weir_schema_ref(schema);
    sink->table_schema = NULL;
    sink->columns_due = sink->config.key_count > 0 || sink->config.together;
    sink->announce = sink->config.key_count == 0;
    int rc = make_table_schema(sink) == WEIR_OK
                 ? WEIR_OK
                 : weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", sink->config.name);
    if (sink->table != NULL) {
        weir_delta_table_writes_others(sink->table);
    }
    bool first = false;
    rc = rc == WEIR_OK ? changes_first(sink, &first, err) : rc;
    rc = rc == WEIR_OK && first ? add_columns(sink, err) : rc;
    pthread_mutex_unlock(&sink->lock);
    return rc;
}

/* The first line of the first effect after the columns changed. */
static int announce(struct delta_sink *sink, struct weir_buffer *effect, struct weir_error *err) {
    int rc = weir_buffer_append_text(effect, COLUMNS_MARK);
    rc = rc == WEIR_OK ? weir_delta_schema_format(sink->table_schema, effect, err) : rc;
    rc = rc == WEIR_OK ? weir_buffer_append_text(effect, "}\n") : rc;
    sink->announce = rc != WEIR_OK;
    return rc == WEIR_OK ? rc
                         : weir_error_set(err, rc, "the columns of one epoch do not fit a record");
}

static int seal(void *self, uint64_t epoch, struct weir_buffer *effect, struct weir_error *err) {
    struct delta_sink *sink = self;
    (void)epoch;
    bool spilled = sink->spilled;
    sink->spilled = false;
    if (sink->changes != NULL && !spilled) {
        int rc = delta_changes_seal(sink->changes, effect, err);
        return rc == WEIR_OK ? rc : weir_error_wrap(err, "seal %s", sink->config.name);
    }
    if (sink->writer == NULL) {
        return WEIR_OK;
    }
    struct weir_delta_adds adds = {0};
    int rc = weir_delta_writer_seal(sink->writer, &adds, err);
    if (rc == WEIR_OK && sink->announce && adds.count > 0) {
        rc = announce(sink, effect, err);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < adds.count; i++) {
        rc = weir_delta_add_format(adds.items[i], effect);
        if (rc == WEIR_OK) {
            rc = weir_buffer_append(effect, "\n", 1);
        }
        if (rc != WEIR_OK) {
            weir_error_set(err, rc, "the add actions of one epoch do not fit a record");
        }
    }
    weir_delta_adds_fini(&adds);
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "seal %s", sink->config.name);
}

static size_t held(void *self) {
    const struct delta_sink *sink = self;
    return sink->changes != NULL ? delta_changes_bytes(sink->changes) : 0;
}

/* The columns an effect announces, NULL for none; what follows them is left in text and size. */
static int take_columns(const char **text, size_t *size, struct weir_schema **out,
                        struct weir_error *err) {
    static const char mark[] = COLUMNS_MARK;
    const char *newline = memchr(*text, '\n', *size);
    *out = NULL;
    if (newline == NULL || strncmp(*text, mark, sizeof(mark) - 1) != 0) {
        return WEIR_OK;
    }
    struct weir_delta_column *columns = NULL;
    const char *from = *text + sizeof(mark) - 1;
    char *schema = strndup(from, (size_t)(newline - from) - 1); /* without the brace */
    int rc = schema == NULL ? weir_error_set(err, WEIR_E_NOMEM, "out of memory")
                            : weir_delta_schema_parse(schema, out, &columns, err);
    if (rc == WEIR_OK) {
        weir_delta_columns_free(columns, (*out)->count);
    }
    free(schema);
    *size -= (size_t)(newline + 1 - *text);
    *text = newline + 1;
    return rc;
}

static int parse_effect(const char *text, size_t size, struct weir_delta_adds *adds,
                        struct weir_error *err) {
    const char *end = text + size;
    while (text < end) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        size_t length = newline != NULL ? (size_t)(newline - text) : (size_t)(end - text);
        struct weir_delta_add *add;
        int rc = weir_delta_add_parse(text, length, &add, err);
        if (rc == WEIR_OK && (rc = weir_delta_adds_push(adds, add)) != WEIR_OK) {
            weir_error_set(err, rc, "out of memory");
        }
        if (rc != WEIR_OK) {
            return rc;
        }
        text += length + 1;
    }
    return WEIR_OK;
}

/* Columns that came with the effect have a commit of their own here. */
static int overwrite(struct delta_sink *sink, const struct weir_schema *columns,
                     const struct weir_delta_adds *adds,
                     const struct weir_delta_commit_options *options,
                     struct weir_delta_commit_result *result, struct weir_error *err) {
    int rc = columns != NULL ? weir_delta_add_columns(sink->table, columns->fields, columns->count,
                                                      options, result, err)
                             : WEIR_OK;
    return rc == WEIR_OK ? weir_delta_overwrite(sink->table, sink->overwrite, adds->items,
                                                adds->count, options, result, err)
                         : rc;
}

/* Tells the worker that rows to come are better written by a new writer. With the lock held. */
static void note_changes(struct delta_sink *sink, bool own) {
    uint32_t changes = weir_delta_table_schema_changes(sink->table);
    if (changes != __atomic_load_n(&sink->table_changes, __ATOMIC_RELAXED) && !own) {
        weir_log_info("sink", "another writer changed the columns, going on table=%s",
                      sink->config.name);
    }
    __atomic_store_n(&sink->table_changes, changes, __ATOMIC_RELEASE);
}

/* Of several records only where all are rows. */
static int apply_records(struct delta_sink *sink, const struct weir_sink_record *records,
                         int32_t count, struct weir_error *err) {
    struct weir_delta_adds adds = {0};
    struct weir_schema *columns = NULL;
    const void *effect = records[0].effect;
    size_t size = records[0].size;
    bool verify = records[0].verify;
    uint64_t record = records[count - 1].record;
    const char *text = effect;
    bool merges = delta_changes_is_effect(effect, size);
    bool rows = delta_rows_is_effect(effect, size);
    pthread_mutex_lock(&sink->lock);
    int rc = ensure_table(sink, err);
    if (rc == WEIR_OK && (merges || rows) && sink->columns_due) {
        sink->columns_due = false;
        rc = add_columns(sink, err);
    }
    if (rc == WEIR_OK && rows) {
        rc = delta_rows_files(sink->table, records, count, &adds, err);
    } else if (rc == WEIR_OK && !merges) {
        rc = take_columns(&text, &size, &columns, err);
        rc = rc == WEIR_OK ? parse_effect(text, size, &adds, err) : rc;
    }
    if (rc == WEIR_OK && verify && !rows) {
        rc = weir_delta_adds_exist(sink->table, adds.items, adds.count, err);
    }
    if (rc == WEIR_OK) {
        if (WEIR_FAULT(delta_before_commit)) {
            rc = weir_error_set(err, WEIR_E_FAULT, "injected at delta_before_commit");
        }
    }
    if (rc == WEIR_OK) {
        struct weir_delta_commit_options options = {
            .txn = {.app_id = sink->config.application_id, .version = (int64_t)record},
            .stop = sink->config.stop,
            .stop_context = sink->config.stop_context,
        };
        struct weir_delta_commit_result result;
        struct weir_delta_merge_result merged;
        rc = merges ? delta_changes_apply(sink->table, effect, size, &options, &merged, err)
             : sink->overwrite != NULL ? overwrite(sink, columns, &adds, &options, &result, err)
             : columns != NULL
                 ? weir_delta_append_columns(sink->table, columns->fields, columns->count,
                                             adds.items, adds.count, &options, &result, err)
                 : weir_delta_append(sink->table, adds.items, adds.count, &options, &result, err);
        if (rc == WEIR_OK && columns != NULL) {
            weir_log_info("sink", "the table has its new columns table=%s version=%" PRId64,
                          sink->config.name, result.version);
        }
        if (rc == WEIR_OK && merges && merged.unknown > 0) {
            weir_log_warn("sink",
                          "changes left out columns of rows the table did not have; they are null "
                          "until they change (REPLICA IDENTITY FULL sends them) table=%s "
                          "values=%" PRId64,
                          sink->config.name, merged.unknown);
        }
    }
    bool columns_came = columns != NULL;
    weir_schema_unref(columns);
    if (sink->table != NULL) {
        note_changes(sink, columns_came);
    }
    pthread_mutex_unlock(&sink->lock);
    if (rc == WEIR_OK) {
        delta_upkeep_notice(&sink->upkept, merges ? 1 : adds.count);
    }
    if (rc == WEIR_OK && WEIR_FAULT(delta_after_commit)) {
        rc = weir_error_set(err, WEIR_E_FAULT, "injected at delta_after_commit");
    }
    weir_delta_adds_fini(&adds);
    return rc == WEIR_OK ? rc
                         : weir_error_wrap(err, "commit %s, record %llu", sink->config.name,
                                           (unsigned long long)record);
}

static int apply(void *self, uint64_t record, const void *effect, size_t size, bool verify,
                 struct weir_error *err) {
    const struct weir_sink_record one = {record, effect, size, verify};
    return apply_records(self, &one, 1, err);
}

/* Rows that lie in records go into files together; the others are applied one by one. */
static int apply_many(void *self, const struct weir_sink_record *records, int32_t count,
                      struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0, run; i < count && rc == WEIR_OK; i += run) {
        run = 1;
        while (delta_rows_is_effect(records[i].effect, records[i].size) && i + run < count &&
               delta_rows_is_effect(records[i + run].effect, records[i + run].size)) {
            run++;
        }
        rc = apply_records(self, records + i, run, err);
    }
    return rc;
}

static int maintain(void *self, struct weir_error *err) {
    struct delta_sink *sink = self;
    pthread_mutex_lock(&sink->lock);
    bool due = weir_delta_checkpoint_due(sink->table);
    int rc = weir_delta_checksum(sink->table, err);
    pthread_mutex_unlock(&sink->lock);
    if (due && !delta_upkeep_checkpoint(&sink->upkept)) {
        pthread_mutex_lock(&sink->lock);
        int written = weir_delta_checkpoint(sink->table, rc == WEIR_OK ? err : NULL);
        rc = rc == WEIR_OK ? written : rc;
        pthread_mutex_unlock(&sink->lock);
    }
    return rc;
}

static void upkeep(void *self, struct weir_sink_upkeep *out) {
    struct delta_sink *sink = self;
    delta_upkeep_counts(&sink->upkept, out);
}

const struct weir_sink_ops weir_sink_delta = {
    .kind = "delta",
    .effect_kind = WEIR_SINK_EFFECT_DELTA_APPEND,
    .create = create,
    .start = start,
    .duties = duties,
    .write = write_rows,
    .takes = takes,
    .evolve = evolve,
    .seal = seal,
    .held = held,
    .apply = apply,
    .apply_many = apply_many,
    .maintain = maintain,
    .upkeep = upkeep,
    .destroy = destroy,
};
