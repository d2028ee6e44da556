#include "operator/aggregate/bag.h"

#include <stdlib.h>
#include <string.h>

enum {
    HEAD_BYTES = 4, /* bytes in order */
    ITEM_BYTES = 4 + 4 + 8,
    WAITING_BYTES = 1024 /* items of so many bytes wait at least before they are sorted in */
};

void weir_bag_scratch_fini(struct weir_bag_scratch *scratch) {
    free(scratch->items);
    free(scratch->counts);
    *scratch = (struct weir_bag_scratch){0};
}

static uint32_t sorted_bytes(const struct weir_part *part) {
    uint32_t bytes = 0;
    if (part->length > 0) {
        memcpy(&bytes, part->bytes, sizeof bytes);
    }
    return bytes;
}

static struct weir_bag_item item_at(const uint8_t *at) {
    struct weir_bag_item item = {0};
    memcpy(&item.order_bytes, at, 4);
    memcpy(&item.value_bytes, at + 4, 4);
    memcpy(&item.count, at + 8, 8);
    item.order = at + ITEM_BYTES;
    item.value = item.order + item.order_bytes;
    return item;
}

static uint64_t item_bytes(const struct weir_bag_item *item) {
    return (uint64_t)ITEM_BYTES + item->order_bytes + item->value_bytes;
}

static uint8_t *put_item(uint8_t *at, const struct weir_bag_item *item) {
    memcpy(at, &item->order_bytes, 4);
    memcpy(at + 4, &item->value_bytes, 4);
    memcpy(at + 8, &item->count, 8);
    memcpy(at + ITEM_BYTES, item->order, item->order_bytes);
    if (item->value_bytes > 0) {
        memcpy(at + ITEM_BYTES + item->order_bytes, item->value, item->value_bytes);
    }
    return at + item_bytes(item);
}

/* --- order ------------------------------------------------------------------------------------ */

static int compare_orders(const struct weir_bag_item *a, const struct weir_bag_item *b) {
    uint32_t common = a->order_bytes < b->order_bytes ? a->order_bytes : b->order_bytes;
    int order = common > 0 ? memcmp(a->order, b->order, common) : 0;
    return order != 0 ? order
                      : (a->order_bytes > b->order_bytes) - (a->order_bytes < b->order_bytes);
}

static int compare_as_they_came(const void *a, const void *b) {
    const struct weir_bag_item *x = a;
    const struct weir_bag_item *y = b;
    int order = compare_orders(x, y);
    return order != 0 ? order : (x->place > y->place) - (x->place < y->place);
}

static int compare_last_first(const void *a, const void *b) {
    const struct weir_bag_item *x = a;
    const struct weir_bag_item *y = b;
    int order = compare_orders(x, y);
    return order != 0 ? order : (x->place < y->place) - (x->place > y->place);
}

static bool same_value(const struct weir_bag_item *a, const struct weir_bag_item *b) {
    return a->value_bytes == b->value_bytes &&
           (a->value_bytes == 0 || memcmp(a->value, b->value, a->value_bytes) == 0);
}

static int read_items(struct weir_bag_scratch *scratch, const uint8_t *at, const uint8_t *end,
                      size_t *count) {
    while (at < end) {
        if (*count == scratch->capacity) {
            size_t capacity = scratch->capacity == 0 ? 256 : scratch->capacity * 2;
            struct weir_bag_item *items = realloc(scratch->items, capacity * sizeof *items);
            if (items == NULL) {
                return WEIR_E_NOMEM;
            }
            scratch->items = items;
            scratch->capacity = capacity;
        }
        struct weir_bag_item item = item_at(at);
        at += item_bytes(&item);
        item.place = (uint32_t)*count;
        scratch->items[(*count)++] = item;
    }
    return WEIR_OK;
}

/* Items in order lie there the last to come first. */
static void came_last_first(const struct weir_part *part, struct weir_bag_item *items) {
    const uint8_t *end = part->bytes + HEAD_BYTES + sorted_bytes(part);
    uint32_t sorted = 0;
    for (const uint8_t *at = part->bytes + HEAD_BYTES; at < end; sorted++) {
        at += item_bytes(&items[sorted]);
    }
    for (uint32_t i = 0; i < sorted; i++) {
        items[i].place = sorted - 1 - i;
    }
}

/* --- what stays ------------------------------------------------------------------------------- */

/* A run of equal orders: what takes back finds what it takes back; what is next to each other and
 * the same is one. Returns how many are left, from items[into] on. */
