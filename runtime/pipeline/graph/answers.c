#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pipeline/graph/answers.h"

enum { HEAD_BYTES = 9 };

static int entry_encode(void *context, const void *value, struct weir_buffer *out) {
    const struct answer *answer = value;
    uint8_t head[HEAD_BYTES] = {answer->status};
    (void)context;
    memcpy(head + 1, &answer->until_us, sizeof(answer->until_us));
    int rc = weir_buffer_append(out, head, sizeof(head));
    return rc == WEIR_OK ? weir_buffer_append(out, answer->text, answer->size) : rc;
}

static void entry_clear(struct weir_table *table, struct answer *answer) {
    if (answer->text != NULL) {
        weir_heap_give(weir_table_heap(table), answer->text, answer->size);
    }
    answer->text = NULL;
    answer->size = 0;
}

int answers_set(struct answers *answers, struct answer *answer, enum answer_status status,
                int64_t until_us, const void *text, size_t size, struct weir_error *err) {
    struct weir_table *table = answers->table;
    uint8_t *own = NULL;
    int rc = weir_table_check_room(table, size, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (size > 0 && (own = weir_heap_take(weir_table_heap(table), size)) == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", weir_table_name(table));
    }
    if (size > 0) {
        memcpy(own, text, size);
    }
    entry_clear(table, answer);
    *answer = (struct answer){own, size, until_us, (uint8_t)status};
    return WEIR_OK;
}

bool answers_read(const uint8_t *bytes, size_t length, struct answer *out) {
    if (length < HEAD_BYTES) {
        return false;
    }
    *out = (struct answer){
        .text = (uint8_t *)(uintptr_t)bytes + HEAD_BYTES,
        .size = length - HEAD_BYTES,
        .status = bytes[0],
    };
    memcpy(&out->until_us, bytes + 1, sizeof(out->until_us));
    return true;
}

static int entry_decode(void *context, void *value, const uint8_t *bytes, size_t length,
                        struct weir_error *err) {
    struct answer read;
    if (!answers_read(bytes, length, &read)) {
        return weir_error_set(err, WEIR_E_CORRUPT, "an answer does not parse");
    }
    return answers_set(context, value, read.status, read.until_us, read.text, read.size, err);
}

static void entry_fini(void *context, void *value) {
    struct answers *answers = context;
    entry_clear(answers->table, value);
}

static const struct weir_table_codec codec = {entry_encode, entry_decode, entry_fini};

int answers_create(const char *declaration, const char *lookup, uint64_t shape, size_t max_bytes,
                   struct answers **out, struct weir_error *err) {
    char cell[300];
    struct answers *answers = *out = calloc(1, sizeof(*answers));
    if (answers == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    snprintf(cell, sizeof(cell), "asked/%.200s/%016llx", lookup, (unsigned long long)shape);
    struct weir_table_config config = {
        .declaration = declaration,
        .cell = cell,
        .shape = shape,
        .value_bytes = sizeof(struct answer),
        .max_bytes = max_bytes,
        .option = "memory.state",
        .codec = &codec,
        .codec_context = answers,
    };
    answers->table = weir_table_create(&config, err);
    return answers->table != NULL ? WEIR_OK : (err != NULL ? err->code : WEIR_E_NOMEM);
}

void answers_destroy(struct answers *answers) {
    if (answers != NULL) {
        weir_table_destroy(answers->table);
        free(answers);
    }
}

bool answers_hold(const struct answers *answers, struct weir_slot *slot, int64_t clock_us) {
    const struct answer *answer = weir_slot_value(answers->table, slot);
    return slot->changed == weir_table_view(answers->table)->generation ||
           answer->until_us > clock_us;
}

static int by_sequence(const void *a, const void *b) {
    uint64_t x = ((const uint64_t *)a)[0];
    uint64_t y = ((const uint64_t *)b)[0];
    return x < y ? -1 : x > y;
}

int answers_make_room(struct answers *answers, int64_t clock_us, int64_t most) {
    struct weir_table *table = answers->table;
    size_t keys = weir_table_keys(table);
    if ((int64_t)keys <= most + most / 8) {
        return WEIR_OK;
    }
    uint32_t slots = weir_table_slots(table);
    uint64_t(*live)[2] = calloc(keys + 1, sizeof(*live));
    size_t count = 0;
    int rc = live != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (uint32_t n = 1; rc == WEIR_OK && n <= slots; n++) {
        struct weir_slot *slot = weir_table_slot(table, n);
        if (slot->sequence == 0 || slot->changed == weir_table_view(table)->generation) {
            continue;
        }
        if (!answers_hold(answers, slot, clock_us)) {
            rc = weir_table_delete(table, slot, false);
            keys--;
        } else {
            live[count][0] = slot->sequence;
            live[count++][1] = n;
        }
    }
    if (rc == WEIR_OK && count > 0) {
        qsort(live, count, sizeof(*live), by_sequence);
    }
    for (size_t i = 0; rc == WEIR_OK && i < count && (int64_t)keys > most; i++, keys--) {
        rc = weir_table_delete(table, weir_table_slot(table, (uint32_t)live[i][1]), false);
    }
    free(live);
    return rc;
}
