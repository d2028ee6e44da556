/* The local ledger and its records, on a real directory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <msgpack.h>

#include "commit/ledger.h"
#include "commit/record.h"
#include "core/fault.h"
#include "core/log.h"

static char root[64];
static int directories;

static void fresh_path(char *out, size_t size) {
    snprintf(out, size, "%s/ledger%d", root, directories++);
}

static struct weir_ledger *open_at(const char *path, uint64_t segment_bytes, int *rc,
                                   struct weir_error *err) {
    struct weir_ledger *ledger = NULL;
    struct weir_ledger_options options = {.path = path,
                                          .create = true,
                                          .segment_bytes = segment_bytes,
                                          .fill_bytes = 16384,
                                          .now_us = 77};
    *rc = weir_ledger_open(&options, &ledger, err);
    return ledger;
}

static struct weir_ledger *must_open(const char *path, uint64_t segment_bytes) {
    struct weir_error err = {0};
    int rc;
    struct weir_ledger *ledger = open_at(path, segment_bytes, &rc, &err);
    if (ledger == NULL) {
        fail_msg("%s", err.message);
    }
    return ledger;
}

static void must_append(struct weir_ledger *ledger, uint64_t number, const char *text) {
    struct weir_error err = {0};
    struct iovec part = {(void *)(uintptr_t)text, strlen(text)};
    if (weir_ledger_append(ledger, number, (int64_t)number * 1000, &part, 1, &err) != WEIR_OK) {
        fail_msg("%s", err.message);
    }
}

static void must_hold(struct weir_ledger *ledger, uint64_t from, uint64_t to) {
    struct weir_ledger_cursor *cursor = NULL;
    struct weir_ledger_frame frame;
    struct weir_error err = {0};
    bool end;
    assert_int_equal(weir_ledger_cursor_open(ledger, from, &cursor, &err), WEIR_OK);
    for (uint64_t n = from; n <= to; n++) {
        char want[32];
        int size = snprintf(want, sizeof want, "record %llu", (unsigned long long)n);
        assert_int_equal(weir_ledger_cursor_next(cursor, &frame, &end, &err), WEIR_OK);
        assert_false(end);
        assert_int_equal(frame.number, n);
        assert_int_equal(frame.size, size);
        assert_memory_equal(frame.payload, want, (size_t)size);
    }
    assert_int_equal(weir_ledger_cursor_next(cursor, &frame, &end, &err), WEIR_OK);
    assert_true(end);
    weir_ledger_cursor_close(cursor);
}

static void append_range(struct weir_ledger *ledger, uint64_t from, uint64_t to) {
    for (uint64_t n = from; n <= to; n++) {
        char text[32];
        snprintf(text, sizeof text, "record %llu", (unsigned long long)n);
        must_append(ledger, n, text);
    }
}

static void records_come_back_after_reopening(void **unused) {
    (void)unused;
    char path[128];
    fresh_path(path, sizeof path);
    struct weir_ledger *ledger = must_open(path, 0);
    struct weir_ledger_identity identity = ledger->identity;
    assert_int_equal(ledger->first, 1);
    assert_int_equal(ledger->last, 0);
    append_range(ledger, 1, 5);
    assert_int_equal(ledger->stats.record_syncs, 5);
    must_hold(ledger, 1, 5);
    weir_ledger_close(ledger);
    ledger = must_open(path, 0);
    assert_memory_equal(&identity, &ledger->identity, sizeof identity);
    assert_int_equal(identity.created_us, 77);
    assert_int_equal(ledger->last, 5);
    append_range(ledger, 6, 7);
    must_hold(ledger, 4, 7);
    weir_ledger_close(ledger);
}

static void numbers_are_strictly_sequential(void **unused) {
    (void)unused;
    char path[128];
    struct weir_error err = {0};
    struct iovec part = {(void *)(uintptr_t) "x", 1};
    fresh_path(path, sizeof path);
    struct weir_ledger *ledger = must_open(path, 0);
    assert_int_equal(weir_ledger_append(ledger, 2, 0, &part, 1, &err), WEIR_E_BUG);
    must_append(ledger, 1, "record 1");
    assert_int_equal(weir_ledger_append(ledger, 1, 0, &part, 1, &err), WEIR_E_BUG);
    append_range(ledger, 2, 2);
    must_hold(ledger, 1, 2);
    weir_ledger_close(ledger);
}

static void a_second_opener_is_told_the_pid_of_the_first(void **unused) {
    (void)unused;
    char path[128];
    char pid[32];
    int rc;
    struct weir_error err = {0};
    fresh_path(path, sizeof path);
    struct weir_ledger *ledger = must_open(path, 0);
    assert_null(open_at(path, 0, &rc, &err));
    assert_int_equal(rc, WEIR_E_LOCKED);
    snprintf(pid, sizeof pid, "kill %ld", (long)getpid());
    assert_non_null(strstr(err.message, pid));
    assert_non_null(strstr(err.message, "ledger = { path"));
    weir_ledger_close(ledger);
    ledger = must_open(path, 0);
    weir_ledger_close(ledger);
}

static void segments_rotate_and_are_trimmed_below_what_is_needed(void **unused) {
    (void)unused;
    char path[128];
    struct weir_error err = {0};
    fresh_path(path, sizeof path);
    struct weir_ledger *ledger = must_open(path, 5 * 4096); /* header and four records */
    append_range(ledger, 1, 18);
    assert_int_equal(ledger->stats.segments, 5);
    must_hold(ledger, 1, 18);
    assert_int_equal(weir_ledger_trim(ledger, 8, INT64_MAX, &err), WEIR_OK);
    assert_int_equal(ledger->first, 5); /* 8 lies in 5..8 */
    assert_int_equal(weir_ledger_trim(ledger, 9, 4000, &err), WEIR_OK);
    assert_int_equal(ledger->first, 5); /* not older than keep_since */
    assert_int_equal(weir_ledger_trim(ledger, UINT64_MAX, INT64_MAX, &err), WEIR_OK);
    assert_int_equal(ledger->first, 17); /* the open one stays */
    must_hold(ledger, 17, 18);
    struct weir_ledger_cursor *cursor = NULL;
    assert_int_equal(weir_ledger_cursor_open(ledger, 16, &cursor, &err), WEIR_E_NOTFOUND);
    weir_ledger_close(ledger);
    ledger = must_open(path, 5 * 4096);
    assert_int_equal(ledger->first, 17);
    append_range(ledger, 19, 24);
    must_hold(ledger, 17, 24);
    weir_ledger_close(ledger);
}

