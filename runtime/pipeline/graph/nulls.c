/* Rows a function certainly throws on. The stdlib proves from a function's text which operators
 * throw when an operand is null (plan: `nulls`); here the rows are found in the validity bitmaps
 * and never reach Lua, where a throw costs microseconds and leaves the compiled loop. The message
 * is Lua's own: the first row of each kind (operator, which operands are null) is run for real, and
 * a kind that does not throw after all is let through from then on. */
#include <stdlib.h>
#include <string.h>

#include "pipeline/graph/node.h"

static char never[] = "";

int nulls_create(const struct weir_plan *plan, struct nulls **out) {
    struct nulls *nulls = calloc(1, sizeof(*nulls));
    *out = nulls;
    if (nulls == NULL) {
        return WEIR_E_NOMEM;
    }
    nulls->plan = plan;
    nulls->texts = calloc((size_t)plan->function_count + 1, sizeof(*nulls->texts));
    if (nulls->texts == NULL) {
        return WEIR_E_NOMEM;
    }
    for (int32_t f = 0; f < plan->function_count; f++) {
        int32_t count = plan->nulls[f].count;
        if (count > 0 && count <= NULL_SITES_MAX) {
            nulls->texts[f] = calloc((size_t)count * 4, sizeof(char *));
            if (nulls->texts[f] == NULL) {
                return WEIR_E_NOMEM;
            }
        }
    }
    return WEIR_OK;
}

void nulls_destroy(struct nulls *nulls) {
    if (nulls == NULL) {
        return;
    }
    for (int32_t f = 0; nulls->texts != NULL && f < nulls->plan->function_count; f++) {
        for (int32_t k = 0; nulls->texts[f] != NULL && k < nulls->plan->nulls[f].count * 4; k++) {
            if (nulls->texts[f][k] != never) {
                free(nulls->texts[f][k]);
            }
        }
        free(nulls->texts[f]);
    }
    free(nulls->texts);
    free(nulls);
}

static bool has_nulls(const struct weir_column *columns, int32_t column) {
    return column >= 0 && columns[column].null_count > 0 && columns[column].validity != NULL;
}

bool nulls_find(struct nulls *nulls, int32_t function, const struct weir_call *call) {
    if (function < 0 || function >= nulls->plan->function_count || nulls->texts[function] == NULL) {
        return false;
    }
    const struct weir_plan_nulls *sites = &nulls->plan->nulls[function];
    bool any = false;
    for (int32_t s = 0; s < sites->count; s++) {
        const int32_t *site = sites->sites[s];
        bool left = has_nulls(call->in, site[0]);
        bool right = has_nulls(call->in, site[1]);
        if (!left && !right) {
            continue;
        }
        if (!any) {
            memset(nulls->kinds, 0, (size_t)call->end);
            any = true;
        }
        const uint8_t *a = left ? call->in[site[0]].validity : NULL;
        const uint8_t *b = right ? call->in[site[1]].validity : NULL;
        for (int32_t i = call->begin; i < call->end; i++) {
            int32_t row = call->sel[i];
            unsigned mask = (a != NULL && !weir_bit_get(a, row) ? 1U : 0U) |
                            (b != NULL && !weir_bit_get(b, row) ? 2U : 0U);
            if (mask != 0 && nulls->kinds[i] == 0) {
                nulls->kinds[i] = (uint8_t)((unsigned)s * 4 + mask);
            }
        }
    }
    return any;
}

int32_t nulls_split(struct nulls *nulls, int32_t function, const struct weir_call *call,
                    int32_t from, int32_t *count) {
    char **texts = nulls->texts[function];
    int32_t kept = 0;
    int32_t i = from;
    for (; i < call->end; i++) {
        uint8_t kind = nulls->kinds[i];
        if (kind != 0 && texts[kind] == NULL) {
            break;
        }
        if (kind != 0 && texts[kind] == never) {
            nulls->kinds[i] = kind = 0;
        }
        nulls->sel[kept] = call->sel[i];
        nulls->positions[kept] = i;
        kept += kind == 0;
    }
    *count = kept;
    return i;
}

const char *nulls_text(const struct nulls *nulls, int32_t function, int32_t position) {
    uint8_t kind = nulls->kinds[position];
    return kind == 0 ? NULL : nulls->texts[function][kind];
}

int nulls_learn(struct nulls *nulls, int32_t function, int32_t position, const char *message) {
    char *text = message == NULL ? never : strdup(message);
    if (text == NULL) {
        return WEIR_E_NOMEM;
    }
    nulls->texts[function][nulls->kinds[position]] = text;
    nulls->kinds[position] = 0; /* this row was run */
    return WEIR_OK;
}
