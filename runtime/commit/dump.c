/* The engine of `weir dump` for this room's formats: one JSON object a line, damage included, so
 * that a person can see what is in a file that no longer opens. Reads a file by its magic; walks
 * on behind damage by looking for the next frame at each block. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "commit/record.h"
#include "commit/segment.h"
#include "commit/snapshot_file.h"

#define SHOWN_BYTES 64u
#define MAX_FILES 65536

struct dump {
    int (*line)(void *context, const char *json);
    void *context;
    int stopped; /* the callback's nonzero answer */
};

static int emit(struct dump *dump, json_t *object, struct weir_error *err) {
    char *text = object != NULL ? json_dumps(object, JSON_PRESERVE_ORDER) : NULL;
    json_decref(object);
    if (text == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "dump: out of memory");
    }
    dump->stopped = dump->line(dump->context, text);
    free(text);
    return dump->stopped;
}

static json_t *hex(const void *bytes, size_t size) {
    char text[2 * SHOWN_BYTES + 4];
    size_t shown = size < SHOWN_BYTES ? size : SHOWN_BYTES;
    for (size_t i = 0; i < shown; i++) {
        snprintf(text + 2 * i, 3, "%02x", ((const uint8_t *)bytes)[i]);
    }
    text[2 * shown] = '\0';
    if (shown < size) {
        memcpy(text + 2 * shown, "...", 4);
    }
    return json_string(text);
}

/* Text as it is when it is UTF-8 without NUL, else hex. */
static json_t *text_of(const void *bytes, size_t size) {
    json_t *text = size > 0 && memchr(bytes, 0, size) != NULL ? NULL : json_stringn(bytes, size);
    return text != NULL ? text : hex(bytes, size);
}

static json_t *blob_of(struct weir_span body) {
    struct weir_hash128 hash = weir_hash_bytes(body.data, body.size);
    char text[40];
    json_t *object = json_object();
    snprintf(text, sizeof text, "%016" PRIx64 "%016" PRIx64, hash.high, hash.low);
    json_object_set_new(object, "bytes", json_integer((json_int_t)body.size));
    json_object_set_new(object, "hash", json_string(text));
    json_object_set_new(object, "value",
                        body.size <= 4096 && body.size > 0 && body.data[0] >= ' '
                            ? text_of(body.data, body.size)
                            : hex(body.data, body.size));
    return object;
}

static json_t *hash_of(struct weir_hash128 hash) {
    char text[40];
    snprintf(text, sizeof text, "%016" PRIx64 "%016" PRIx64, hash.high, hash.low);
    return json_string(text);
}

static json_t *id_of(const uint8_t id[WEIR_LEDGER_ID_BYTES]) {
    char text[33];
    weir_id_format(id, text);
    return json_string(text);
}

static json_t *keyed_of(struct weir_span section) {
    json_t *object = json_object();
    struct weir_section_iterator it = weir_section_iterate(section);
    struct weir_keyed_entry entry;
    while (weir_keyed_next(&it, &entry)) {
        json_t *value = entry.removed  ? json_null()
                        : entry.is_int ? json_integer(entry.number)
                                       : blob_of(entry.body);
        json_object_setn_new(object, (const char *)entry.key.data, entry.key.size, value);
    }
    return object;
}

static json_t *schedule_of(struct weir_span section) {
    json_t *array = json_array();
    struct weir_section_iterator it = weir_section_iterate(section);
    struct weir_message message;
    while (weir_message_next(&it, &message)) {
        json_t *object = json_object();
        char hash[20];
        const char *kind = weir_message_name((enum weir_message_kind)message.kind);
        json_object_set_new(object, "kind", json_string(kind));
        json_object_set_new(object, "clock_us", json_integer(message.clock_us));
        if (message.subject_size > 0) {
            json_object_set_new(object, "subject", text_of(message.subject, message.subject_size));
        }
        json_object_set_new(object, "partition", json_integer(message.partition));
        json_object_set_new(object, "rows", json_integer((json_int_t)message.rows));
        snprintf(hash, sizeof hash, "%016" PRIx64, message.hash);
        json_object_set_new(object, "hash", json_string(hash));
        json_object_set_new(object, "version", json_integer((json_int_t)message.version));
        json_object_set_new(object, "row", json_integer(message.row));
        if (message.reason_size > 0) {
            json_object_set_new(object, "reason", text_of(message.reason, message.reason_size));
        }
        json_array_append_new(array, object);
    }
    return array;
}

static json_t *named_of(struct weir_span section, bool effects) {
    json_t *array = json_array();
    struct weir_section_iterator it = weir_section_iterate(section);
    struct weir_named_blob blob;
    while (effects ? weir_effect_next(&it, &blob) : weir_image_next(&it, &blob)) {
        json_t *object = blob_of(blob.body);
        json_object_set_new(object, effects ? "sink" : "table",
                            text_of(blob.name.data, blob.name.size));
        if (effects) {
            json_object_set_new(object, "kind", json_integer((json_int_t)blob.kind));
        }
        json_array_append_new(array, object);
    }
    return array;
}

