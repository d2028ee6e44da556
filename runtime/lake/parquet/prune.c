/* Which rows of a row group need not be read: bounds in the footer rule out whole groups, the
 * column index rules out pages. Bounds may be wide or missing, never narrow, so what cannot be
 * understood is read. An index that does not parse is as good as none. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lake/parquet/file.h"

#define INDEX_BYTES_MAX ((size_t)64 << 20)

enum { LITERAL_BYTES = 16 };

struct bounds {
    const uint8_t *min; /* as in the file; NULL: unknown */
    const uint8_t *max;
    size_t min_size;
    size_t max_size;
    int64_t null_count; /* -1: unknown */
    int64_t values;     /* nulls included; -1: unknown */
};

/* --- comparing ---------------------------------------------------------------------------- */

/* A bound in batch form; false when it means nothing here. Byte strings stay where they are. */
static bool batch_form(const struct parquet_slot *slot, const struct weir_parquet_node *node,
                       const uint8_t *bytes, size_t size, uint8_t *to) {
    struct parquet_slice slice = {bytes, (uint32_t)size};
    _Alignas(8) uint8_t fixed[8] = {0};
    switch (node->physical) {
    case PARQUET_BOOLEAN:
        if (size != 1) {
            return false;
        }
        break;
    case PARQUET_INT32:
    case PARQUET_FLOAT:
        if (size != 4) {
            return false;
        }
        break;
    case PARQUET_INT64:
    case PARQUET_DOUBLE:
        if (size != 8) {
            return false;
        }
        break;
    default: /* decimals as bytes */
        return slot->convert == PARQUET_CONVERT_DECIMAL_BYTES && size > 0 &&
               parquet_convert(slot->convert, NULL, &slice, 1, to);
    }
    memcpy(fixed, bytes, size);
    return parquet_convert(slot->convert, fixed, NULL, 1, to);
}

static int64_t load_int(const uint8_t *bytes, uint8_t type) {
    int64_t value = 0;
    int width = weir_type_width(type);
    memcpy(&value, bytes, width == 0 ? 1 : (size_t)width);
    int unused = 64 - 8 * (width == 0 ? 1 : width);
    return (int64_t)((uint64_t)value << unused) >> unused;
}

static double load_double(const uint8_t *bytes, uint8_t type) {
    float narrow;
    double wide;
    memcpy(&narrow, bytes, sizeof(narrow));
    if (type == WEIR_TYPE_FLOAT) {
        return (double)narrow;
    }
    memcpy(&wide, bytes, sizeof(wide));
    return wide;
}

static int compare_bytes(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size) {
    size_t common = a_size < b_size ? a_size : b_size;
    int order = common == 0 ? 0 : memcmp(a, b, common);
    return order != 0 ? order : a_size < b_size ? -1 : a_size > b_size;
}

/* -1, 0, 1 for a bound before, at, after the literal; 2 when they cannot be compared. */
static int compare(const struct parquet_slot *slot, const struct weir_parquet_node *node,
                   const uint8_t *bound, size_t size, const struct parquet_predicate *predicate) {
    if (bound == NULL) {
        return 2;
    }
    if (slot->convert == PARQUET_CONVERT_BYTES) {
        int order = compare_bytes(bound, size, predicate->value, predicate->size);
        return order < 0 ? -1 : order > 0;
    }
    uint8_t type = slot->field->type;
    uint8_t value[LITERAL_BYTES] = {0};
    if (!batch_form(slot, node, bound, size, value)) {
        return 2;
    }
    if (type == WEIR_TYPE_FLOAT || type == WEIR_TYPE_DOUBLE) {
        double a = load_double(value, type);
        double b = load_double(predicate->value, type);
        return isnan(a) || isnan(b) ? 2 : a < b ? -1 : a > b;
    }
    if (type == WEIR_TYPE_DECIMAL) {
        __int128 a;
        __int128 b;
        memcpy(&a, value, sizeof(a));
        memcpy(&b, predicate->value, sizeof(b));
        return a < b ? -1 : a > b;
    }
    int64_t a = load_int(value, type);
    int64_t b = load_int(predicate->value, type);
    return a < b ? -1 : a > b;
}

