/* The state of a table, and how each action changes it. Live files sit in one hash set; removing
 * and re-adding keeps it compact, so that memory follows live files and nothing else. */
#include "lake/delta/place.h"
#include "lake/delta/state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#define STATS_BYTES_MAX ((size_t)64 << 20)

/* --- paths --------------------------------------------------------------------------------- */

char *delta_join(const char *dir, const char *path) {
    char *out = NULL;
    if (asprintf(&out, "%s%s%s", dir, *dir != '\0' && *path != '\0' ? "/" : "", path) < 0) {
        return NULL;
    }
    return out;
}

char *delta_log_path(const char *dir, const char *format, ...) {
    char name[512];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof(name), format, args);
    va_end(args);
    char *out = NULL;
    if (asprintf(&out, "%s%s_delta_log%s%s", dir, *dir != '\0' ? "/" : "",
                 name[0] != '\0' ? "/" : "", name) < 0) {
        return NULL;
    }
    return out;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

char *delta_uri_decode(const char *text) {
    char *out = malloc(strlen(text) + 1);
    if (out == NULL) {
        return NULL;
    }
    char *to = out;
    for (const char *at = text; *at != '\0'; at++) {
        int high = at[0] == '%' ? hex_digit(at[1]) : -1;
        int low = high >= 0 ? hex_digit(at[2]) : -1;
        if (low >= 0 && high * 16 + low != 0) {
            *to++ = (char)(high * 16 + low);
            at += 2;
        } else {
            *to++ = *at;
        }
    }
    *to = '\0';
    return out;
}

/* Skips "file:" and all but one of the slashes after it, so that "file:///a", "file:/a" and "/a"
 * name the same file. */
static const char *skip_scheme(const char *path) {
    if (strncmp(path, "file:", 5) == 0) {
        path += 5;
    }
    while (path[0] == '/' && path[1] == '/') {
        path++;
    }
    return path;
}

int delta_file_path(struct weir_store *store, const char *dir, const char *logged, char **out,
                    struct weir_error *err) {
    struct weir_buffer root;
    weir_buffer_init(&root, 8192);
    *out = NULL;
    char *decoded = delta_uri_decode(logged);
    int rc = decoded != NULL ? WEIR_OK : weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    if (rc != WEIR_OK) {
        goto out;
    }
    const char *path = skip_scheme(decoded);
    if (path[0] == '/') {
        rc = store->ops->describe(store, dir, &root);
        const char *text = rc == WEIR_OK ? weir_buffer_text(&root) : NULL;
        if (text == NULL || strncmp(path, text, root.size) != 0 || path[root.size] != '/') {
            rc = weir_error_set(err, WEIR_E_UNSUPPORTED,
                                "the table refers to a file outside of its folder (%.200s), as "
                                "shallow clones do; copy it deep to read it here",
                                logged);
            goto out;
        }
        path += root.size + 1;
    } else if (strstr(path, "://") != NULL) {
        rc = weir_error_set(err, WEIR_E_UNSUPPORTED,
                            "the table refers to a file in another store (%.200s)", logged);
        goto out;
    }
    *out = delta_join(dir, path);
    rc = *out != NULL ? WEIR_OK : weir_error_set(err, WEIR_E_NOMEM, "out of memory");
out:
    weir_buffer_fini(&root);
    free(decoded);
    return rc;
}

/* --- the set of files ---------------------------------------------------------------------- */

struct file_key {
    const char *path;
    const struct weir_delta_dv *dv;
};

/* Streams the canonical bytes of a path: scheme dropped, escapes decoded. -1 at the end. */
struct path_reader {
    const char *at;
};

static int next_byte(struct path_reader *reader) {
    const char *at = reader->at;
    if (*at == '\0') {
        return -1;
    }
    int high = at[0] == '%' ? hex_digit(at[1]) : -1;
    int low = high >= 0 ? hex_digit(at[2]) : -1;
    if (low >= 0 && high * 16 + low != 0) {
        reader->at = at + 3;
        return high * 16 + low;
    }
    reader->at = at + 1;
    return (unsigned char)*at;
}