static void flip(const char *directory, const char *name, long offset) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    int byte = fgetc(file);
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    assert_int_not_equal(fputc(byte ^ 0x40, file), EOF);
    assert_int_equal(fclose(file), 0);
}

static void damage_to_the_last_record_is_a_torn_tail(void **unused) {
    (void)unused;
    char path[128];
    fresh_path(path, sizeof path);
    struct weir_ledger *ledger = must_open(path, 0);
    append_range(ledger, 1, 3);
    weir_ledger_close(ledger);
    flip(path, "00000000000000000001.seg", 4096 * 3 + 88);
    ledger = must_open(path, 0);
    assert_int_equal(ledger->last, 2);
    assert_int_equal(ledger->stats.torn_bytes, 4096);
    append_range(ledger, 3, 4);
    must_hold(ledger, 1, 4);
    weir_ledger_close(ledger);
}

static void damage_before_a_valid_record_is_corruption_naming_file_and_byte(void **unused) {
    (void)unused;
    static const long places[] = {0, 8, 16, 40, 56, 72, 88}; /* each field of record 2's frame */
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        char path[128];
        int rc;
        struct weir_error err = {0};
        fresh_path(path, sizeof path);
        struct weir_ledger *ledger = must_open(path, 0);
        append_range(ledger, 1, 3);
        weir_ledger_close(ledger);
        flip(path, "00000000000000000001.seg", 4096 * 2 + places[i]);
        assert_null(open_at(path, 0, &rc, &err));
        assert_int_equal(rc, WEIR_E_CORRUPT);
        assert_non_null(strstr(err.message, "00000000000000000001.seg: record 2 at byte 8192"));
        assert_non_null(strstr(err.message, "restore"));
    }
}

