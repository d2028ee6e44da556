/* Which rows a run took: "probe 1 2|spend 5", steps and the numbers of their rows. */
#include <stdlib.h>
#include <string.h>

#include "operator/rule/match_private.h"

enum { NUMBER_BYTES = 20 };

bool match_room(struct rule_match *match, void **list, int32_t *room, int32_t count, size_t size) {
    if (count <= *room) {
        return true;
    }
    int32_t more = *room == 0 ? 16 : *room;
    while (more < count) {
        more *= 2;
    }
    void *larger = realloc(*list, (size_t)more * size);
    if (larger == NULL) {
        match->failed = true;
        rule_no_memory(match->state);
        return false;
    }
    *list = larger;
    *room = more;
    return true;
}

static size_t number_text(int64_t number, char *to) {
    char digits[NUMBER_BYTES];
    size_t count = 0;
    uint64_t left = (uint64_t)number;
    do {
        digits[NUMBER_BYTES - ++count] = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    memcpy(to, digits + NUMBER_BYTES - count, count);
    return count;
}

size_t match_path_write(const struct rule_match *match, const struct match_run *run, char *to) {
    const struct weir_match_step *step = &match->spec->places[run->place];
    size_t size = run->path != NULL ? (size_t)run->path->length : 0;
    bool named = run->join == JOIN_NEW_STEP || size == 0;
    char number[NUMBER_BYTES];
    if (to != NULL && size > 0) {
        memcpy(to, run->path->bytes, size);
    }
    if (run->join == JOIN_NOT) {
        return size;
    }
    if (named && size > 0) {
        if (to != NULL) {
            to[size] = '|';
        }
        size++;
    }
    if (named) {
        if (to != NULL) {
            memcpy(to + size, step->name, (size_t)step->name_bytes);
        }
        size += (size_t)step->name_bytes;
    }
    size_t digits = number_text(match->spec->id, number);
    if (to != NULL) {
        to[size] = ' ';
        memcpy(to + size + 1, number, digits);
    }
    return size + 1 + digits;
}

/* --- taken apart ------------------------------------------------------------------------------ */

static bool add(struct rule_match *match, struct match_path *path, int32_t place, int64_t row) {
    int32_t room = path->room;
    if (!match_room(match, (void **)&path->places, &room, path->count + 1, sizeof *path->places) ||
        !match_room(match, (void **)&path->rows, &path->room, path->count + 1,
                    sizeof *path->rows)) {
        return false;
    }
    path->places[path->count] = place;
    path->rows[path->count++] = row;
    return true;
}

static int32_t place_of(const struct weir_match *spec, const char *name, size_t length) {
    for (int32_t i = 0; i < spec->place_count; i++) {
        if ((size_t)spec->places[i].name_bytes == length &&
            memcmp(spec->places[i].name, name, length) == 0) {
            return i;
        }
    }
    return -1;
}

bool match_path_read(struct rule_match *match, const struct match_run *run, struct match_path *to) {
    const char *at = run->path != NULL ? run->path->bytes : "";
    const char *end = run->path != NULL ? at + run->path->length : at;
    to->count = 0;
    while (at < end) {
        const char *name = at;
        while (at < end && *at != ' ') {
            at++;
        }
        int32_t place = place_of(match->spec, name, (size_t)(at - name));
        while (at < end && *at == ' ') {
            int64_t row = 0;
            for (at++; at < end && *at >= '0' && *at <= '9'; at++) {
                row = row * 10 + (*at - '0');
            }
            if (!add(match, to, place, row)) {
                return false;
            }
        }
        at += at < end; /* the bar */
    }
    return run->join == JOIN_NOT || add(match, to, run->place, match->spec->id);
}

/* --- which match goes first, and what it skips -------------------------------------------------
 */

int match_order(const void *a, const void *b, void *context) {
    struct rule_match *match = context;
    const struct match_run *left = a;
    const struct match_run *right = b;
    if (left->start != right->start) {
        return left->start < right->start ? -1 : 1;
    }
    if (!match->spec->paths || !match_path_read(match, left, &match->path) ||
        !match_path_read(match, right, &match->other)) {
        return 0;
    }
    const struct match_path *one = &match->path;
    const struct match_path *other = &match->other;
    if (one->count != other->count) {
        return one->count > other->count ? -1 : 1;
    }
    for (int32_t i = 0; i < one->count; i++) {
        if (one->rows[i] != other->rows[i]) {
            return one->rows[i] < other->rows[i] ? -1 : 1;
        }
    }
    for (int32_t i = 0; i < one->count; i++) {
        if (one->places[i] != other->places[i]) {
            return one->places[i] < other->places[i] ? -1 : 1;
        }
    }
    return 0;
}

int64_t match_resumes(struct rule_match *match, const struct match_run *run) {
    const struct weir_match *spec = match->spec;
    switch ((enum weir_match_skip)spec->skip) {
    case WEIR_MATCH_PAST_LAST:
        return run->last + 1;
    case WEIR_MATCH_NEXT:
        return run->start + 1;
    case WEIR_MATCH_NONE:
        return 0;
    case WEIR_MATCH_TO_FIRST:
    case WEIR_MATCH_TO_LAST:
        break;
    }
    int64_t found = 0; /* the step took none: nothing is skipped */
    if (match_path_read(match, run, &match->path)) {
        for (int32_t i = 0; i < match->path.count; i++) {
            if (match->path.places[i] == spec->skip_place &&
                (found == 0 || spec->skip == WEIR_MATCH_TO_LAST)) {
                found = match->path.rows[i];
            }
        }
    }
    return found;
}

/* --- told ------------------------------------------------------------------------------------- */

/* Where a row lies among those kept, which are in order of their numbers; -2: nowhere. */
static int32_t row_at(struct rule_match *match, int64_t number) {
    const struct rule_cell *cell = &match->state->cells[MATCH_ROWS];
    struct rule_block *block = rule_block_of(match->state, MATCH_ROWS);
    uint32_t low = 0;
    uint32_t high = block != NULL ? block->count : 0;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int64_t found;
        memcpy(&found, rule_record(cell, block, middle) + cell->fields[0].offset, sizeof found);
        if (found == number) {
            return (int32_t)middle;
        } else if (found < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return -2;
}

bool match_tell(struct rule_match *match, const struct match_run *run) {
    struct weir_match *spec = match->spec;
    struct match_path *path = &match->path;
    path->count = 0;
    if (spec->paths && !match_path_read(match, run, path)) {
        return false;
    }
    int32_t room = match->told_room;
    if (!match_room(match, (void **)&match->places, &room, path->count, sizeof *match->places) ||
        !match_room(match, (void **)&match->rows, &match->told_room, path->count,
                    sizeof *match->rows)) {
        return false;
    }
    for (int32_t i = 0; i < path->count; i++) {
        match->places[i] = path->places[i];
        match->rows[i] = match->of_row && path->rows[i] == spec->id ? -1
                         : spec->keeps                              ? row_at(match, path->rows[i])
                                                                    : -2;
    }
    spec->taken_places = match->places;
    spec->taken_rows = match->rows;
    spec->taken_count = path->count;
    spec->since_us = run->since_us;
    spec->ended_us = run->ended_us;
    return true;
}
