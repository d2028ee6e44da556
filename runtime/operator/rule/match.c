/* A pattern's row held against the runs of its key. A run is first held against what must not come,
 * then it takes the row where it can: where the row fits the step it stands at and a later one,
 * both are tried. Of matches one row completes, those that began first go first, then the longest;
 * what had begun before the next may begin is dropped.
 *
 * A condition that looks at the run is asked of the loop: the run's turn ends there, and is begun
 * anew with the answer. */
#include "operator/rule/match.h"

#include <stdlib.h>
#include <string.h>

#include "operator/rule/match_private.h"

enum { NO = 0, YES = 1, ASK = -1 };

void rule_match_destroy(struct rule_match *match) {
    if (match == NULL) {
        return;
    }
    free(match->runs.list);
    free(match->took.list);
    free(match->on.list);
    free(match->found.list);
    free(match->path.places);
    free(match->path.rows);
    free(match->other.places);
    free(match->other.rows);
    free(match->places);
    free(match->rows);
    free(match->free_slots);
    free(match);
}

static struct rule_match *begin(struct weir_rule_run *run, struct weir_match *spec) {
    struct weir_rule_state *state = (struct weir_rule_state *)run;
    struct rule_match *match = state->match;
    if (match == NULL) {
        match = state->match = calloc(1, sizeof *match);
        if (match == NULL) {
            rule_no_memory(state);
            return NULL;
        }
        match->state = state;
    }
    match->spec = spec;
    match->runs.count = match->took.count = match->on.count = match->found.count = 0;
    match->held = match->at = match->took_before = match->told = 0;
    match->changed = match->failed = false;
    match->fresh = (struct match_run){.place = -1, .slot = -1, .since_us = run->time_us};
    return match;
}

static struct match_run *add(struct rule_match *match, struct match_runs *to,
                             const struct match_run *run) {
    if (!match_room(match, (void **)&to->list, &to->room, to->count + 1, sizeof *to->list)) {
        return NULL;
    }
    to->list[to->count] = *run;
    return &to->list[to->count++];
}

/* --- read ------------------------------------------------------------------------------------- */

static int64_t whole(const struct rule_cell *cell, const uint8_t *record, int32_t field) {
    int64_t value;
    memcpy(&value, record + cell->fields[field].offset, sizeof value);
    return value;
}

static int64_t row_number(const struct rule_cell *cell, const uint8_t *record, int32_t field) {
    double value;
    memcpy(&value, record + cell->fields[field].offset, sizeof value);
    return (int64_t)value;
}

static int32_t place_of(const struct weir_match *spec, const struct weir_rule_text *name) {
    for (int32_t i = 0; name != NULL && i < spec->place_count; i++) {
        const struct weir_match_step *step = &spec->places[i];
        if (step->name_bytes == name->length &&
            memcmp(step->name, name->bytes, (size_t)name->length) == 0) {
            return i;
        }
    }
    return -1;
}

/* The key's runs whose step is still there. */
static bool load(struct rule_match *match) {
    struct weir_rule_state *state = match->state;
    const struct rule_cell *cell = &state->cells[MATCH_RUNS];
    const struct rule_cell *path_cell = &state->cells[MATCH_PATHS];
    struct rule_block *block = rule_block_of(state, MATCH_RUNS);
    struct rule_block *paths = rule_block_of(state, MATCH_PATHS);
    match->held = block != NULL ? (int32_t)block->count : 0;
    for (int32_t i = 0; i < match->held; i++) {
        const uint8_t *record = rule_record(cell, block, (uint32_t)i);
        const struct weir_rule_text *name;
        memcpy(&name, record + cell->fields[RUN_STEP].offset, sizeof name);
        struct match_run run = {
            .place = place_of(match->spec, name),
            .count = (int32_t)whole(cell, record, RUN_COUNT),
            .slot = i,
            .gap = whole(cell, record, RUN_GAP) != 0,
            .since_us = whole(cell, record, RUN_SINCE),
            .start = row_number(cell, record, RUN_START),
            .last = row_number(cell, record, RUN_LAST),
        };
        if (paths != NULL && (uint32_t)i < paths->count) {
            const uint8_t *path = rule_record(path_cell, paths, (uint32_t)i);
            memcpy(&run.path, path + path_cell->fields[0].offset, sizeof run.path);
        }
        if (run.place >= 0 && add(match, &match->runs, &run) == NULL) {
            return false;
        }
    }
    return true;
}

/* --- a run's turn ----------------------------------------------------------------------------- */