static bool same_dv(const struct weir_delta_dv *a, const struct weir_delta_dv *b) {
    return a->storage_type == b->storage_type &&
           (a->storage_type == 0 ||
            (a->offset == b->offset && strcmp(a->path_or_inline, b->path_or_inline) == 0));
}

static bool same_key(const struct file_key *a, const struct file_key *b) {
    if (!same_dv(a->dv, b->dv)) {
        return false;
    }
    struct path_reader left = {skip_scheme(a->path)};
    struct path_reader right = {skip_scheme(b->path)};
    for (;;) {
        int l = next_byte(&left);
        if (l != next_byte(&right)) {
            return false;
        }
        if (l < 0) {
            return true;
        }
    }
}

static uint64_t key_hash(const struct file_key *key) {
    uint8_t chunk[256];
    size_t used = 0;
    uint64_t hash = 0;
    struct path_reader reader = {skip_scheme(key->path)};
    for (int c = next_byte(&reader); c >= 0; c = next_byte(&reader)) {
        chunk[used++] = (uint8_t)c;
        if (used == sizeof(chunk)) {
            hash = XXH64(chunk, used, hash);
            used = 0;
        }
    }
    hash = XXH64(chunk, used, hash);
    if (key->dv->storage_type != 0) {
        hash = XXH64(key->dv->path_or_inline, strlen(key->dv->path_or_inline),
                     hash + (uint32_t)key->dv->offset);
    }
    return hash != 0 ? hash : 1;
}

typedef struct file_key item_key(const void *item);

static struct file_key add_key(const void *item) {
    const struct weir_delta_add *add = item;
    return (struct file_key){add->path, &add->dv};
}

static struct file_key tombstone_key(const void *item) {
    const struct delta_tombstone *tombstone = item;
    return (struct file_key){tombstone->path, &tombstone->dv};
}

/* Where the search for a hash begins in a set of `capacity` slots. The multiplier is another one at
 * every size: a checkpoint lists files in the order of a larger set's slots, and put back in that
 * order under the same function they would crowd each smaller one from its start. */
static size_t home(uint64_t hash, size_t capacity) {
    uint64_t mixed = hash * (0x9E3779B97F4A7C15u + 2 * (uint64_t)capacity);
    return (size_t)(mixed >> (64 - __builtin_ctzll(capacity)));
}

static struct delta_file_slot *files_find(const struct delta_files *files,
                                          const struct file_key *key, uint64_t hash,
                                          item_key *key_of) {
    if (files->capacity == 0) {
        return NULL;
    }
    for (size_t i = home(hash, files->capacity);; i = (i + 1) & (files->capacity - 1)) {
        struct delta_file_slot *slot = &files->slots[i];
        if (slot->hash == 0) {
            return NULL;
        }
        if (slot->hash == hash && slot->item != NULL) {
            struct file_key other = key_of(slot->item);
            if (same_key(key, &other)) {
                return slot;
            }
        }
    }
}

static int files_resize(struct delta_files *files, size_t capacity) {
    struct delta_file_slot *slots = calloc(capacity, sizeof(*slots));
    if (slots == NULL) {
        return WEIR_E_NOMEM;
    }
    for (size_t i = 0; i < files->capacity; i++) {
        if (files->slots[i].item != NULL) {
            size_t at = home(files->slots[i].hash, capacity);
            while (slots[at].hash != 0) {
                at = (at + 1) & (capacity - 1);
            }
            slots[at] = files->slots[i];
        }
    }
    free(files->slots);
    files->slots = slots;
    files->capacity = capacity;
    files->used = files->live;
    return WEIR_OK;
}

