/* weir schema check | diff | ls: schemas of files and of a registry, before a deploy. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "decode/avro/avro_compat.h"
#include "decode/avro/avro_diff.h"
#include "decode/avro/avro_subject.h"
#include "pipeline/graph/plan.h"

enum { NAME_BYTES = 512, FILE_BYTES_MAX = 16 << 20 };

struct command {
    struct weir_arguments *arguments;
    struct avro_registry *registry; /* opened when first needed */
    json_t *found;                  /* what --json prints */
    bool bad;                       /* something does not fit */
};

/* --- where schemas are ------------------------------------------------------------------------ */

static const char *environment(const char *name) {
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}

static int open_registry(struct command *c, const json_t *options, struct weir_error *err) {
    if (c->registry != NULL && options == NULL) {
        return WEIR_OK;
    }
    const char *url =
        c->arguments->registry != NULL ? c->arguments->registry : environment("REGISTRY");
    avro_registry_destroy(c->registry);
    c->registry = NULL;
    if (options != NULL) {
        return avro_registry_create(options, &c->registry, err);
    }
    if (url == NULL) {
        return weir_error_set(err, WEIR_E_USAGE,
                              "say where the schema registry is: --registry URL, or REGISTRY in "
                              "the environment");
    }
    json_t *own = json_pack("{s:s}", "registry", url);
    const char *user = environment("REGISTRY_USERNAME");
    if (user != NULL) {
        (void)json_object_set_new(own, "username", json_string(user));
        (void)json_object_set_new(own, "password", json_pack("{s:s}", "env", "REGISTRY_PASSWORD"));
    } else if (environment("REGISTRY_TOKEN") != NULL) {
        (void)json_object_set_new(own, "token", json_pack("{s:s}", "env", "REGISTRY_TOKEN"));
    }
    const char *ca = environment("REGISTRY_CA");
    if (ca != NULL) {
        (void)json_object_set_new(own, "ca_file", json_string(ca));
    }
    int rc = avro_registry_create(own, &c->registry, err);
    json_decref(own);
    return rc;
}

static bool is_file(const char *name) {
    size_t length = strlen(name);
    return length > 5 && strcmp(name + length - 5, ".avsc") == 0;
}

static int read_schema(const char *path, struct avro_schema *out, struct weir_error *err) {
    struct weir_buffer text;
    char chunk[16 * 1024];
    size_t got;
    FILE *file = fopen(path, "rbe");
    weir_buffer_init(&text, FILE_BYTES_MAX);
    int rc = file != NULL ? WEIR_OK : weir_error_set(err, WEIR_E_USAGE, "cannot read %s", path);
    while (rc == WEIR_OK && (got = fread(chunk, 1, sizeof(chunk), file)) > 0) {
        rc = weir_buffer_append(&text, chunk, got);
    }
    rc = rc == WEIR_OK ? avro_schema_parse(out, (const char *)text.data, text.size, path, err) : rc;
    if (file != NULL) {
        fclose(file);
    }
    weir_buffer_fini(&text);
    return rc;
}

/* "schemas/a.avsc", "pos-value", "pos-value:3". */
static int read_named(struct command *c, const char *name, struct avro_version *out,
                      struct weir_error *err) {
    memset(out, 0, sizeof(*out));
    if (is_file(name)) {
        return read_schema(name, &out->schema, err);
    }
    char subject[NAME_BYTES];
    const char *colon = strrchr(name, ':');
    bool versioned = colon != NULL && (strcmp(colon, ":latest") == 0 ||
                                       strspn(colon + 1, "0123456789") == strlen(colon + 1));
    snprintf(subject, sizeof(subject), "%.*s", versioned ? (int)(colon - name) : (int)strlen(name),
             name);
    int rc = open_registry(c, NULL, err);
    return rc == WEIR_OK ? avro_registry_version(c->registry, subject,
                                                 versioned ? colon + 1 : "latest", out, err)
                         : rc;
}

/* --- ls --------------------------------------------------------------------------------------- */

/* Of an Avro schema its full name, else what it is: "JSON Schema", "an enum without a name". */
static void name_schema(const json_t *answer, char *out, size_t size) {
    const char *type = json_string_value(json_object_get(answer, "schemaType"));
    const char *text = json_string_value(json_object_get(answer, "schema"));
    bool is_avro = type == NULL || strcmp(type, "AVRO") == 0;
    json_t *schema = is_avro && text != NULL ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
    const char *name = json_string_value(json_object_get(schema, "name"));
    const char *space = json_string_value(json_object_get(schema, "namespace"));
    const char *kind =
        json_string_value(json_is_object(schema) ? json_object_get(schema, "type") : schema);
    if (!is_avro) {
        snprintf(out, size, "%s, which Weir does not read", type);
    } else if (name != NULL) {
        snprintf(out, size, "%s%s%s", space != NULL && strchr(name, '.') == NULL ? space : "",
                 space != NULL && strchr(name, '.') == NULL ? "." : "", name);
    } else {
        snprintf(out, size, "%s", kind != NULL ? kind : "union");
    }
    json_decref(schema);
}

