#pragma once
/* Actions of the Delta transaction log (Delta protocol, "Actions"), as C structs, and their JSON
 * form: one object per line of `_delta_log/%020d.json`. Integers are exact 64-bit; unknown actions
 * and unknown fields are ignored, as the protocol asks of readers.
 *
 * An add is one allocation (struct and all its texts), so that a snapshot of many files stays
 * compact and frees quickly. */
#include <stdbool.h>
#include <stdint.h>

#include "core/buffer.h"
#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_delta_pair {
    const char *key;
    const char *value; /* NULL: null */
};

/* Deletion vector descriptor. */
struct weir_delta_dv {
    char storage_type; /* 'u' relative path by UUID, 'i' inline, 'p' absolute path; 0: none */
    const char *path_or_inline;
    int32_t offset; /* -1 when absent */
    int32_t size_bytes;
    int64_t cardinality;
};

struct weir_delta_add {
    const char *path;      /* as in the log: URI-encoded, relative to the table */
    const char *stats;     /* JSON text, or NULL */
    const char *tags_json; /* JSON object text, or NULL */
    const char *clustering_provider;
    const struct weir_delta_pair *partition_values;
    int32_t partition_count;
    bool data_change;
    bool has_row_id;
    uint8_t stats_template; /* inside a snapshot alone: how `stats` is packed (packed.h) */
    int64_t size_bytes;
    int64_t modified_ms;
    int64_t base_row_id;
    int64_t default_row_commit_version;
    struct weir_delta_dv dv;
};

/* One allocation holding a deep copy; free() it. NULL without memory. */
struct weir_delta_add *weir_delta_add_dup(const struct weir_delta_add *add);
/* Appends {"add":{…}} without a newline. This is also the text a ledger stores. */
int weir_delta_add_format(const struct weir_delta_add *add,
                          struct weir_buffer *out) WEIR_MUST_CHECK;
/* The reverse, one allocation, free() it. `text` need not be NUL-terminated. */
int weir_delta_add_parse(const char *text, size_t length, struct weir_delta_add **out,
                         struct weir_error *err) WEIR_MUST_CHECK;

/* Appends {"remove":{…}} of a live file and a newline. */
int weir_delta_remove_format(const struct weir_delta_add *add, int64_t deletion_ms,
                             bool data_change, struct weir_buffer *out) WEIR_MUST_CHECK;
/* Appends {"cdc":{…}} of a file of changed rows and a newline. */
int weir_delta_cdc_format(const struct weir_delta_add *file,
                          struct weir_buffer *out) WEIR_MUST_CHECK;

/* A growing list of owned adds. Zero-initialise. */
struct weir_delta_adds {
    struct weir_delta_add **items;
    int32_t count;
    int32_t capacity;
};

int weir_delta_adds_push(struct weir_delta_adds *adds, struct weir_delta_add *take) WEIR_MUST_CHECK;
void weir_delta_adds_fini(struct weir_delta_adds *adds);

struct weir_delta_remove {
    const char *path;
    int64_t deletion_ms;
    struct weir_delta_dv dv;
    bool data_change;
};

struct weir_delta_txn {
    const char *app_id;
    int64_t version;
    int64_t last_updated_ms; /* 0 when absent */
};

struct weir_delta_domain {
    const char *name;
    const char *configuration;
    bool removed;
};

struct weir_delta_protocol {
    int32_t reader_version;
    int32_t writer_version;
    char **reader_features; /* owned */
    char **writer_features;
    int32_t reader_feature_count; /* -1: the list is absent */
    int32_t writer_feature_count;
};

/* A list of its own with room for `more`, whose texts are those of `pairs`; the caller frees it.
 * NULL without memory. */
struct weir_delta_pair *delta_pairs_copy(const struct weir_delta_pair *pairs, int32_t count,
                                         int32_t more);

struct weir_delta_metadata {
    char *id;
    char *name;        /* or NULL */
    char *description; /* or NULL */
    char *format_provider;
    char *schema_string; /* Spark JSON */
    char **partition_columns;
    struct weir_delta_pair *configuration; /* owned texts */
    int32_t partition_count;
    int32_t configuration_count;
    int64_t created_ms; /* 0 when absent */
};

struct weir_delta_commit_info {
    int64_t timestamp_ms;           /* 0 when absent */
    int64_t in_commit_timestamp_ms; /* 0 when absent */
    const char *operation;          /* or NULL */
    const char *operation_parameters_json;
    const char *operation_metrics_json;
    const char *engine_info;
    const char *txn_id;
    int64_t read_version; /* -1 when absent */
    int is_blind_append;  /* -1 when absent */
};

void weir_delta_protocol_fini(struct weir_delta_protocol *protocol);
void weir_delta_metadata_fini(struct weir_delta_metadata *metadata);
int weir_delta_protocol_copy(struct weir_delta_protocol *to,
                             const struct weir_delta_protocol *from) WEIR_MUST_CHECK;
int weir_delta_metadata_copy(struct weir_delta_metadata *to,
                             const struct weir_delta_metadata *from) WEIR_MUST_CHECK;
/* Value of a table property, or NULL. */
const char *weir_delta_metadata_property(const struct weir_delta_metadata *metadata,
                                         const char *key);

int weir_delta_protocol_format(const struct weir_delta_protocol *protocol,
                               struct weir_buffer *out) WEIR_MUST_CHECK;
int weir_delta_metadata_format(const struct weir_delta_metadata *metadata,
                               struct weir_buffer *out) WEIR_MUST_CHECK;

/* What a reader of the log does with each action. A NULL slot ignores that action. Pointers are
 * valid during the call only. Non-zero stops. */
struct weir_delta_action_visitor {
    void *context;
    int (*protocol)(void *context, const struct weir_delta_protocol *protocol,
                    struct weir_error *err);
    int (*metadata)(void *context, const struct weir_delta_metadata *metadata,
                    struct weir_error *err);
    int (*add)(void *context, const struct weir_delta_add *add, struct weir_error *err);
    int (*remove)(void *context, const struct weir_delta_remove *remove, struct weir_error *err);
    int (*txn)(void *context, const struct weir_delta_txn *txn, struct weir_error *err);
    int (*domain)(void *context, const struct weir_delta_domain *domain, struct weir_error *err);
    int (*commit_info)(void *context, const struct weir_delta_commit_info *info,
                       struct weir_error *err);
    /* a remove with what is known of the file (partition values where it says them) */
    int (*removed_file)(void *context, const struct weir_delta_add *file, struct weir_error *err);
    int (*cdc)(void *context, const struct weir_delta_add *file, struct weir_error *err);
    /* V2 checkpoints only: a sidecar's file name in _delta_log/_sidecars */
    int (*sidecar)(void *context, const char *path, int64_t size_bytes, struct weir_error *err);
};

/* Parses the bytes of one log file (or a JSON V2 checkpoint). `name` is for messages. */
int weir_delta_actions_parse(const char *bytes, size_t size, const char *name,
                             const struct weir_delta_action_visitor *visitor,
                             struct weir_error *err) WEIR_MUST_CHECK;

/* Appends `text` as a JSON string, quotes included. Invalid UTF-8 is WEIR_E_DATA. */
int weir_delta_json_string(struct weir_buffer *out, const char *text,
                           size_t length) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