/* The key must not be present. */
static int files_insert(struct delta_files *files, void *take, uint64_t hash) {
    if ((files->used + 1) * 4 > files->capacity * 3) {
        size_t capacity = 64;
        while (capacity < (files->live + 1) * 2) {
            capacity *= 2;
        }
        int rc = files_resize(files, capacity);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    size_t at = home(hash, files->capacity);
    while (files->slots[at].hash != 0) {
        at = (at + 1) & (files->capacity - 1);
    }
    files->slots[at].hash = hash;
    files->slots[at].item = take;
    files->live++;
    files->used++;
    return WEIR_OK;
}

static void files_clear(struct delta_files *files) {
    for (size_t i = 0; i < files->capacity; i++) {
        free(files->slots[i].item);
    }
    free(files->slots);
    memset(files, 0, sizeof(*files));
}

static void files_delete(struct delta_files *files, struct delta_file_slot *slot) {
    free(slot->item);
    slot->item = NULL;
    files->live--;
    if (files->capacity > 64 && files->live * 8 < files->capacity) {
        /* shrinking may fail for lack of memory: the larger table stays, which is correct too */
        size_t capacity = files->capacity / 2;
        if (files_resize(files, capacity) != WEIR_OK) {
            return;
        }
    }
}

void delta_files_each(const struct delta_files *files, int (*visit)(void *context, void *item),
                      void *context, int *rc) {
    for (size_t i = 0; i < files->capacity && *rc == WEIR_OK; i++) {
        if (files->slots[i].item != NULL) {
            *rc = visit(context, files->slots[i].item);
        }
    }
}

const struct weir_delta_add *delta_snapshot_find(const struct weir_delta_snapshot *snapshot,
                                                 const struct weir_delta_add *add) {
    struct file_key key = add_key(add);
    struct delta_file_slot *slot = files_find(&snapshot->files, &key, key_hash(&key), add_key);
    return slot != NULL ? slot->item : NULL;
}

void delta_tombstones_expire(struct weir_delta_snapshot *snapshot, int64_t limit_ms) {
    struct delta_files *files = &snapshot->tombstones;
    for (size_t i = 0; i < files->capacity; i++) {
        const struct delta_tombstone *tombstone = files->slots[i].item;
        if (tombstone != NULL && tombstone->deletion_ms < limit_ms) {
            free(files->slots[i].item);
            files->slots[i].item = NULL;
            files->live--;
        }
    }
}

/* --- actions ------------------------------------------------------------------------------- */

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "table state: out of memory");
}

int delta_apply_protocol(void *context, const struct weir_delta_protocol *protocol,
                         struct weir_error *err) {
    struct weir_delta_snapshot *snapshot = context;
    struct weir_delta_protocol copy;
    int rc = weir_delta_protocol_copy(&copy, protocol);
    if (rc != WEIR_OK) {
        return no_memory(err);
    }
    weir_delta_protocol_fini(&snapshot->protocol);
    snapshot->protocol = copy;
    snapshot->has_protocol = true;
    return WEIR_OK;
}

static void forget_schema(struct weir_delta_snapshot *snapshot) {
    if (snapshot->schema != NULL) {
        weir_delta_columns_free(snapshot->columns, snapshot->schema->count);
        weir_schema_unref(snapshot->schema);
    }
    snapshot->schema = NULL;
    snapshot->columns = NULL;
}

int delta_apply_metadata(void *context, const struct weir_delta_metadata *metadata,
                         struct weir_error *err) {
    struct weir_delta_snapshot *snapshot = context;
    struct weir_delta_metadata copy;
    int rc = weir_delta_metadata_copy(&copy, metadata);
    if (rc != WEIR_OK) {
        return no_memory(err);
    }
    weir_delta_metadata_fini(&snapshot->metadata);
    forget_schema(snapshot);
    snapshot->metadata = copy;
    snapshot->has_metadata = true;
    return WEIR_OK;
}