static int list_version(struct command *c, const char *subject, const char *version,
                        const char *level, struct weir_error *err) {
    json_t *found = NULL;
    char name[NAME_BYTES];
    int rc = avro_subject_version(c->registry, subject, version, &found, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    const char *type = json_string_value(json_object_get(found, "schemaType"));
    const json_t *references = json_object_get(found, "references");
    int number = (int)json_integer_value(json_object_get(found, "version"));
    int id = (int)json_integer_value(json_object_get(found, "id"));
    name_schema(found, name, sizeof(name));
    (void)json_array_append_new(
        c->found, json_pack("{s:s,s:i,s:i,s:s,s:s,s:s,s:O?}", "subject", subject, "version", number,
                            "id", id, "type", type != NULL ? type : "AVRO", "name", name,
                            "compatibility", level, "references", references));
    if (!c->arguments->json) {
        printf("%-48s version %-4d id %-6d %-20s %s\n", subject, number, id, level, name);
        size_t i;
        json_t *one;
        json_array_foreach(references, i, one) {
            const char *to = json_string_value(json_object_get(one, "subject"));
            printf("    refers to %s version %d\n", to != NULL ? to : "?",
                   (int)json_integer_value(json_object_get(one, "version")));
        }
    }
    json_decref(found);
    return WEIR_OK;
}

static int list(struct command *c, const char *subject, struct weir_error *err) {
    json_t *all = NULL;
    size_t i;
    json_t *one;
    char level[64] = "";
    int rc = open_registry(c, NULL, err);
    if (rc == WEIR_OK) {
        rc = subject != NULL ? avro_subject_versions(c->registry, subject, &all, err)
                             : avro_subject_list(c->registry, &all, err);
    }
    json_array_foreach(all, i, one) {
        char number[32];
        snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(one));
        const char *name = subject != NULL ? subject : json_string_value(one);
        rc = rc == WEIR_OK && name != NULL && (subject == NULL || i == 0)
                 ? avro_subject_level(c->registry, name, level, sizeof(level), err)
                 : rc;
        if (rc == WEIR_OK && name != NULL) {
            rc = list_version(c, name, subject != NULL ? number : "latest", level, err);
        }
    }
    json_decref(all);
    return rc;
}

/* --- diff ------------------------------------------------------------------------------------- */

static int show_change(void *context, const struct avro_change *change) {
    struct command *c = context;
    const char *field = change->field[0] != '\0' ? change->field : "(the whole)";
    (void)json_array_append_new(json_object_get(c->found, "changes"),
                                json_pack("{s:s,s:s,s:s?,s:s?,s:s?}", "change", change->change,
                                          "field", change->field, "before", change->before, "after",
                                          change->after, "default", change->default_json));
    if (c->arguments->json) {
        return WEIR_OK;
    }
    const char *none = "none";
    if (strcmp(change->change, "added") == 0) {
        printf("+ %-24s %s%s%s\n", field, change->after,
               change->default_json != NULL ? ", default " : ", no default",
               change->default_json != NULL ? change->default_json : "");
    } else if (strcmp(change->change, "removed") == 0) {
        printf("- %-24s %s\n", field, change->before);
    } else if (strcmp(change->change, "renamed") == 0) {
        printf("~ %-24s was %s, an alias\n", field, change->before);
    } else if (strcmp(change->change, "symbols") == 0) {
        printf("~ %-24s symbols%s%s%s%s\n", field, change->after != NULL ? " +" : "",
               change->after != NULL ? change->after : "", change->before != NULL ? " -" : "",
               change->before != NULL ? change->before : "");
    } else {
        printf("~ %-24s %s%s -> %s%s%s%s\n", field,
               strcmp(change->change, "default") == 0 ? "default " : "",
               change->before != NULL ? change->before : none,
               change->after != NULL ? change->after : none,
               strcmp(change->change, "default") == 0 ? "" : " (",
               strcmp(change->change, "default") == 0 ? "" : change->change,
               strcmp(change->change, "default") == 0 ? "" : ")");
    }
    return WEIR_OK;
}

