/* The footer (FileMetaData) and page headers, out of thrift. Lists are counted against the bytes
 * left before anything is allocated, and all allocation draws on the reader's budget. */
#include <stdlib.h>
#include <string.h>

#include "lake/parquet/file.h"

struct parquet_arena_block {
    struct parquet_arena_block *next;
};

void *parquet_arena_take(struct parquet_arena *arena, size_t size) {
    size_t total = sizeof(struct parquet_arena_block) + size;
    if (size > *arena->budget || total > *arena->budget) {
        return NULL;
    }
    struct parquet_arena_block *block = calloc(1, total);
    if (block == NULL) {
        return NULL;
    }
    *arena->budget -= total;
    block->next = arena->blocks;
    arena->blocks = block;
    return block + 1;
}

void parquet_arena_fini(struct parquet_arena *arena) {
    while (arena->blocks != NULL) {
        struct parquet_arena_block *block = arena->blocks;
        arena->blocks = block->next;
        free(block);
    }
}

struct parse {
    struct weir_parquet_reader *reader;
    struct thrift_reader thrift;
    bool no_memory;
};

static void *take(struct parse *parse, int64_t count, size_t size) {
    void *memory = parquet_arena_take(&parse->reader->arena, ((size_t)count + 1) * size);
    if (memory == NULL) {
        parse->no_memory = true;
        thrift_fail(&parse->thrift);
    }
    return memory;
}

static const char *take_text(struct parse *parse, uint8_t type) {
    size_t size;
    const uint8_t *bytes = thrift_read_binary(&parse->thrift, type, &size);
    char *text = parse->thrift.failed ? NULL : take(parse, (int64_t)size, 1);
    if (text == NULL) {
        return "";
    }
    memcpy(text, bytes, size);
    return text;
}

/* Calls `field` for each field of a struct. */
#define EACH_FIELD(thrift, of_type)                                                                \
    int16_t saved = thrift_enter(thrift, of_type);                                                 \
    for (struct thrift_field field = thrift_next(thrift); field.type != THRIFT_STOP;               \
         field = thrift_next(thrift))

#define LEAVE(thrift) thrift_leave(thrift, saved)

/* --- schema ------------------------------------------------------------------------------ */

static void parse_unit(struct thrift_reader *thrift, uint8_t type, struct weir_parquet_node *node) {
    EACH_FIELD(thrift, type) {
        node->unit = (int8_t)(field.id >= 1 && field.id <= 3 ? field.id : 0);
        thrift_skip(thrift, field.type);
    }
    LEAVE(thrift);
}

static void parse_logical_value(struct thrift_reader *thrift, uint8_t type,
                                struct weir_parquet_node *node) {
    EACH_FIELD(thrift, type) {
        bool is_time =
            node->logical == PARQUET_LOGICAL_TIME || node->logical == PARQUET_LOGICAL_TIMESTAMP;
        if (is_time && field.id == 1) {
            node->utc = thrift_read_bool(thrift, field.type);
        } else if (is_time && field.id == 2) {
            parse_unit(thrift, field.type, node);
        } else if (node->logical == PARQUET_LOGICAL_DECIMAL && field.id == 1) {
            node->scale = thrift_read_i32(thrift, field.type);
        } else if (node->logical == PARQUET_LOGICAL_DECIMAL && field.id == 2) {
            node->precision = thrift_read_i32(thrift, field.type);
        } else if (node->logical == PARQUET_LOGICAL_INTEGER && field.id == 1) {
            node->bits = (int8_t)thrift_read_int(thrift, field.type);
        } else if (node->logical == PARQUET_LOGICAL_INTEGER && field.id == 2) {
            node->is_signed = thrift_read_bool(thrift, field.type);
        } else {
            thrift_skip(thrift, field.type);
        }
    }
    LEAVE(thrift);
}

static void parse_logical(struct thrift_reader *thrift, uint8_t type,
                          struct weir_parquet_node *node) {
    EACH_FIELD(thrift, type) {
        node->logical = (int8_t)(field.id > 0 && field.id < 100 ? field.id : 0);
        if (field.type == THRIFT_STRUCT) {
            parse_logical_value(thrift, field.type, node);
        } else {
            thrift_skip(thrift, field.type);
        }
    }
    LEAVE(thrift);
}