static struct weir_delta_add *dup_packed(struct weir_delta_snapshot *snapshot,
                                         const struct weir_delta_add *add) {
    struct weir_delta_add view = *add;
    if (add->stats != NULL) {
        if (snapshot->packing.limit == 0) {
            weir_buffer_init(&snapshot->packing, STATS_BYTES_MAX);
        }
        view.stats_template =
            delta_stats_pack(&snapshot->templates, add->stats, &snapshot->packing);
        if (view.stats_template != 0) {
            view.stats = (const char *)snapshot->packing.data;
        }
    }
    return weir_delta_add_dup(&view);
}

const char *delta_snapshot_stats(const struct weir_delta_snapshot *snapshot,
                                 const struct weir_delta_add *held, struct weir_buffer *out,
                                 int *rc) {
    if (held->stats == NULL) {
        return NULL;
    }
    *rc = delta_stats_unpack(&snapshot->templates, held->stats_template, held->stats, out);
    const char *text = *rc == WEIR_OK ? weir_buffer_text(out) : NULL;
    if (*rc == WEIR_OK && text == NULL) {
        *rc = WEIR_E_NOMEM;
    }
    return text;
}

int delta_apply_add(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct weir_delta_snapshot *snapshot = context;
    struct weir_delta_add *copy = dup_packed(snapshot, add);
    if (copy == NULL) {
        return no_memory(err);
    }
#ifdef WEIR_PLANT_BUG /* tools/fuzz.py proves that the fuzzer would find this */
    char *twin = strdup(add->path);
    volatile int32_t escapes = 0;
    for (const char *c = twin; c != NULL && (c = strchr(c, '%')) != NULL; c += 3) {
        escapes = escapes + 1; /* as if every escape were whole */
    }
    free(twin);
#endif
    struct file_key key = add_key(copy);
    uint64_t hash = key_hash(&key);
    struct delta_file_slot *dead = files_find(&snapshot->tombstones, &key, hash, tombstone_key);
    if (dead != NULL) {
        files_delete(&snapshot->tombstones, dead);
    }
    struct delta_file_slot *slot = files_find(&snapshot->files, &key, hash, add_key);
    if (slot != NULL) { /* the same file again: newer statistics or tags */
        const struct weir_delta_add *old = slot->item;
        snapshot->file_bytes += copy->size_bytes - old->size_bytes;
        free(slot->item);
        slot->item = copy;
        return WEIR_OK;
    }
    if (files_insert(&snapshot->files, copy, hash) != WEIR_OK) {
        free(copy);
        return no_memory(err);
    }
    snapshot->file_bytes += copy->size_bytes;
    return WEIR_OK;
}

int delta_apply_remove(void *context, const struct weir_delta_remove *remove,
                       struct weir_error *err) {
    struct weir_delta_snapshot *snapshot = context;
    struct file_key key = {remove->path, &remove->dv};
    uint64_t hash = key_hash(&key);
    struct delta_file_slot *slot = files_find(&snapshot->files, &key, hash, add_key);
    if (slot != NULL) {
        snapshot->file_bytes -= ((const struct weir_delta_add *)slot->item)->size_bytes;
        files_delete(&snapshot->files, slot);
    }
    size_t path_size = strlen(remove->path) + 1;
    size_t dv_size = remove->dv.path_or_inline != NULL ? strlen(remove->dv.path_or_inline) + 1 : 0;
    struct delta_tombstone *tombstone = malloc(sizeof(*tombstone) + path_size + dv_size);
    if (tombstone == NULL) {
        return no_memory(err);
    }
    char *text = (char *)(tombstone + 1);
    memcpy(text, remove->path, path_size);
    tombstone->path = text;
    tombstone->dv = remove->dv;
    if (dv_size > 0) {
        memcpy(text + path_size, remove->dv.path_or_inline, dv_size);
        tombstone->dv.path_or_inline = text + path_size;
    }
    tombstone->deletion_ms = remove->deletion_ms;
    tombstone->data_change = remove->data_change;
    slot = files_find(&snapshot->tombstones, &key, hash, tombstone_key);
    if (slot != NULL) {
        free(slot->item);
        slot->item = tombstone;
        return WEIR_OK;
    }
    if (files_insert(&snapshot->tombstones, tombstone, hash) != WEIR_OK) {
        free(tombstone);
        return no_memory(err);
    }
    return WEIR_OK;
}