static void damage_in_an_older_segment_is_found_when_it_is_read(void **unused) {
    (void)unused;
    char path[128];
    struct weir_error err = {0};
    struct weir_ledger_cursor *cursor = NULL;
    struct weir_ledger_frame frame;
    bool end;
    fresh_path(path, sizeof path);
    struct weir_ledger *ledger = must_open(path, 3 * 4096);
    append_range(ledger, 1, 6);
    weir_ledger_close(ledger);
    flip(path, "00000000000000000001.seg", 4096 * 2 + 90); /* the last frame of its segment */
    ledger = must_open(path, 3 * 4096);
    assert_int_equal(weir_ledger_cursor_open(ledger, 1, &cursor, &err), WEIR_OK);
    assert_int_equal(weir_ledger_cursor_next(cursor, &frame, &end, &err), WEIR_OK);
    assert_int_equal(weir_ledger_cursor_next(cursor, &frame, &end, &err), WEIR_E_CORRUPT);
    assert_non_null(strstr(err.message, "record 2 at byte 8192"));
    weir_ledger_cursor_close(cursor);
    weir_ledger_close(ledger);
}

static void segments_of_another_ledger_are_refused(void **unused) {
    (void)unused;
    char a[128];
    char b[128];
    char from[256];
    char to[256];
    int rc;
    struct weir_error err = {0};
    fresh_path(a, sizeof a);
    fresh_path(b, sizeof b);
    struct weir_ledger *ledger = must_open(a, 0);
    append_range(ledger, 1, 2);
    weir_ledger_close(ledger);
    ledger = must_open(b, 0);
    weir_ledger_close(ledger);
    snprintf(from, sizeof from, "%s/00000000000000000001.seg", a);
    snprintf(to, sizeof to, "%s/00000000000000000001.seg", b);
    assert_int_equal(rename(from, to), 0);
    assert_null(open_at(b, 0, &rc, &err));
    assert_int_equal(rc, WEIR_E_CORRUPT);
    assert_non_null(strstr(err.message, "another ledger"));
}

static void segments_without_their_lineage_are_refused(void **unused) {
    (void)unused;
    char path[128];
    char name[256];
    int rc;
    struct weir_error err = {0};
    fresh_path(path, sizeof path);
    struct weir_ledger *ledger = must_open(path, 0);
    append_range(ledger, 1, 1);
    weir_ledger_close(ledger);
    snprintf(name, sizeof name, "%s/lineage", path);
    assert_int_equal(unlink(name), 0);
    assert_null(open_at(path, 0, &rc, &err));
    assert_int_equal(rc, WEIR_E_CORRUPT);
    assert_non_null(strstr(err.message, "no lineage file"));
}

