#pragma once
/* Statistics as a snapshot holds them. The statistics of a table's files differ in their values and
 * repeat all names, so a snapshot keeps a text now and then as a template, and of the others what
 * differs from it: about a third of the bytes. Packed texts are NUL-terminated too.
 *
 * Encoding: bytes from 0x20 up stand for themselves; 0x01 takes two bytes more, how many bytes of
 * the template to pass over and how many then to copy, each plus 1 so that none is 0. Texts with
 * other bytes below 0x20 (JSON has none) are never packed. */
#include "core/buffer.h"

enum { DELTA_TEMPLATES_MAX = 4 };

struct delta_templates {
    char *texts[DELTA_TEMPLATES_MAX]; /* owned */
    int32_t count;
};

void delta_templates_fini(struct delta_templates *templates);
/* Packs `text` into `out` (cleared before, NUL-terminated). Returns the template's number from 1,
 * or 0 when the text is better kept as it is; `out` is then not to be used. */
uint8_t delta_stats_pack(struct delta_templates *templates, const char *text,
                         struct weir_buffer *out);
/* The reverse, into `out` (cleared before). */
int delta_stats_unpack(const struct delta_templates *templates, uint8_t number, const char *packed,
                       struct weir_buffer *out) WEIR_MUST_CHECK;
