/* By what rows are put in order, and which files need not be again: those whose adds say in their
 * tags that they are. A Z-ORDER marks its files as others do, with an id of its own (ZCUBE_ID) and
 * the columns of the order (ZCUBE_ZORDER_BY). In the background a file is ordered once, with those
 * that came when it did, not with all before. */
#include <string.h>

#include "lake/delta/mapping.h"
#include "lake/delta/text.h"
#include "lake/upkeep/compaction.h"

#define ORDER_KEY "\"ZCUBE_ZORDER_BY\":"

static const char layout_tags[] = "{\"weir.layout\":\"direct_lake\"}";

int delta_clustering_order(struct weir_delta_compaction *compaction,
                           struct weir_delta_snapshot *snapshot, struct weir_error *err) {
    const struct weir_schema *schema;
    const struct weir_delta_column *columns;
    json_t *paths;
    int rc = delta_clustering_paths(snapshot, &paths, err);
    rc = rc == WEIR_OK ? weir_delta_snapshot_schema(snapshot, &schema, &columns, err) : rc;
    for (size_t p = 0; rc == WEIR_OK && p < json_array_size(paths); p++) {
        const json_t *path = json_array_get(paths, p);
        const char *name = json_string_value(json_array_get(path, 0));
        for (int32_t i = 0; name != NULL && json_array_size(path) == 1 && i < schema->count; i++) {
            const struct weir_field *field = &schema->fields[i];
            if (strcmp(columns[i].physical_name, name) == 0 && !weir_type_is_nested(field->type) &&
                field->type != WEIR_TYPE_BOOL && field->type != WEIR_TYPE_BINARY &&
                compaction->order_count < DELTA_ZORDER_COLUMNS_MAX) {
                char *copy = strdup(field->name);
                compaction->order[compaction->order_count] = copy;
                compaction->order_count += copy != NULL;
                rc = copy != NULL ? rc
                                  : weir_error_set(err, WEIR_E_NOMEM, "optimize: out of memory");
            }
        }
    }
    json_decref(paths);
    return rc;
}

static int put_tags(const struct weir_delta_optimize_options *options, struct weir_buffer *text,
                    struct weir_error *err) {
    char id[DELTA_UUID_BYTES];
    if (options->zorder_count == 0) {
        return weir_buffer_append_text(text, layout_tags);
    }
    int rc = delta_uuid(id, err);
    if (rc == WEIR_OK) {
        rc = weir_buffer_printf(text, "{\"ZCUBE_ID\":\"%s\"," ORDER_KEY, id);
    }
    rc = rc == WEIR_OK ? delta_put_names(text, options->zorder, options->zorder_count) : rc;
    return rc == WEIR_OK ? weir_buffer_append_text(text, "}") : rc;
}

int delta_make_tags(struct weir_delta_compaction *compaction, struct weir_error *err) {
    const struct weir_delta_optimize_options *options = compaction->options;
    struct weir_buffer text;
    if (options->zorder_count == 0 && !options->direct_lake) {
        return WEIR_OK;
    }
    weir_buffer_init(&text, 1u << 17);
    int rc = put_tags(options, &text, err);
    const char *tags = rc == WEIR_OK ? weir_buffer_text(&text) : NULL;
    compaction->tags = tags != NULL ? strdup(tags) : NULL;
    weir_buffer_fini(&text);
    return compaction->tags != NULL ? WEIR_OK
                                    : weir_error_set(err, WEIR_E_NOMEM, "optimize: out of memory");
}

bool delta_is_in_order(const struct weir_delta_compaction *compaction,
                       const struct weir_delta_add *add) {
    const char *is = add->tags_json;
    const char *wanted = compaction->tags;
    if (is == NULL || wanted == NULL || compaction->options->zorder_count == 0) {
        return is != NULL && wanted != NULL && strcmp(is, wanted) == 0;
    }
    is = strstr(is, ORDER_KEY);
    wanted = strstr(wanted, ORDER_KEY);
    return is != NULL && strncmp(is, wanted, strlen(wanted) - 1) == 0; /* but the closing brace */
}
