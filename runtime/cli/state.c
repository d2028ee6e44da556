/* weir state ls | get | diff | export: what a pipeline keeps, read from its ledger and snapshots,
 * which a running instance does not notice. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "core/json_scan.h"
#include "pipeline/inspect.h"
#include "state/table.h"

enum { GET_LIMIT = 100, DIFF_LIMIT = 1000 };

struct looking {
    const struct weir_arguments *arguments;
    struct weir_inspection *in;
    const char *const *keys; /* get: what is looked for */
    int key_count;
    char fingerprint[33]; /* of them, in the dataset's dedup */
    bool indented;        /* for people, not for programs */
    long long limit;
    long long shown;
    bool cut; /* there was more */
};

static int open_at(const struct weir_arguments *arguments, uint64_t epoch,
                   struct weir_inspection **out, struct weir_error *err) {
    char *path = NULL;
    int rc = arguments->pipeline != NULL ? weir_cli_enter_project(arguments->pipeline, &path, err)
                                         : weir_cli_find_pipeline(&path, err);
    if (rc == WEIR_OK) {
        struct weir_inspect_options options = {
            .path = path,
            .settings = arguments->settings,
            .setting_count = arguments->setting_count,
            .epoch = epoch,
        };
        rc = weir_inspect(&options, out, err);
    }
    free(path);
    return rc;
}

/* An epoch's number; 0 where none is given. */
static bool read_epoch(const char *text, uint64_t *epoch) {
    char *end;
    *epoch = 0;
    if (text == NULL) {
        return true;
    }
    *epoch = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && *epoch > 0;
}

/* No dataset or cell of that name: says which there are. */
static int check_dataset(struct weir_inspection *in, const char *asked, struct weir_error *err) {
    struct weir_inspected cell;
    struct weir_buffer known;
    if (asked == NULL) {
        return WEIR_OK;
    }
    weir_buffer_init(&known, 1 << 20);
    for (int32_t i = 0; weir_inspection_cell(in, i, &cell); i++) {
        if (weir_inspection_wanted(cell.name, asked)) {
            weir_buffer_fini(&known);
            return WEIR_OK;
        }
        if (cell.what != NULL) {
            (void)weir_buffer_printf(&known, "%s%s", known.size > 0 ? ", " : "", cell.name);
        }
    }
    const char *text = known.size > 0 ? weir_buffer_text(&known) : NULL;
    int rc = weir_error_set(err, WEIR_E_CONFIG, "%s keeps no state; there is: %.800s", asked,
                            text != NULL ? text : "none");
    weir_buffer_fini(&known);
    return rc;
}

/* --- ls --------------------------------------------------------------------------------------- */

static int list(struct weir_arguments *arguments) {
    struct weir_error err = {0};
    struct weir_inspection *in = NULL;
    uint64_t epoch;
    const char *asked = arguments->positional_count > 1 ? arguments->positionals[1] : NULL;
    if (arguments->positional_count > 2 || !read_epoch(arguments->epoch, &epoch)) {
        return weir_cli_usage(arguments, "state ls wants at most a dataset, and --epoch a number");
    }
    int rc = open_at(arguments, epoch, &in, &err);
    rc = rc == WEIR_OK ? check_dataset(in, asked, &err) : rc;
    if (rc != WEIR_OK) {
        weir_inspection_close(in);
        return weir_cli_fail(arguments, &err);
    }
    struct weir_inspected cell;
    if (!arguments->json) {
        printf("after epoch %llu\n%-44s %12s %14s  %s\n",
               (unsigned long long)weir_inspection_epoch(in), "STATE", "KEYS", "BYTES", "WHAT");
    }
    for (int32_t i = 0; weir_inspection_cell(in, i, &cell); i++) {
        if (!weir_inspection_wanted(cell.name, asked)) {
            continue;
        }
        if (arguments->json) {
            printf("{\"state\":\"%s\",\"keys\":%zu,\"bytes\":%zu,\"what\":%s%s%s,\"epoch\":%llu}\n",
                   cell.name, cell.keys, cell.bytes, cell.what != NULL ? "\"" : "",
                   cell.what != NULL ? cell.what : "null", cell.what != NULL ? "\"" : "",
                   (unsigned long long)weir_inspection_epoch(in));
        } else {
            printf("%-44s %12zu %14zu  %s\n", cell.name, cell.keys, cell.bytes,
                   cell.what != NULL ? cell.what : "(the runtime's own)");
        }
    }
    weir_inspection_close(in);
    return WEIR_EXIT_DONE;
}

