/* Reader of records. Everything is checked once by weir_record_parse with the same steps the
 * iterators take, so an iterator on a parsed view never meets malformed bytes. */
#include <string.h>

#include "commit/pack.h"
#include "commit/record.h"

static const char *const message_names[] = {
    [WEIR_MESSAGE_BATCH] = "batch",       [WEIR_MESSAGE_TICK] = "tick",
    [WEIR_MESSAGE_IDLE] = "idle",         [WEIR_MESSAGE_TIMER] = "timer",
    [WEIR_MESSAGE_ADMIN] = "admin",       [WEIR_MESSAGE_RULE_SET] = "rule_set",
    [WEIR_MESSAGE_VERDICT] = "verdict",   [WEIR_MESSAGE_PARAMETER] = "parameter",
    [WEIR_MESSAGE_REPLY] = "reply",       [WEIR_MESSAGE_END] = "end",
    [WEIR_MESSAGE_ANSWERED] = "answered",
};

const char *weir_message_name(enum weir_message_kind kind) {
    size_t count = sizeof message_names / sizeof message_names[0];
    return (size_t)kind < count && message_names[kind] != NULL ? message_names[kind] : "unknown";
}

struct weir_section_iterator weir_section_iterate(struct weir_span section) {
    struct weir_section_iterator it = {.rest = section};
    struct weir_pack_head head;
    if (section.size > 0 && weir_pack_read(&it.rest, &head) &&
        (head.type == WEIR_PACK_MAP || head.type == WEIR_PACK_ARRAY)) {
        it.left = (uint64_t)head.number;
    }
    return it;
}

bool weir_keyed_next(struct weir_section_iterator *it, struct weir_keyed_entry *out) {
    struct weir_pack_head key;
    struct weir_pack_head value;
    if (it->left == 0 || !weir_pack_read(&it->rest, &key) || key.type != WEIR_PACK_STR ||
        !weir_pack_read(&it->rest, &value)) {
        return false;
    }
    it->left--;
    *out = (struct weir_keyed_entry){.key = key.bytes};
    switch (value.type) {
    case WEIR_PACK_NIL:
        out->removed = true;
        return true;
    case WEIR_PACK_INT:
        out->is_int = true;
        out->number = value.number;
        return true;
    case WEIR_PACK_BIN:
        out->body = value.bytes;
        return true;
    default:
        return false;
    }
}

static bool read_uint(struct weir_span *rest, uint64_t *out) {
    struct weir_pack_head head;
    if (!weir_pack_read(rest, &head) ||
        !(head.type == WEIR_PACK_UINT || (head.type == WEIR_PACK_INT && head.number >= 0))) {
        return false;
    }
    *out = (uint64_t)head.number;
    return true;
}

static bool read_int(struct weir_span *rest, int64_t *out) {
    struct weir_pack_head head;
    if (!weir_pack_read(rest, &head) || head.type != WEIR_PACK_INT) {
        return false;
    }
    *out = head.number;
    return true;
}

static bool read_bytes(struct weir_span *rest, enum weir_pack_type type, struct weir_span *out) {
    struct weir_pack_head head;
    if (!weir_pack_read(rest, &head) || head.type != type) {
        return false;
    }
    *out = head.bytes;
    return true;
}

static bool read_array(struct weir_span *rest, int64_t at_least, int64_t *out) {
    struct weir_pack_head head;
    if (!weir_pack_read(rest, &head) || head.type != WEIR_PACK_ARRAY || head.number < at_least) {
        return false;
    }
    *out = head.number;
    return true;
}

static bool skip_values(struct weir_span *rest, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        if (!weir_pack_skip(rest)) {
            return false;
        }
    }
    return true;
}

bool weir_message_next(struct weir_section_iterator *it, struct weir_message *out) {
    struct weir_span *rest = &it->rest;
    int64_t fields;
    uint64_t kind;
    uint64_t partition = 0;
    struct weir_span subject = {0};
    struct weir_span reason = {0};
    *out = (struct weir_message){0};
    if (it->left == 0 || !read_array(rest, 2, &fields) || !read_uint(rest, &kind) ||
        kind > UINT8_MAX || !read_int(rest, &out->clock_us) ||
        (fields > 2 && !read_bytes(rest, WEIR_PACK_STR, &subject)) ||
        (fields > 3 && (!read_uint(rest, &partition) || partition > UINT32_MAX)) ||
        (fields > 4 && !read_uint(rest, &out->rows)) ||
        (fields > 5 && !read_uint(rest, &out->hash)) ||
        (fields > 6 && !read_uint(rest, &out->version)) ||
        (fields > 7 && !read_int(rest, &out->row)) ||
        (fields > 8 && !read_bytes(rest, WEIR_PACK_STR, &reason)) ||
        !skip_values(rest, fields - 9)) {
        return false;
    }
    it->left--;
    out->kind = (uint8_t)kind;
    out->partition = (uint32_t)partition;
    out->subject = (const char *)subject.data;
    out->subject_size = subject.size;
    out->reason = (const char *)reason.data;
    out->reason_size = reason.size;
    return true;
}

bool weir_image_next(struct weir_section_iterator *it, struct weir_named_blob *out) {
    int64_t fields;
    *out = (struct weir_named_blob){0};
    if (it->left == 0 || !read_array(&it->rest, 2, &fields) ||
        !read_bytes(&it->rest, WEIR_PACK_STR, &out->name) ||
        !read_bytes(&it->rest, WEIR_PACK_BIN, &out->body) || !skip_values(&it->rest, fields - 2)) {
        return false;
    }
    it->left--;
    return true;
}

