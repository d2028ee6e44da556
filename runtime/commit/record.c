/* Builder: each section collects its entries' bytes apart, because the entry counts that go in
 * front are known only at the end; blobs of images and effects stay where they are and become
 * iovecs between the bytes that introduce them. */
#include "commit/record.h"

#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#include "core/block.h"
#include "core/buffer.h"

#define DEFAULT_INLINE_BYTES ((size_t)64 << 20)
#define DEFAULT_TOTAL_BYTES ((uint64_t)2 << 30)
#define MAX_RULE_SET_BYTES 64
#define MAX_KEY_BYTES 4096
#define MAX_BLOB_BYTES ((size_t)1 << 30)
#define MAX_PARTS ((size_t)1 << 20)

/* A borrowed blob and where in its section's bytes it goes. */
struct part {
    size_t at;
    struct weir_blob blob; /* release == NULL: borrowed */
};

struct section {
    struct weir_buffer bytes;
    uint64_t entries;
    struct part *parts;
    size_t part_count;
    size_t part_capacity;
};

struct weir_record {
    uint64_t epoch;
    int64_t sealed_at_us;
    uint8_t rule_set[MAX_RULE_SET_BYTES];
    size_t rule_set_size;
    uint64_t limit_bytes;
    uint64_t size_bytes;
    size_t inline_limit;
    size_t inline_bytes;
    struct section keyed[WEIR_SECTION_COUNT_];
    struct section schedule;
    struct section images;
    struct section effects;
    struct weir_buffer heads; /* the finished map's own bytes */
    struct iovec *iovecs;     /* set by finish */
    int iovec_count;
};

static const char *const section_names[WEIR_SECTION_COUNT_] = {
    [WEIR_SECTION_POSITIONS] = "positions", [WEIR_SECTION_WATERMARKS] = "watermarks",
    [WEIR_SECTION_COUNTERS] = "counters",   [WEIR_SECTION_DIGESTS] = "digests",
    [WEIR_SECTION_MARKERS] = "markers",
};

const char *weir_section_name(enum weir_section section) {
    return (unsigned)section < WEIR_SECTION_COUNT_ ? section_names[section] : "unknown";
}

void weir_blob_release(struct weir_blob *blob) {
    if (blob->release != NULL) {
        blob->release(blob->owner);
    }
    *blob = (struct weir_blob){0};
}

static void section_init(struct section *section, size_t limit) {
    *section = (struct section){0};
    weir_buffer_init(&section->bytes, limit);
}

static void section_fini(struct section *section) {
    for (size_t i = 0; i < section->part_count; i++) {
        weir_blob_release(&section->parts[i].blob);
    }
    weir_block_give(section->parts);
    weir_buffer_fini(&section->bytes);
}

int weir_record_create(uint64_t epoch, const struct weir_record_limits *limits,
                       struct weir_record **out, struct weir_error *err) {
    struct weir_record *record = weir_block_take_zeroed(sizeof *record);
    if (record == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "record %llu: out of memory",
                              (unsigned long long)epoch);
    }
    record->epoch = epoch;
    record->inline_limit =
        limits != NULL && limits->inline_bytes != 0 ? limits->inline_bytes : DEFAULT_INLINE_BYTES;
    record->limit_bytes =
        limits != NULL && limits->total_bytes != 0 ? limits->total_bytes : DEFAULT_TOTAL_BYTES;
    for (int i = 0; i < WEIR_SECTION_COUNT_; i++) {
        section_init(&record->keyed[i], record->inline_limit);
    }
    section_init(&record->schedule, record->inline_limit);
    section_init(&record->images, record->inline_limit);
    section_init(&record->effects, record->inline_limit);
    weir_buffer_init(&record->heads, 4096);
    *out = record;
    return WEIR_OK;
}

void weir_record_destroy(struct weir_record *record) {
    if (record == NULL) {
        return;
    }
    for (int i = 0; i < WEIR_SECTION_COUNT_; i++) {
        section_fini(&record->keyed[i]);
    }
    section_fini(&record->schedule);
    section_fini(&record->images);
    section_fini(&record->effects);
    weir_buffer_fini(&record->heads);
    weir_block_give(record->iovecs);
    weir_block_give(record);
}

uint64_t weir_record_epoch(const struct weir_record *record) {
    return record->epoch;
}

uint64_t weir_record_size_bytes(const struct weir_record *record) {
    return record->size_bytes;
}