/* --- get and export --------------------------------------------------------------------------- */

/* A member of an object as we write them: its name, and its value's text, which is unescaped where
 * it is one. Returns what follows, NULL at the end. */
static const char *next_member(const char *at, const char *end, json_t **name, const char **value,
                               size_t *length) {
    json_error_t error;
    at++; /* the brace, or the comma */
    *name = json_loadb(at, (size_t)(end - at), JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK, &error);
    if (*name == NULL) {
        return NULL;
    }
    at += error.position + 1;
    *value = at;
    at = weir_json_value_end(at, end);
    *length = (size_t)(at - *value);
    return at;
}

static bool same_value(const char *value, size_t length, const char *wanted) {
    if (length == 0 || *value != '"') {
        return strlen(wanted) == length && memcmp(value, wanted, length) == 0;
    }
    json_t *text = json_loadb(value, length, JSON_DECODE_ANY, NULL);
    bool same = text != NULL && strcmp(json_string_value(text), wanted) == 0;
    json_decref(text);
    return same;
}

/* Do the first members of the key have the values looked for? */
static bool matches(const struct looking *look, struct weir_span key) {
    const char *at = (const char *)key.data;
    const char *end = at + key.size;
    int found = 0;
    while (found < look->key_count && at != NULL && at < end && *at != '\0' && at + 1 < end) {
        json_t *name;
        const char *value;
        size_t length;
        at = next_member(at, end, &name, &value, &length);
        bool print = name != NULL && strcmp(json_string_value(name), "fingerprint") == 0;
        json_decref(name);
        if (at == NULL) {
            break;
        }
        if (print) {
            return same_value(value, length, look->fingerprint);
        }
        if (!same_value(value, length, look->keys[found])) {
            return false;
        }
        found++;
    }
    return found == look->key_count;
}

static void print_members(struct weir_span object) {
    const char *at = (const char *)object.data;
    const char *end = at + object.size;
    while (at != NULL && at + 2 < end) {
        json_t *name;
        const char *value;
        size_t length;
        at = next_member(at, end, &name, &value, &length);
        if (at != NULL) {
            printf("    %-20s %.*s\n", json_string_value(name), (int)length, value);
        }
        json_decref(name);
    }
}

static int show_entry(void *context, const char *cell, struct weir_span key, struct weir_span value,
                      struct weir_error *err) {
    struct looking *look = context;
    if (!matches(look, key)) {
        return WEIR_OK;
    }
    if (look->limit > 0 && look->shown == look->limit) {
        look->cut = true;
        return weir_error_set(err, WEIR_E_LIMIT, "%lld entries are enough", look->limit);
    }
    look->shown++;
    if (look->indented) {
        printf("%s %.*s\n", cell, (int)key.size, (const char *)key.data);
        print_members(value);
    } else {
        printf("{\"state\":\"%s\",\"key\":%.*s,\"value\":%.*s}\n", cell, (int)key.size,
               (const char *)key.data, (int)value.size, (const char *)value.data);
    }
    return WEIR_OK;
}