/* One line: who reads whom, or why not. */
static bool show_compat(struct command *c, const char *readers, const char *writer,
                        const struct avro_type *reader, const struct avro_type *written) {
    char why[AVRO_COMPAT_TEXT_BYTES];
    bool good = avro_compat_first(reader, written, why, sizeof(why));
    if (!c->arguments->json) {
        printf("readers of %s %s what is written by %s%s%s\n", readers,
               good ? "read" : "do not read", writer, good ? "" : ": ", why);
    }
    return good;
}

static int diff(struct command *c, const char *before, const char *after, struct weir_error *err) {
    struct avro_version old = {0};
    struct avro_version new = {0};
    int rc = read_named(c, before, &old, err);
    rc = rc == WEIR_OK ? read_named(c, after, &new, err) : rc;
    if (rc == WEIR_OK) {
        json_decref(c->found);
        c->found = json_pack("{s:s,s:s,s:[]}", "before", before, "after", after, "changes");
        rc = avro_diff(old.schema.top, new.schema.top, show_change, c);
    }
    if (rc == WEIR_OK && json_array_size(json_object_get(c->found, "changes")) == 0 &&
        !c->arguments->json) {
        printf("no change\n");
    }
    if (rc == WEIR_OK) {
        bool backward = show_compat(c, after, before, new.schema.top, old.schema.top);
        bool forward = show_compat(c, before, after, old.schema.top, new.schema.top);
        (void)json_object_set_new(c->found, "backward", json_boolean(backward));
        (void)json_object_set_new(c->found, "forward", json_boolean(forward));
    }
    avro_schema_fini(&old.schema);
    avro_schema_fini(&new.schema);
    return rc;
}

/* --- check ------------------------------------------------------------------------------------ */

static void keep_problem(void *context, const char *path, const char *why) {
    (void)json_array_append_new(context, json_pack("{s:s,s:s}", "field", path, "why", why));
}

/* One reader against one writer; `what` says which for people. */
static void judge(struct command *c, const char *what, const char *who, const char *subject,
                  const struct avro_version *version, const struct avro_type *reader,
                  const struct avro_type *writer, enum avro_compat_rules rules) {
    json_t *problems = json_array();
    bool good = avro_compat(reader, writer, rules, keep_problem, problems);
    c->bad |= !good;
    if (!c->arguments->json) {
        char number[32] = ""; /* of a file, none */
        if (version->version > 0) {
            snprintf(number, sizeof(number), " version %d", (int)version->version);
        }
        printf("%s %s%s: %s\n", what, subject, number, good ? "ok" : "no");
        size_t i;
        json_t *problem;
        json_array_foreach(problems, i, problem) {
            const char *field = json_string_value(json_object_get(problem, "field"));
            printf("    %s%s%s%s\n", field[0] != '\0' ? "field \"" : "", field,
                   field[0] != '\0' ? "\": " : "",
                   json_string_value(json_object_get(problem, "why")));
        }
    }
    (void)json_array_append_new(c->found,
                                json_pack("{s:s,s:s,s:s,s:i,s:i,s:b,s:o}", "check", what, "of", who,
                                          "subject", subject, "version", version->version, "id",
                                          version->id, "ok", good, "problems", problems));
}

struct mode {
    bool backward;
    bool forward;
    bool transitive;
};

static int read_mode(const char *text, struct mode *out, struct weir_error *err) {
    char upper[64];
    size_t i = 0;
    for (; text[i] != '\0' && i < sizeof(upper) - 1; i++) {
        char c = text[i] == '-' ? '_' : text[i];
        upper[i] = c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
    }
    upper[i] = '\0';
    char *transitive = strstr(upper, "_TRANSITIVE");
    out->transitive = transitive != NULL;
    if (transitive != NULL) {
        *transitive = '\0';
    }
    bool full = strcmp(upper, "FULL") == 0;
    out->backward = full || strcmp(upper, "BACKWARD") == 0;
    out->forward = full || strcmp(upper, "FORWARD") == 0;
    return out->backward || out->forward || strcmp(upper, "NONE") == 0
               ? WEIR_OK
               : weir_error_set(err, WEIR_E_USAGE,
                                "--mode is backward, forward, full, each with -transitive, or "
                                "none; not %s",
                                text);
}

static void judge_mode(struct command *c, struct mode mode, const char *path, const char *subject,
                       const struct avro_schema *own, const struct avro_version *version) {
    if (mode.backward) {
        judge(c, "backward", path, subject, version, own->top, version->schema.top,
              AVRO_COMPAT_STRICT);
    }
    if (mode.forward) {
        judge(c, "forward", path, subject, version, version->schema.top, own->top,
              AVRO_COMPAT_STRICT);
    }
}