void weir_record_set_sealed_at(struct weir_record *record, int64_t clock_us) {
    record->sealed_at_us = clock_us;
}

int weir_record_set_rule_set(struct weir_record *record, const void *hash, size_t size,
                             struct weir_error *err) {
    if (size > sizeof record->rule_set) {
        return weir_error_set(err, WEIR_E_BUG, "record %llu: a rule set hash of %zu bytes",
                              (unsigned long long)record->epoch, size);
    }
    memcpy(record->rule_set, hash, size);
    record->rule_set_size = size;
    return WEIR_OK;
}

static int pack_write(void *data, const char *bytes, size_t size) {
    return weir_buffer_append(data, bytes, size) == WEIR_OK ? 0 : -1;
}

/* Whether an entry of `copied` + `referenced` bytes fits; makes room so that packing the copied
 * part (a few bytes of heads included) cannot fail half way and leave a section malformed. */
static int admit(struct weir_record *record, struct section *section, size_t copied,
                 size_t referenced, const char *what, struct weir_error *err) {
    size_t heads = 128;
    if (record->iovecs != NULL) {
        return weir_error_set(err, WEIR_E_BUG, "record %llu: %s added after it was finished",
                              (unsigned long long)record->epoch, what);
    }
    if (copied > record->inline_limit - heads ||
        record->inline_bytes > record->inline_limit - heads - copied ||
        referenced > MAX_BLOB_BYTES ||
        record->size_bytes + copied + referenced + heads > record->limit_bytes) {
        return weir_error_set(
            err, WEIR_E_LIMIT,
            "record %llu: its %s do not fit: %llu bytes so far, cap %llu (%zu of "
            "them copied, cap %zu); seal epochs more often (commit.every)",
            (unsigned long long)record->epoch, what, (unsigned long long)record->size_bytes,
            (unsigned long long)record->limit_bytes, record->inline_bytes, record->inline_limit);
    }
    int rc = weir_buffer_reserve(&section->bytes, copied + heads);
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "record %llu: no memory for its %s",
                              (unsigned long long)record->epoch, what);
    }
    return WEIR_OK;
}

static void admitted(struct weir_record *record, struct section *section, size_t before,
                     size_t referenced) {
    section->entries++;
    record->inline_bytes += section->bytes.size - before;
    record->size_bytes += section->bytes.size - before + referenced;
}

static int key_check(const struct weir_record *record, const char *what, size_t key_size,
                     struct weir_error *err) {
    if (key_size == 0 || key_size > MAX_KEY_BYTES) {
        return weir_error_set(err, WEIR_E_BUG, "record %llu: a key of %zu bytes in %s",
                              (unsigned long long)record->epoch, key_size, what);
    }
    return WEIR_OK;
}

enum put_kind { PUT_BYTES, PUT_INT, PUT_NIL };

