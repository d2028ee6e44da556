#include "decode/avro/avro_compat.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { DEPTH_MAX = 96, PATH_BYTES = 512 };

struct walk {
    enum avro_compat_rules rules;
    avro_compat_visit *visit; /* NULL: branches of unions are only tried */
    void *context;
    int depth;
    struct {
        const struct avro_type *reader;
        const struct avro_type *writer;
    } under[DEPTH_MAX]; /* pairs being compared: types may contain themselves */
    char path[PATH_BYTES];
};

static bool compare(struct walk *w, const struct avro_type *reader, const struct avro_type *writer);

static bool WEIR_PRINTF(2, 3) no(struct walk *w, const char *format, ...) {
    if (w->visit != NULL) {
        char text[AVRO_COMPAT_TEXT_BYTES];
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        w->visit(w->context, w->path, text);
    }
    return false;
}

static const char *unqualified(const char *name) {
    const char *dot = name != NULL ? strrchr(name, '.') : NULL;
    return dot != NULL ? dot + 1 : name != NULL ? name : "";
}

static bool may_be_null(const struct avro_type *type) {
    bool found = type->kind == AVRO_NULL;
    for (int32_t i = 0; type->kind == AVRO_UNION && i < type->branch_count; i++) {
        found |= type->branches[i]->kind == AVRO_NULL;
    }
    return found;
}

/* By name, else by the reader's aliases. */
static const struct avro_field *written(const struct avro_field *field,
                                        const struct avro_type *writer) {
    for (int32_t a = -1; a < field->alias_count; a++) {
        const char *name = a < 0 ? field->name : field->aliases[a];
        for (int32_t i = 0; i < writer->field_count; i++) {
            if (strcmp(writer->fields[i].name, name) == 0) {
                return &writer->fields[i];
            }
        }
    }
    return NULL;
}

static bool compare_records(struct walk *w, const struct avro_type *reader,
                            const struct avro_type *writer) {
    bool good = true;
    size_t length = strlen(w->path);
    for (int32_t i = 0; i < reader->field_count; i++) {
        const struct avro_field *field = &reader->fields[i];
        const struct avro_field *from = written(field, writer);
        snprintf(w->path + length, sizeof(w->path) - length, "%s%s", length > 0 ? "." : "",
                 field->name);
        if (from != NULL) {
            good &= compare(w, field->type, from->type);
        } else if (field->default_json == NULL &&
                   !(w->rules == AVRO_COMPAT_WEIR && may_be_null(field->type))) {
            good &= no(w, "the reader wants it, the writer does not write it, and it has no "
                          "default");
        }
        w->path[length] = '\0';
    }
    return good;
}

static bool compare_enums(struct walk *w, const struct avro_type *reader,
                          const struct avro_type *writer) {
    for (int32_t i = 0; reader->default_symbol < 0 && i < writer->symbol_count; i++) {
        bool known = false;
        for (int32_t j = 0; !known && j < reader->symbol_count; j++) {
            known = strcmp(reader->symbols[j], writer->symbols[i]) == 0;
        }
        if (!known) {
            return no(w, "the reader's enum has no symbol %s and no default", writer->symbols[i]);
        }
    }
    return true;
}

static bool promotes(enum avro_kind from, enum avro_kind to) {
    switch (from) {
    case AVRO_INT:
        return to == AVRO_LONG || to == AVRO_FLOAT || to == AVRO_DOUBLE;
    case AVRO_LONG:
        return to == AVRO_FLOAT || to == AVRO_DOUBLE;
    case AVRO_FLOAT:
        return to == AVRO_DOUBLE;
    case AVRO_STRING:
        return to == AVRO_BYTES;
    case AVRO_BYTES:
        return to == AVRO_STRING;
    default:
        return false;
    }
}

static bool compare_decimals(struct walk *w, const struct avro_type *reader,
                             const struct avro_type *writer) {
    if (w->rules != AVRO_COMPAT_WEIR ||
        (reader->logical != AVRO_DECIMAL && writer->logical != AVRO_DECIMAL)) {
        return true;
    }
    if (reader->logical != writer->logical) {
        return no(w, "one is a decimal, the other plain bytes");
    }
    return writer->scale <= reader->scale
               ? true
               : no(w, "the writer's decimal has %d places behind its point, the reader's %d",
                    (int)writer->scale, (int)reader->scale);
}

