/* delta.dataSkippingStatsColumns: which columns of a file have statistics, by name. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lake/delta/stats.h"

enum { PATH_MAX_NAMES = 32, NAME_BYTES = 512 };

struct listed {
    char names[PATH_MAX_NAMES][NAME_BYTES];
    int32_t count;
};

/* One name of the list, "a.b" or "`a.b`.c"; NULL at its end. A name too long or too deep matches
 * nothing. */
static const char *next_listed(const char *at, struct listed *out) {
    size_t length = 0;
    bool quoted = false;
    bool fits = true;
    out->count = 0;
    while (*at == ' ' || *at == ',') {
        at++;
    }
    if (*at == '\0') {
        return NULL;
    }
    for (;; at++) {
        bool ends = *at == '\0' || (!quoted && (*at == ',' || *at == '.'));
        if (ends && fits) {
            while (!quoted && length > 0 && out->names[out->count][length - 1] == ' ') {
                length--;
            }
            out->names[out->count++][length] = '\0';
            fits = out->count < PATH_MAX_NAMES;
            length = 0;
        }
        if (*at == '\0' || (!quoted && *at == ',')) {
            out->count = fits ? out->count : 0;
            return at;
        }
        if (*at == '`') {
            quoted = !quoted;
        } else if (!ends && fits) {
            out->names[out->count][length++] = *at;
            fits = length < NAME_BYTES;
        }
    }
}

int delta_stats_columns_rename(const char *list, const char *from, const char *to,
                               struct weir_buffer *out) {
    struct listed listed;
    int rc = WEIR_OK;
    for (const char *end = list; rc == WEIR_OK;) {
        const char *at = end + strspn(end, " ,");
        end = next_listed(at, &listed);
        if (end == NULL) {
            break;
        }
        bool is = listed.count > 0 && strcasecmp(listed.names[0], from) == 0;
        if (is && to == NULL) {
            continue;
        }
        rc = out->size > 0 ? weir_buffer_append_text(out, ",") : rc;
        if (is) {
            rc = rc == WEIR_OK ? weir_buffer_append_text(out, to) : rc;
            for (bool quoted = false; at < end && (quoted || *at != '.'); at++) {
                quoted ^= *at == '`';
            }
        }
        rc = rc == WEIR_OK ? weir_buffer_append(out, at, (size_t)(end - at)) : rc;
    }
    return rc;
}

struct walk {
    const char *list;
    const char *path[PATH_MAX_NAMES];
    struct listed listed;
    bool *skipped; /* NULL: leaves are only counted */
    int32_t leaves;
};

static bool is_listed(struct walk *walk, int32_t depth) {
    for (const char *at = walk->list; (at = next_listed(at, &walk->listed)) != NULL;) {
        int32_t i = 0;
        while (i < walk->listed.count && i < depth &&
               strcasecmp(walk->listed.names[i], walk->path[i]) == 0) {
            i++;
        }
        if (i > 0 && i == walk->listed.count) {
            return true;
        }
    }
    return false;
}

static void visit(struct walk *walk, const struct weir_field *field, int32_t depth) {
    walk->path[depth] = field->name != NULL ? field->name : "";
    if (field->child_count == 0 || depth + 1 == PATH_MAX_NAMES) {
        if (walk->skipped != NULL) {
            walk->skipped[walk->leaves] = !is_listed(walk, depth + 1);
        }
        walk->leaves++;
        return;
    }
    for (int32_t i = 0; i < field->child_count; i++) {
        visit(walk, &field->children[i], depth + 1);
    }
}

bool *delta_stats_skipped(const char *list, const struct weir_schema *schema,
                          const bool *excluded) {
    struct walk *walk = calloc(1, sizeof(*walk));
    for (int pass = 0; walk != NULL && pass < 2; pass++) {
        walk->list = list;
        walk->skipped = pass == 0 ? NULL : calloc((size_t)walk->leaves + 1, sizeof(*walk->skipped));
        walk->leaves = 0;
        for (int32_t i = 0; i < schema->count && (pass == 0 || walk->skipped != NULL); i++) {
            if (!excluded[i]) {
                visit(walk, &schema->fields[i], 0);
            }
        }
    }
    bool *skipped = walk != NULL ? walk->skipped : NULL;
    free(walk);
    return skipped;
}