/* True when no row within the bounds can match. */
static bool excludes(const struct parquet_slot *slot, const struct weir_parquet_node *node,
                     const struct parquet_predicate *predicate, const struct bounds *bounds) {
    bool all_null = bounds->null_count >= 0 && bounds->null_count == bounds->values;
    if (predicate->op == WEIR_PARQUET_IS_NULL) {
        return bounds->null_count == 0;
    }
    if (all_null || predicate->op == WEIR_PARQUET_NOT_NULL) {
        return all_null;
    }
    int low = compare(slot, node, bounds->min, bounds->min_size, predicate);
    int high = compare(slot, node, bounds->max, bounds->max_size, predicate);
    uint8_t type = slot->field->type;
    bool hides_nan = type == WEIR_TYPE_FLOAT || type == WEIR_TYPE_DOUBLE; /* greater than all */
    switch (predicate->op) {
    case WEIR_PARQUET_EQ:
        return low == 1 || high == -1;
    case WEIR_PARQUET_LT:
        return low == 0 || low == 1;
    case WEIR_PARQUET_LE:
        return low == 1;
    case WEIR_PARQUET_GT:
        return !hides_nan && (high == 0 || high == -1);
    default:
        return !hides_nan && high == -1;
    }
}

/* --- ranges ------------------------------------------------------------------------------- */

static const struct parquet_range *ranges_of(const struct weir_parquet_reader *reader,
                                             size_t *count) {
    *count = reader->ranges.size / sizeof(struct parquet_range);
    return (const struct parquet_range *)reader->ranges.data;
}

static int add_range(struct weir_buffer *ranges, int64_t first, int64_t end) {
    struct parquet_range *last =
        ranges->size == 0
            ? NULL
            : (struct parquet_range *)(ranges->data + ranges->size - sizeof(struct parquet_range));
    if (first >= end) {
        return WEIR_OK;
    }
    if (last != NULL && last->end >= first) {
        last->end = end > last->end ? end : last->end;
        return WEIR_OK;
    }
    struct parquet_range range = {first, end};
    return weir_buffer_append(ranges, &range, sizeof(range));
}

/* Keeps what is in both; `kept` is in order. */
static int intersect(struct weir_parquet_reader *reader, const struct weir_buffer *kept) {
    size_t count;
    const struct parquet_range *a = ranges_of(reader, &count);
    const struct parquet_range *b = (const struct parquet_range *)kept->data;
    size_t b_count = kept->size / sizeof(*b);
    struct weir_buffer both;
    weir_buffer_init(&both, reader->ranges.limit);
    int rc = WEIR_OK;
    for (size_t i = 0, j = 0; i < count && j < b_count && rc == WEIR_OK;) {
        int64_t first = a[i].first > b[j].first ? a[i].first : b[j].first;
        int64_t end = a[i].end < b[j].end ? a[i].end : b[j].end;
        rc = add_range(&both, first, end);
        if (a[i].end < b[j].end) {
            i++;
        } else {
            j++;
        }
    }
    weir_buffer_fini(&reader->ranges);
    reader->ranges = both;
    return rc;
}

/* --- page index --------------------------------------------------------------------------- */

/* A list of the index: where its elements begin and how many there are. */
struct list {
    struct thrift_reader at;
    int64_t count;
    uint8_t element;
};

static void parse_lists(const uint8_t *bytes, size_t size, struct list *lists, int16_t most) {
    struct thrift_reader thrift;
    thrift_reader_init(&thrift, bytes, size);
    int16_t saved = thrift_enter(&thrift, THRIFT_STRUCT);
    for (struct thrift_field field = thrift_next(&thrift); field.type != THRIFT_STOP;
         field = thrift_next(&thrift)) {
        if (field.id >= 1 && field.id <= most && field.type == THRIFT_LIST) {
            struct list *list = &lists[field.id];
            list->at = thrift;
            list->count = thrift_read_list(&list->at, field.type, &list->element);
            list->count = list->at.failed ? 0 : list->count;
        }
        thrift_skip(&thrift, field.type);
    }
    thrift_leave(&thrift, saved);
    if (thrift.failed) {
        for (int16_t i = 0; i <= most; i++) {
            lists[i].count = 0;
        }
    }
}