static int get(struct weir_arguments *arguments, bool export) {
    struct weir_error err = {0};
    struct looking look = {.arguments = arguments, .indented = !arguments->json && !export};
    const char *asked = arguments->positional_count > 1 ? arguments->positionals[1] : NULL;
    uint64_t epoch;
    if ((!export && asked == NULL) || (export && arguments->positional_count > 2)) {
        return weir_cli_usage(arguments, export ? "state export wants at most a dataset"
                                                : "state get wants a dataset, and a key's values");
    }
    if (!read_epoch(arguments->epoch, &epoch) ||
        !weir_cli_read_limit(arguments, export ? 0 : GET_LIMIT, &look.limit)) {
        return weir_cli_usage(arguments, "--epoch and --limit want numbers");
    }
    look.keys = arguments->positionals + 2;
    look.key_count =
        export || arguments->positional_count < 2 ? 0 : arguments->positional_count - 2;
    int rc = open_at(arguments, epoch, &look.in, &err);
    rc = rc == WEIR_OK ? check_dataset(look.in, asked, &err) : rc;
    if (rc == WEIR_OK && look.key_count > 0) {
        struct weir_error none = {0}; /* without a dedup by such a key there is nothing to find */
        char dataset[512];
        snprintf(dataset, sizeof(dataset), "%.*s", (int)strcspn(asked, "/"), asked);
        if (weir_inspection_fingerprint(look.in, dataset, look.keys, look.key_count,
                                        look.fingerprint, &none) != WEIR_OK) {
            look.fingerprint[0] = '\0';
        }
    }
    rc = rc == WEIR_OK ? weir_inspection_each(look.in, asked, show_entry, &look, &err) : rc;
    weir_inspection_close(look.in);
    if (rc != WEIR_OK && !look.cut) {
        return weir_cli_fail(arguments, &err);
    }
    if (look.cut) {
        fprintf(stderr, "weir: there is more; --limit N shows so many, 0 all\n");
    }
    if (look.shown == 0 && look.key_count > 0) {
        weir_error_set(&err, WEIR_E_CONFIG, "%s keeps nothing under that key", asked);
        return weir_cli_fail(arguments, &err);
    }
    return WEIR_EXIT_DONE;
}

/* --- diff ------------------------------------------------------------------------------------- */

struct before { /* the value of a slot by cell, NUL, key */
    char *value;
    size_t size;
    uint64_t met;
};

struct comparing {
    struct looking look;
    struct weir_table *table;
    struct weir_buffer name;
    long long differences;
};

static int name_of(struct comparing *c, const char *cell, struct weir_span key,
                   struct weir_error *err) {
    weir_buffer_clear(&c->name);
    int rc = weir_buffer_append(&c->name, cell, strlen(cell) + 1);
    rc = rc == WEIR_OK ? weir_buffer_append(&c->name, key.data, key.size) : rc;
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "out of memory");
}

