/* Taking a rebuild over. Its state goes, as images, into one record of the pipeline's ledger; that
 * record is the swap. What comes before it can be done again, and what follows, the exchange of the
 * tables and what the rebuild knows of time, is redone from it. The record is told by a key among
 * its counters, "rebuilt/<dataset>": a JSON text, a zero, and the rebuild's saved graph. */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "commit/recover.h"
#include "core/clock.h"
#include "core/fault.h"
#include "core/log.h"
#include "lake/store/store.h"
#include "lake/upkeep/exchange.h"
#include "pipeline/internal.h"
#include "pipeline/rebuild.h"

enum { PATH_BYTES_MAX = 1500, INNER_BYTES_MAX = PATH_BYTES_MAX + 32, REBUILT_MAX = 16 };
#define KEY "rebuilt/"

/* --- a ledger looked at -----------------------------------------------------------------------
 */

struct looked {
    struct weir_ledger *ledger;
    struct weir_snapshots *snapshots;
    struct weir_recovery *recovery;
};

static void look_end(struct looked *l) {
    weir_recovery_destroy(l->recovery);
    if (l->snapshots != NULL) {
        weir_snapshots_close(l->snapshots);
    }
    if (l->ledger != NULL) {
        weir_ledger_close(l->ledger);
    }
    memset(l, 0, sizeof(*l));
}

static int look(struct weir_files *files, const char *path, const struct weir_recovery_hooks *hooks,
                struct looked *l, struct weir_error *err) {
    static const struct weir_recovery_hooks none = {0};
    char snapshots[INNER_BYTES_MAX];
    struct weir_ledger_options options = {.path = path, .files = files, .read_only = true};
    memset(l, 0, sizeof(*l));
    snprintf(snapshots, sizeof(snapshots), "%s/snapshots", path);
    int rc = weir_ledger_open(&options, &l->ledger, err);
    if (rc == WEIR_OK) {
        struct weir_snapshots_options snapshot_options = {
            .path = snapshots, .files = files, .identity = l->ledger->identity, .read_only = true};
        rc = weir_snapshots_open(&snapshot_options, &l->snapshots, err);
    }
    if (rc == WEIR_OK) {
        rc =
            weir_recover(l->ledger, l->snapshots, hooks != NULL ? hooks : &none, &l->recovery, err);
    }
    if (rc != WEIR_OK) {
        look_end(l);
    }
    return rc;
}

int rebuild_open_partitions(struct weir_pipeline *p, struct weir_error *err) {
    struct looked l;
    int rc = look(p->options.files, p->options.rebuilding->of, NULL, &l, err);
    for (int32_t s = 0; rc == WEIR_OK && s < p->source_count; s++) {
        for (int32_t i = 0; rc == WEIR_OK && i < WEIR_SOURCE_PARTITIONS_MAX; i++) {
            struct weir_keyed_entry entry;
            char name[256];
            snprintf(name, sizeof(name), "%s/%d", p->plan->sources[s].name, i);
            if (weir_recovery_find(l.recovery, WEIR_SECTION_POSITIONS, name, strlen(name),
                                   &entry)) {
                rc = weir_graph_open_partition(p->graph, s, name, false, err);
            }
        }
    }
    look_end(&l);
    return rc;
}

/* --- what there is to take over ---------------------------------------------------------------
 */

static struct rebuilt *add(struct weir_pipeline *p, const char *dataset, struct weir_error *err) {
    if (p->rebuilt == NULL) {
        p->rebuilt = calloc(REBUILT_MAX, sizeof(*p->rebuilt));
    }
    if (p->rebuilt == NULL || p->rebuilt_count == REBUILT_MAX) {
        weir_error_set(err, WEIR_E_LIMIT, "more than %d rebuilds at once", REBUILT_MAX);
        return NULL;
    }
    struct rebuilt *rebuilt = &p->rebuilt[p->rebuilt_count++];
    snprintf(rebuilt->dataset, sizeof(rebuilt->dataset), "%s", dataset);
    return rebuilt;
}

void rebuild_free(struct weir_pipeline *p) {
    for (int32_t i = 0; i < p->rebuilt_count; i++) {
        json_decref(p->rebuilt[i].declarations);
        json_decref(p->rebuilt[i].tables);
    }
    free(p->rebuilt);
}