bool weir_effect_next(struct weir_section_iterator *it, struct weir_named_blob *out) {
    int64_t fields;
    *out = (struct weir_named_blob){0};
    if (it->left == 0 || !read_array(&it->rest, 3, &fields) ||
        !read_bytes(&it->rest, WEIR_PACK_STR, &out->name) || !read_uint(&it->rest, &out->kind) ||
        !read_bytes(&it->rest, WEIR_PACK_BIN, &out->body) || !skip_values(&it->rest, fields - 3)) {
        return false;
    }
    it->left--;
    return true;
}

static int corrupt(struct weir_error *err, const struct weir_span *all,
                   const struct weir_span *rest, const char *what) {
    return weir_error_set(err, WEIR_E_CORRUPT, "record: malformed %s near payload byte %zu", what,
                          all->size - rest->size);
}

static bool is_name(struct weir_span key, const char *name) {
    return key.size == strlen(name) && memcmp(key.data, name, key.size) == 0;
}

/* Walks a section with its iterator; `section` spans exactly what was walked. */
static bool check_section(struct weir_span *rest, int which, struct weir_span *section) {
    struct weir_span from = *rest;
    struct weir_pack_head head;
    struct weir_span peek = from;
    bool keyed = which < WEIR_SECTION_COUNT_;
    if (!weir_pack_read(&peek, &head) || head.type != (keyed ? WEIR_PACK_MAP : WEIR_PACK_ARRAY)) {
        return false;
    }
    struct weir_section_iterator it = weir_section_iterate(from);
    struct weir_keyed_entry entry;
    struct weir_message message;
    struct weir_named_blob blob;
    while (it.left > 0) {
        bool ok = keyed                              ? weir_keyed_next(&it, &entry)
                  : which == WEIR_SECTION_COUNT_     ? weir_message_next(&it, &message)
                  : which == WEIR_SECTION_COUNT_ + 1 ? weir_image_next(&it, &blob)
                                                     : weir_effect_next(&it, &blob);
        if (!ok) {
            return false;
        }
    }
    *section = (struct weir_span){from.data, (size_t)(it.rest.data - from.data)};
    *rest = it.rest;
    return true;
}

static const char *const known_names[] = {"positions", "watermarks", "counters", "digests",
                                          "markers",   "schedule",   "images",   "effects",
                                          "epoch",     "sealed_at",  "rule_set", "requires"};
enum { SECTION_NAMES = 8, KNOWN_NAMES = sizeof known_names / sizeof known_names[0] };

static int check_requires(struct weir_span *rest, const struct weir_span *all,
                          struct weir_error *err) {
    int64_t count;
    if (!read_array(rest, 0, &count)) {
        return corrupt(err, all, rest, "'requires'");
    }
    for (int64_t i = 0; i < count; i++) {
        struct weir_span name;
        if (!read_bytes(rest, WEIR_PACK_STR, &name)) {
            return corrupt(err, all, rest, "'requires'");
        }
        bool known = false;
        for (int k = 0; k < KNOWN_NAMES; k++) {
            known = known || is_name(name, known_names[k]);
        }
        if (!known) {
            return weir_error_set(err, WEIR_E_VERSION,
                                  "record: requires '%.*s', which this binary does not know; run "
                                  "the newer binary that wrote it",
                                  (int)(name.size < 64 ? name.size : 64), (const char *)name.data);
        }
    }
    return WEIR_OK;
}

int weir_record_parse(const void *payload, size_t size, struct weir_record_view *out,
                      struct weir_error *err) {
    struct weir_span all = {payload, size};
    struct weir_span rest = all;
    struct weir_pack_head map;
    bool have_epoch = false;
    *out = (struct weir_record_view){0};
    if (!weir_pack_read(&rest, &map) || map.type != WEIR_PACK_MAP) {
        return corrupt(err, &all, &rest, "map");
    }
    for (int64_t i = 0; i < map.number; i++) {
        struct weir_span key;
        if (!read_bytes(&rest, WEIR_PACK_STR, &key)) {
            return corrupt(err, &all, &rest, "section name");
        }
        int which = 0;
        while (which < KNOWN_NAMES && !is_name(key, known_names[which])) {
            which++;
        }
        bool ok = true;
        if (which < SECTION_NAMES) {
            struct weir_span *const sections[] = {&out->schedule, &out->images, &out->effects};
            ok = check_section(&rest, which,
                               which < WEIR_SECTION_COUNT_ ? &out->keyed[which]
                                                           : sections[which - WEIR_SECTION_COUNT_]);
        } else if (which == KNOWN_NAMES) {
            ok = weir_pack_skip(&rest);
        } else if (is_name(key, "epoch")) {
            ok = read_uint(&rest, &out->epoch);
            have_epoch = ok;
        } else if (is_name(key, "sealed_at")) {
            ok = read_int(&rest, &out->sealed_at_us);
        } else if (is_name(key, "rule_set")) {
            ok = read_bytes(&rest, WEIR_PACK_BIN, &out->rule_set);
        } else {
            int rc = check_requires(&rest, &all, err);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
        if (!ok) {
            return corrupt(err, &all, &rest, which < KNOWN_NAMES ? known_names[which] : "section");
        }
    }
    if (!have_epoch || rest.size != 0) {
        return corrupt(err, &all, &rest, have_epoch ? "end (bytes follow)" : "map: no epoch");
    }
    return WEIR_OK;
}