static int64_t next_first_row(struct list *pages) {
    int64_t row = -1;
    struct thrift_reader *thrift = &pages->at;
    int16_t saved = thrift_enter(thrift, pages->element);
    for (struct thrift_field field = thrift_next(thrift); field.type != THRIFT_STOP;
         field = thrift_next(thrift)) {
        if (field.id == 3) {
            row = thrift_read_int(thrift, field.type);
        } else {
            thrift_skip(thrift, field.type);
        }
    }
    thrift_leave(thrift, saved);
    return thrift->failed ? -1 : row;
}

static bool next_bool(struct list *list) {
    struct thrift_reader *thrift = &list->at;
    if (thrift->at == thrift->end) {
        thrift_fail(thrift);
        return false;
    }
    return *thrift->at++ == THRIFT_TRUE;
}

enum { NULL_PAGES = 1, MINS = 2, MAXES = 3, NULL_COUNTS = 5, INDEX_LISTS = 6 };

/* Row ranges of the pages that may hold a match; false: the index says nothing. */
static bool pages_kept(const struct parquet_slot *slot, const struct weir_parquet_node *node,
                       const struct parquet_predicate *predicate, struct list *index,
                       struct list *pages, int64_t rows, struct weir_buffer *kept) {
    int64_t count = pages->count;
    bool counted = index[NULL_COUNTS].count == count;
    if (count == 0 || index[NULL_PAGES].count != count || index[MINS].count != count ||
        index[MAXES].count != count) {
        return false;
    }
    int64_t first = next_first_row(pages);
    for (int64_t i = 0; i < count; i++) {
        int64_t end = i + 1 < count ? next_first_row(pages) : rows;
        struct bounds bounds = {.null_count = -1, .values = end - first};
        bool null_page = next_bool(&index[NULL_PAGES]);
        bounds.min = thrift_read_binary(&index[MINS].at, index[MINS].element, &bounds.min_size);
        bounds.max = thrift_read_binary(&index[MAXES].at, index[MAXES].element, &bounds.max_size);
        if (counted) {
            bounds.null_count = thrift_read_int(&index[NULL_COUNTS].at, index[NULL_COUNTS].element);
        }
        if (null_page) {
            bounds.null_count = bounds.values;
        }
        if (first < 0 || end < first || index[NULL_PAGES].at.failed || index[MINS].at.failed ||
            index[MAXES].at.failed || index[NULL_COUNTS].at.failed || (i == 0 && first != 0)) {
            return false;
        }
        if (!excludes(slot, node, predicate, &bounds) && add_range(kept, first, end) != WEIR_OK) {
            return false;
        }
        first = end;
    }
    return true;
}

static int load_index(struct weir_parquet_reader *reader, int64_t offset, int32_t size,
                      uint8_t **bytes, struct weir_error *err) {
    *bytes = NULL;
    if (offset < 4 || size <= 0 || (size_t)size > INDEX_BYTES_MAX ||
        (uint64_t)offset > reader->data_end ||
        (uint64_t)size > reader->data_end - (uint64_t)offset) {
        return WEIR_OK; /* none that can be trusted */
    }
    *bytes = malloc((size_t)size);
    return *bytes == NULL
               ? weir_error_set(err, WEIR_E_NOMEM, "parquet: out of memory")
               : parquet_reader_fetch(reader, (uint64_t)offset, (size_t)size, *bytes, err);
}

static int prune_pages(struct weir_parquet_reader *reader, const struct parquet_slot *slot,
                       const struct parquet_predicate *predicate, struct weir_error *err) {
    const struct parquet_row_group *group = &reader->groups[reader->group];
    const struct parquet_chunk *chunk = &group->chunks[slot->leaf];
    uint8_t *index = NULL;
    uint8_t *offsets = NULL;
    int rc = load_index(reader, chunk->column_index, chunk->column_index_size, &index, err);
    if (rc == WEIR_OK && index != NULL) {
        rc = load_index(reader, chunk->offset_index, chunk->offset_index_size, &offsets, err);
    }
    if (rc == WEIR_OK && offsets != NULL) {
        struct list lists[INDEX_LISTS] = {0};
        struct list pages[2] = {0};
        struct weir_buffer kept;
        weir_buffer_init(&kept, reader->ranges.limit);
        parse_lists(index, (size_t)chunk->column_index_size, lists, INDEX_LISTS - 1);
        parse_lists(offsets, (size_t)chunk->offset_index_size, pages, 1);
        if (pages_kept(slot, &reader->nodes[slot->node], predicate, lists, &pages[1], group->rows,
                       &kept)) {
            rc = intersect(reader, &kept);
        }
        weir_buffer_fini(&kept);
    }
    free(index);
    free(offsets);
    return rc;
}