static void add_record(json_t *object, const void *payload, size_t size) {
    struct weir_record_view view;
    struct weir_error err = {0};
    if (weir_record_parse(payload, size, &view, &err) != WEIR_OK) {
        json_object_set_new(object, "error", json_string(err.message));
        return;
    }
    json_object_set_new(object, "epoch", json_integer((json_int_t)view.epoch));
    json_object_set_new(object, "sealed_at_us", json_integer(view.sealed_at_us));
    json_object_set_new(object, "rule_set", hex(view.rule_set.data, view.rule_set.size));
    for (int s = 0; s < WEIR_SECTION_COUNT_; s++) {
        json_object_set_new(object, weir_section_name((enum weir_section)s),
                            keyed_of(view.keyed[s]));
    }
    json_object_set_new(object, "schedule", schedule_of(view.schedule));
    json_object_set_new(object, "images", named_of(view.images, false));
    json_object_set_new(object, "effects", named_of(view.effects, true));
}

static json_t *opening_of(const struct weir_opening *opening, const char *path, const char *kind) {
    json_t *object = json_object();
    json_object_set_new(object, "file", json_string(path));
    json_object_set_new(object, "kind", json_string(kind));
    json_object_set_new(object, "format", json_integer(opening->format));
    json_object_set_new(object, "min_reader", json_integer(opening->min_reader));
    json_object_set_new(object, "lineage", id_of(opening->lineage));
    json_object_set_new(object, "log", id_of(opening->log));
    json_object_set_new(object, "shards", json_integer(opening->shard_count));
    json_object_set_new(object, "number", json_integer((json_int_t)opening->number));
    json_object_set_new(object, "time_us", json_integer(opening->time_us));
    json_object_set_new(object, "previous", hash_of(opening->previous));
    return object;
}

static int emit_damage(struct dump *dump, const char *path, uint64_t offset, const char *why,
                       struct weir_error *err) {
    json_t *object = json_object();
    json_object_set_new(object, "file", json_string(path));
    json_object_set_new(object, "offset", json_integer((json_int_t)offset));
    json_object_set_new(object, "error", json_string(why));
    return emit(dump, object, err);
}

static int dump_frame(struct dump *dump, const struct weir_ledger_frame *frame, uint64_t offset,
                      struct weir_error *err) {
    json_t *object = json_object();
    json_object_set_new(object, "record", json_integer((json_int_t)frame->number));
    json_object_set_new(object, "offset", json_integer((json_int_t)offset));
    json_object_set_new(object, "payload_bytes", json_integer((json_int_t)frame->size));
    json_object_set_new(object, "time_us", json_integer(frame->time_us));
    json_object_set_new(object, "hash", hash_of(frame->hash));
    add_record(object, frame->payload, frame->size);
    return emit(dump, object, err);
}

static int dump_segment(struct dump *dump, const char *directory, const char *name,
                        struct weir_error *err) {
    struct weir_segment_reader reader;
    struct weir_error cause = {0};
    int rc =
        weir_segment_open(&reader, weir_files_system(), directory, name, (uint64_t)2 << 30, &cause);
    if (rc != WEIR_OK) {
        rc = emit_damage(dump, reader.path, 0, cause.message, err);
        weir_segment_fini(&reader);
        return rc;
    }
    uint64_t number = reader.opening.number;
    uint64_t offset = WEIR_BLOCK;
    struct weir_hash128 previous = reader.opening.previous;
    rc = emit(dump, opening_of(&reader.opening, reader.path, "segment"), err);
    while (rc == WEIR_OK && offset < reader.size) {
        enum weir_frame_verdict verdict;
        struct weir_ledger_frame frame;
        const char *why;
        rc = weir_segment_frame(&reader, offset, number, reader.opening.log, previous, &verdict,
                                &frame, &why, err);
        if (rc == WEIR_OK && verdict != WEIR_FRAME_GOOD) {
            uint64_t found;
            bool zero;
            rc = weir_segment_follows(&reader, offset, number, reader.opening.log, &found, &zero,
                                      err);
            if (rc == WEIR_OK && !zero) {
                rc = emit_damage(dump, reader.path, offset,
                                 verdict == WEIR_FRAME_NEWER ? "a frame of a newer format" : why,
                                 err);
            }
            if (rc != WEIR_OK || found == 0) {
                break;
            }
            rc = weir_segment_resume(&reader, found, &number, &previous, err);
            offset = found;
            continue;
        }
        if (rc == WEIR_OK) {
            rc = dump_frame(dump, &frame, offset, err);
            number = frame.number + 1;
            previous = frame.hash;
            offset += weir_frame_stored_bytes(frame.size);
        }
    }
    weir_segment_fini(&reader);
    return rc;
}