static int remember(void *context, const char *cell, struct weir_span key, struct weir_span value,
                    struct weir_error *err) {
    struct comparing *c = context;
    bool created;
    int rc = name_of(c, cell, key, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    struct weir_slot *slot =
        weir_table_get(c->table, weir_table_hash(c->table, c->name.data, c->name.size),
                       c->name.data, c->name.size, &created, err);
    if (slot == NULL) {
        return WEIR_E_NOMEM;
    }
    struct before *before = weir_slot_value(c->table, slot);
    before->value = weir_heap_take(weir_table_heap(c->table), value.size + 1);
    if (before->value == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    memcpy(before->value, value.data, value.size);
    before->size = value.size;
    return WEIR_OK;
}

static void print_change(struct comparing *c, const char *cell, struct weir_span key,
                         const struct weir_span *old, const struct weir_span *new) {
    const char *change = old == NULL ? "added" : new == NULL ? "removed" : "changed";
    c->differences++;
    if (c->look.limit > 0 && c->look.shown == c->look.limit) {
        c->look.cut = true;
        return;
    }
    c->look.shown++;
    if (!c->look.indented) {
        printf("{\"change\":\"%s\",\"state\":\"%s\",\"key\":%.*s,\"old\":%.*s,\"new\":%.*s}\n",
               change, cell, (int)key.size, (const char *)key.data,
               old != NULL ? (int)old->size : 4, old != NULL ? (const char *)old->data : "null",
               new != NULL ? (int)new->size : 4, new != NULL ? (const char *)new->data : "null");
        return;
    }
    printf("%s %s %.*s\n", change, cell, (int)key.size, (const char *)key.data);
    if (old != NULL) {
        printf("  - %.*s\n", (int)old->size, (const char *)old->data);
    }
    if (new != NULL) {
        printf("  + %.*s\n", (int)new->size, (const char *)new->data);
    }
}

static int compare(void *context, const char *cell, struct weir_span key, struct weir_span value,
                   struct weir_error *err) {
    struct comparing *c = context;
    int rc = name_of(c, cell, key, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    struct weir_slot *slot =
        weir_table_find(c->table, weir_table_hash(c->table, c->name.data, c->name.size),
                        c->name.data, c->name.size);
    if (slot == NULL) {
        print_change(c, cell, key, NULL, &value);
        return WEIR_OK;
    }
    struct before *before = weir_slot_value(c->table, slot);
    struct weir_span old = {(const uint8_t *)before->value, before->size};
    before->met = 1;
    if (old.size != value.size || memcmp(old.data, value.data, old.size) != 0) {
        print_change(c, cell, key, &old, &value);
    }
    return WEIR_OK;
}

static void print_removed(struct comparing *c) {
    for (uint32_t n = 1; n <= weir_table_slots(c->table); n++) {
        struct weir_slot *slot = weir_table_slot(c->table, n);
        const struct before *before = weir_slot_value(c->table, slot);
        if (before->met == 0) {
            const char *cell = (const char *)weir_slot_key(c->table, slot);
            size_t skip = strlen(cell) + 1;
            struct weir_span key = {(const uint8_t *)cell + skip, slot->key_bytes - skip};
            struct weir_span old = {(const uint8_t *)before->value, before->size};
            print_change(c, cell, key, &old, NULL);
        }
    }
}

static int walk_at(struct comparing *c, uint64_t epoch, const char *asked,
                   weir_inspect_entry *entry, struct weir_error *err) {
    struct weir_inspection *in = NULL;
    int rc = open_at(c->look.arguments, epoch, &in, err);
    rc = rc == WEIR_OK ? check_dataset(in, asked, err) : rc;
    rc = rc == WEIR_OK ? weir_inspection_each(in, asked, entry, c, err) : rc;
    weir_inspection_close(in);
    return rc;
}

static int diff(struct weir_arguments *arguments) {
    struct weir_error err = {0};
    uint64_t from;
    uint64_t to;
    struct comparing c = {.look = {.arguments = arguments, .indented = !arguments->json}};
    if (arguments->positional_count < 3 || arguments->positional_count > 4 ||
        !read_epoch(arguments->positionals[1], &from) ||
        !read_epoch(arguments->positionals[2], &to) ||
        !weir_cli_read_limit(arguments, DIFF_LIMIT, &c.look.limit)) {
        return weir_cli_usage(arguments, "state diff wants two epochs, such as 17 42");
    }
    const char *asked = arguments->positional_count > 3 ? arguments->positionals[3] : NULL;
    struct weir_table_config config = {
        .declaration = "state", .cell = "diff", .value_bytes = sizeof(struct before)};
    weir_buffer_init(&c.name, 1 << 30);
    c.table = weir_table_create(&config, &err);
    int rc = c.table != NULL ? WEIR_OK : WEIR_E_NOMEM;
    rc = rc == WEIR_OK ? walk_at(&c, from, asked, remember, &err) : rc;
    rc = rc == WEIR_OK ? walk_at(&c, to, asked, compare, &err) : rc;
    if (rc == WEIR_OK) {
        print_removed(&c);
    }
    weir_table_destroy(c.table);
    weir_buffer_fini(&c.name);
    if (rc != WEIR_OK) {
        return weir_cli_fail(arguments, &err);
    }
    if (c.look.cut) {
        fprintf(stderr, "weir: %lld entries differ; --limit N shows so many, 0 all\n",
                c.differences);
    }
    return WEIR_EXIT_DONE;
}

int weir_cli_state(struct weir_arguments *arguments) {
    const char *verb = arguments->positional_count > 0 ? arguments->positionals[0] : "";
    if (strcmp(verb, "ls") == 0) {
        return list(arguments);
    }
    if (strcmp(verb, "get") == 0 || strcmp(verb, "export") == 0) {
        return get(arguments, strcmp(verb, "export") == 0);
    }
    if (strcmp(verb, "diff") == 0) {
        return diff(arguments);
    }
    return weir_cli_usage(arguments, "state does ls, get, diff and export");
}