/* May the first file follow the second? */
static int check_files(struct command *c, const char *path, const char *before,
                       struct weir_error *err) {
    struct avro_schema own = {0};
    struct avro_version old = {0};
    struct mode mode = {0};
    int rc = read_mode(c->arguments->mode != NULL ? c->arguments->mode : "BACKWARD", &mode, err);
    rc = rc == WEIR_OK ? read_schema(path, &own, err) : rc;
    rc = rc == WEIR_OK ? read_schema(before, &old.schema, err) : rc;
    if (rc == WEIR_OK) {
        judge_mode(c, mode, path, before, &own, &old);
    }
    avro_schema_fini(&own);
    avro_schema_fini(&old.schema);
    return rc;
}

/* May this file follow what the subject holds? */
static int check_file(struct command *c, const char *path, const char *subject,
                      struct weir_error *err) {
    struct avro_schema own = {0};
    struct mode mode = {0};
    json_t *versions = NULL;
    char level[64];
    if (is_file(subject)) {
        return check_files(c, path, subject, err);
    }
    int rc = read_schema(path, &own, err);
    rc = rc == WEIR_OK ? open_registry(c, NULL, err) : rc;
    if (rc == WEIR_OK && c->arguments->mode != NULL) {
        snprintf(level, sizeof(level), "%s", c->arguments->mode);
    } else if (rc == WEIR_OK) {
        rc = avro_subject_level(c->registry, subject, level, sizeof(level), err);
    }
    rc = rc == WEIR_OK ? read_mode(level, &mode, err) : rc;
    rc = rc == WEIR_OK ? avro_subject_versions(c->registry, subject, &versions, err) : rc;
    size_t count = json_array_size(versions);
    for (size_t i = mode.transitive || count == 0 ? 0 : count - 1; rc == WEIR_OK && i < count;
         i++) {
        struct avro_version version;
        char number[32];
        snprintf(number, sizeof(number), "%lld",
                 (long long)json_integer_value(json_array_get(versions, i)));
        rc = avro_registry_version(c->registry, subject, number, &version, err);
        if (rc == WEIR_OK) {
            judge_mode(c, mode, path, subject, &own, &version);
            avro_schema_fini(&version.schema);
        }
    }
    if (rc == WEIR_OK && !mode.backward && !mode.forward && !c->arguments->json) {
        printf("%s takes any schema (NONE)\n", subject);
    }
    json_decref(versions);
    avro_schema_fini(&own);
    return rc;
}

/* As avro { … } finds it. NULL where only messages say. */
static bool subject_of(const struct weir_plan_source *source, char out[NAME_BYTES]) {
    const char *given = json_string_value(json_object_get(source->decoder_options, "subject"));
    const json_t *topic = json_object_get(source->connector_options, "topic");
    topic = topic != NULL ? topic : json_object_get(source->connector_options, "hub");
    topic = json_is_array(topic) && json_array_size(topic) == 1 ? json_array_get(topic, 0) : topic;
    const char *name = json_string_value(topic);
    if (given != NULL) {
        snprintf(out, NAME_BYTES, "%s", given);
    } else if (name != NULL && name[0] != '^') {
        snprintf(out, NAME_BYTES, "%s-value", name);
    }
    return given != NULL || (name != NULL && name[0] != '^');
}

/* Will the source read every version of its subject? */
static int check_source(struct command *c, const struct weir_plan_source *source,
                        struct weir_error *err) {
    char subject[NAME_BYTES];
    const char *path = json_string_value(json_object_get(source->decoder_options, "schema"));
    struct avro_version own = {0};
    json_t *versions = NULL;
    if (!subject_of(source, subject)) {
        if (!c->arguments->json) {
            printf("%s: no subject is known for several topics; say it: subject = \"…\"\n",
                   source->name);
        }
        return WEIR_OK;
    }
    int rc = open_registry(c, source->decoder_options, err);
    if (rc == WEIR_OK) {
        rc = path != NULL ? read_schema(path, &own.schema, err)
                          : avro_registry_version(c->registry, subject, "latest", &own, err);
    }
    rc = rc == WEIR_OK ? avro_subject_versions(c->registry, subject, &versions, err) : rc;
    for (size_t i = 0; rc == WEIR_OK && i < json_array_size(versions); i++) {
        struct avro_version version;
        char number[32];
        char what[NAME_BYTES];
        snprintf(number, sizeof(number), "%lld",
                 (long long)json_integer_value(json_array_get(versions, i)));
        snprintf(what, sizeof(what), "%s reads", source->name);
        rc = avro_registry_version(c->registry, subject, number, &version, err);
        if (rc == WEIR_OK) {
            judge(c, what, source->name, subject, &version, own.schema.top, version.schema.top,
                  AVRO_COMPAT_WEIR);
            avro_schema_fini(&version.schema);
        }
    }
    json_decref(versions);
    avro_schema_fini(&own.schema);
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "source %s", source->name);
}