static void parse_element(struct parse *parse, uint8_t type, struct weir_parquet_node *node) {
    struct thrift_reader *thrift = &parse->thrift;
    node->name = "";
    node->field_id = -1;
    node->physical = -1;
    node->converted = PARQUET_CONVERTED_NONE;
    int32_t value;
    EACH_FIELD(thrift, type) {
        switch (field.id) {
        case 1:
            value = thrift_read_i32(thrift, field.type);
            if (value < PARQUET_BOOLEAN || value > PARQUET_FIXED) {
                thrift_fail(thrift);
            }
            node->physical = (int8_t)value;
            break;
        case 2:
            node->type_length = thrift_read_i32(thrift, field.type);
            break;
        case 3:
            value = thrift_read_i32(thrift, field.type);
            if (value < PARQUET_REQUIRED || value > PARQUET_REPEATED) {
                thrift_fail(thrift);
            }
            node->repetition = (int8_t)value;
            break;
        case 4:
            node->name = take_text(parse, field.type);
            break;
        case 5:
            node->child_count = thrift_read_i32(thrift, field.type);
            break;
        case 6:
            value = thrift_read_i32(thrift, field.type);
            node->converted = (int8_t)(value >= 0 && value <= PARQUET_INTERVAL ? value : -1);
            break;
        case 7:
            node->scale = thrift_read_i32(thrift, field.type);
            break;
        case 8:
            node->precision = thrift_read_i32(thrift, field.type);
            break;
        case 9:
            node->field_id = thrift_read_i32(thrift, field.type);
            break;
        case 10:
            parse_logical(thrift, field.type, node);
            break;
        default:
            thrift_skip(thrift, field.type);
            break;
        }
    }
    LEAVE(thrift);
}

static void parse_schema(struct parse *parse, uint8_t type) {
    struct weir_parquet_reader *reader = parse->reader;
    uint8_t element;
    int64_t count = thrift_read_list(&parse->thrift, type, &element);
    if (reader->nodes != NULL || count == 0 || count > 1 << 20) {
        thrift_fail(&parse->thrift);
        return;
    }
    reader->nodes = take(parse, count, sizeof(*reader->nodes));
    for (int32_t i = 0; i < count && !parse->thrift.failed; i++) {
        parse_element(parse, element, &reader->nodes[i]);
        reader->node_count = i + 1;
    }
}

/* --- row groups -------------------------------------------------------------------------- */

/* Bounds point into the footer, which the reader keeps. The older pair is sound for numbers in
 * signed order only. */
static void parse_statistics(struct thrift_reader *thrift, uint8_t type,
                             struct parquet_chunk *chunk) {
    bool old_order = chunk->physical == PARQUET_INT32 || chunk->physical == PARQUET_INT64;
    EACH_FIELD(thrift, type) {
        size_t size = 0;
        if (field.id == 5 || (field.id == 1 && old_order && chunk->max == NULL)) {
            chunk->max = thrift_read_binary(thrift, field.type, &size);
            chunk->max_size = (uint32_t)size;
        } else if (field.id == 6 || (field.id == 2 && old_order && chunk->min == NULL)) {
            chunk->min = thrift_read_binary(thrift, field.type, &size);
            chunk->min_size = (uint32_t)size;
        } else if (field.id == 3) {
            chunk->null_count = thrift_read_int(thrift, field.type);
        } else {
            thrift_skip(thrift, field.type);
        }
    }
    LEAVE(thrift);
}

static void parse_chunk_metadata(struct parse *parse, uint8_t type, struct parquet_chunk *chunk) {
    struct thrift_reader *thrift = &parse->thrift;
    EACH_FIELD(thrift, type) {
        switch (field.id) {
        case 1:
            chunk->physical = (int8_t)thrift_read_i32(thrift, field.type);
            break;
        case 4:
            chunk->codec = thrift_read_i32(thrift, field.type);
            break;
        case 5:
            chunk->values = thrift_read_int(thrift, field.type);
            break;
        case 7:
            chunk->compressed_bytes = thrift_read_int(thrift, field.type);
            break;
        case 9:
            chunk->data_offset = thrift_read_int(thrift, field.type);
            break;
        case 11:
            chunk->dictionary_offset = thrift_read_int(thrift, field.type);
            break;
        case 12:
            parse_statistics(thrift, field.type, chunk);
            break;
        default:
            thrift_skip(thrift, field.type);
            break;
        }
    }
    LEAVE(thrift);
}