static bool compare_same(struct walk *w, const struct avro_type *reader,
                         const struct avro_type *writer) {
    bool named = reader->name != NULL && writer->name != NULL;
    if (named && w->rules == AVRO_COMPAT_STRICT &&
        strcmp(unqualified(reader->name), unqualified(writer->name)) != 0) {
        return no(w, "the reader's %s is called %s, the writer's %s", avro_kind_name(reader->kind),
                  reader->name, writer->name);
    }
    switch (reader->kind) {
    case AVRO_RECORD:
        return compare_records(w, reader, writer);
    case AVRO_ENUM:
        return compare_enums(w, reader, writer);
    case AVRO_ARRAY:
    case AVRO_MAP:
        return compare(w, reader->branches[0], writer->branches[0]);
    case AVRO_FIXED:
        return reader->size == writer->size
                   ? compare_decimals(w, reader, writer)
                   : no(w, "the reader's fixed has %d bytes, the writer's %d", (int)reader->size,
                        (int)writer->size);
    default:
        return compare_decimals(w, reader, writer);
    }
}

/* Some branch of the reader's union reads it. */
static bool any_branch(struct walk *w, const struct avro_type *reader,
                       const struct avro_type *writer) {
    avro_compat_visit *visit = w->visit;
    const struct avro_type *same = NULL;
    bool good = false;
    w->visit = NULL;
    for (int32_t i = 0; !good && i < reader->branch_count; i++) {
        const struct avro_type *branch = reader->branches[i];
        good = compare(w, branch, writer);
        same = branch->kind == writer->kind ? branch : same;
    }
    w->visit = visit;
    if (good || visit == NULL) {
        return good;
    }
    return same != NULL ? compare(w, same, writer)
                        : no(w, "the writer may write %s, which the reader has not",
                             avro_kind_name(writer->kind));
}

static bool compare_kinds(struct walk *w, const struct avro_type *reader,
                          const struct avro_type *writer) {
    bool good = true;
    if (writer->kind == AVRO_UNION) {
        for (int32_t i = 0; i < writer->branch_count; i++) {
            good &= compare(w, reader, writer->branches[i]);
        }
        return good;
    }
    if (reader->kind == AVRO_UNION) {
        return any_branch(w, reader, writer);
    }
    if (reader->kind == writer->kind) {
        return compare_same(w, reader, writer);
    }
    bool decimals = w->rules == AVRO_COMPAT_WEIR && reader->logical == AVRO_DECIMAL &&
                    writer->logical == AVRO_DECIMAL;
    if (decimals) { /* bytes and fixed */
        return compare_decimals(w, reader, writer);
    }
    return promotes(writer->kind, reader->kind)
               ? true
               : no(w, "the writer's %s is no %s", avro_kind_name(writer->kind),
                    avro_kind_name(reader->kind));
}

static bool compare(struct walk *w, const struct avro_type *reader,
                    const struct avro_type *writer) {
    for (int i = 0; i < w->depth; i++) {
        if (w->under[i].reader == reader && w->under[i].writer == writer) {
            return true;
        }
    }
    if (w->depth == DEPTH_MAX) {
        return no(w, "nested deeper than %d levels", DEPTH_MAX);
    }
    w->under[w->depth].reader = reader;
    w->under[w->depth++].writer = writer;
    bool good = compare_kinds(w, reader, writer);
    w->depth--;
    return good;
}

bool avro_compat(const struct avro_type *reader, const struct avro_type *writer,
                 enum avro_compat_rules rules, avro_compat_visit *visit, void *context) {
    struct walk w = {.rules = rules, .visit = visit, .context = context};
    return compare(&w, reader, writer);
}

struct first {
    char *out;
    size_t size;
};

static void take_first(void *context, const char *path, const char *why) {
    struct first *first = context;
    if (first->out[0] == '\0') {
        snprintf(first->out, first->size, "%s%s%s%s", path[0] != '\0' ? "field \"" : "", path,
                 path[0] != '\0' ? "\": " : "", why);
    }
}

bool avro_compat_first(const struct avro_type *reader, const struct avro_type *writer, char *out,
                       size_t size) {
    struct first first = {out, size};
    out[0] = '\0';
    return avro_compat(reader, writer, AVRO_COMPAT_STRICT, take_first, &first);
}