/* A swap the ledger holds. */
static int add_recorded(struct weir_pipeline *p, const struct weir_recovery *recovery,
                        const struct weir_keyed_entry *entry, struct weir_error *err) {
    const char *body = (const char *)entry->body.data;
    json_t *said = json_loadb(body, strnlen(body, entry->body.size), 0, NULL);
    const char *within = json_string_value(json_object_get(said, "within"));
    char dataset[256];
    snprintf(dataset, sizeof(dataset), "%.*s", (int)(entry->key.size - (sizeof(KEY) - 1)),
             (const char *)entry->key.data + sizeof(KEY) - 1);
    struct rebuilt *rebuilt = within != NULL ? add(p, dataset, err) : NULL;
    int rc = WEIR_OK;
    if (rebuilt != NULL) {
        snprintf(rebuilt->within, sizeof(rebuilt->within), "%s", within);
        rebuild_path(p->ledger_path, dataset, rebuilt->path, sizeof(rebuilt->path));
        rebuilt->snapshot_end = weir_recovery_snapshot_end(recovery);
        rebuilt->record = (uint64_t)json_integer_value(json_object_get(said, "record"));
        rebuilt->declarations = json_incref(json_object_get(said, "declarations"));
        rebuilt->tables = json_incref(json_object_get(said, "tables"));
    } else {
        rc = within != NULL ? err->code
                            : weir_error_set(err, WEIR_E_CORRUPT,
                                             "what the ledger says of the rebuilt %s cannot be "
                                             "read",
                                             dataset);
    }
    json_decref(said);
    return rc;
}

static int find_recorded(struct weir_pipeline *p, const struct weir_recovery *recovery,
                         struct weir_error *err) {
    const struct weir_keyed_entry *entry;
    int rc = WEIR_OK;
    for (size_t i = 0;
         rc == WEIR_OK && (entry = weir_recovery_entry(recovery, WEIR_SECTION_COUNTERS, i)) != NULL;
         i++) {
        if (entry->key.size >= sizeof(KEY) && memcmp(entry->key.data, KEY, sizeof(KEY) - 1) == 0) {
            rc = add_recorded(p, recovery, entry, err);
        }
    }
    return rc;
}

/* Bronze has all rows that the pipeline ever wrote to it. */
static int compare_rows(const json_t *written, const json_t *read, struct weir_error *err) {
    const char *name;
    json_t *rows;
    json_object_foreach((json_t *)(uintptr_t)read, name, rows) {
        int64_t has = json_integer_value(rows);
        int64_t had = json_integer_value(json_object_get(written, name));
        if (has < had) {
            return weir_error_set(err, WEIR_E_STATE,
                                  "the table of %s holds %" PRId64 " of the %" PRId64
                                  " rows that were written to it; what stems from rows that are "
                                  "gone cannot be made anew. Give the new form another name, or "
                                  "restore the table",
                                  name, has, had);
        }
    }
    return WEIR_OK;
}

/* Brings one up to the last record: all tables hold what the ledger has, then what has come. */
static int bring_up(struct weir_pipeline *p, struct rebuilt *rebuilt, struct weir_error *err) {
    char inner[INNER_BYTES_MAX];
    snprintf(inner, sizeof(inner), "%s/ledger", rebuilt->path);
    json_t *written = json_object();
    json_t *read = json_object();
    struct rebuild_pass pass = {
        .path = p->options.path,
        .settings = p->options.settings,
        .setting_count = p->options.setting_count,
        .sources = written,
        .rebuilding = {.script = p->script},
    };
    int rc = rebuild_run(&pass, err);
    if (rc == WEIR_OK) {
        pass.rebuilding = (struct rebuilding){rebuilt->dataset, p->ledger_path, inner,
                                              rebuilt->within, p->script};
        pass.sources = read;
        rc = rebuild_run(&pass, err);
    }
    if (rc == WEIR_OK) {
        weir_log_info("pipeline", "rebuild of %s: %lld rows to be up to date", rebuilt->dataset,
                      (long long)pass.rows);
        rc = compare_rows(written, read, err);
    }
    json_decref(written);
    json_decref(read);
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "rebuild %s", rebuilt->dataset);
}

