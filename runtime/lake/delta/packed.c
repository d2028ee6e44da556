#include "lake/delta/packed.h"

#include <stdlib.h>
#include <string.h>

enum { COPY = 0x01, STEP_MAX = 254, SHORTEST_COPY = 4, SHORTEST_TEXT = 96 };

void delta_templates_fini(struct delta_templates *templates) {
    for (int32_t i = 0; i < templates->count; i++) {
        free(templates->texts[i]);
    }
    memset(templates, 0, sizeof(*templates));
}

static int put_copy(struct weir_buffer *out, size_t skip, size_t length) {
    while (skip > STEP_MAX || length > 0) {
        size_t pass = skip < STEP_MAX ? skip : STEP_MAX;
        size_t take = skip > STEP_MAX ? 0 : length < STEP_MAX ? length : STEP_MAX;
        const uint8_t bytes[] = {COPY, (uint8_t)(pass + 1), (uint8_t)(take + 1)};
        int rc = weir_buffer_append(out, bytes, sizeof(bytes));
        if (rc != WEIR_OK) {
            return rc;
        }
        skip -= pass;
        length -= take;
    }
    return WEIR_OK;
}

static bool ends_value(char c) {
    return c == ',' || c == '}';
}

/* What differs between the two, value by value. False when it cannot be said. */
static bool differences(const char *model, const char *text, struct weir_buffer *out) {
    const char *copied = model; /* the template up to here is accounted for */
    while (*text != '\0') {
        size_t same = 0;
        while (text[same] != '\0' && text[same] == model[same]) {
            if ((unsigned char)text[same] < 0x20) {
                return false;
            }
            same++;
        }
        int rc = WEIR_OK;
        if (same >= SHORTEST_COPY) {
            rc = put_copy(out, (size_t)(model - copied), same);
            copied = model + same;
        } else {
            rc = weir_buffer_append(out, text, same);
        }
        text += same;
        model += same;
        size_t own = 0;
        while (text[own] != '\0' && !ends_value(text[own])) {
            if ((unsigned char)text[own] < 0x20) {
                return false;
            }
            own++;
        }
        if (own == 0 && *text != '\0') {
            own = 1; /* a value ends here and in the template it goes on, or the other way round */
        }
        rc = rc == WEIR_OK ? weir_buffer_append(out, text, own) : rc;
        if (rc != WEIR_OK) {
            return false;
        }
        text += own;
        while (*model != '\0' && !ends_value(*model)) {
            model++;
        }
        if (*text != '\0' && *model != '\0' && *text != *model) {
            /* out of step: one has a value the other lacks */
            model += strcspn(model, "}");
        }
    }
    return weir_buffer_append(out, "", 1) == WEIR_OK;
}

uint8_t delta_stats_pack(struct delta_templates *templates, const char *text,
                         struct weir_buffer *out) {
    size_t size = strlen(text);
    if (size < SHORTEST_TEXT) {
        return 0;
    }
    for (int32_t i = templates->count; i-- > 0;) {
        weir_buffer_clear(out);
        if (differences(templates->texts[i], text, out) && out->size < size / 3 * 2) {
            return (uint8_t)(i + 1);
        }
    }
    if (templates->count < DELTA_TEMPLATES_MAX) {
        char *copy = strdup(text);
        if (copy != NULL) {
            templates->texts[templates->count++] = copy;
        }
    }
    return 0;
}

int delta_stats_unpack(const struct delta_templates *templates, uint8_t number, const char *packed,
                       struct weir_buffer *out) {
    weir_buffer_clear(out);
    if (number == 0) {
        return weir_buffer_append_text(out, packed);
    }
    const char *model = templates->texts[number - 1];
    int rc = WEIR_OK;
    while (*packed != '\0' && rc == WEIR_OK) {
        if (*packed == COPY) {
            model += (uint8_t)packed[1] - 1;
            size_t length = (size_t)((uint8_t)packed[2] - 1);
            rc = weir_buffer_append(out, model, length);
            model += length;
            packed += 3;
        } else {
            size_t plain = strcspn(packed, "\x01");
            rc = weir_buffer_append(out, packed, plain);
            packed += plain;
        }
    }
    return rc;
}
