/* Everything this room parses that comes from a disk: the first byte chooses record, segment or
 * snapshot. Files go through the simulated disk, so nothing touches the real one. Openings and
 * hashes are made right first (second byte), because no mutation finds a 128-bit hash. The fourth
 * choice damages a good ledger and snapshot where the input says.
 *
 * fuzz:
 *   runtime/commit/pack.c
 *   runtime/commit/record_view.c
 *   runtime/commit/ledger_format.c */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "commit/ledger_format.h"
#include "commit/recover.h"
#include "commit/snapshot_file.h"
#include "core/file_sim.h"
#include "core/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t sink; /* keeps what was read alive */

static void walk_record(const uint8_t *data, size_t size) {
    struct weir_record_view view;
    if (weir_record_parse(data, size, &view, NULL) != WEIR_OK) {
        return;
    }
    for (int s = 0; s < WEIR_SECTION_COUNT_; s++) {
        struct weir_section_iterator it = weir_section_iterate(view.keyed[s]);
        struct weir_keyed_entry entry;
        while (weir_keyed_next(&it, &entry)) {
            sink += entry.key.size + entry.body.size + (entry.key.size > 0 ? entry.key.data[0] : 0);
        }
        if (it.left != 0) {
            abort(); /* parse promised that iterators go through */
        }
    }
    struct weir_section_iterator it = weir_section_iterate(view.schedule);
    struct weir_message message;
    while (weir_message_next(&it, &message)) {
        sink += message.rows + message.reason_size;
    }
    if (it.left != 0) {
        abort();
    }
}

static void put_file(struct weir_files *files, const char *path, const uint8_t *data, size_t size) {
    struct weir_file *file = NULL;
    struct iovec part = {(void *)(uintptr_t)data, size};
    if (files->ops->open(files, path, WEIR_FILE_CREATE, &file) != 0 ||
        weir_file_write_all(file, &part, 1, 0, path, NULL) != WEIR_OK) {
        abort();
    }
    file->ops->close(file);
}

static void opening(const char *magic, uint64_t number, uint8_t block[WEIR_BLOCK]) {
    struct weir_opening made = {.format = 1, .min_reader = 1, .shard_count = 1, .number = number};
    weir_opening_encode(&made, magic, block);
}

/* Makes the frame at block `at` valid as far as its own fields go. */
static void fix_frame(uint8_t *bytes, size_t size, uint64_t number) {
    if (size < WEIR_FRAME_HEADER_BYTES) {
        return;
    }
    struct weir_frame_header header = {.number = number, .size = weir_load_u64(bytes + 16) % 8192};
    if (header.size > size - WEIR_FRAME_HEADER_BYTES) {
        header.size = size - WEIR_FRAME_HEADER_BYTES;
    }
    weir_frame_encode(&header, bytes);
    uint8_t *joined = malloc(WEIR_FRAME_HASHED_BYTES + header.size);
    if (joined == NULL) {
        return;
    }
    memcpy(joined, bytes, WEIR_FRAME_HASHED_BYTES);
    memcpy(joined + WEIR_FRAME_HASHED_BYTES, bytes + WEIR_FRAME_HEADER_BYTES, header.size);
    weir_frame_set_hash(bytes, weir_hash_bytes(joined, WEIR_FRAME_HASHED_BYTES + header.size));
    free(joined);
}

static void open_all(struct weir_files *files) {
    struct weir_ledger *ledger = NULL;
    struct weir_snapshots *snapshots = NULL;
    struct weir_recovery *recovery = NULL;
    struct weir_recovery_hooks hooks = {0};
    struct weir_ledger_options options = {.path = "d",
                                          .files = files,
                                          .create = true,
                                          .segment_bytes = 65536,
                                          .fill_bytes = 4096,
                                          .max_record_bytes = 1 << 20};
    if (weir_ledger_open(&options, &ledger, NULL) == WEIR_OK) {
        struct weir_snapshots_options where = {
            .path = "d", .files = files, .identity = ledger->identity, .max_slice_bytes = 1 << 20};
        if (weir_snapshots_open(&where, &snapshots, NULL) == WEIR_OK &&
            weir_recover(ledger, snapshots, &hooks, &recovery, NULL) == WEIR_OK) {
            sink += weir_recovery_last(recovery);
        }
    }
    weir_recovery_destroy(recovery);
    weir_snapshots_close(snapshots);
    weir_ledger_close(ledger);
}

/* A record with something in every section. */
static struct weir_record *good_record(uint64_t epoch) {
    struct weir_record *record = NULL;
    struct weir_message message = {.kind = WEIR_MESSAGE_VERDICT,
                                   .clock_us = 5,
                                   .subject = "s",
                                   .subject_size = 1,
                                   .partition = 1,
                                   .rows = 2,
                                   .hash = UINT64_MAX,
                                   .version = 3,
                                   .row = -1,
                                   .reason = "r",
                                   .reason_size = 1};
    struct weir_blob image = {.data = "image", .size = 5};
    struct weir_span effect = {(const uint8_t *)"add", 3};
    if (weir_record_create(epoch, NULL, &record, NULL) != WEIR_OK ||
        weir_record_set_rule_set(record, "hash", 4, NULL) != WEIR_OK ||
        weir_record_put_bytes(record, WEIR_SECTION_POSITIONS, "p", 1, "1", 1, NULL) != WEIR_OK ||
        weir_record_remove(record, WEIR_SECTION_COUNTERS, "c", 1, NULL) != WEIR_OK ||
        weir_record_put_bytes(record, WEIR_SECTION_DIGESTS, "d", 1, "2", 1, NULL) != WEIR_OK ||
        weir_record_put_int(record, WEIR_SECTION_WATERMARKS, "w", 1, -9, NULL) != WEIR_OK ||
        weir_record_put_int(record, WEIR_SECTION_MARKERS, "m", 1, 0, NULL) != WEIR_OK ||
        weir_record_add_message(record, &message, NULL) != WEIR_OK ||
        weir_record_take_image(record, "t", 1, &image, NULL) != WEIR_OK ||
        weir_record_add_effect(record, "m", 1, 1, effect, NULL) != WEIR_OK) {
        abort();
    }
    return record;
}