static int put(struct weir_record *record, enum weir_section at, const char *key, size_t key_size,
               enum put_kind kind, const void *value, size_t size, int64_t number,
               struct weir_error *err) {
    struct section *section = &record->keyed[at];
    int rc = key_check(record, section_names[at], key_size, err);
    if (rc == WEIR_OK) {
        rc = admit(record, section, key_size + size, 0, section_names[at], err);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    size_t before = section->bytes.size;
    msgpack_packer packer;
    msgpack_packer_init(&packer, &section->bytes, pack_write);
    msgpack_pack_str(&packer, key_size);
    msgpack_pack_str_body(&packer, key, key_size);
    if (kind == PUT_BYTES) {
        msgpack_pack_bin(&packer, size);
        msgpack_pack_bin_body(&packer, value, size);
    } else if (kind == PUT_INT) {
        msgpack_pack_int64(&packer, number);
    } else {
        msgpack_pack_nil(&packer);
    }
    admitted(record, section, before, 0);
    return WEIR_OK;
}

int weir_record_put_bytes(struct weir_record *record, enum weir_section section, const char *key,
                          size_t key_size, const void *value, size_t size, struct weir_error *err) {
    return put(record, section, key, key_size, PUT_BYTES, value, size, 0, err);
}

int weir_record_put_int(struct weir_record *record, enum weir_section section, const char *key,
                        size_t key_size, int64_t value, struct weir_error *err) {
    return put(record, section, key, key_size, PUT_INT, NULL, 0, value, err);
}

int weir_record_remove(struct weir_record *record, enum weir_section section, const char *key,
                       size_t key_size, struct weir_error *err) {
    return put(record, section, key, key_size, PUT_NIL, NULL, 0, 0, err);
}

int weir_record_add_message(struct weir_record *record, const struct weir_message *message,
                            struct weir_error *err) {
    struct section *section = &record->schedule;
    int rc =
        admit(record, section, message->subject_size + message->reason_size, 0, "messages", err);
    if (rc != WEIR_OK) {
        return rc;
    }
    size_t fields = message->reason_size != 0    ? 9
                    : message->row != 0          ? 8
                    : message->version != 0      ? 7
                    : message->hash != 0         ? 6
                    : message->rows != 0         ? 5
                    : message->partition != 0    ? 4
                    : message->subject_size != 0 ? 3
                                                 : 2;
    size_t before = section->bytes.size;
    msgpack_packer packer;
    msgpack_packer_init(&packer, &section->bytes, pack_write);
    msgpack_pack_array(&packer, fields);
    msgpack_pack_uint8(&packer, message->kind);
    msgpack_pack_int64(&packer, message->clock_us);
    if (fields > 2) {
        msgpack_pack_str(&packer, message->subject_size);
        msgpack_pack_str_body(&packer, message->subject, message->subject_size);
    }
    if (fields > 3) {
        msgpack_pack_uint32(&packer, message->partition);
    }
    if (fields > 4) {
        msgpack_pack_uint64(&packer, message->rows);
    }
    if (fields > 5) {
        msgpack_pack_uint64(&packer, message->hash);
    }
    if (fields > 6) {
        msgpack_pack_uint64(&packer, message->version);
    }
    if (fields > 7) {
        msgpack_pack_int64(&packer, message->row);
    }
    if (fields > 8) {
        msgpack_pack_str(&packer, message->reason_size);
        msgpack_pack_str_body(&packer, message->reason, message->reason_size);
    }
    admitted(record, section, before, 0);
    return WEIR_OK;
}

static int add_part(struct weir_record *record, struct section *section, struct weir_blob blob,
                    struct weir_error *err) {
    if (section->part_count == section->part_capacity) {
        size_t capacity = section->part_capacity == 0 ? 16 : section->part_capacity * 2;
        struct part *parts = capacity > MAX_PARTS
                                 ? NULL
                                 : weir_block_regrow(section->parts, capacity * sizeof *parts);
        if (parts == NULL) {
            return weir_error_set(err, WEIR_E_LIMIT, "record %llu: more than %zu blobs",
                                  (unsigned long long)record->epoch, section->part_count);
        }
        section->parts = parts;
        section->part_capacity = capacity;
    }
    section->parts[section->part_count++] = (struct part){section->bytes.size, blob};
    return WEIR_OK;
}

static int add_named(struct weir_record *record, struct section *section, const char *name,
                     size_t name_size, const uint64_t *kind, struct weir_blob blob,
                     const char *what, struct weir_error *err) {
    int rc = key_check(record, what, name_size, err);
    if (rc == WEIR_OK) {
        rc = admit(record, section, name_size, blob.size, what, err);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    size_t before = section->bytes.size;
    msgpack_packer packer;
    msgpack_packer_init(&packer, &section->bytes, pack_write);
    msgpack_pack_array(&packer, kind != NULL ? 3 : 2);
    msgpack_pack_str(&packer, name_size);
    msgpack_pack_str_body(&packer, name, name_size);
    if (kind != NULL) {
        msgpack_pack_uint64(&packer, *kind);
    }
    msgpack_pack_bin(&packer, blob.size);
    rc = add_part(record, section, blob, err);
    if (rc != WEIR_OK) {
        section->bytes.size = before;
        return rc;
    }
    admitted(record, section, before, blob.size);
    return WEIR_OK;
}

int weir_record_take_image(struct weir_record *record, const char *table, size_t table_size,
                           struct weir_blob *blob, struct weir_error *err) {
    int rc =
        add_named(record, &record->images, table, table_size, NULL, *blob, "state images", err);
    if (rc != WEIR_OK) {
        weir_blob_release(blob);
    }
    *blob = (struct weir_blob){0};
    return rc;
}

int weir_record_add_effect(struct weir_record *record, const char *sink, size_t sink_size,
                           uint64_t kind, struct weir_span body, struct weir_error *err) {
    struct weir_blob blob = {.data = body.data, .size = body.size};
    return add_named(record, &record->effects, sink, sink_size, &kind, blob, "effects", err);
}

/* Lays out iovecs over buffers that no longer grow. */
struct layout {
    struct iovec *iovecs;
    int count;
    uint64_t size;
};

static void lay(struct layout *layout, const void *data, size_t size) {
    if (size > 0) {
        layout->iovecs[layout->count++] =
            (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = size};
        layout->size += size;
    }
}

static void lay_section(struct layout *layout, const struct section *section) {
    size_t from = 0;
    for (size_t i = 0; i < section->part_count; i++) {
        const struct part *part = &section->parts[i];
        lay(layout, section->bytes.data + from, part->at - from);
        lay(layout, part->blob.data, part->blob.size);
        from = part->at;
    }
    if (section->bytes.size > from) {
        lay(layout, section->bytes.data + from, section->bytes.size - from);
    }
}

static void pack_name(msgpack_packer *packer, const char *name) {
    size_t size = strlen(name);
    msgpack_pack_str(packer, size);
    msgpack_pack_str_body(packer, name, size);
}

int weir_record_finish(struct weir_record *record, const struct iovec **parts, int *count,
                       uint64_t *size_bytes, struct weir_error *err) {
    if (record->iovecs != NULL) {
        return weir_error_set(err, WEIR_E_BUG, "record %llu: finished twice",
                              (unsigned long long)record->epoch);
    }
    struct section *const sections[] = {
        &record->keyed[WEIR_SECTION_POSITIONS],
        &record->keyed[WEIR_SECTION_WATERMARKS],
        &record->keyed[WEIR_SECTION_COUNTERS],
        &record->keyed[WEIR_SECTION_DIGESTS],
        &record->keyed[WEIR_SECTION_MARKERS],
        &record->schedule,
        &record->images,
        &record->effects,
    };
    static const char *const names[] = {"positions", "watermarks", "counters", "digests",
                                        "markers",   "schedule",   "images",   "effects"};
    enum { SECTIONS = sizeof sections / sizeof sections[0] };

    size_t iovecs = SECTIONS + 1;
    size_t pairs = 2 + (record->rule_set_size > 0 ? 1 : 0);
    for (int i = 0; i < SECTIONS; i++) {
        iovecs += 1 + 2 * sections[i]->part_count;
        pairs += sections[i]->entries > 0 ? 1 : 0;
    }
    struct iovec *list = weir_block_take_zeroed(iovecs * sizeof *list);
    /* Reserved whole, so that iovecs may point into it and packing cannot fail. */
    if (list == NULL || weir_buffer_reserve(&record->heads, 1024) != WEIR_OK) {
        weir_block_give(list);
        return weir_error_set(err, WEIR_E_NOMEM, "record %llu: out of memory",
                              (unsigned long long)record->epoch);
    }
    struct layout layout = {.iovecs = list};
    msgpack_packer packer;
    msgpack_packer_init(&packer, &record->heads, pack_write);
    msgpack_pack_map(&packer, pairs);
    pack_name(&packer, "epoch");
    msgpack_pack_uint64(&packer, record->epoch);
    pack_name(&packer, "sealed_at");
    msgpack_pack_int64(&packer, record->sealed_at_us);
    if (record->rule_set_size > 0) {
        pack_name(&packer, "rule_set");
        msgpack_pack_bin(&packer, record->rule_set_size);
        msgpack_pack_bin_body(&packer, record->rule_set, record->rule_set_size);
    }
    size_t from = 0;
    for (int i = 0; i < SECTIONS; i++) {
        if (sections[i]->entries == 0) {
            continue;
        }
        pack_name(&packer, names[i]);
        if (i < WEIR_SECTION_COUNT_) {
            msgpack_pack_map(&packer, sections[i]->entries);
        } else {
            msgpack_pack_array(&packer, sections[i]->entries);
        }
        lay(&layout, record->heads.data + from, record->heads.size - from);
        from = record->heads.size;
        lay_section(&layout, sections[i]);
    }
    lay(&layout, record->heads.data + from, record->heads.size - from);
    record->iovecs = list;
    record->iovec_count = layout.count;
    record->size_bytes = layout.size;
    *parts = list;
    *count = layout.count;
    *size_bytes = layout.size;
    return WEIR_OK;
}