/* Index of the txn, or where it would go. */
static int32_t txn_position(const struct weir_delta_snapshot *snapshot, const char *app_id,
                            uint64_t hash, bool *found) {
    int32_t low = 0;
    int32_t high = snapshot->txn_count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        const struct delta_txn *txn = &snapshot->txns[middle];
        int order = txn->hash != hash ? (txn->hash < hash ? -1 : 1) : strcmp(txn->app_id, app_id);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *found = false;
    return low;
}

int delta_apply_txn(void *context, const struct weir_delta_txn *txn, struct weir_error *err) {
    struct weir_delta_snapshot *snapshot = context;
    uint64_t hash = XXH64(txn->app_id, strlen(txn->app_id), 0);
    bool found;
    int32_t at = txn_position(snapshot, txn->app_id, hash, &found);
    if (!found) {
        if (snapshot->txn_count == snapshot->txn_capacity) {
            int32_t capacity = snapshot->txn_capacity > 0 ? snapshot->txn_capacity * 2 : 8;
            struct delta_txn *txns = capacity <= DELTA_TXNS_MAX
                                         ? realloc(snapshot->txns, (size_t)capacity * sizeof(*txns))
                                         : NULL;
            if (txns == NULL) {
                return no_memory(err);
            }
            snapshot->txns = txns;
            snapshot->txn_capacity = capacity;
        }
        char *app_id = strdup(txn->app_id);
        if (app_id == NULL) {
            return no_memory(err);
        }
        memmove(&snapshot->txns[at + 1], &snapshot->txns[at],
                (size_t)(snapshot->txn_count - at) * sizeof(*snapshot->txns));
        snapshot->txns[at].app_id = app_id;
        snapshot->txns[at].hash = hash;
        snapshot->txn_count++;
    }
    snapshot->txns[at].version = txn->version;
    snapshot->txns[at].last_updated_ms = txn->last_updated_ms;
    return WEIR_OK;
}

int delta_apply_domain(void *context, const struct weir_delta_domain *domain,
                       struct weir_error *err) {
    struct weir_delta_snapshot *snapshot = context;
    int32_t at = 0;
    while (at < snapshot->domain_count && strcmp(snapshot->domains[at].name, domain->name) != 0) {
        at++;
    }
    if (domain->removed) {
        if (at < snapshot->domain_count) {
            free(snapshot->domains[at].name);
            free(snapshot->domains[at].configuration);
            snapshot->domains[at] = snapshot->domains[--snapshot->domain_count];
        }
        return WEIR_OK;
    }
    char *configuration = strdup(domain->configuration);
    if (configuration == NULL) {
        return no_memory(err);
    }
    if (at == snapshot->domain_count) {
        struct delta_domain *domains =
            at < DELTA_DOMAINS_MAX ? realloc(snapshot->domains, (size_t)(at + 1) * sizeof(*domains))
                                   : NULL;
        if (domains != NULL) {
            snapshot->domains = domains;
            domains[at].name = strdup(domain->name);
            domains[at].configuration = NULL;
        }
        if (domains == NULL || domains[at].name == NULL) {
            free(configuration);
            return no_memory(err);
        }
        snapshot->domain_count++;
    }
    free(snapshot->domains[at].configuration);
    snapshot->domains[at].configuration = configuration;
    return WEIR_OK;
}

/* --- the snapshot -------------------------------------------------------------------------- */