static int holds(struct rule_match *match, const struct weir_match_step *step,
                 const struct match_run *run) {
    if (step->condition < 0) {
        return YES;
    }
    uint32_t bit = UINT32_C(1) << step->condition;
    if (!step->sees) {
        return (match->mask & bit) != 0;
    } else if ((run->known & bit) != 0) {
        return (run->yes & bit) != 0;
    }
    match->spec->asked = step->condition;
    return ASK;
}

/* Is the row one that must not come now? */
static int forbidden(struct rule_match *match, const struct match_run *run) {
    const struct weir_match_step *step = &match->spec->places[run->place];
    for (int32_t i = 0; run->count >= step->min && i < step->guard_count; i++) {
        const struct weir_match_step *guard = &match->spec->guards[step->first_guard + i];
        int held = guard->strict && run->gap ? NO : holds(match, guard, run);
        if (held != NO) {
            return held;
        }
    }
    return NO;
}

static bool take(struct rule_match *match, const struct match_run *run, int32_t place) {
    int64_t id = match->spec->id;
    bool same = place == run->place;
    struct match_run taken = {
        .place = place,
        .count = same ? run->count + 1 : 1,
        .slot = -1,
        .since_us = run->since_us,
        .start = run->place < 0 ? id : run->start,
        .last = id,
        .path = run->path,
        .join = same ? JOIN_SAME_STEP : JOIN_NEW_STEP,
    };
    return add(match, &match->took, &taken) != NULL;
}

/* The runs that take the row; whether it also goes on without. */
static int successors(struct rule_match *match, const struct match_run *run) {
    const struct weir_match_step *step = &match->spec->places[run->place];
    bool stays = false;
    int held = NO;
    if (run->count < step->max && !(step->consecutive && run->gap)) {
        held = holds(match, step, run);
        if (held == ASK || (held == YES && !take(match, run, run->place))) {
            return ASK;
        }
    }
    for (int32_t place = run->place + 1; run->count >= step->min && place <= step->reach; place++) {
        const struct weir_match_step *next = &match->spec->places[place];
        held = next->strict && run->gap ? NO : holds(match, next, run);
        if (held == ASK || (held == YES && !take(match, run, place))) {
            return ASK;
        }
        stays = stays || (held == YES && next->any);
    }
    return match->took.count == match->took_before || stays ? YES : NO;
}

/* Can a run that let a row pass still go on? */
static bool is_alive(const struct rule_match *match, const struct match_run *run) {
    const struct weir_match_step *step = &match->spec->places[run->place];
    return (run->count < step->max && !step->consecutive) ||
           (run->count >= step->min && step->waits);
}

static bool go_on(struct rule_match *match, struct match_run *run) {
    const struct weir_match *spec = match->spec;
    int64_t age = match->fresh.since_us - run->since_us;
    bool over = spec->within_us > 0 && age >= spec->within_us;
    int held = over ? YES : forbidden(match, run);
    if (held != NO) {
        match->changed = match->changed || held == YES;
        return held == YES;
    }
    held = successors(match, run);
    if (held == ASK) {
        return false;
    }
    if (held == YES) {
        if (spec->gaps && !run->gap) {
            run->gap = run->changed = match->changed = true;
        }
        if (!is_alive(match, run)) {
            match->changed = true;
        } else if (add(match, &match->on, run) == NULL) {
            return false;
        }
    }
    return true;
}

/* What the row begins. */
static bool begins(struct rule_match *match) {
    for (int32_t place = 0; place <= match->spec->begin_reach; place++) {
        int held = holds(match, &match->spec->places[place], &match->fresh);
        if (held == ASK || (held == YES && !take(match, &match->fresh, place))) {
            return false;
        }
    }
    return true;
}

/* --- matches ---------------------------------------------------------------------------------- */

static bool is_complete(const struct rule_match *match, const struct match_run *run) {
    const struct weir_match_step *step = &match->spec->places[run->place];
    return step->ends && run->count >= step->min;
}

/* Of the matches those that the skip strategy leaves; the runs it leaves go on. */
static void settle(struct rule_match *match) {
    struct match_runs *found = &match->found;
    struct match_runs *on = &match->on;
    int64_t from = 0;
    int32_t kept = 0;
    if (found->count > 1) {
        qsort_r(found->list, (size_t)found->count, sizeof *found->list, match_order, match);
    }
    for (int32_t i = 0; i < found->count; i++) {
        struct match_run run = found->list[i];
        if (run.start >= from) {
            int64_t next = match_resumes(match, &run);
            from = next > from ? next : from;
            found->list[kept++] = run;
        }
    }
    found->count = kept;
    kept = 0;
    for (int32_t i = 0; i < on->count; i++) {
        if (on->list[i].start >= from) {
            on->list[kept++] = on->list[i];
        }
    }
    on->count = kept;
}

