/* The rows kept of one group: in order in one piece of memory, each its order and its columns. */
#include "operator/top/top_private.h"

enum { ALL_FACTOR = 4 };

static int codec_encode(void *context, const void *value, struct weir_buffer *out) {
    (void)context;
    struct group group;
    memcpy(&group, value, sizeof group);
    int rc = weir_buffer_append(out, &group.arrivals, sizeof group.arrivals);
    return rc == WEIR_OK ? weir_buffer_append(out, group.rows, group.bytes) : rc;
}

static bool parse(struct group *group, const uint8_t *bytes, size_t length) {
    size_t at = 0;
    while (at < length) {
        struct entry entry;
        if (length - at < sizeof entry) {
            return false;
        }
        memcpy(&entry, bytes + at, sizeof entry);
        if (entry.bytes > length - at || entry.order < SUFFIX_BYTES ||
            entry.order > entry.bytes - sizeof entry || entry.bytes < sizeof entry) {
            return false;
        }
        group->last = (uint32_t)at;
        group->count++;
        at += entry.bytes;
    }
    return true;
}

static int codec_decode(void *context, void *value, const uint8_t *bytes, size_t length,
                        struct weir_error *err) {
    const struct weir_top *top = context;
    struct group group = {0};
    if (length < sizeof group.arrivals || length > GROUP_BYTES_MAX) {
        return weir_error_set(err, WEIR_E_CORRUPT, "a group of %zu bytes", length);
    }
    memcpy(&group.arrivals, bytes, sizeof group.arrivals);
    bytes += sizeof group.arrivals;
    length -= sizeof group.arrivals;
    if (!parse(&group, bytes, length)) {
        return weir_error_set(err, WEIR_E_CORRUPT, "a group's rows do not parse");
    }
    if (length > 0) {
        group.rows = weir_heap_take(weir_table_heap(top->table), length);
        if (group.rows == NULL) {
            return weir_top_no_memory(top, err);
        }
        memcpy(group.rows, bytes, length);
        group.bytes = group.capacity = (uint32_t)length;
    }
    memcpy(value, &group, sizeof group);
    return WEIR_OK;
}

static void codec_fini(void *context, void *value) {
    const struct weir_top *top = context;
    struct group group;
    memcpy(&group, value, sizeof group);
    weir_heap_give(weir_table_heap(top->table), group.rows, group.capacity);
}

const struct weir_table_codec weir_top_codec = {
    .encode = codec_encode, .decode = codec_decode, .fini = codec_fini};