/* Mutates a good record's payload, past the hash that would hide it. */
static void damaged_record(const uint8_t *data, size_t size) {
    const struct iovec *parts;
    int count;
    uint64_t total;
    uint8_t bytes[1024];
    size_t at = 0;
    struct weir_record *record = good_record(1);
    if (weir_record_finish(record, &parts, &count, &total, NULL) != WEIR_OK ||
        total > sizeof bytes) {
        abort();
    }
    for (int i = 0; i < count; i++) {
        memcpy(bytes + at, parts[i].iov_base, parts[i].iov_len);
        at += parts[i].iov_len;
    }
    weir_record_destroy(record);
    for (size_t i = 0; i + 1 < size; i += 2) {
        bytes[data[i] % at] = data[i + 1];
    }
    walk_record(bytes, at);
}

/* Writes two records and a snapshot, damages both files, opens all. */
static void damaged_files(struct weir_files_sim *sim, const uint8_t *data, size_t size) {
    struct weir_files *files = weir_files_sim_files(sim);
    struct weir_ledger *ledger = NULL;
    struct weir_snapshots *snapshots = NULL;
    struct weir_snapshot_writer *writer = NULL;
    struct weir_ledger_options options = {.path = "d", .files = files, .create = true};
    options.fill_bytes = 4096;
    if (weir_ledger_open(&options, &ledger, NULL) != WEIR_OK) {
        abort();
    }
    for (uint64_t n = 1; n <= 2; n++) {
        const struct iovec *parts;
        int count;
        uint64_t total;
        struct weir_record *record = good_record(n);
        if (weir_record_finish(record, &parts, &count, &total, NULL) != WEIR_OK ||
            weir_ledger_append(ledger, n, 0, parts, count, NULL) != WEIR_OK) {
            abort();
        }
        weir_record_destroy(record);
    }
    struct weir_snapshots_options where = {
        .path = "d", .files = files, .identity = ledger->identity};
    struct weir_record *state = good_record(2);
    if (weir_snapshots_open(&where, &snapshots, NULL) != WEIR_OK ||
        weir_snapshot_begin(snapshots, 1, 0, &writer, NULL) != WEIR_OK ||
        weir_snapshot_append(writer, "t", 1, "slice", 5, NULL) != WEIR_OK ||
        weir_snapshot_end(writer, state, NULL) != WEIR_OK ||
        weir_snapshot_publish(writer, 2, NULL) != WEIR_OK) {
        abort();
    }
    weir_record_destroy(state);
    weir_snapshots_close(snapshots);
    weir_ledger_close(ledger);
    for (size_t i = 0; i + 3 < size; i += 4) {
        const char *path =
            data[i] % 2 == 0 ? "d/00000000000000000001.seg" : "d/00000000000000000002.snap";
        uint64_t at = ((uint64_t)data[i + 1] << 8 | data[i + 2]) % 12288;
        weir_files_sim_damage(sim, path, at, data[i + 3]);
    }
    open_all(files);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2 || size > 1 << 16) {
        return 0;
    }
    weir_log_set_level(WEIR_LOG_ERROR);
    uint8_t what = data[0] % 4;
    bool fix = data[1] % 2 == 0;
    data += 2;
    size -= 2;
    if (what == 0) {
        if (fix) {
            damaged_record(data, size);
        } else {
            walk_record(data, size);
        }
        return 0;
    }
    struct weir_files_sim *sim = weir_files_sim_create(1);
    uint8_t *bytes = calloc(1, WEIR_BLOCK + size);
    uint8_t block[WEIR_BLOCK];
    if (sim == NULL || bytes == NULL) {
        abort();
    }
    if (what == 3) {
        damaged_files(sim, data, size);
        free(bytes);
        weir_files_sim_destroy(sim);
        return 0;
    }
    struct weir_files *files = weir_files_sim_files(sim);
    files->ops->make_directory(files, "d");
    opening(WEIR_MAGIC_LINEAGE, 0, block);
    put_file(files, "d/lineage", block, sizeof block);
    opening(what == 1 ? WEIR_MAGIC_SEGMENT : WEIR_MAGIC_SNAPSHOT, 1, bytes);
    memcpy(bytes + WEIR_BLOCK, data, size);
    if (what == 1 && fix) {
        fix_frame(bytes + WEIR_BLOCK, size, 1);
    }
    put_file(files, what == 1 ? "d/00000000000000000001.seg" : "d/00000000000000000000.snap", bytes,
             WEIR_BLOCK + size);
    open_all(files);
    free(bytes);
    weir_files_sim_destroy(sim);
    return 0;
}