/* --- groups ------------------------------------------------------------------------------- */

int parquet_prune_group(struct weir_parquet_reader *reader, struct weir_error *err) {
    const struct parquet_row_group *group = &reader->groups[reader->group];
    weir_buffer_clear(&reader->ranges);
    int rc = add_range(&reader->ranges, 0, group->rows);
    for (int32_t i = 0; i < reader->predicate_count && rc == WEIR_OK; i++) {
        const struct parquet_predicate *predicate = &reader->predicates[i];
        const struct parquet_slot *slot = &reader->slots[predicate->column];
        const struct parquet_chunk *chunk = &group->chunks[slot->leaf];
        const struct bounds bounds = {chunk->min,      chunk->max,        chunk->min_size,
                                      chunk->max_size, chunk->null_count, chunk->values};
        if (excludes(slot, &reader->nodes[slot->node], predicate, &bounds)) {
            weir_buffer_clear(&reader->ranges);
            return WEIR_OK;
        }
        rc = prune_pages(reader, slot, predicate, err);
    }
    return rc == WEIR_E_LIMIT && err != NULL && err->code != rc
               ? weir_error_set(err, rc, "parquet: page index passes the reader's memory limit")
               : rc;
}

void parquet_prune_drop(struct weir_parquet_reader *reader) {
    for (int32_t i = 0; i < reader->predicate_count; i++) {
        free(reader->predicates[i].value);
    }
    free(reader->predicates);
    reader->predicates = NULL;
    reader->predicate_count = 0;
}

/* Columns inside others, and those whose order in files nobody agrees on, are left to the reader
 * of the rows. */
static bool has_bounds(const struct weir_parquet_reader *reader, int32_t column) {
    const struct parquet_slot *slot = &reader->slots[column];
    return slot->child_count == 0 && slot->convert != PARQUET_CONVERT_INT96 &&
           slot->convert != PARQUET_CONVERT_FLOAT16 &&
           reader->nodes[slot->node].converted != PARQUET_INTERVAL;
}

int weir_parquet_reader_prune(struct weir_parquet_reader *reader,
                              const struct weir_parquet_predicate *predicates, int32_t count,
                              struct weir_error *err) {
    parquet_prune_drop(reader);
    reader->predicates = calloc((size_t)count + 1, sizeof(*reader->predicates));
    if (reader->predicates == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "parquet: out of memory");
    }
    for (int32_t i = 0; i < count; i++) {
        if (predicates[i].column < 0 || predicates[i].column >= reader->schema->count) {
            return weir_error_set(err, WEIR_E_BUG, "parquet: no column %d", predicates[i].column);
        }
        const struct weir_field *field = &reader->schema->fields[predicates[i].column];
        bool tests_value = predicates[i].op < WEIR_PARQUET_IS_NULL;
        size_t width = field->type == WEIR_TYPE_BOOL ? 1 : (size_t)weir_type_width(field->type);
        if (!has_bounds(reader, predicates[i].column)) {
            continue;
        }
        if (tests_value && !weir_type_is_bytes(field->type) && predicates[i].size != width) {
            return weir_error_set(err, WEIR_E_BUG,
                                  "parquet: a literal of %zu bytes for column %s of %zu",
                                  predicates[i].size, field->name, width);
        }
        struct parquet_predicate *predicate = &reader->predicates[reader->predicate_count];
        predicate->value = malloc(predicates[i].size + LITERAL_BYTES);
        if (predicate->value == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "parquet: out of memory");
        }
        memset(predicate->value, 0, LITERAL_BYTES);
        if (tests_value && predicates[i].size > 0) {
            memcpy(predicate->value, predicates[i].value, predicates[i].size);
        }
        predicate->column = predicates[i].column;
        predicate->op = predicates[i].op;
        predicate->size = predicates[i].size;
        reader->predicate_count++;
    }
    return weir_parquet_reader_seek(reader, 0, err);
}