int weir_top_compare(const uint8_t *a, uint32_t a_bytes, const uint8_t *b, uint32_t b_bytes) {
    uint32_t common = a_bytes < b_bytes ? a_bytes : b_bytes;
    int order = memcmp(a, b, common);
    return order != 0 ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

/* Are two rows equal in the order? */
static bool same_place(const uint8_t *rows, uint32_t a, uint32_t b) {
    struct entry x = entry_at(rows, a);
    struct entry y = entry_at(rows, b);
    return x.order == y.order &&
           memcmp(rows + a + sizeof x, rows + b + sizeof y, x.order - SUFFIX_BYTES) == 0;
}

/* Could a row of this order be among the first? */
bool weir_top_is_kept(const struct weir_top *top, const struct group *group, const uint8_t *order,
                      uint32_t bytes) {
    if (group->count < (uint32_t)top->config.n) {
        return true;
    }
    struct entry last = entry_at(group->rows, group->last);
    const uint8_t *other = group->rows + group->last + sizeof last;
    if (top->config.ties == WEIR_TOP_ALL) {
        return weir_top_compare(order, bytes - SUFFIX_BYTES, other, last.order - SUFFIX_BYTES) <= 0;
    }
    return weir_top_compare(order, bytes, other, last.order) < 0;
}

static int reserve_group(struct weir_top *top, struct group *group, size_t bytes,
                         struct weir_error *err) {
    if (bytes <= group->capacity) {
        return WEIR_OK;
    }
    if (bytes > GROUP_BYTES_MAX) {
        return weir_error_set(err, WEIR_E_LIMIT, "%s: the rows kept of one group pass %d MiB",
                              top->declaration, GROUP_BYTES_MAX >> 20);
    }
    size_t capacity = bytes + bytes / 4;
    int rc = weir_table_check_room(top->table, capacity - group->capacity, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    struct weir_heap *heap = weir_table_heap(top->table);
    uint8_t *rows = weir_heap_take(heap, capacity);
    if (rows == NULL) {
        return weir_top_no_memory(top, err);
    }
    if (group->bytes > 0) {
        memcpy(rows, group->rows, group->bytes);
    }
    weir_heap_give(heap, group->rows, group->capacity);
    group->rows = rows;
    group->capacity = (uint32_t)capacity;
    return WEIR_OK;
}

/* Drops rows behind the nth; with `all`, those not equal to it. */
static void trim(const struct weir_top *top, struct group *group) {
    uint32_t at = 0;
    uint32_t nth = 0;
    uint32_t before = 0;
    uint32_t count = 0;
    while (at < group->bytes) {
        bool beyond = count >= (uint32_t)top->config.n;
        if (beyond && (top->config.ties != WEIR_TOP_ALL || !same_place(group->rows, nth, at))) {
            break;
        }
        nth = beyond ? nth : at;
        before = at;
        at += entry_at(group->rows, at).bytes;
        count++;
    }
    group->bytes = at;
    group->count = count;
    group->last = before;
}

int weir_top_keep(struct weir_top *top, struct group *group, const uint8_t *order,
                  uint32_t order_bytes, const uint8_t *row, uint32_t row_bytes,
                  struct weir_error *err) {
    struct entry entry = {(uint32_t)sizeof entry + order_bytes + row_bytes, order_bytes};
    int rc = reserve_group(top, group, (size_t)group->bytes + entry.bytes, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    uint32_t at = 0;
    while (at < group->bytes) {
        struct entry other = entry_at(group->rows, at);
        if (weir_top_compare(order, order_bytes, group->rows + at + sizeof other, other.order) <
            0) {
            break;
        }
        at += other.bytes;
    }
    uint8_t *into = group->rows + at;
    memmove(into + entry.bytes, into, group->bytes - at);
    memcpy(into, &entry, sizeof entry);
    memcpy(into + sizeof entry, order, order_bytes);
    memcpy(into + sizeof entry + order_bytes, row, row_bytes);
    group->bytes += entry.bytes;
    group->count++;
    trim(top, group);
    if (group->count > WEIR_TOP_ROWS_MAX * ALL_FACTOR) {
        return weir_error_set(err, WEIR_E_LIMIT, "%s: more than %d rows of one group are equal",
                              top->declaration, WEIR_TOP_ROWS_MAX * ALL_FACTOR);
    }
    return WEIR_OK;
}

void weir_top_move_on(const struct weir_top *top, struct place *place) {
    place->before = place->at;
    place->at += entry_at(place->rows, place->at).bytes;
    place->index++;
    bool tied = top->config.ties == WEIR_TOP_ALL && place->at < place->bytes &&
                same_place(place->rows, place->before, place->at);
    place->rank = tied ? place->rank : place->index;
}

/* --- to people -------------------------------------------------------------------------------- */

/* The rows kept, in order. */
static int show_rows(const struct weir_top *top, const uint8_t *rows, size_t bytes,
                     struct weir_shown *out, struct weir_buffer *list, struct weir_error *err) {
    struct weir_buffer one;
    weir_buffer_init(&one, GROUP_BYTES_MAX);
    int rc = weir_buffer_append_text(list, "[");
    for (size_t at = 0; rc == WEIR_OK && at < bytes;) {
        struct entry entry = entry_at(rows, (uint32_t)at);
        const uint8_t *columns = rows + at + sizeof entry + entry.order;
        weir_buffer_clear(&one);
        rc = at > 0 ? weir_buffer_append_text(list, ",") : WEIR_OK;
        rc = rc == WEIR_OK ? weir_shown_key(out, top->row_key, columns,
                                            entry.bytes - sizeof entry - entry.order, &one, err)
                           : rc;
        rc = rc == WEIR_OK ? weir_buffer_append(list, one.data, one.size) : rc;
        at += entry.bytes;
    }
    weir_buffer_fini(&one);
    return rc == WEIR_OK ? weir_buffer_append_text(list, "]") : rc;
}

int weir_top_show_key(const struct weir_top *top, const uint8_t *key, size_t bytes,
                      struct weir_shown *out, struct weir_error *err) {
    size_t prefix = top->windowed ? BOUNDS_BYTES : 0;
    if (bytes < prefix) {
        return weir_error_set(err, WEIR_E_CORRUPT, "a group does not parse");
    }
    int rc =
        weir_key_schema(top->group_key)->count == 0 && prefix > 0
            ? WEIR_OK
            : weir_shown_key(out, top->group_key, key + prefix, bytes - prefix, &out->key, err);
    int64_t bounds[2]; /* end, start */
    if (rc == WEIR_OK && prefix > 0) {
        memcpy(bounds, key, sizeof bounds);
        rc = weir_shown_time(&out->key, "window_start", bounds[1]);
        rc = rc == WEIR_OK ? weir_shown_time(&out->key, "window_end", bounds[0]) : rc;
    }
    return rc;
}

static int show_group(void *owner, const struct weir_show_entry *entry, struct weir_shown *out,
                      struct weir_error *err) {
    struct weir_top *top = owner;
    struct group group = {0};
    size_t head = sizeof group.arrivals;
    if (entry->value_bytes < head ||
        !parse(&group, entry->value + head, entry->value_bytes - head)) {
        return weir_error_set(err, WEIR_E_CORRUPT, "a group does not parse");
    }
    int rc = weir_top_show_key(top, entry->key, entry->key_bytes, out, err);
    struct weir_buffer list;
    weir_buffer_init(&list, GROUP_BYTES_MAX);
    rc = rc == WEIR_OK
             ? show_rows(top, entry->value + head, entry->value_bytes - head, out, &list, err)
             : rc;
    rc = rc == WEIR_OK ? weir_shown_json(&out->value, "rows", list.data, list.size) : rc;
    weir_buffer_fini(&list);
    return rc;
}

int32_t weir_top_group_shows(struct weir_top *top, struct weir_show *shows, int32_t capacity) {
    if (capacity < 1) {
        return 0;
    }
    shows[0] = (struct weir_show){weir_table_cell(top->table), "the first rows of groups", top,
                                  show_group, false};
    return 1;
}
