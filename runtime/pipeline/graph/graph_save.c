/* Watermarks and counters of a graph, for the ledger record:
 *   { name: [ version 1, watermark bytes | nil, last_watermark, downstream_watermark,
 *             [in, out, filtered, dropped, quarantined, duplicates, late, derive_errors,
 * unmatched], { tally: [rejected, warned] }, breach text | nil, told, { join: right watermark } ] }
 * by dataset name, so that a graph of another rule set takes what it still has. */
#include <msgpack.h>
#include <string.h>

#include "pipeline/graph/node.h"
#include "pipeline/graph/over.h"

enum {
    SAVE_VERSION = 1,
    SAVE_FIELDS = 9,
    FIELDS_OF_OLD = 7, /* without told */
    FIELDS_TOLD = 8,   /* without joins behind the first */
    COUNTER_FIELDS = 9
};

static int pack_write(void *context, const char *bytes, size_t length) {
    return weir_buffer_append(context, bytes, length);
}

static void pack_text(msgpack_packer *packer, const char *text) {
    size_t length = strlen(text);
    msgpack_pack_str(packer, length);
    msgpack_pack_str_body(packer, text, length);
}

/* The node whose own a dataset is; NULL of a source, and of what a rule emits. */
static struct weir_node *node_of(const struct weir_dataset *dataset) {
    struct weir_node *node = dataset->writer;
    return node != NULL && node->dataset == dataset ? node : NULL;
}

static int pack_dataset(msgpack_packer *packer, const struct weir_dataset *dataset) {
    const struct weir_node *node = node_of(dataset);
    const struct weir_counters *c = &dataset->counters;
    pack_text(packer, dataset->name);
    msgpack_pack_array(packer, SAVE_FIELDS);
    msgpack_pack_int(packer, SAVE_VERSION);
    if (node != NULL && node->watermark != NULL) {
        struct weir_buffer bytes;
        weir_buffer_init(&bytes, 16 << 20);
        int rc = weir_watermark_save(node->watermark, &bytes);
        if (rc == WEIR_OK) {
            msgpack_pack_bin(packer, bytes.size);
            msgpack_pack_bin_body(packer, bytes.data, bytes.size);
        }
        weir_buffer_fini(&bytes);
        if (rc != WEIR_OK) {
            return rc;
        }
    } else {
        msgpack_pack_nil(packer);
    }
    msgpack_pack_int64(packer, node == NULL         ? WEIR_WATERMARK_NONE
                               : node->over != NULL ? over_reached(node)
                                                    : node->last_watermark);
    msgpack_pack_int64(packer, node != NULL ? node->downstream_watermark : WEIR_WATERMARK_NONE);
    const int64_t counters[COUNTER_FIELDS] = {c->in,      c->out,           c->filtered,
                                              c->dropped, c->quarantined,   c->duplicates,
                                              c->late,    c->derive_errors, c->unmatched};
    msgpack_pack_array(packer, COUNTER_FIELDS + 1 + WEIR_LATE_BUCKETS);
    for (int i = 0; i < COUNTER_FIELDS; i++) {
        msgpack_pack_int64(packer, counters[i]);
    }
    msgpack_pack_int64(packer, c->late_us);
    for (int i = 0; i < WEIR_LATE_BUCKETS; i++) {
        msgpack_pack_int64(packer, c->late_by[i]);
    }
    msgpack_pack_map(packer, (size_t)c->tally_count);
    for (int32_t i = 0; i < c->tally_count; i++) {
        pack_text(packer, c->tallies[i].name);
        msgpack_pack_array(packer, 2);
        msgpack_pack_int64(packer, c->tallies[i].rejected);
        msgpack_pack_int64(packer, c->tallies[i].warned);
    }
    if (dataset->breached) {
        pack_text(packer, dataset->breach_text);
    } else {
        msgpack_pack_nil(packer);
    }
    msgpack_pack_int64(packer, dataset->watermark_us);
    int32_t joins = node != NULL ? node->join_count : 0;
    msgpack_pack_map(packer, joins > 1 ? (size_t)joins - 1 : 0);
    for (int32_t i = 1; i < joins; i++) {
        pack_text(packer, join_name(node, i));
        msgpack_pack_int64(packer, *join_right_watermark(node, i));
    }
    return WEIR_OK;
}

