/* Append and sync of a record beside the floor (bare pwrite + fdatasync of the same bytes, in the
 * same run, turn by turn so that a noisy machine hits both), whether it stays flat, and the speed
 * of recovery. One line a figure. Argument: directory (default "."). */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commit/recover.h"
#include "core/clock.h"

enum { ROUNDS = 1000, BIG_ROUNDS = 100 };

static int64_t ours[ROUNDS];
static int64_t floors[ROUNDS];
static int64_t zeroed[ROUNDS];

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static double at(int64_t *values, int count, int percent) {
    return (double)values[(count - 1) * percent / 100] / 1000.0;
}

static double median(const int64_t *values, int count) {
    static int64_t copy[ROUNDS];
    memcpy(copy, values, (size_t)count * sizeof *values);
    qsort(copy, (size_t)count, sizeof *copy, by_value);
    return at(copy, count, 50);
}

static void check(int rc, const struct weir_error *err) {
    if (rc != WEIR_OK) {
        fprintf(stderr, "bench_ledger: %s\n", err->message);
        exit(1);
    }
}

static struct weir_ledger *open_ledger(const char *path) {
    struct weir_ledger *ledger = NULL;
    struct weir_error err = {0};
    struct weir_ledger_options options = {.path = path, .create = true};
    check(weir_ledger_open(&options, &ledger, &err), &err);
    return ledger;
}

static int64_t floor_once(int fd, const void *bytes, size_t size, off_t offset) {
    int64_t start = weir_clock_mono_ns();
    if (pwrite(fd, bytes, size, offset) != (ssize_t)size || fdatasync(fd) != 0) {
        perror("bench_ledger: floor");
        exit(1);
    }
    return weir_clock_mono_ns() - start;
}

static void latency(const char *directory, size_t size, int rounds) {
    char path[1024];
    char plain_path[1100];
    char zero_path[1100];
    struct weir_error err = {0};
    uint8_t *bytes = malloc(size);
    if (bytes == NULL) {
        exit(1);
    }
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(i * 31);
    }
    snprintf(path, sizeof path, "%s/bench_ledger.%ld", directory, (long)getpid());
    snprintf(plain_path, sizeof plain_path, "%s.plain", path);
    snprintf(zero_path, sizeof zero_path, "%s.zero", path);
    struct weir_ledger *ledger = open_ledger(path);
    int plain = open(plain_path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    int zero = open(zero_path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    static uint8_t zeros[1 << 20];
    if (plain < 0 || zero < 0) {
        exit(1);
    }
    for (size_t at_byte = 0; at_byte < size * (size_t)rounds; at_byte += sizeof zeros) {
        floor_once(zero, zeros, sizeof zeros, (off_t)at_byte);
    }
    check(weir_ledger_prepare(ledger, &err), &err);
    for (int i = 0; i < rounds; i++) {
        off_t offset = (off_t)((size_t)i * size);
        struct iovec part = {bytes, size};
        floors[i] = floor_once(plain, bytes, size, offset);
        zeroed[i] = floor_once(zero, bytes, size, offset);
        int64_t start = weir_clock_mono_ns();
        check(weir_ledger_append(ledger, (uint64_t)i + 1, 0, &part, 1, &err), &err);
        ours[i] = weir_clock_mono_ns() - start;
        check(weir_ledger_prepare(ledger, &err), &err); /* as the committer: when nobody waits */
    }
    double early = median(ours, rounds / 10);
    double late = median(ours + rounds - rounds / 10, rounds / 10);
    qsort(ours, (size_t)rounds, sizeof *ours, by_value);
    qsort(floors, (size_t)rounds, sizeof *floors, by_value);
    qsort(zeroed, (size_t)rounds, sizeof *zeroed, by_value);
    printf(
        "ledger append+sync %4zu KiB: p50 %.0f us, p99 %.0f us; floor pwrite+fdatasync appending "
        "p50 %.0f, p99 %.0f; over written blocks p50 %.0f, p99 %.0f; first tenth %.0f, last "
        "tenth %.0f\n",
        (size + 88) / 1024, at(ours, rounds, 50), at(ours, rounds, 99), at(floors, rounds, 50),
        at(floors, rounds, 99), at(zeroed, rounds, 50), at(zeroed, rounds, 99), early, late);
    weir_ledger_close(ledger);
    close(plain);
    close(zero);
    free(bytes);
    char command[4096];
    snprintf(command, sizeof command, "rm -rf '%s' '%s' '%s'", path, plain_path, zero_path);
    if (system(command) != 0) {
        exit(1);
    }
}

static int count_image(void *context, const struct weir_record_view *record,
                       struct weir_error *err) {
    uint64_t *bytes = context;
    (void)err;
    struct weir_section_iterator it = weir_section_iterate(record->images);
    struct weir_named_blob image;
    while (weir_image_next(&it, &image)) {
        *bytes += image.body.size;
    }
    return WEIR_OK;
}

static void recovery(const char *directory) {
    enum { RECORDS = 512, IMAGE = 2 << 20 };
    char path[1024];
    struct weir_error err = {0};
    struct weir_recovery *found = NULL;
    uint64_t bytes = 0;
    void *image = calloc(1, IMAGE);
    if (image == NULL) {
        exit(1);
    }
    snprintf(path, sizeof path, "%s/bench_recover.%ld", directory, (long)getpid());
    struct weir_ledger *ledger = open_ledger(path);
    int64_t start = weir_clock_mono_ns();
    for (uint64_t n = 1; n <= RECORDS; n++) {
        struct weir_record *record = NULL;
        struct weir_blob blob = {.data = image, .size = IMAGE};
        const struct iovec *parts;
        int count;
        uint64_t size;
        check(weir_record_create(n, NULL, &record, &err), &err);
        check(weir_record_take_image(record, "t", 1, &blob, &err), &err);
        check(weir_record_finish(record, &parts, &count, &size, &err), &err);
        check(weir_ledger_append(ledger, n, 0, parts, count, &err), &err);
        weir_record_destroy(record);
    }
    double written = (double)(weir_clock_mono_ns() - start) / 1e9;
    weir_ledger_close(ledger);
    int64_t cpu = weir_clock_thread_cpu_ns();
    start = weir_clock_mono_ns();
    ledger = open_ledger(path);
    struct weir_recovery_hooks hooks = {.context = &bytes, .apply = count_image};
    check(weir_recover(ledger, NULL, &hooks, &found, &err), &err);
    double taken = (double)(weir_clock_mono_ns() - start) / 1e9;
    double busy = (double)(weir_clock_thread_cpu_ns() - cpu) / 1e9;
    printf("ledger recovery of %.2f GB in %d records: %.2f s, CPU %.2f s (%.0f MB/s); writing them "
           "took %.2f s\n",
           (double)bytes / 1e9, RECORDS, taken, busy, (double)bytes / 1e6 / taken, written);
    weir_recovery_destroy(found);
    weir_ledger_close(ledger);
    free(image);
    char command[1200];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    if (system(command) != 0) {
        exit(1);
    }
}

int main(int count, char **arguments) {
    const char *directory = count > 1 ? arguments[1] : ".";
    latency(directory, 4096 - 88, ROUNDS);
    latency(directory, (1 << 20) - 88, BIG_ROUNDS);
    recovery(directory);
    return 0;
}
