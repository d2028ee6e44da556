#include "decode/avro/avro_diff.h"

#include <stdio.h>
#include <string.h>

#include "decode/avro/avro_compat.h"

enum { DEPTH_MAX = 96, PATH_BYTES = 512, TEXT_BYTES_MAX = 1 << 20 };

struct walk {
    avro_diff_visit *visit;
    void *context;
    int depth;
    const struct avro_type *under[DEPTH_MAX]; /* of `after`: types may contain themselves */
    char path[PATH_BYTES];
};

/* --- texts -------------------------------------------------------------------------------- */

static int union_text(const struct avro_type *type, struct weir_buffer *out) {
    int rc = WEIR_OK;
    const char *between = "";
    for (int pass = 0; pass < 2; pass++) { /* null last */
        for (int32_t i = 0; rc == WEIR_OK && i < type->branch_count; i++) {
            if ((type->branches[i]->kind == AVRO_NULL) == (pass == 1)) {
                rc = weir_buffer_append_text(out, between);
                rc = rc == WEIR_OK ? avro_type_text(type->branches[i], out) : rc;
                between = " or ";
            }
        }
    }
    return rc;
}

int avro_type_text(const struct avro_type *type, struct weir_buffer *out) {
    int rc;
    bool bracket;
    switch (type->logical) {
    case AVRO_DECIMAL:
        return weir_buffer_printf(out, "decimal(%d,%d)", (int)type->precision, (int)type->scale);
    case AVRO_DATE:
        return weir_buffer_append_text(out, "date");
    case AVRO_TIMESTAMP:
        return weir_buffer_append_text(out, type->per_second == 1000      ? "timestamp-millis"
                                            : type->per_second == 1000000 ? "timestamp-micros"
                                                                          : "timestamp-nanos");
    default:
        break;
    }
    switch (type->kind) {
    case AVRO_UNION:
        return union_text(type, out);
    case AVRO_ARRAY:
    case AVRO_MAP:
        bracket = type->branches[0]->kind == AVRO_UNION;
        rc = weir_buffer_printf(out, "%s of %s", avro_kind_name(type->kind), bracket ? "(" : "");
        rc = rc == WEIR_OK ? avro_type_text(type->branches[0], out) : rc;
        return rc == WEIR_OK && bracket ? weir_buffer_append_text(out, ")") : rc;
    case AVRO_RECORD:
    case AVRO_ENUM:
        return weir_buffer_printf(out, "%s %s", avro_kind_name(type->kind), type->name);
    case AVRO_FIXED:
        return weir_buffer_printf(out, "fixed %s of %d bytes", type->name, (int)type->size);
    default:
        return weir_buffer_append_text(out, avro_kind_name(type->kind));
    }
}

static int tell(struct walk *w, const char *change, const char *before, const char *after,
                const char *default_json) {
    struct avro_change told = {change, w->path, before, after, default_json};
    return w->visit(w->context, &told);
}

static int tell_types(struct walk *w, const char *change, const struct avro_type *before,
                      const struct avro_type *after, const char *default_json) {
    struct weir_buffer old;
    struct weir_buffer new;
    weir_buffer_init(&old, TEXT_BYTES_MAX);
    weir_buffer_init(&new, TEXT_BYTES_MAX);
    int rc = before != NULL ? avro_type_text(before, &old) : WEIR_OK;
    rc = rc == WEIR_OK && after != NULL ? avro_type_text(after, &new) : rc;
    if (rc == WEIR_OK) {
        const char *from = before != NULL ? weir_buffer_text(&old) : NULL;
        const char *to = after != NULL ? weir_buffer_text(&new) : NULL;
        bool there = (before == NULL || from != NULL) && (after == NULL || to != NULL);
        rc = there ? tell(w, change, from, to, default_json) : WEIR_E_NOMEM;
    }
    weir_buffer_fini(&old);
    weir_buffer_fini(&new);
    return rc;
}

/* --- comparing ---------------------------------------------------------------------------- */

static int compare(struct walk *w, const struct avro_type *before, const struct avro_type *after);

static const struct avro_field *field_called(const struct avro_type *record, const char *name) {
    for (int32_t i = 0; i < record->field_count; i++) {
        if (strcmp(record->fields[i].name, name) == 0) {
            return &record->fields[i];
        }
    }
    return NULL;
}

/* What it was called before: by name, else by alias. */
static const struct avro_field *former(const struct avro_field *field,
                                       const struct avro_type *before) {
    const struct avro_field *found = field_called(before, field->name);
    for (int32_t i = 0; found == NULL && i < field->alias_count; i++) {
        found = field_called(before, field->aliases[i]);
    }
    return found;
}