static size_t settle_run(const struct weir_bag_rules *rules, struct weir_bag_item *items,
                         size_t from, size_t to, size_t into) {
    if (rules->equals == WEIR_BAG_ONE) {
        struct weir_bag_item one = items[from];
        for (size_t i = from + 1; i < to; i++) {
            one.count += items[i].count;
        }
        items[into] = one;
        return one.count > 0 ? 1 : 0;
    }
    for (size_t i = from; i < to; i++) {
        for (size_t k = from; k < to && items[i].count < 0; k++) {
            if (items[k].count > 0 && items[k].place < items[i].place &&
                same_value(&items[k], &items[i])) {
                int64_t taken = items[k].count < -items[i].count ? items[k].count : -items[i].count;
                items[k].count -= taken;
                items[i].count += taken;
            }
        }
    }
    size_t left = 0;
    for (size_t i = from; i < to; i++) {
        if (items[i].count <= 0) {
            continue;
        }
        if (left > 0 && same_value(&items[into + left - 1], &items[i])) {
            items[into + left - 1].count += items[i].count;
        } else {
            items[into + left++] = items[i];
        }
    }
    return left;
}

static int compare_counts(const void *a, const void *b) {
    const int64_t *x = a;
    const int64_t *y = b;
    return (*x < *y) - (*x > *y);
}

static int drop_rare(const struct weir_bag_rules *rules, struct weir_bag_scratch *scratch,
                     size_t *count) {
    if (rules->candidates == 0 || *count <= rules->candidates) {
        return WEIR_OK;
    }
    if (*count > scratch->counts_capacity) {
        int64_t *counts = realloc(scratch->counts, *count * 2 * sizeof *counts);
        if (counts == NULL) {
            return WEIR_E_NOMEM;
        }
        scratch->counts = counts;
        scratch->counts_capacity = *count * 2;
    }
    for (size_t i = 0; i < *count; i++) {
        scratch->counts[i] = scratch->items[i].count;
    }
    qsort(scratch->counts, *count, sizeof *scratch->counts, compare_counts);
    int64_t by = scratch->counts[rules->candidates];
    size_t kept = 0;
    for (size_t i = 0; i < *count; i++) {
        scratch->items[i].count -= by;
        if (scratch->items[i].count > 0) {
            scratch->items[kept++] = scratch->items[i];
        }
    }
    *count = kept;
    return WEIR_OK;
}

static void cut(const struct weir_bag_rules *rules, struct weir_bag_item *items, size_t *count) {
    uint64_t seen = 0;
    for (size_t i = 0; rules->most > 0 && i < *count; i++) {
        if (seen + (uint64_t)items[i].count >= rules->most) {
            items[i].count = (int64_t)(rules->most - seen);
            *count = i + 1;
            return;
        }
        seen += (uint64_t)items[i].count;
    }
}

int weir_bag_items(const struct weir_part *part, const struct weir_bag_rules *rules,
                   struct weir_bag_scratch *scratch, size_t *count) {
    *count = 0;
    if (part->length == 0) {
        return WEIR_OK;
    }
    int rc = read_items(scratch, part->bytes + HEAD_BYTES, part->bytes + part->length, count);
    if (rc != WEIR_OK) {
        return rc;
    }
    struct weir_bag_item *items = scratch->items;
    if (sorted_bytes(part) + HEAD_BYTES < part->length) {
        if (rules->equals == WEIR_BAG_LAST) {
            came_last_first(part, items);
        }
        /* Nearly in order but for the end: not worth a merge of its own, glibc's qsort is one. */
        qsort(items, *count, sizeof *items,
              rules->equals == WEIR_BAG_LAST ? compare_last_first : compare_as_they_came);
    }
    size_t kept = 0;
    for (size_t from = 0; from < *count;) {
        size_t to = from + 1;
        while (to < *count && compare_orders(&items[from], &items[to]) == 0) {
            to++;
        }
        kept += settle_run(rules, items, from, to, kept);
        from = to;
    }
    *count = kept;
    cut(rules, items, count);
    return drop_rare(rules, scratch, count);
}

/* --- adding ----------------------------------------------------------------------------------- */

static int reserve(struct weir_part *part, struct weir_heap *heap, uint64_t bytes) {
    if (bytes > WEIR_BAG_BYTES_MAX) {
        return WEIR_E_LIMIT;
    }
    return weir_part_reserve(part, heap, (uint32_t)bytes) ? WEIR_OK : WEIR_E_NOMEM;
}