/* The folder of a rebuild: one that is to be taken over, one that was, or one under other rules. */
static int take(struct weir_pipeline *p, const struct looked *l, const char *dataset,
                const json_t *manifest, struct weir_error *err) {
    const char *within = json_string_value(json_object_get(manifest, "within"));
    const char *hash = json_string_value(json_object_get(manifest, "rule_set"));
    uint64_t snapshot_end = weir_recovery_snapshot_end(l->recovery);
    char path[PATH_BYTES_MAX];
    char inner[INNER_BYTES_MAX];
    struct stat info;
    rebuild_path(p->ledger_path, dataset, path, sizeof(path));
    snprintf(inner, sizeof(inner), "%s/ledger", path);
    if (within == NULL || hash == NULL) {
        return WEIR_OK; /* it was only begun */
    }
    for (int32_t i = 0; i < p->rebuilt_count; i++) {
        if (strcmp(p->rebuilt[i].within, within) == 0) {
            if (snapshot_end >= p->rebuilt[i].record) {
                rebuild_forget(path);
            }
            return WEIR_OK;
        }
    }
    if (stat(inner, &info) != 0) { /* taken over so long ago that the ledger has forgotten it */
        rebuild_forget(path);
        return WEIR_OK;
    }
    if (strcmp(hash, weir_rule_set_hash(p->rule_set)) != 0) {
        weir_log_warn("pipeline",
                      "the rebuild of %s was begun under other rules and is left alone; `weir "
                      "rebuild %s` begins it anew",
                      dataset, dataset);
        return WEIR_OK;
    }
    struct rebuilt *rebuilt = add(p, dataset, err);
    if (rebuilt == NULL) {
        return err->code;
    }
    snprintf(rebuilt->path, sizeof(rebuilt->path), "%s", path);
    snprintf(rebuilt->within, sizeof(rebuilt->within), "%s", within);
    rebuilt->snapshot_end = snapshot_end;
    json_t *plan = json_loads(weir_rule_set_plan(p->rule_set, NULL), 0, NULL);
    int rc = rebuild_names(plan, dataset, &rebuilt->declarations, &rebuilt->tables, err);
    json_decref(plan);
    return rc == WEIR_OK ? bring_up(p, rebuilt, err) : rc;
}

int rebuild_finish(struct weir_pipeline *p, struct weir_error *err) {
    char path[PATH_BYTES_MAX];
    weir_plan_ledger_path(p->plan, p->ledger_path, sizeof(p->ledger_path));
    snprintf(path, sizeof(path), "%s/" REBUILD_FOLDER, p->ledger_path);
    DIR *directory = p->options.files == NULL ? opendir(path) : NULL;
    if (directory == NULL) {
        return WEIR_OK;
    }
    struct looked l;
    struct dirent *entry;
    int rc = look(p->options.files, p->ledger_path, NULL, &l, err);
    rc = rc == WEIR_OK ? find_recorded(p, l.recovery, err) : rc;
    while (rc == WEIR_OK && (entry = readdir(directory)) != NULL) {
        char one[PATH_BYTES_MAX];
        if (entry->d_name[0] != '.') {
            rebuild_path(p->ledger_path, entry->d_name, one, sizeof(one));
            json_t *manifest = rebuild_manifest(one);
            rc = take(p, &l, entry->d_name, manifest, err);
            json_decref(manifest);
        }
    }
    look_end(&l);
    closedir(directory);
    return rc;
}

/* --- the record -------------------------------------------------------------------------------
 */

/* "<declaration>/<cell>" */
static bool is_of(const struct rebuilt *rebuilt, struct weir_span cell) {
    size_t i;
    json_t *name;
    json_array_foreach(rebuilt->declarations, i, name) {
        size_t length = json_string_length(name);
        if (cell.size > length && cell.data[length] == '/' &&
            memcmp(cell.data, json_string_value(name), length) == 0) {
            return true;
        }
    }
    return false;
}

bool rebuild_passes(const struct weir_pipeline *p, struct weir_span cell, uint64_t epoch) {
    for (int32_t i = 0; i < p->rebuilt_count; i++) {
        const struct rebuilt *rebuilt = &p->rebuilt[i];
        uint64_t of = epoch != 0 ? epoch : rebuilt->snapshot_end;
        if (of < rebuilt->record && is_of(rebuilt, cell)) {
            return true;
        }
    }
    return false;
}

struct copying {
    const struct rebuilt *rebuilt;
    struct weir_record *record;
};