static int32_t ended(struct rule_match *match) {
    if (match->found.count > 0) {
        settle(match);
    }
    if (match->failed) {
        return WEIR_MATCH_FAILED;
    }
    return match->found.count > 0 ? WEIR_MATCH_FOUND : match_write(match);
}

/* Every run had its turn. */
static int32_t row_ended(struct rule_match *match) {
    if (match->took.count == 0) {
        bool any = match->changed || match->held > match->runs.count;
        return any ? match_write(match) : WEIR_MATCH_DONE;
    }
    for (int32_t i = 0; i < match->took.count; i++) {
        struct match_run *run = &match->took.list[i];
        bool ends = match->spec->timer < 0 && is_complete(match, run);
        run->ended_us = match->fresh.since_us;
        if (ends && add(match, &match->found, run) == NULL) {
            return WEIR_MATCH_FAILED;
        }
        bool goes_on = !ends || run->count < match->spec->places[run->place].max ||
                       run->place < match->spec->place_count - 1;
        if (goes_on && add(match, &match->on, run) == NULL) {
            return WEIR_MATCH_FAILED;
        }
    }
    return ended(match);
}

static int32_t turns(struct rule_match *match) {
    for (; match->at <= match->runs.count; match->at++) {
        match->took_before = match->took.count;
        bool fresh = match->at == match->runs.count;
        if (!(fresh ? begins(match) : go_on(match, &match->runs.list[match->at]))) {
            match->took.count = match->took_before;
            return match->failed ? WEIR_MATCH_FAILED : WEIR_MATCH_ASK;
        }
    }
    return row_ended(match);
}

/* --- called by the loop ------------------------------------------------------------------------
 */

int32_t weir_match_row(struct weir_rule_run *run, struct weir_match *spec, uint32_t mask) {
    struct rule_match *match = begin(run, spec);
    if (match == NULL || !load(match)) {
        return WEIR_MATCH_FAILED;
    }
    match->mask = mask;
    match->of_row = true;
    spec->id = 1;
    if (match->held > 0) {
        const struct rule_cell *cell = &match->state->cells[MATCH_TAKEN];
        struct rule_block *taken = rule_block_of(match->state, MATCH_TAKEN);
        spec->id += taken != NULL ? whole(cell, rule_record(cell, taken, 0), 0) : 0;
    }
    return turns(match);
}

static struct match_run *at_hand(struct rule_match *match) {
    return match->at < match->runs.count ? &match->runs.list[match->at] : &match->fresh;
}

int32_t weir_match_answer(struct weir_rule_run *run, struct weir_match *spec, int32_t yes) {
    struct rule_match *match = ((struct weir_rule_state *)run)->match;
    struct match_run *asked = at_hand(match);
    uint32_t bit = UINT32_C(1) << spec->asked;
    asked->known |= bit;
    asked->yes |= yes != 0 ? bit : 0;
    return turns(match);
}

int32_t weir_match_taken(struct weir_rule_run *run, struct weir_match *spec) {
    struct rule_match *match = ((struct weir_rule_state *)run)->match;
    (void)spec;
    return match_tell(match, at_hand(match)) ? match->at : WEIR_MATCH_FAILED;
}

int32_t weir_match_found(struct weir_rule_run *run, struct weir_match *spec) {
    struct rule_match *match = ((struct weir_rule_state *)run)->match;
    (void)spec;
    if (match->told == match->found.count) {
        return 0;
    }
    return match_tell(match, &match->found.list[match->told++]) ? 1 : WEIR_MATCH_FAILED;
}

int32_t weir_match_end(struct weir_rule_run *run, struct weir_match *spec) {
    (void)spec;
    return match_write(((struct weir_rule_state *)run)->match);
}

int32_t weir_match_over(struct weir_rule_run *run, struct weir_match *spec, int64_t at_us) {
    struct rule_match *match = begin(run, spec);
    if (match == NULL || !load(match)) {
        return WEIR_MATCH_FAILED;
    }
    match->of_row = false;
    for (int32_t i = 0; i < match->runs.count; i++) {
        struct match_run *of = &match->runs.list[i];
        of->ended_us = of->since_us + spec->within_us;
        if (of->ended_us - 1 > at_us) {
            if (add(match, &match->on, of) == NULL) {
                return WEIR_MATCH_FAILED;
            }
        } else if (is_complete(match, of) && add(match, &match->found, of) == NULL) {
            return WEIR_MATCH_FAILED;
        }
    }
    return ended(match);
}