static int check_plan(struct command *c, const struct weir_plan *plan, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < plan->source_count; i++) {
        const struct weir_plan_source *source = &plan->sources[i];
        if (source->decoder != NULL &&
            json_object_get(source->decoder_options, "registry") != NULL) {
            rc = check_source(c, source, err);
        }
    }
    if (rc == WEIR_OK && json_array_size(c->found) == 0 && !c->arguments->json) {
        printf("no source of this pipeline reads with a schema registry\n");
    }
    return rc;
}

static int check_pipeline(struct command *c, const char *file, struct weir_error *err) {
    char *path = NULL;
    struct weir_script *script = NULL;
    struct weir_rule_set *rule_set = NULL;
    struct weir_plan *plan = NULL;
    struct weir_buffer report;
    weir_buffer_init(&report, 4 << 20);
    int rc = file != NULL ? weir_cli_enter_project(file, &path, err)
                          : weir_cli_find_pipeline(&path, err);
    if (rc == WEIR_OK) {
        struct weir_script_options options = {0};
        rc = weir_script_create(&options, &script, err);
    }
    if (rc == WEIR_OK) {
        rc = weir_script_load(script, path, c->arguments->settings, c->arguments->setting_count,
                              &rule_set, &report, NULL, err);
        fprintf(stderr, "%.*s", rc != WEIR_OK ? (int)report.size : 0, (const char *)report.data);
    }
    rc = rc == WEIR_OK ? weir_plan_parse(weir_rule_set_plan(rule_set, NULL), &plan, err) : rc;
    rc = rc == WEIR_OK ? check_plan(c, plan, err) : rc;
    weir_plan_destroy(plan);
    weir_rule_set_unref(rule_set);
    weir_script_destroy(script);
    weir_buffer_fini(&report);
    free(path);
    return rc;
}

/* --- the command ------------------------------------------------------------------------------ */

static int run(struct command *c, const char *what, const char *first, const char *second,
               struct weir_error *err) {
    if (strcmp(what, "ls") == 0) {
        return list(c, first, err);
    }
    if (strcmp(what, "diff") == 0) {
        return first != NULL && second != NULL
                   ? diff(c, first, second, err)
                   : weir_error_set(err, WEIR_E_USAGE,
                                    "schema diff wants two schemas: files (a.avsc), subjects "
                                    "(pos-value) or versions (pos-value:3)");
    }
    if (first != NULL && is_file(first)) {
        return second != NULL ? check_file(c, first, second, err)
                              : weir_error_set(err, WEIR_E_USAGE,
                                               "schema check %s wants the subject it would be "
                                               "registered under",
                                               first);
    }
    return check_pipeline(c, first, err);
}

int weir_cli_schema(struct weir_arguments *arguments) {
    const char *what = arguments->positional_count > 0 ? arguments->positionals[0] : "";
    if (strcmp(what, "ls") != 0 && strcmp(what, "diff") != 0 && strcmp(what, "check") != 0) {
        return weir_cli_usage(arguments, "schema wants check, diff or ls");
    }
    struct command c = {.arguments = arguments, .found = json_array()};
    struct weir_error err = {0};
    int rc = run(&c, what, arguments->positional_count > 1 ? arguments->positionals[1] : NULL,
                 arguments->positional_count > 2 ? arguments->positionals[2] : NULL, &err);
    int code = WEIR_EXIT_DONE;
    if (rc != WEIR_OK) {
        code = weir_cli_fail(arguments, &err);
        code = rc == WEIR_E_NOTFOUND ? WEIR_EXIT_USER : code;
    } else if (arguments->json) {
        json_t *shown = strcmp(what, "check") == 0
                            ? json_pack("{s:b,s:O}", "ok", !c.bad, "checks", c.found)
                            : json_incref(c.found);
        char *text = json_dumps(shown, JSON_COMPACT);
        printf("%s\n", text != NULL ? text : "null");
        free(text);
        json_decref(shown);
    }
    json_decref(c.found);
    avro_registry_destroy(c.registry);
    return code == WEIR_EXIT_DONE && c.bad ? WEIR_EXIT_USER : code;
}