void delta_snapshot_reset(struct weir_delta_snapshot *snapshot) {
    struct weir_store *store = snapshot->store;
    char *dir = snapshot->dir;
    forget_schema(snapshot);
    delta_tier_close(snapshot);
    weir_delta_protocol_fini(&snapshot->protocol);
    weir_delta_metadata_fini(&snapshot->metadata);
    files_clear(&snapshot->files);
    files_clear(&snapshot->tombstones);
    for (int32_t i = 0; i < snapshot->txn_count; i++) {
        free(snapshot->txns[i].app_id);
    }
    free(snapshot->txns);
    for (int32_t i = 0; i < snapshot->domain_count; i++) {
        free(snapshot->domains[i].name);
        free(snapshot->domains[i].configuration);
    }
    free(snapshot->domains);
    delta_templates_fini(&snapshot->templates);
    weir_buffer_fini(&snapshot->packing);
    memset(snapshot, 0, sizeof(*snapshot));
    snapshot->store = store;
    snapshot->dir = dir;
    snapshot->version = -1;
    snapshot->checkpoint_version = -1;
    snapshot->checksum_version = -1;
}

void weir_delta_snapshot_destroy(struct weir_delta_snapshot *snapshot) {
    if (snapshot != NULL) {
        delta_snapshot_reset(snapshot);
        free(snapshot->dir);
        free(snapshot);
    }
}

int64_t weir_delta_snapshot_version(const struct weir_delta_snapshot *snapshot) {
    return snapshot->version;
}

int64_t weir_delta_snapshot_timestamp_ms(const struct weir_delta_snapshot *snapshot) {
    return snapshot->timestamp_ms;
}

const struct weir_delta_protocol *
weir_delta_snapshot_protocol(const struct weir_delta_snapshot *snapshot) {
    return &snapshot->protocol;
}

const struct weir_delta_metadata *
weir_delta_snapshot_metadata(const struct weir_delta_snapshot *snapshot) {
    return &snapshot->metadata;
}

int weir_delta_snapshot_schema(struct weir_delta_snapshot *snapshot,
                               const struct weir_schema **schema,
                               const struct weir_delta_column **columns, struct weir_error *err) {
    if (snapshot->schema == NULL) {
        int rc = weir_delta_schema_parse(snapshot->metadata.schema_string, &snapshot->schema,
                                         &snapshot->columns, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    *schema = snapshot->schema;
    if (columns != NULL) {
        *columns = snapshot->columns;
    }
    return WEIR_OK;
}

int64_t weir_delta_snapshot_file_count(const struct weir_delta_snapshot *snapshot) {
    return (int64_t)snapshot->files.live;
}

int64_t weir_delta_snapshot_file_bytes(const struct weir_delta_snapshot *snapshot) {
    return snapshot->file_bytes;
}

int64_t weir_delta_snapshot_txn(const struct weir_delta_snapshot *snapshot, const char *app_id) {
    bool found;
    int32_t at = txn_position(snapshot, app_id, XXH64(app_id, strlen(app_id), 0), &found);
    return found ? snapshot->txns[at].version : -1;
}

int64_t weir_delta_snapshot_checkpoint_version(const struct weir_delta_snapshot *snapshot) {
    return snapshot->checkpoint_version;
}

struct each_file {
    const struct weir_delta_snapshot *snapshot;
    struct weir_buffer stats;
    weir_delta_visit_add *visit;
    void *context;
    struct weir_error *err;
};

static int each_file(void *context, void *item) {
    struct each_file *each = context;
    struct weir_delta_add add = *(const struct weir_delta_add *)item;
    int rc = WEIR_OK;
    add.stats = delta_snapshot_stats(each->snapshot, item, &each->stats, &rc);
    add.stats_template = 0;
    return rc == WEIR_OK ? each->visit(each->context, &add, each->err) : no_memory(each->err);
}

int weir_delta_snapshot_each_file(const struct weir_delta_snapshot *snapshot,
                                  weir_delta_visit_add *visit, void *context,
                                  struct weir_error *err) {
    struct each_file each = {.snapshot = snapshot, .visit = visit, .context = context, .err = err};
    int rc = WEIR_OK;
    weir_buffer_init(&each.stats, STATS_BYTES_MAX);
    delta_files_each(&snapshot->files, each_file, &each, &rc);
    weir_buffer_fini(&each.stats);
    return rc;
}
