/* Rows a rule rejects by its return: undone like one that throws, without a throw. */
#include <stdlib.h>

#include "operator/rule/rule_private.h"

enum { REASON_BYTES_MAX = 4096 };

static bool add(struct weir_rule_state *state, const struct rule_rejected *rejected) {
    if (state->rejection_count == state->rejection_room) {
        int32_t room = state->rejection_room > 0 ? state->rejection_room * 2 : 64;
        struct rule_rejected *list =
            realloc(state->rejections, (size_t)room * sizeof(*state->rejections));
        if (list == NULL) {
            return false;
        }
        state->rejections = list;
        state->rejection_room = room;
    }
    state->rejections[state->rejection_count++] = *rejected;
    return true;
}

int32_t weir_rule_reject(struct weir_rule_run *run, const char *why, int64_t length,
                         int64_t actual) {
    struct weir_rule_state *state = (struct weir_rule_state *)run;
    struct rule_rejected rejected = {state->item, state->reasons.size, actual};
    length = length > REASON_BYTES_MAX ? REASON_BYTES_MAX : length;
    if (weir_buffer_append(&state->reasons, why, (size_t)length) != WEIR_OK ||
        weir_buffer_append(&state->reasons, "", 1) != WEIR_OK || !add(state, &rejected)) {
        rule_no_memory(state);
        return -1;
    }
    state->rejected = true;
    return 0;
}

void weir_rule_version(struct weir_rule_run *run, int64_t version) {
    ((struct weir_rule_state *)run)->made_version = version;
}

void rule_item_end(struct weir_rule_state *state) {
    if (state->rejected) {
        rule_item_undo(state);
        state->rejected = false;
    } else {
        rule_item_keep(state);
    }
}

int32_t weir_rule_run_rejections(struct weir_rule_state *state) {
    return state->rejection_count;
}

struct weir_rule_rejection weir_rule_run_rejection(const struct weir_rule_state *state, int32_t i) {
    const struct rule_rejected *rejected = &state->rejections[i];
    return (struct weir_rule_rejection){
        rejected->item, (const char *)state->reasons.data + rejected->why, rejected->actual};
}

void weir_rule_run_rejected(struct weir_rule_state *state) {
    state->rejection_count = 0;
    weir_buffer_clear(&state->reasons);
}

int64_t weir_rule_run_version(const struct weir_rule_state *state) {
    return state->made_version;
}