static bool same_text(const char *a, const char *b) {
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static int compare_field(struct walk *w, const struct avro_field *old,
                         const struct avro_field *field) {
    if (old == NULL) {
        return tell_types(w, "added", NULL, field->type, field->default_json);
    }
    int rc = strcmp(old->name, field->name) != 0 ? tell(w, "renamed", old->name, field->name, NULL)
                                                 : WEIR_OK;
    rc = rc == WEIR_OK ? compare(w, old->type, field->type) : rc;
    return rc == WEIR_OK && !same_text(old->default_json, field->default_json)
               ? tell(w, "default", old->default_json, field->default_json, NULL)
               : rc;
}

static int compare_records(struct walk *w, const struct avro_type *before,
                           const struct avro_type *after) {
    size_t length = strlen(w->path);
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < after->field_count; i++) {
        const struct avro_field *field = &after->fields[i];
        snprintf(w->path + length, sizeof(w->path) - length, "%s%s", length > 0 ? "." : "",
                 field->name);
        rc = compare_field(w, former(field, before), field);
        w->path[length] = '\0';
    }
    for (int32_t i = 0; rc == WEIR_OK && i < before->field_count; i++) {
        const struct avro_field *field = &before->fields[i];
        bool stays = false;
        for (int32_t j = 0; !stays && j < after->field_count; j++) {
            stays = former(&after->fields[j], before) == field;
        }
        if (!stays) {
            snprintf(w->path + length, sizeof(w->path) - length, "%s%s", length > 0 ? "." : "",
                     field->name);
            rc = tell_types(w, "removed", field->type, NULL, NULL);
            w->path[length] = '\0';
        }
    }
    return rc;
}

static int put_symbols(const struct avro_type *of, const struct avro_type *than,
                       struct weir_buffer *out) {
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < of->symbol_count; i++) {
        bool known = false;
        for (int32_t j = 0; !known && j < than->symbol_count; j++) {
            known = strcmp(of->symbols[i], than->symbols[j]) == 0;
        }
        if (!known) {
            rc = weir_buffer_printf(out, "%s%s", out->size > 0 ? " " : "", of->symbols[i]);
        }
    }
    return rc;
}

static int compare_enums(struct walk *w, const struct avro_type *before,
                         const struct avro_type *after) {
    struct weir_buffer gone;
    struct weir_buffer added;
    weir_buffer_init(&gone, TEXT_BYTES_MAX);
    weir_buffer_init(&added, TEXT_BYTES_MAX);
    int rc = put_symbols(before, after, &gone);
    rc = rc == WEIR_OK ? put_symbols(after, before, &added) : rc;
    if (rc == WEIR_OK && gone.size + added.size > 0) {
        rc = tell(w, "symbols", gone.size > 0 ? weir_buffer_text(&gone) : NULL,
                  added.size > 0 ? weir_buffer_text(&added) : NULL, NULL);
    }
    weir_buffer_fini(&gone);
    weir_buffer_fini(&added);
    return rc;
}

static const struct avro_type *beside_null(const struct avro_type *type) {
    if (type->kind == AVRO_UNION && type->branch_count == 2) {
        for (int32_t i = 0; i < 2; i++) {
            if (type->branches[i]->kind == AVRO_NULL) {
                return type->branches[1 - i];
            }
        }
    }
    return type;
}

/* Readers by either schema, and what the other writes. */
static const char *direction(const struct avro_type *before, const struct avro_type *after) {
    bool new_reads_old = avro_compat(after, before, AVRO_COMPAT_STRICT, NULL, NULL);
    bool old_reads_new = avro_compat(before, after, AVRO_COMPAT_STRICT, NULL, NULL);
    return new_reads_old && !old_reads_new   ? "widened"
           : old_reads_new && !new_reads_old ? "narrowed"
                                             : "changed";
}

static bool same_scalar(const struct avro_type *a, const struct avro_type *b) {
    return a->kind == b->kind && a->logical == b->logical && a->per_second == b->per_second &&
           a->precision == b->precision && a->scale == b->scale && a->size == b->size;
}

static int compare_inside(struct walk *w, const struct avro_type *before,
                          const struct avro_type *after) {
    switch (after->kind) {
    case AVRO_RECORD:
        return compare_records(w, before, after);
    case AVRO_ENUM:
        return compare_enums(w, before, after);
    case AVRO_ARRAY:
    case AVRO_MAP:
        return compare(w, before->branches[0], after->branches[0]);
    default:
        return WEIR_OK;
    }
}

static int compare_unions(struct walk *w, const struct avro_type *before,
                          const struct avro_type *after) {
    bool same = before->kind == after->kind && before->branch_count == after->branch_count;
    for (int32_t i = 0; same && i < after->branch_count; i++) {
        same = same_scalar(before->branches[i], after->branches[i]) &&
               same_text(before->branches[i]->name, after->branches[i]->name);
    }
    int rc = same ? WEIR_OK : tell_types(w, direction(before, after), before, after, NULL);
    for (int32_t i = 0; same && rc == WEIR_OK && i < after->branch_count; i++) {
        rc = compare_inside(w, before->branches[i], after->branches[i]);
    }
    return rc;
}

static int compare(struct walk *w, const struct avro_type *before, const struct avro_type *after) {
    for (int i = 0; i < w->depth; i++) {
        if (w->under[i] == after) {
            return WEIR_OK;
        }
    }
    if (w->depth == DEPTH_MAX) {
        return WEIR_OK;
    }
    w->under[w->depth++] = after;
    int rc = WEIR_OK;
    const struct avro_type *old = beside_null(before);
    const struct avro_type *new = beside_null(after);
    if (old->kind == AVRO_UNION || new->kind == AVRO_UNION) {
        rc = compare_unions(w, before, after);
    } else {
        bool null_changed = (old != before) != (new != after);
        if (null_changed || !same_scalar(old, new)) {
            rc = tell_types(w, direction(before, after), before, after, NULL);
        }
        rc = rc == WEIR_OK && old->kind == new->kind ? compare_inside(w, old, new) : rc;
    }
    w->depth--;
    return rc;
}

int avro_diff(const struct avro_type *before, const struct avro_type *after, avro_diff_visit *visit,
              void *context) {
    struct walk w = {.visit = visit, .context = context};
    return compare(&w, before, after);
}