int weir_graph_save(struct weir_graph *graph, struct weir_buffer *out) {
    msgpack_packer packer;
    msgpack_packer_init(&packer, out, pack_write);
    msgpack_pack_map(&packer, (size_t)graph->dataset_count);
    for (int32_t i = 0; i < graph->dataset_count; i++) {
        int rc = pack_dataset(&packer, graph->datasets[i]);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}

static int64_t as_int(const msgpack_object *object) {
    return object->type == MSGPACK_OBJECT_POSITIVE_INTEGER ||
                   object->type == MSGPACK_OBJECT_NEGATIVE_INTEGER
               ? object->via.i64
               : 0;
}

static bool text_is(const msgpack_object *object, const char *text) {
    return object->type == MSGPACK_OBJECT_STR && object->via.str.size == strlen(text) &&
           memcmp(object->via.str.ptr, text, object->via.str.size) == 0;
}

static void load_counters(struct weir_counters *c, const msgpack_object *values,
                          const msgpack_object *tallies) {
    int64_t *const fields[COUNTER_FIELDS] = {&c->in,      &c->out,           &c->filtered,
                                             &c->dropped, &c->quarantined,   &c->duplicates,
                                             &c->late,    &c->derive_errors, &c->unmatched};
    for (uint32_t i = 0;
         values->type == MSGPACK_OBJECT_ARRAY && i < values->via.array.size && i < COUNTER_FIELDS;
         i++) {
        *fields[i] = as_int(&values->via.array.ptr[i]);
    }
    if (values->type == MSGPACK_OBJECT_ARRAY &&
        values->via.array.size >=
            COUNTER_FIELDS + 1 + WEIR_LATE_BUCKETS) { /* of older ones: none */
        c->late_us = as_int(&values->via.array.ptr[COUNTER_FIELDS]);
        for (int i = 0; i < WEIR_LATE_BUCKETS; i++) {
            c->late_by[i] = as_int(&values->via.array.ptr[COUNTER_FIELDS + 1 + i]);
        }
    }
    for (uint32_t i = 0; tallies->type == MSGPACK_OBJECT_MAP && i < tallies->via.map.size; i++) {
        const msgpack_object_kv *kv = &tallies->via.map.ptr[i];
        for (int32_t t = 0; t < c->tally_count; t++) {
            if (text_is(&kv->key, c->tallies[t].name) && kv->val.type == MSGPACK_OBJECT_ARRAY &&
                kv->val.via.array.size >= 2) {
                c->tallies[t].rejected = as_int(&kv->val.via.array.ptr[0]);
                c->tallies[t].warned = as_int(&kv->val.via.array.ptr[1]);
            }
        }
    }
}

static void load_joins(struct weir_node *node, const msgpack_object *values) {
    for (uint32_t i = 0; values->type == MSGPACK_OBJECT_MAP && i < values->via.map.size; i++) {
        const msgpack_object_kv *kv = &values->via.map.ptr[i];
        for (int32_t k = 1; k < node->join_count; k++) {
            if (text_is(&kv->key, join_name(node, k))) {
                *join_right_watermark(node, k) = as_int(&kv->val);
            }
        }
    }
}

static int load_dataset(struct weir_dataset *dataset, const msgpack_object *value,
                        struct weir_error *err) {
    if (value->type != MSGPACK_OBJECT_ARRAY || value->via.array.size < FIELDS_OF_OLD ||
        as_int(&value->via.array.ptr[0]) != SAVE_VERSION) {
        return weir_error_set(err, WEIR_E_STATE, "recorded state of %s: unknown form",
                              dataset->name);
    }
    const msgpack_object *fields = value->via.array.ptr;
    struct weir_node *node = node_of(dataset);
    if (node != NULL) {
        if (node->watermark != NULL && fields[1].type == MSGPACK_OBJECT_BIN) {
            int rc = weir_watermark_load(node->watermark, (const uint8_t *)fields[1].via.bin.ptr,
                                         fields[1].via.bin.size, err);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
        node->last_watermark = as_int(&fields[2]);
        node->downstream_watermark = as_int(&fields[3]);
    }
    if (node != NULL && value->via.array.size >= SAVE_FIELDS) {
        load_joins(node, &fields[8]);
    }
    dataset->watermark_us =
        value->via.array.size >= FIELDS_TOLD ? as_int(&fields[7]) : WEIR_WATERMARK_NONE;
    load_counters(&dataset->counters, &fields[4], &fields[5]);
    if (fields[6].type == MSGPACK_OBJECT_STR) {
        dataset->breached = true;
        snprintf(dataset->breach_text, sizeof(dataset->breach_text), "%.*s",
                 (int)fields[6].via.str.size, fields[6].via.str.ptr);
    }
    return WEIR_OK;
}

int weir_graph_load_of(struct weir_graph *graph, const uint8_t *bytes, size_t length,
                       bool (*wanted)(const void *context, const char *name), const void *context,
                       struct weir_error *err) {
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    size_t offset = 0;
    int rc = WEIR_OK;
    if (msgpack_unpack_next(&unpacked, (const char *)bytes, length, &offset) !=
            MSGPACK_UNPACK_SUCCESS ||
        unpacked.data.type != MSGPACK_OBJECT_MAP) {
        rc = weir_error_set(err, WEIR_E_STATE, "recorded watermarks and counters are damaged");
    }
    for (uint32_t i = 0; rc == WEIR_OK && i < unpacked.data.via.map.size; i++) {
        const msgpack_object_kv *kv = &unpacked.data.via.map.ptr[i];
        for (int32_t d = 0; rc == WEIR_OK && d < graph->dataset_count; d++) {
            if (text_is(&kv->key, graph->datasets[d]->name) &&
                (wanted == NULL || wanted(context, graph->datasets[d]->name))) {
                rc = load_dataset(graph->datasets[d], &kv->val, err);
            }
        }
    }
    msgpack_unpacked_destroy(&unpacked);
    for (int32_t i = 0; rc == WEIR_OK && i < graph->node_count; i++) {
        if (graph->nodes[i]->joined != NULL) {
            union_restore(graph->nodes[i]);
        }
    }
    return rc;
}

int weir_graph_load(struct weir_graph *graph, const uint8_t *bytes, size_t length,
                    struct weir_error *err) {
    return weir_graph_load_of(graph, bytes, length, NULL, NULL, err);
}