static void parse_chunk(struct parse *parse, uint8_t type, struct parquet_chunk *chunk) {
    struct thrift_reader *thrift = &parse->thrift;
    chunk->codec = -1; /* encrypted chunks lack the metadata */
    chunk->null_count = -1;
    EACH_FIELD(thrift, type) {
        switch (field.id) {
        case 3:
            parse_chunk_metadata(parse, field.type, chunk);
            break;
        case 4:
            chunk->offset_index = thrift_read_int(thrift, field.type);
            break;
        case 5:
            chunk->offset_index_size = thrift_read_i32(thrift, field.type);
            break;
        case 6:
            chunk->column_index = thrift_read_int(thrift, field.type);
            break;
        case 7:
            chunk->column_index_size = thrift_read_i32(thrift, field.type);
            break;
        default:
            thrift_skip(thrift, field.type);
            break;
        }
    }
    LEAVE(thrift);
}

static void parse_row_group(struct parse *parse, uint8_t type, struct parquet_row_group *group) {
    struct thrift_reader *thrift = &parse->thrift;
    int32_t leaves = parse->reader->leaf_count;
    EACH_FIELD(thrift, type) {
        if (field.id == 1) {
            uint8_t element;
            int64_t count = thrift_read_list(thrift, field.type, &element);
            if (group->chunks != NULL || count != leaves) {
                thrift_fail(thrift);
            }
            group->chunks = thrift->failed ? NULL : take(parse, count, sizeof(*group->chunks));
            for (int64_t i = 0; i < count && !thrift->failed; i++) {
                parse_chunk(parse, element, &group->chunks[i]);
            }
        } else if (field.id == 3) {
            group->rows = thrift_read_int(thrift, field.type);
        } else {
            thrift_skip(thrift, field.type);
        }
    }
    LEAVE(thrift);
    if (group->rows < 0 || (group->chunks == NULL && leaves > 0)) {
        thrift_fail(thrift);
    }
}

static void parse_row_groups(struct parse *parse, uint8_t type) {
    struct weir_parquet_reader *reader = parse->reader;
    uint8_t element;
    int64_t count = thrift_read_list(&parse->thrift, type, &element);
    if (reader->groups != NULL || reader->nodes == NULL || count > INT32_MAX) {
        thrift_fail(&parse->thrift);
        return;
    }
    for (int32_t i = 1; i < reader->node_count; i++) {
        reader->leaf_count += reader->nodes[i].child_count == 0;
    }
    reader->groups = take(parse, count, sizeof(*reader->groups));
    for (int32_t i = 0; i < count && !parse->thrift.failed; i++) {
        parse_row_group(parse, element, &reader->groups[i]);
        reader->group_count = i + 1;
    }
}

static void parse_key_values(struct parse *parse, uint8_t type) {
    struct weir_parquet_reader *reader = parse->reader;
    struct thrift_reader *thrift = &parse->thrift;
    uint8_t element;
    int64_t count = thrift_read_list(thrift, type, &element);
    if (reader->metadata != NULL || count > INT32_MAX) {
        thrift_fail(thrift);
        return;
    }
    reader->metadata = take(parse, count, sizeof(*reader->metadata));
    for (int32_t i = 0; i < count && !thrift->failed; i++) {
        struct weir_parquet_key_value *pair = &reader->metadata[i];
        pair->key = "";
        EACH_FIELD(thrift, element) {
            if (field.id == 1) {
                pair->key = take_text(parse, field.type);
            } else if (field.id == 2) {
                pair->value = take_text(parse, field.type);
            } else {
                thrift_skip(thrift, field.type);
            }
        }
        LEAVE(thrift);
        reader->metadata_count = i + 1;
    }
}