/* All items in order, in room of their own. */
static int sort_in(struct weir_part *part, struct weir_heap *heap,
                   const struct weir_bag_rules *rules, struct weir_bag_scratch *scratch) {
    size_t count;
    int rc = weir_bag_items(part, rules, scratch, &count);
    if (rc != WEIR_OK) {
        return rc;
    }
    uint32_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += (uint32_t)item_bytes(&scratch->items[i]);
    }
    uint32_t waiting = bytes < WAITING_BYTES ? WAITING_BYTES : bytes / 2;
    uint32_t capacity = HEAD_BYTES + bytes + waiting;
    uint8_t *room = weir_heap_take(heap, capacity);
    if (room == NULL) {
        return WEIR_E_NOMEM;
    }
    memcpy(room, &bytes, sizeof bytes);
    uint8_t *at = room + HEAD_BYTES;
    for (size_t i = 0; i < count; i++) {
        at = put_item(at, &scratch->items[i]);
    }
    if (part->capacity > 0) {
        weir_heap_give(heap, part->bytes, part->capacity);
    }
    *part = (struct weir_part){room, HEAD_BYTES + bytes, capacity};
    return WEIR_OK;
}

static int settle(struct weir_part *part, struct weir_heap *heap,
                  const struct weir_bag_rules *rules, struct weir_bag_scratch *scratch) {
    uint32_t sorted = sorted_bytes(part);
    uint32_t waits = part->length - HEAD_BYTES - sorted;
    return waits > (sorted < WAITING_BYTES ? WAITING_BYTES : sorted)
               ? sort_in(part, heap, rules, scratch)
               : WEIR_OK;
}

static int append(struct weir_part *part, struct weir_heap *heap, const uint8_t *items,
                  const struct weir_bag_item *item, uint32_t bytes) {
    uint32_t before = part->length == 0 ? HEAD_BYTES : part->length;
    int rc = reserve(part, heap, (uint64_t)before + bytes);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (part->length == 0) {
        memset(part->bytes, 0, HEAD_BYTES);
    }
    if (item != NULL) {
        put_item(part->bytes + before, item);
    } else {
        memcpy(part->bytes + before, items, bytes);
    }
    part->length = before + bytes;
    return WEIR_OK;
}

int weir_bag_add(struct weir_part *part, struct weir_heap *heap, const struct weir_bag_rules *rules,
                 struct weir_bag_scratch *scratch, const struct weir_bag_item *item) {
    uint64_t bytes = item_bytes(item);
    if (bytes > WEIR_BAG_BYTES_MAX) {
        return WEIR_E_LIMIT;
    }
    int rc = append(part, heap, NULL, item, (uint32_t)bytes);
    return rc == WEIR_OK ? settle(part, heap, rules, scratch) : rc;
}

static int compare_places(const void *a, const void *b) {
    const struct weir_bag_item *x = a;
    const struct weir_bag_item *y = b;
    return (x->place > y->place) - (x->place < y->place);
}

/* from's items in the order they came. */
static int merge_last_first(struct weir_part *into, struct weir_heap *heap,
                            const struct weir_bag_rules *rules, struct weir_bag_scratch *scratch,
                            const struct weir_part *from) {
    size_t count = 0;
    int rc = read_items(scratch, from->bytes + HEAD_BYTES, from->bytes + from->length, &count);
    if (rc != WEIR_OK) {
        return rc;
    }
    came_last_first(from, scratch->items);
    qsort(scratch->items, count, sizeof *scratch->items, compare_places);
    for (size_t i = 0; i < count && rc == WEIR_OK; i++) {
        rc = append(into, heap, NULL, &scratch->items[i], (uint32_t)item_bytes(&scratch->items[i]));
    }
    return rc == WEIR_OK ? settle(into, heap, rules, scratch) : rc;
}

int weir_bag_merge(struct weir_part *into, struct weir_heap *heap,
                   const struct weir_bag_rules *rules, struct weir_bag_scratch *scratch,
                   const struct weir_part *from) {
    if (from->length <= HEAD_BYTES) {
        return WEIR_OK;
    }
    if (rules->equals == WEIR_BAG_LAST) {
        return merge_last_first(into, heap, rules, scratch, from);
    }
    int rc = append(into, heap, from->bytes + HEAD_BYTES, NULL, from->length - HEAD_BYTES);
    return rc == WEIR_OK ? settle(into, heap, rules, scratch) : rc;
}

bool weir_bag_check(const uint8_t *bytes, size_t length) {
    uint32_t sorted;
    if (length == 0) {
        return true;
    }
    if (length < HEAD_BYTES || length > WEIR_BAG_BYTES_MAX) {
        return false;
    }
    memcpy(&sorted, bytes, sizeof sorted);
    bool at_bound = sorted == 0;
    size_t at = HEAD_BYTES;
    while (at < length) {
        if (length - at < ITEM_BYTES) {
            return false;
        }
        struct weir_bag_item item = item_at(bytes + at);
        if (item_bytes(&item) > length - at) {
            return false;
        }
        at += item_bytes(&item);
        at_bound |= at == (size_t)HEAD_BYTES + sorted;
    }
    return at_bound;
}