static int copy_image(void *context, struct weir_span cell, struct weir_span bytes,
                      struct weir_error *err) {
    struct copying *copying = context;
    if (!is_of(copying->rebuilt, cell)) {
        return WEIR_OK;
    }
    void *copy = malloc(bytes.size + 1);
    if (copy == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "rebuild: out of memory");
    }
    memcpy(copy, bytes.data, bytes.size);
    struct weir_blob blob = {copy, bytes.size, free, copy};
    return weir_record_take_image(copying->record, (const char *)cell.data, cell.size, &blob, err);
}

static int copy_images(void *context, const struct weir_record_view *view, struct weir_error *err) {
    struct weir_named_blob blob;
    struct weir_section_iterator images = weir_section_iterate(view->images);
    int rc = WEIR_OK;
    while (rc == WEIR_OK && weir_image_next(&images, &blob)) {
        rc = copy_image(context, blob.name, blob.body, err);
    }
    return rc;
}

/* The key that tells the swap, with what the rebuild knows of time. */
static int put_key(const struct rebuilt *rebuilt, const struct weir_recovery *recovery,
                   struct weir_record *record, struct weir_error *err) {
    struct weir_buffer body;
    struct weir_keyed_entry graph = {0};
    char key[300];
    weir_buffer_init(&body, 64 << 20);
    (void)weir_recovery_find(recovery, WEIR_SECTION_COUNTERS, "graph", 5, &graph);
    json_t *said = json_pack("{s:i,s:s,s:I,s:O,s:O}", "format", 1, "within", rebuilt->within,
                             "record", (json_int_t)rebuilt->record, "declarations",
                             rebuilt->declarations, "tables", rebuilt->tables);
    char *text = said != NULL ? json_dumps(said, JSON_COMPACT) : NULL;
    int rc = text != NULL ? weir_buffer_append(&body, text, strlen(text) + 1) : WEIR_E_NOMEM;
    rc = rc == WEIR_OK ? weir_buffer_append(&body, graph.body.data, graph.body.size) : rc;
    snprintf(key, sizeof(key), KEY "%s", rebuilt->dataset);
    rc = rc == WEIR_OK ? weir_record_put_bytes(record, WEIR_SECTION_COUNTERS, key, strlen(key),
                                               body.data, body.size, err)
                       : weir_error_set(err, rc, "rebuild: out of memory");
    free(text);
    json_decref(said);
    weir_buffer_fini(&body);
    return rc;
}

static int put_rebuilt(struct weir_pipeline *p, struct rebuilt *rebuilt, struct weir_record *record,
                       struct weir_error *err) {
    char inner[INNER_BYTES_MAX];
    struct copying copying = {rebuilt, record};
    const struct weir_recovery_hooks hooks = {
        .context = &copying, .slice = copy_image, .apply = copy_images};
    struct looked l;
    snprintf(inner, sizeof(inner), "%s/ledger", rebuilt->path);
    rebuilt->record = weir_record_epoch(record);
    int rc = look(p->options.files, inner, &hooks, &l, err);
    rc = rc == WEIR_OK ? put_key(rebuilt, l.recovery, record, err) : rc;
    look_end(&l);
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "state of the rebuilt %s", rebuilt->dataset);
}

static int append(struct weir_pipeline *p, struct weir_record *record, struct weir_error *err) {
    const struct iovec *parts;
    int count;
    uint64_t size;
    int rc = weir_record_finish(record, &parts, &count, &size, err);
    if (rc == WEIR_OK && WEIR_FAULT(rebuild_before_record)) {
        rc = weir_error_set(err, WEIR_E_FAULT, "injected at rebuild_before_record");
    }
    if (rc == WEIR_OK) {
        rc = weir_ledger_append(p->ledger, weir_record_epoch(record), p->clock_us, parts, count,
                                err);
    }
    if (rc == WEIR_OK && WEIR_FAULT(rebuild_recorded)) {
        rc = weir_error_set(err, WEIR_E_FAULT, "injected at rebuild_recorded");
    }
    return rc;
}

int rebuild_record(struct weir_pipeline *p, struct weir_error *err) {
    struct weir_record *record = NULL;
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < p->rebuilt_count; i++) {
        if (p->rebuilt[i].record != 0) {
            continue;
        }
        if (record == NULL) {
            const char *hash = weir_rule_set_hash(p->rule_set);
            rc = weir_record_create(p->ledger->last + 1, NULL, &record, err);
            if (rc == WEIR_OK) {
                weir_record_set_sealed_at(record, p->clock_us);
                rc = weir_record_set_rule_set(record, hash, strlen(hash), err);
            }
        }
        rc = rc == WEIR_OK ? put_rebuilt(p, &p->rebuilt[i], record, err) : rc;
    }
    if (rc == WEIR_OK && record != NULL) {
        rc = append(p, record, err);
    }
    weir_record_destroy(record);
    return rc;
}