static int dump_snapshot(struct dump *dump, const char *path, const struct weir_opening *opening,
                         struct weir_error *err) {
    struct weir_snapshot *snapshot = NULL;
    struct weir_error cause = {0};
    struct weir_ledger_identity identity = {0};
    memcpy(identity.lineage, opening->lineage, sizeof identity.lineage);
    memcpy(identity.log, opening->log, sizeof identity.log);
    int rc = emit(dump, opening_of(opening, path, "snapshot"), err);
    if (rc != WEIR_OK) {
        return rc;
    }
    rc = weir_snapshot_open_file(weir_files_system(), path, &identity, (uint64_t)2 << 30, &snapshot,
                                 &cause);
    if (rc != WEIR_OK) {
        return emit_damage(dump, path, 0, cause.message, err);
    }
    for (;;) {
        struct weir_span table;
        struct weir_span bytes;
        bool end;
        rc = weir_snapshot_next(snapshot, &table, &bytes, &end, err);
        if (rc != WEIR_OK || end) {
            break;
        }
        json_t *object = blob_of(bytes);
        json_object_set_new(object, "slice", text_of(table.data, table.size));
        rc = emit(dump, object, err);
        if (rc != WEIR_OK) {
            break;
        }
    }
    if (rc == WEIR_OK) {
        struct weir_span state = weir_snapshot_view_state_bytes(snapshot);
        json_t *object = json_object();
        json_object_set_new(object, "begin",
                            json_integer((json_int_t)weir_snapshot_view_begin(snapshot)));
        json_object_set_new(object, "end",
                            json_integer((json_int_t)weir_snapshot_view_end(snapshot)));
        add_record(object, state.data, state.size);
        rc = emit(dump, object, err);
    }
    weir_snapshot_close(snapshot);
    return rc;
}

static int dump_file(struct dump *dump, const char *directory, const char *name,
                     struct weir_error *err) {
    char path[4096];
    uint8_t block[WEIR_BLOCK] = {0};
    struct weir_opening opening;
    struct weir_error cause = {0};
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return weir_error_system(err, WEIR_E_NOTFOUND, errno, "open %s", path);
    }
    size_t got = fread(block, 1, sizeof block, file);
    fclose(file);
    bool lineage = memcmp(block, WEIR_MAGIC_LINEAGE, 8) == 0;
    bool snapshot = memcmp(block, WEIR_MAGIC_SNAPSHOT, 8) == 0;
    if (!lineage && !snapshot) {
        return dump_segment(dump, directory, name, err);
    }
    if (weir_opening_decode(block, got, lineage ? WEIR_MAGIC_LINEAGE : WEIR_MAGIC_SNAPSHOT, path,
                            &opening, &cause) != WEIR_OK) {
        return emit_damage(dump, path, 0, cause.message, err);
    }
    return lineage ? emit(dump, opening_of(&opening, path, "lineage"), err)
                   : dump_snapshot(dump, path, &opening, err);
}

static int wanted(const struct dirent *entry) {
    const char *dot = strrchr(entry->d_name, '.');
    return strcmp(entry->d_name, "lineage") == 0 ||
           (dot != NULL && (strcmp(dot, ".seg") == 0 || strcmp(dot, ".snap") == 0));
}

/* The lineage before the segments, segments by number. */
static int in_order(const struct dirent **a, const struct dirent **b) {
    bool x = strcmp((*a)->d_name, "lineage") == 0;
    bool y = strcmp((*b)->d_name, "lineage") == 0;
    return x != y ? (x ? -1 : 1) : strcmp((*a)->d_name, (*b)->d_name);
}

int weir_ledger_dump(const char *path, int (*line)(void *context, const char *json), void *context,
                     struct weir_error *err) {
    struct dump dump = {.line = line, .context = context};
    struct stat st;
    if (stat(path, &st) != 0) {
        return weir_error_system(err, WEIR_E_NOTFOUND, errno, "dump %s", path);
    }
    if (!S_ISDIR(st.st_mode)) {
        char directory[4096];
        const char *slash = strrchr(path, '/');
        snprintf(directory, sizeof directory, "%.*s", slash != NULL ? (int)(slash - path) : 1,
                 slash != NULL ? path : ".");
        return dump_file(&dump, slash == path ? "/" : directory, slash != NULL ? slash + 1 : path,
                         err);
    }
    struct dirent **names = NULL;
    int count = scandir(path, &names, wanted, in_order);
    if (count < 0) {
        return weir_error_system(err, WEIR_E_IO, errno, "list %s", path);
    }
    int rc = count > MAX_FILES
                 ? weir_error_set(err, WEIR_E_LIMIT, "%s: more than %d files", path, MAX_FILES)
                 : WEIR_OK;
    for (int i = 0; i < count; i++) {
        if (rc == WEIR_OK) {
            rc = dump_file(&dump, path, names[i]->d_name, err);
        }
        free(names[i]);
    }
    free(names);
    if (rc == WEIR_OK && count == 0) {
        rc = weir_error_set(err, WEIR_E_NOTFOUND, "%s holds no ledger and no snapshots", path);
    }
    return rc;
}
