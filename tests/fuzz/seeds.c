/* The fuzz targets' short form: each takes its seeds, and what a few random bytes make of them, as
 * any other unit test, with sanitizers where they are on. tools/fuzz.py is the long form. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "random.h"

enum { INPUT_BYTES = 65536, CHANGED = 100 };

#define TARGET(name) int name(const uint8_t *data, size_t size);
WEIR_FUZZ_TARGETS
#undef TARGET

struct target {
    const char *name;
    int (*run)(const uint8_t *data, size_t size);
};

static double cpu_seconds(void) {
    return (double)clock() / CLOCKS_PER_SEC;
}

static size_t read_seed(const char *folder, const char *name, uint8_t *out) {
    char path[1024];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t size = fread(out, 1, INPUT_BYTES, file);
    fclose(file);
    return size;
}

/* An allocation of its own, so that a sanitizer sees what is read behind it. */
static void run(const struct target *target, const uint8_t *bytes, size_t size) {
    uint8_t *copy = malloc(size > 0 ? size : 1);
    memcpy(copy, bytes, size);
    assert_int_equal(target->run(copy, size), 0);
    free(copy);
}

static size_t change(uint8_t *bytes, size_t size) {
    for (uint64_t i = below(4) + 1; i > 0 && size > 0; i--) {
        uint64_t at = below(size);
        switch (below(4)) {
        case 0:
            size = at;
            break;
        case 1:
            bytes[at] = (uint8_t)next_random();
            break;
        case 2:
            bytes[at] ^= (uint8_t)(1 << below(8));
            break;
        default: { /* some bytes less */
            uint64_t gone = below(size - at);
            memmove(bytes + at, bytes + at + gone, size - at - gone);
            size -= gone;
        }
        }
    }
    return size;
}

static void test_target(void **state) {
    const struct target *target = *state;
    static uint8_t seed[INPUT_BYTES];
    static uint8_t changed[INPUT_BYTES];
    char folder[512];
    int seeds = 0;
    snprintf(folder, sizeof(folder), "%s/%s", WEIR_FUZZ_CORPUS, target->name);
    DIR *corpus = opendir(folder);
    double end = cpu_seconds() + 1;
    run(target, (const uint8_t *)"", 0);
    for (const struct dirent *entry; corpus != NULL && (entry = readdir(corpus)) != NULL;) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        size_t size = read_seed(folder, entry->d_name, seed);
        seeds++;
        run(target, seed, size);
        for (int i = 0; i < CHANGED && cpu_seconds() < end; i++) {
            memcpy(changed, seed, size);
            run(target, changed, change(changed, size));
        }
    }
    if (corpus != NULL) {
        closedir(corpus);
    }
    for (int i = 0; seeds == 0 && i < 500 && cpu_seconds() < end; i++) {
        size_t size = below(512);
        for (size_t k = 0; k < size; k++) {
            changed[k] = (uint8_t)next_random();
        }
        run(target, changed, size);
    }
}

int main(void) {
    static struct target targets[] = {
#define TARGET(name) {#name, name},
        WEIR_FUZZ_TARGETS
#undef TARGET
    };
    struct CMUnitTest tests[sizeof(targets) / sizeof(targets[0])];
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        targets[i].name += strlen("fuzz_");
        tests[i] = (struct CMUnitTest){targets[i].name, test_target, NULL, NULL, &targets[i]};
    }
    return cmocka_run_group_tests_name("fuzz targets", tests, NULL, NULL);
}