static void every_fault_point_leaves_a_ledger_that_opens(void **unused) {
    (void)unused;
    static const struct {
        enum weir_fault_point point;
        uint64_t durable; /* of two records, the second one hit */
    } cases[] = {
        {WEIR_FAULT_ledger_before_write, 1}, {WEIR_FAULT_ledger_torn_write, 1},
        {WEIR_FAULT_ledger_before_sync, 2}, /* no power was lost */
        {WEIR_FAULT_ledger_after_sync, 2},   {WEIR_FAULT_ledger_rotate, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[128];
        char big[9000];
        struct weir_error err = {0};
        memset(big, 'b', sizeof big);
        struct iovec part = {big, sizeof big};
        fresh_path(path, sizeof path);
        bool rotate = cases[i].point == WEIR_FAULT_ledger_rotate;
        struct weir_ledger *ledger = must_open(path, rotate ? 4096 : 0);
        append_range(ledger, 1, 1);
        weir_fault_arm(cases[i].point, weir_fault_hits(cases[i].point) + 1, false);
        assert_int_equal(weir_ledger_append(ledger, 2, 0, &part, 1, &err), WEIR_E_FAULT);
        assert_true(ledger->failed);
        assert_int_equal(weir_ledger_append(ledger, 2, 0, &part, 1, &err), WEIR_E_FAULT);
        assert_non_null(strstr(err.message, "refused after an earlier failure"));
        weir_ledger_close(ledger);
        ledger = must_open(path, 0);
        assert_int_equal(ledger->last, cases[i].durable);
        must_append(ledger, cases[i].durable + 1, "next");
        weir_ledger_close(ledger);
    }
    weir_fault_arm(WEIR_FAULT_ledger_rotate, 0, false);
}

static void a_read_only_reader_sees_a_live_ledger_and_changes_nothing(void **unused) {
    (void)unused;
    char path[128];
    struct weir_error err = {0};
    struct weir_ledger *reader = NULL;
    fresh_path(path, sizeof path);
    struct weir_ledger_options options = {.path = path, .read_only = true};
    assert_int_equal(weir_ledger_open(&options, &reader, &err), WEIR_E_NOTFOUND);
    struct weir_ledger *ledger = must_open(path, 0);
    append_range(ledger, 1, 3);
    assert_int_equal(weir_ledger_open(&options, &reader, &err), WEIR_OK);
    must_hold(reader, 1, 3);
    struct iovec part = {(void *)(uintptr_t) "x", 1};
    assert_int_equal(weir_ledger_append(reader, 4, 0, &part, 1, &err), WEIR_E_BUG);
    append_range(ledger, 4, 4);
    weir_ledger_close(reader);
    weir_ledger_close(ledger);
}

static void a_newer_format_is_refused_with_the_way_out(void **unused) {
    (void)unused;
    struct weir_record_view view;
    struct weir_error err = {0};
    /* {"epoch": 1, "requires": ["frobnicate"]} */
    static const char bytes[] = "\x82\xa5"
                                "epoch\x01\xa8"
                                "requires\x91\xaa"
                                "frobnicate";
    assert_int_equal(weir_record_parse(bytes, sizeof bytes - 1, &view, &err), WEIR_E_VERSION);
    assert_non_null(strstr(err.message, "frobnicate"));
    /* The same, not required: skipped. */
    static const char unknown[] = "\x82\xa5"
                                  "epoch\x01\xaa"
                                  "frobnicate\x92\x01\x81\xa1x\xc0";
    assert_int_equal(weir_record_parse(unknown, sizeof unknown - 1, &view, &err), WEIR_OK);
    assert_int_equal(view.epoch, 1);
}

static int releases;
static void count_release(void *owner) {
    (void)owner;
    releases++;
}

/* Lays the parts end to end. */
static uint8_t *flatten(const struct iovec *parts, int count, uint64_t size) {
    uint8_t *bytes = malloc((size_t)size);
    uint64_t at = 0;
    assert_non_null(bytes);
    for (int i = 0; i < count; i++) {
        memcpy(bytes + at, parts[i].iov_base, parts[i].iov_len);
        at += parts[i].iov_len;
    }
    assert_int_equal(at, size);
    return bytes;
}

static struct weir_record *full_record(void) {
    struct weir_record *record = NULL;
    struct weir_error err = {0};
    assert_int_equal(weir_record_create(42, NULL, &record, &err), WEIR_OK);
    weir_record_set_sealed_at(record, -5);
    assert_int_equal(weir_record_set_rule_set(record, "0123456789abcdef", 16, &err), WEIR_OK);
    assert_int_equal(
        weir_record_put_bytes(record, WEIR_SECTION_POSITIONS, "s/0", 3, "\0pos", 4, &err), WEIR_OK);
    assert_int_equal(weir_record_remove(record, WEIR_SECTION_POSITIONS, "s/1", 3, &err), WEIR_OK);
    assert_int_equal(
        weir_record_put_int(record, WEIR_SECTION_WATERMARKS, "s/0", 3, INT64_MIN, &err), WEIR_OK);
    assert_int_equal(weir_record_put_int(record, WEIR_SECTION_MARKERS, "k", 1, 41, &err), WEIR_OK);
    struct weir_message batch = {.kind = WEIR_MESSAGE_BATCH,
                                 .clock_us = 1000,
                                 .subject = "bronze.pos_sale",
                                 .subject_size = 15,
                                 .partition = 3,
                                 .rows = 4096,
                                 .hash = UINT64_MAX};
    struct weir_message tick = {.kind = WEIR_MESSAGE_TICK, .clock_us = 1001};
    struct weir_message verdict = {.kind = WEIR_MESSAGE_VERDICT,
                                   .clock_us = 1002,
                                   .subject = "silver.x",
                                   .subject_size = 8,
                                   .version = 2,
                                   .row = -1,
                                   .reason = "budget",
                                   .reason_size = 6};
    assert_int_equal(weir_record_add_message(record, &batch, &err), WEIR_OK);
    assert_int_equal(weir_record_add_message(record, &tick, &err), WEIR_OK);
    assert_int_equal(weir_record_add_message(record, &verdict, &err), WEIR_OK);
    struct weir_blob image = {.data = "IMAGE", .size = 5, .release = count_release};
    assert_int_equal(weir_record_take_image(record, "t/w", 3, &image, &err), WEIR_OK);
    struct weir_span effect = {(const uint8_t *)"[add]", 5};
    assert_int_equal(weir_record_add_effect(record, "delta", 5, 7, effect, &err), WEIR_OK);
    assert_int_equal(
        weir_record_add_effect(record, "delta", 5, 8, (struct weir_span){NULL, 0}, &err), WEIR_OK);
    return record;
}

static void a_record_reads_back_as_it_was_built(void **unused) {
    (void)unused;
    struct weir_error err = {0};
    struct weir_record_view view;
    struct weir_keyed_entry entry;
    struct weir_message message;
    struct weir_named_blob blob;
    const struct iovec *parts;
    int count;
    uint64_t size;
    releases = 0;
    struct weir_record *record = full_record();
    assert_int_equal(weir_record_finish(record, &parts, &count, &size, &err), WEIR_OK);
    uint8_t *bytes = flatten(parts, count, size);
    if (weir_record_parse(bytes, (size_t)size, &view, &err) != WEIR_OK) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(view.epoch, 42);
    assert_int_equal(view.sealed_at_us, -5);
    assert_int_equal(view.rule_set.size, 16);
    struct weir_section_iterator it = weir_section_iterate(view.keyed[WEIR_SECTION_POSITIONS]);
    assert_true(weir_keyed_next(&it, &entry));
    assert_memory_equal(entry.body.data, "\0pos", 4);
    assert_true(weir_keyed_next(&it, &entry));
    assert_true(entry.removed);
    assert_false(weir_keyed_next(&it, &entry));
    it = weir_section_iterate(view.keyed[WEIR_SECTION_WATERMARKS]);
    assert_true(weir_keyed_next(&it, &entry));
    assert_true(entry.is_int && entry.number == INT64_MIN);
    it = weir_section_iterate(view.schedule);
    assert_true(weir_message_next(&it, &message));
    assert_int_equal(message.rows, 4096);
    assert_true(message.hash == UINT64_MAX);
    assert_int_equal(message.partition, 3);
    assert_true(weir_message_next(&it, &message));
    assert_int_equal(message.kind, WEIR_MESSAGE_TICK);
    assert_int_equal(message.subject_size, 0);
    assert_true(weir_message_next(&it, &message));
    assert_int_equal(message.row, -1);
    assert_memory_equal(message.reason, "budget", 6);
    assert_false(weir_message_next(&it, &message));
    it = weir_section_iterate(view.images);
    assert_true(weir_image_next(&it, &blob));
    assert_memory_equal(blob.body.data, "IMAGE", 5);
    it = weir_section_iterate(view.effects);
    assert_true(weir_effect_next(&it, &blob));
    assert_int_equal(blob.kind, 7);
    assert_true(weir_effect_next(&it, &blob));
    assert_int_equal(blob.body.size, 0);
    assert_false(weir_effect_next(&it, &blob));
    free(bytes);
    weir_record_destroy(record);
    assert_int_equal(releases, 1);
}

static void a_record_is_plain_msgpack_to_the_library(void **unused) {
    (void)unused;
    struct weir_error err = {0};
    const struct iovec *parts;
    int count;
    uint64_t size;
    struct weir_record *record = full_record();
    assert_int_equal(weir_record_finish(record, &parts, &count, &size, &err), WEIR_OK);
    uint8_t *bytes = flatten(parts, count, size);
    msgpack_unpacked result;
    msgpack_unpacked_init(&result);
    size_t offset = 0;
    assert_int_equal(msgpack_unpack_next(&result, (const char *)bytes, (size_t)size, &offset),
                     MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(offset, size);
    assert_int_equal(result.data.type, MSGPACK_OBJECT_MAP);
    assert_int_equal(result.data.via.map.size, 9);
    assert_memory_equal(result.data.via.map.ptr[0].key.via.str.ptr, "epoch", 5);
    msgpack_unpacked_destroy(&result);
    free(bytes);
    weir_record_destroy(record);
}

static void truncated_or_flipped_records_never_parse_past_their_end(void **unused) {
    (void)unused;
    struct weir_error err = {0};
    const struct iovec *parts;
    int count;
    uint64_t size;
    struct weir_record_view view;
    struct weir_record *record = full_record();
    assert_int_equal(weir_record_finish(record, &parts, &count, &size, &err), WEIR_OK);
    uint8_t *bytes = flatten(parts, count, size);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *copy = malloc(cut > 0 ? cut : 1); /* exact, so that ASan sees a read beyond */
        memcpy(copy, bytes, cut);
        assert_int_equal(weir_record_parse(copy, cut, &view, &err), WEIR_E_CORRUPT);
        free(copy);
    }
    int accepted = 0;
    for (size_t at = 0; at < size; at++) {
        bytes[at] ^= 0xff;
        accepted += weir_record_parse(bytes, (size_t)size, &view, &err) == WEIR_OK;
        bytes[at] ^= 0xff;
    }
    assert_true(accepted < (int)size);
    free(bytes);
    weir_record_destroy(record);
}

static void a_record_past_its_cap_is_refused_and_releases_the_blob(void **unused) {
    (void)unused;
    struct weir_error err = {0};
    struct weir_record *record = NULL;
    struct weir_record_limits limits = {.inline_bytes = 1024, .total_bytes = 2048};
    releases = 0;
    assert_int_equal(weir_record_create(1, &limits, &record, &err), WEIR_OK);
    static char big[4096];
    struct weir_blob image = {.data = big, .size = sizeof big, .release = count_release};
    assert_int_equal(weir_record_take_image(record, "t", 1, &image, &err), WEIR_E_LIMIT);
    assert_int_equal(releases, 1);
    assert_int_equal(weir_record_put_bytes(record, WEIR_SECTION_POSITIONS, "k", 1, big, 1000, &err),
                     WEIR_E_LIMIT);
    assert_non_null(strstr(err.message, "commit.every"));
    assert_int_equal(weir_record_put_bytes(record, WEIR_SECTION_POSITIONS, "k", 1, big, 500, &err),
                     WEIR_OK);
    weir_record_destroy(record);
}

struct dumped {
    char text[65536];
    size_t size;
    int lines;
};

static int keep_line(void *context, const char *json) {
    struct dumped *dumped = context;
    dumped->lines++;
    dumped->size += (size_t)snprintf(dumped->text + dumped->size,
                                     sizeof dumped->text - dumped->size, "%s\n", json);
    assert_true(dumped->size < sizeof dumped->text);
    return 0;
}

static void a_ledger_dumps_as_json_lines(void **unused) {
    (void)unused;
    char path[128];
    struct weir_error err = {0};
    const struct iovec *parts;
    int count;
    uint64_t size;
    static struct dumped dumped;
    fresh_path(path, sizeof path);
    struct weir_ledger *ledger = must_open(path, 0);
    for (uint64_t n = 1; n <= 41; n++) {
        struct weir_record *record = NULL;
        assert_int_equal(weir_record_create(n, NULL, &record, &err), WEIR_OK);
        assert_int_equal(weir_record_finish(record, &parts, &count, &size, &err), WEIR_OK);
        assert_int_equal(weir_ledger_append(ledger, n, 0, parts, count, &err), WEIR_OK);
        weir_record_destroy(record);
    }
    struct weir_record *record = full_record();
    assert_int_equal(weir_record_finish(record, &parts, &count, &size, &err), WEIR_OK);
    assert_int_equal(weir_ledger_append(ledger, 42, 0, parts, count, &err), WEIR_OK);
    weir_record_destroy(record);
    weir_ledger_close(ledger);
    if (weir_ledger_dump(path, keep_line, &dumped, &err) != WEIR_OK) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(dumped.lines, 44); /* lineage, segment, 42 records */
    assert_non_null(strstr(dumped.text, "\"record\": 42"));
    assert_non_null(strstr(dumped.text, "\"reason\": \"budget\""));
    assert_null(strstr(dumped.text, "\"error\""));
    flip(path, "00000000000000000001.seg", 4096 * 3 + 88);
    memset(&dumped, 0, sizeof dumped);
    assert_int_equal(weir_ledger_dump(path, keep_line, &dumped, &err), WEIR_OK);
    assert_non_null(strstr(dumped.text, "\"error\""));
    assert_non_null(strstr(dumped.text, "\"record\": 42")); /* goes on behind the damage */
}

int main(void) {
    snprintf(root, sizeof root, "test_ledger.XXXXXX");
    if (mkdtemp(root) == NULL) {
        return 1;
    }
    weir_log_set_level(WEIR_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_back_after_reopening),
        cmocka_unit_test(numbers_are_strictly_sequential),
        cmocka_unit_test(a_second_opener_is_told_the_pid_of_the_first),
        cmocka_unit_test(segments_rotate_and_are_trimmed_below_what_is_needed),
        cmocka_unit_test(damage_to_the_last_record_is_a_torn_tail),
        cmocka_unit_test(damage_before_a_valid_record_is_corruption_naming_file_and_byte),
        cmocka_unit_test(damage_in_an_older_segment_is_found_when_it_is_read),
        cmocka_unit_test(segments_of_another_ledger_are_refused),
        cmocka_unit_test(segments_without_their_lineage_are_refused),
        cmocka_unit_test(every_fault_point_leaves_a_ledger_that_opens),
        cmocka_unit_test(a_read_only_reader_sees_a_live_ledger_and_changes_nothing),
        cmocka_unit_test(a_newer_format_is_refused_with_the_way_out),
        cmocka_unit_test(a_record_reads_back_as_it_was_built),
        cmocka_unit_test(a_record_is_plain_msgpack_to_the_library),
        cmocka_unit_test(truncated_or_flipped_records_never_parse_past_their_end),
        cmocka_unit_test(a_record_past_its_cap_is_refused_and_releases_the_blob),
        cmocka_unit_test(a_ledger_dumps_as_json_lines),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command) == 0 ? failed : 1;
}