static void parse_file(struct parse *parse) {
    struct weir_parquet_reader *reader = parse->reader;
    struct thrift_reader *thrift = &parse->thrift;
    EACH_FIELD(thrift, THRIFT_STRUCT) {
        switch (field.id) {
        case 2:
            parse_schema(parse, field.type);
            break;
        case 3:
            reader->rows = thrift_read_int(thrift, field.type);
            break;
        case 4:
            parse_row_groups(parse, field.type);
            break;
        case 5:
            parse_key_values(parse, field.type);
            break;
        case 6:
            reader->created_by = take_text(parse, field.type);
            break;
        default:
            thrift_skip(thrift, field.type);
            break;
        }
    }
    LEAVE(thrift);
}

int parquet_read_metadata(struct weir_parquet_reader *reader, const uint8_t *bytes, size_t size,
                          struct weir_error *err) {
    struct parse parse = {.reader = reader};
    thrift_reader_init(&parse.thrift, bytes, size);
    parse_file(&parse);
    if (parse.no_memory) {
        return weir_error_set(err, WEIR_E_LIMIT,
                              "parquet: metadata passes the reader's memory limit");
    }
    if (parse.thrift.failed || reader->nodes == NULL || reader->rows < 0) {
        return weir_error_set(err, WEIR_E_CORRUPT, "parquet: the footer is corrupt");
    }
    return WEIR_OK;
}

/* --- page headers ------------------------------------------------------------------------ */

static void parse_page_kind(struct thrift_reader *thrift, uint8_t type, int16_t kind,
                            struct parquet_page_header *header) {
    bool v2 = kind == 8;
    EACH_FIELD(thrift, type) {
        if (field.id == 1) {
            header->values = thrift_read_i32(thrift, field.type);
        } else if (field.id == (v2 ? 4 : 2)) {
            header->encoding = thrift_read_i32(thrift, field.type);
        } else if (kind == 5 && field.id == 3) {
            header->definition_encoding = thrift_read_i32(thrift, field.type);
        } else if (kind == 5 && field.id == 4) {
            header->repetition_encoding = thrift_read_i32(thrift, field.type);
        } else if (v2 && field.id == 5) {
            header->definition_bytes = thrift_read_i32(thrift, field.type);
        } else if (v2 && field.id == 6) {
            header->repetition_bytes = thrift_read_i32(thrift, field.type);
        } else if (v2 && field.id == 7) {
            header->compressed = thrift_read_bool(thrift, field.type);
        } else {
            thrift_skip(thrift, field.type);
        }
    }
    LEAVE(thrift);
}

int parquet_read_page_header(const uint8_t *bytes, size_t size,
                             struct parquet_page_header *header) {
    memset(header, 0, sizeof(*header));
    header->type = -1;
    header->values = -1;
    header->compressed = true;
    struct thrift_reader reader;
    struct thrift_reader *thrift = &reader;
    thrift_reader_init(thrift, bytes, size);
    int16_t kind = 0;
    EACH_FIELD(thrift, THRIFT_STRUCT) {
        switch (field.id) {
        case 1:
            header->type = thrift_read_i32(thrift, field.type);
            break;
        case 2:
            header->uncompressed_size = thrift_read_i32(thrift, field.type);
            break;
        case 3:
            header->compressed_size = thrift_read_i32(thrift, field.type);
            break;
        case 4:
            header->has_crc = true;
            header->crc = (uint32_t)thrift_read_int(thrift, field.type);
            break;
        case 5:
        case 7:
        case 8:
            kind = field.id;
            parse_page_kind(thrift, field.type, kind, header);
            break;
        default:
            thrift_skip(thrift, field.type);
            break;
        }
    }
    LEAVE(thrift);
    if (thrift->failed) {
        return thrift->short_input ? WEIR_E_LIMIT : WEIR_E_CORRUPT;
    }
    int16_t expected = header->type == PARQUET_PAGE_DATA         ? 5
                       : header->type == PARQUET_PAGE_DICTIONARY ? 7
                       : header->type == PARQUET_PAGE_DATA_V2    ? 8
                                                                 : kind;
    if (kind != expected || header->uncompressed_size < 0 || header->compressed_size < 0 ||
        (kind != 0 && header->values < 0)) {
        return WEIR_E_CORRUPT;
    }
    header->header_bytes = (size_t)(thrift->at - bytes);
    return WEIR_OK;
}