/* --- what follows from it ---------------------------------------------------------------------
 */

static bool is_named(const void *context, const char *name) {
    const struct rebuilt *rebuilt = context;
    const json_t *lists[] = {rebuilt->declarations, rebuilt->tables};
    for (int l = 0; l < 2; l++) {
        size_t i;
        json_t *one;
        json_array_foreach(lists[l], i, one) {
            if (strcmp(json_string_value(one), name) == 0) {
                return true;
            }
        }
    }
    return false;
}

int rebuild_load(struct weir_pipeline *p, const struct weir_recovery *recovery,
                 struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < p->rebuilt_count; i++) {
        const struct rebuilt *rebuilt = &p->rebuilt[i];
        struct weir_keyed_entry entry;
        char key[300];
        snprintf(key, sizeof(key), KEY "%s", rebuilt->dataset);
        if (rebuilt->record != weir_recovery_last(recovery) || /* records since say more */
            !weir_recovery_find(recovery, WEIR_SECTION_COUNTERS, key, strlen(key), &entry)) {
            continue;
        }
        size_t skip = strnlen((const char *)entry.body.data, entry.body.size) + 1;
        if (skip < entry.body.size) {
            rc = weir_graph_load_of(p->graph, entry.body.data + skip, entry.body.size - skip,
                                    is_named, rebuilt, err);
        }
    }
    return rc;
}

static bool stopping(void *context) {
    const struct weir_pipeline *p = context;
    return atomic_load(&p->failed);
}

static int exchange(struct weir_pipeline *p, const struct rebuilt *rebuilt,
                    struct weir_store *store, struct weir_error *err) {
    size_t i;
    json_t *name;
    int rc = WEIR_OK;
    json_array_foreach(rebuilt->tables, i, name) {
        char dir[512];
        struct weir_delta_exchange_result result;
        const struct weir_delta_commit_options options = {
            .txn = {.app_id = p->application_id, .version = (int64_t)rebuilt->record},
            .stop = stopping,
            .stop_context = p,
        };
        rc = weir_sink_folder(json_string_value(name), dir, sizeof(dir), err);
        rc = rc == WEIR_OK
                 ? weir_delta_exchange(store, dir, rebuilt->within, &options, &result, err)
                 : rc;
        if (rc != WEIR_OK) {
            return weir_error_wrap(err, "rebuild %s", rebuilt->dataset);
        }
        if (!result.skipped) {
            weir_log_info("pipeline",
                          "the rebuilt %s took its place table=%s version=%" PRId64
                          " files=%" PRId64 " instead_of=%" PRId64,
                          rebuilt->dataset, json_string_value(name), result.version,
                          result.files_added, result.files_removed);
        }
        if (WEIR_FAULT(rebuild_exchanged)) {
            return weir_error_set(err, WEIR_E_FAULT, "injected at rebuild_exchanged");
        }
    }
    return rc;
}

int rebuild_exchange(struct weir_pipeline *p, struct weir_store *store, struct weir_error *err) {
    struct weir_store *own = NULL;
    int rc = WEIR_OK;
    if (store == NULL) {
        rc = weir_store_local_create(p->plan->storage_root, &own, err);
        store = own;
    }
    for (int32_t i = 0; rc == WEIR_OK && i < p->rebuilt_count; i++) {
        rc = exchange(p, &p->rebuilt[i], store, err);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < p->rebuilt_count; i++) {
        char inner[INNER_BYTES_MAX];
        snprintf(inner, sizeof(inner), "%s/ledger", p->rebuilt[i].path);
        json_t *manifest = rebuild_manifest(p->rebuilt[i].path);
        const char *within = json_string_value(json_object_get(manifest, "within"));
        if (within != NULL && strcmp(within, p->rebuilt[i].within) == 0) {
            rebuild_forget(inner); /* the record has its state; the manifest tells of the record */
        }
        json_decref(manifest);
        p->images_since_snapshot = UINT64_MAX / 2; /* soon none of them reads on from the swap */
    }
    weir_store_destroy(own);
    return rc;
}
